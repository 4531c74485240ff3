"""The report of all cells: docs/benchmarks/domains.md, with the aims and a verdict on each."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.adapters.cells import Result
from benchmarks.adapters.findings import Findings
from benchmarks.domains import bias, features, labels
from benchmarks.domains.aims import aims
from benchmarks.domains.choices import choose
from benchmarks.domains.features import ACCURACY, DIRECTIONS, SOURCE
from benchmarks.timing import table_lines

__all__ = ["write"]

_HEAD = f"""# Transfer between domains and tasks

Written by `python -m benchmarks domains` with torch {torch.__version__}, measured at commit {{commits}}; do not edit
it by hand. Each cell is kept in `build/domains` and not measured again; each part runs alone (`--parts`). Figures are
means over draws with standard errors in brackets; differences are paired by draw, and "won" counts the draws in which a
kind is ahead. Every method has its defaults; nothing was chosen by the draws that are reported.
"""
_BIAS = """## A known bias

Tumours of scikit-learn's breast_cancer (569 rows, 30 columns). Half of the rows are the target, without labels. Of the
others a row is kept for the source with the probability .05 + .95 / (1 + exp(2 z)), z being its place on the first
principal axis of the standardised columns: the source has mostly small tumours. MMD^2 is that of columns standardised
over both domains, at the median width, with the estimated weights to without; log loss is that of logistic regression
on the target. "True weights" are one over the probabilities.
"""
_LABELS = f"""## Few labels in the target

{labels.N_SOURCE} labelled digits of MNIST and few of scikit-learn's, {labels.SIDE} x {labels.SIDE} pixels as features
(MNIST without its margin of 4 pixels, as a row of the other has none), logistic regression with its C by
cross-validation; accuracy on all other digits of scikit-learn.
"""
_FEATURES = f"""## Features of EfficientNet-Lite0, no labels in the target

Handwritten digits, {features.N_SOURCE:,} labelled rows of the source, {features.N_ADAPT:,} of the target to adapt to,
and {features.N_TEST} others to test on; {{draws}} draws. The network has seen neither. KMM, KLIEP and the domain
classifier weigh rows (`ImportanceWeightedRepurposer`). Seconds are those of adaptation and training, on a busy machine.
"""
_CHOICES = """## A choice without labels

Among the methods of the last section and source only, the one with the highest `score_without_labels` is taken in each
draw; "iwv" has 300 source rows of its own to score by. Points are of accuracy on labelled rows of the target.
"""


def write(results: Sequence[Result], file: Path) -> None:
    """Write the report in Markdown, of the parts that were measured."""
    findings = Findings(results)
    commits = ", ".join(dict.fromkeys(result.commit for result in results)) or "none"
    lines = [*_HEAD.format(commits=commits).splitlines(), "", "## Aims", ""]
    lines += table_lines(["aim", "found", "verdict"], [*aims(findings)])
    for section in (_bias, _labels, _features, _choices):
        lines += section(findings)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*lines, ""]))


def _bias(findings: Findings) -> Iterator[str]:
    if not (kinds := findings.kinds(bias.NAME)):
        return
    header = ["weights", "draws", bias.KEPT, bias.CORRELATION, bias.SIZE, bias.LOSS, "less unweighted", "accuracy"]
    rows = []
    for kind in kinds:
        kept, rank, size, loss, accuracy = (
            str(findings.estimate(bias.NAME, kind, measure))
            for measure in (bias.KEPT, bias.CORRELATION, bias.SIZE, bias.LOSS, bias.ACCURACY)
        )
        ahead = findings.difference(bias.NAME, kind, bias.UNWEIGHTED, bias.LOSS)
        has_weights = kind != bias.UNWEIGHTED
        row = [kind, str(findings.n_draws(bias.NAME, kind)), *([kept, rank, size] if has_weights else [""] * 3)]
        rows.append([*row, loss, ahead.signed if ahead and has_weights else "", accuracy])
    yield from ["", *_BIAS.splitlines(), "", *table_lines(header, rows)]


def _labels(findings: Findings) -> Iterator[str]:
    rows = []
    for n_per_class in labels.N_PER_CLASS:
        part = labels.part_of(n_per_class)
        for kind in findings.kinds(part):
            row = [str(n_per_class), kind, str(findings.n_draws(part, kind))]
            row += [str(findings.estimate(part, kind, ACCURACY))]
            rows.append(
                row + _against(findings, part, kind, labels.TARGET) + _against(findings, part, kind, labels.POOLED)
            )
    if rows:
        header = ["labels a class", "kind", "draws", "accuracy", "less target only", "won", "less pooled", "won"]
        yield from ["", *_LABELS.splitlines(), "", *table_lines(header, rows)]


def _features(findings: Findings) -> Iterator[str]:
    parts = [features.part_of(direction) for direction in DIRECTIONS]
    if not any(findings.kinds(part) for part in parts):
        return
    draws = max(findings.n_draws(part, kind) for part in parts for kind in findings.kinds(part))
    yield from ["", *_FEATURES.format(draws=draws).splitlines()]
    for direction, part in zip(DIRECTIONS, parts):
        rows = []
        for kind in findings.kinds(part):
            accuracy, seconds = (findings.estimate(part, kind, name) for name in (ACCURACY, features.SECONDS))
            rows.append([kind, str(accuracy), *_against(findings, part, kind, SOURCE), f"{seconds.mean:.0f}"])
        yield from ["", *table_lines([direction, "accuracy", f"less {SOURCE}", "won", "seconds"], rows)]


def _choices(findings: Findings) -> Iterator[str]:
    rows = []
    for direction in DIRECTIONS:
        for score in features.SCORES:
            if found := choose(findings, features.part_of(direction), [*features.METHODS], score):
                margins = [each.signed for each in (found.less_best, found.less_worst, found.less_source)]
                chosen = ", ".join(f"{kind} ({n})" for kind, n in found.kinds.most_common())
                rows.append([direction, score, str(found.accuracy), *margins, chosen])
    if rows:
        header = ["", "score", "accuracy", "less the best", "less the worst", f"less {SOURCE}", "chosen"]
        yield from ["", *_CHOICES.splitlines(), "", *table_lines(header, rows)]


def _against(findings: Findings, part: str, kind: str, other: str) -> list[str]:
    """Return the difference to another kind and the draws won; nothing for that kind itself."""
    found = findings.difference(part, kind, other, ACCURACY)
    return ["", ""] if kind == other or found is None else [found.signed, findings.won(part, kind, other)]
