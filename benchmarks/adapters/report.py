"""The report of all cells: docs/benchmarks/adapters.md, with the aims and a sentence where one is missed."""

from collections.abc import Iterator, Sequence
from math import isnan
from pathlib import Path

import torch

from benchmarks.adapters import convnet, cost, steering, text
from benchmarks.adapters.cells import Result
from benchmarks.adapters.findings import Findings
from benchmarks.adapters.methods import FULL, LEARNED, LEFT_AFTER, LEFT_BEFORE, LINEAR, LITE, TOAST, UNTUNED_TOAST
from benchmarks.quality.findings import Estimate
from benchmarks.timing import table_lines

__all__ = ["TASKS", "write"]

TASKS = {part.NAME: part for part in (steering, convnet, text)}
_MISSED = "**missed**"
_ATTENTION = "attention moves left by half of its distance to 1"
_HEAD = f"""# Adapters and steering

Written by `python -m benchmarks adapters` with torch {torch.__version__}, measured at commit {{commits}}; do not edit
it by hand. Each cell is kept in `build/adapters` and not measured again; each part runs alone (`--parts`). Accuracies
are means over draws of training rows (the number of seeds stands with each table) with standard errors in brackets.
Differences are paired by draw; "won" counts the draws in which a kind is ahead. Every kind has as many steps, and the
best of the same rates, chosen on a draw and on test rows that are not reported. Adapters go where `layers="auto"` puts
them: LoRA of rank 4 on queries and values, else on pointwise layers; the others on all layers that they can change.
"""
_TEXTS = {
    steering.NAME: f"""## A small ViT is asked for the left digit

A ViT of width 64 with 4 blocks has learned which two digits (of MNIST, 12 x 12 pixels) stand side by side, in no order:
one of 55 pairs. Then it is to name the left one, from {steering.N_PER_CLASS} labels a class, {steering.N_EPOCHS} epochs
in batches of {steering.BATCH_SIZE}, rates {", ".join(f"{rate:g}" for rate in steering.RATES)}. TOAST is pre-tuned on
{steering.N_PRETUNING:,} pairs, {steering.PRETUNING_EPOCHS} epochs at {steering.PRETUNING_RATE:g}. There is one source
network and one pre-tuning. "Left" is the share of the attention of the class token in the last block that falls on the
left half.

What was chosen after results were seen: the network has sine positions, since of a first one with learned positions the
frozen tokens told left from right to 64 % alone, and TOAST stayed below linear. And it has patches of 2 x 2 pixels. Of
patches of 4 x 4 its tokens gave 51 % of their attention to their own half in all blocks (with four times as many steps
and with digits of 16 x 16 too): TOAST was .25 above linear there, and attention stayed at .51. Of
patches of 2 x 2 they give 90 % in the second block. There are 50 labels a class because with 20, of patches of 4 x 4,
TOAST gained little (.597, linear near .52); of 2 x 2 it gained .22 with 20, and attention rose from .51 to .58 (one
draw). Pre-tuning of 8 epochs at 1e-2 did harm with the first network; the rate and epochs used were compared with it on
test digits of a draw that is not reported.
""",
    convnet.NAME: f"""## EfficientNet-Lite0 learns digits

ImageNet weights, {convnet.N_PER_CLASS} labels a class, {convnet.SIDE} x {convnet.SIDE} pixels, 100 steps, rates
{" and ".join(f"{rate:g}" for rate in convnet.RATES)}; accuracy on {convnet.N_TEST} others, the mean of scikit-learn's
digits and MNIST. TOAST is pre-tuned on rendered letters and line drawings, {convnet.PRETUNING_EPOCHS} epochs.
""",
    text.NAME: f"""## MiniLM learns of which module a docstring is

Ten modules of the standard library, {text.N_PER_CLASS} labels a class, at most {text.N_TOKENS} tokens, 50 steps, rates
{", ".join(f"{rate:g}" for rate in text.RATES)}; accuracy on {text.N_TEST} others. TOAST is pre-tuned on nine other
modules. One rate is that of the head and of what is adapted. TOAST's feedback changes the frozen network from the first
step on, as A and B do not start at zero; that of TOAST-Lite starts at what pre-tuning left.
""",
    cost.NAME: f"""## Cost

ViT-Ti (random weights) at {cost.SIDE} x {cost.SIDE} pixels, batches of {cost.BATCH_SIZE}, one thread. A step is that of
a plain loop; medians, and ratios as medians over neighbouring runs. An epoch ({cost.N_IMAGES} images) is the last of
{cost.N_EPOCHS} of `repurpose`, which computes what is frozen once; peak memory is what the process grows by at
most meanwhile.
""",
}


def write(results: Sequence[Result], file: Path) -> None:
    """Write the report in Markdown, of the parts that were measured."""
    findings = Findings(results)
    commits = ", ".join(dict.fromkeys(result.commit for result in results)) or "none"
    lines = [*_HEAD.format(commits=commits).splitlines(), "", "## Aims", "", *_aims(findings)]
    for name in TASKS:
        known = TASKS[name].kinds()
        if kinds := sorted(findings.kinds(name), key=known.index):
            lines += ["", *_TEXTS[name].splitlines(), "", *_table(findings, name, kinds)]
    if findings.kinds(cost.NAME):
        lines += ["", *_TEXTS[cost.NAME].splitlines(), "", *_costs(findings)]
    lines += ["", "## Blocks", "", "What `ModelHandler.blocks` finds over the sweep, beside a list kept by hand, is in"]
    lines += ["[coverage.md](../coverage.md); `python -m benchmarks coverage --blocks` writes it.", ""]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines))


def _table(findings: Findings, part: str, kinds: Sequence[str]) -> list[str]:
    has_attention = any(findings.estimate(part, kind, LEFT_AFTER) for kind in kinds)
    header = ["kind", "rate", "draws", "accuracy", f"less {LINEAR}", "won", LEARNED]
    header += ["left, before", "left, after"] if has_attention else []
    rows = []
    for kind in kinds:
        difference, won = findings.difference(part, kind, LINEAR), findings.won(part, kind, LINEAR)
        learned = findings.estimate(part, kind, LEARNED)
        row = [kind, f"{findings.rates(part)[kind]:g}" if learned else "", str(findings.n_draws(part, kind))]
        row += [str(findings.estimate(part, kind, "accuracy"))]
        row += ["", ""] if kind == LINEAR or difference is None else [difference.signed, won]
        row += [f"{learned.mean:,.0f}" if learned else ""]
        if has_attention:
            shares = [findings.estimate(part, kind, name) for name in (LEFT_BEFORE, LEFT_AFTER)]
            row += [str(share or "") for share in shares]
        rows.append(row)
    return table_lines(header, rows)


def _costs(findings: Findings) -> list[str]:
    names = (cost.STEP, cost.TO_FULL, cost.TO_PEFT, cost.EPOCH, cost.PEAK)
    rows = [
        [kind, *(f"{found.mean:.3g}" if (found := findings.estimate(cost.NAME, kind, name)) else "" for name in names)]
        for kind in findings.kinds(cost.NAME)
    ]
    return table_lines(["kind", *names], rows)


def _aims(findings: Findings) -> Iterator[str]:
    """Judge each aim by the means, as they were set before anything was measured."""
    rows = [*_aims_of_steering(findings), *_aims_of_cost(findings)]
    yield from table_lines(["aim", "found", "verdict"], rows)
    for kind in (TOAST, UNTUNED_TOAST):
        if ahead := findings.difference(steering.NAME, FULL, kind):
            won = findings.won(steering.NAME, FULL, kind)
            yield from ["", f"Full tuning less {kind} on the left digit: {ahead.signed}, ahead in {won} draws."]


def _aims_of_steering(findings: Findings) -> Iterator[list[str]]:
    for kind, least in ((TOAST, 0.10), (UNTUNED_TOAST, 0.10), (LITE, 0.05)):
        found = findings.difference(steering.NAME, kind, LINEAR)
        yield _row(f"left digit: {kind} at least {least:.2f} above linear", found, found and found.mean >= least)
    for kind in (TOAST, UNTUNED_TOAST):
        found = findings.moved(steering.NAME, kind)
        yield _row(f"{_ATTENTION}: {kind}", found, found and found.mean >= 0.5)


def _aims_of_cost(findings: Findings) -> Iterator[list[str]]:
    found = findings.estimate(cost.NAME, cost.OURS, cost.TO_PEFT)
    yield _row("LoRA at least .97 times as fast as peft's", found, found and found.mean >= 0.97)
    for kind, most in ((UNTUNED_TOAST, 1.25), (cost.CACHED, 0.95)):
        found = findings.estimate(cost.NAME, kind, cost.TO_FULL)
        yield _row(f"step of {kind} at most {most} of one of full tuning", found, found and found.mean <= most)


def _row(aim: str, found: Estimate | None, is_met: bool | None) -> list[str]:
    text = "" if found is None else f"{found.mean:.2f}" if isnan(found.error) else found.signed  # one measurement
    return [aim, text, "not measured" if found is None else "met" if is_met else _MISSED]
