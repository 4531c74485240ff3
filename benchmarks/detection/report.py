"""The report of all cells: docs/benchmarks/detection.md, with the aims and a word where one is missed."""

from collections.abc import Iterator, Sequence
from math import isnan
from pathlib import Path

import torch

from benchmarks.adapters.cells import CELLS, read_results
from benchmarks.detection import backbones, overfitting, perfect, throughput, transfer
from benchmarks.detection.findings import Findings
from benchmarks.detection.scenes import SIZES_OF_DIGITS
from benchmarks.quality.findings import Estimate
from benchmarks.timing import table_lines

__all__ = ["write"]

_GAIN, _LEARNED_AP, _SECONDS, _SPEED, _FAMILIES = 0.10, 0.95, 300, 0.97, 40
_TITLES = {"torchvision": "torchvision", "timm": "timm"}
_HEAD = f"""# Detection

Written by `python -m benchmarks detection` with torch {torch.__version__}, measured at commit {{commits}}; do not edit
it by hand. Each cell is kept in `build/detection` and not measured again; each part runs alone (`--parts`).

Scenes are handwritten digits of MNIST, {SIZES_OF_DIGITS[0]} to {SIZES_OF_DIGITS[1]} pixels with their margin, in
colours that stand out, 1 to 4 of them on a crop of one of two photographs, and do not touch; they are written as JPEG
and VOC XML, and read by `VocFolderData`. Numbers are means over draws of scenes with standard errors in brackets, and
differences are paired by draw. One thread throughout. "Seconds" are those of the process: what training takes on a
machine that does nothing else.
"""
_TEXTS = {
    overfitting.NAME: f"""## {overfitting.N_IMAGES} images are learned by heart

`DetectionRepurposer("efficientnet-lite0")` with all defaults, {overfitting.N_IMAGES} scenes of {overfitting.SIDE} x
{overfitting.SIDE} pixels, {overfitting.N_STEPS} steps of {overfitting.BATCH_SIZE} images, no augmentation; measured on
the same images.
""",
    transfer.NAME: f"""## What ImageNet weights are worth

EfficientNet-Lite0 with FCOS of {transfer.CHANNELS} channels learns {transfer.N_LEARNED} scenes of sides of
{transfer.SIDES[0]} to {transfer.SIDES[1]} pixels in {transfer.N_STEPS} steps of {transfer.BATCH_SIZE}, and is measured
on {transfer.N_OTHERS} of other digits and other parts of the photographs. Rates of new layers,
{" and ".join(f"{rate:g}" for rate in transfer.RATES)}, are chosen for each kind on a draw that is
not reported. ImageNet weights learn at a tenth of it and keep the statistics of their BatchNorm, as by default; random
ones learn at the full rate, and their BatchNorm follows the batches: they have neither weights nor statistics to be
spared.

What was chosen after results were seen: the number of steps, which is now that of `DetectionRepurposer` by default. On
the draw by which rates are chosen ImageNet weights had, at 0.001, an AP50 of .117 after 300 steps of 4 on 200 scenes of
112 to 160 pixels, and .214 after 600 steps of 4 on scenes as these: too few to tell ten digits apart. Random weights
were not looked at.
""",
    perfect.NAME: """## A perfect detector

The head of FCOS gives the true boxes, as distances from places of the finest level in the images as the network sees
them; all from the files up to it, and from it to the average precision, is what every detector goes through. A fifth of
the digits is marked as difficult: found too, and not counted.
""",
    backbones.NAME: """## Backbones that work as they are

FCOS of 64 channels on each network with random weights, as the coverage sweep makes it, at a small size: one step on
two images, in which every matrix of the trunk must move, and objects found in one image. The maps are those that
`layers="auto"` finds; "one map" are plain transformers and the like, with a simple pyramid from it; of "one size" are
those that take images of no other, which are padded to it.
""",
    throughput.NAME: f"""## Throughput beside torchvision

{throughput.N_IMAGES} images of {throughput.SIDE} x {throughput.SIDE} pixels in batches of {throughput.BATCH_SIZE}:
torchvision's `FCOS` on `resnet50` with `FrozenBatchNorm2d`, put together as `fcos_resnet50_fpn` does it for pretrained
weights, in a loop written by hand, beside an epoch of `repurpose` (without finding the maps and making the network) and
`predict_objects`. Both begin anew in each run. The same parameters learn (conv1, layer1 and BatchNorm do not), by SGD,
and both run all layers in each step (`cache_frozen=False`: by default ours folds BatchNorm into conv1 and layer1, and
keeps what they give where images are not augmented); weights in inference are the same, and so are the least score and
the most detections. A run measures both sides after each other, the first one by turns; images a second are medians,
"times as fast" is the median of the runs' ratios, with the standard error of their mean, and the least and the largest.
""",
}


def write(folder: Path, file: Path) -> None:
    """Write the report in Markdown, of the parts that were measured."""
    results = read_results(folder / CELLS)
    findings, networks = Findings(results), backbones.read_results(folder / backbones.CELLS)
    commits = ", ".join(dict.fromkeys(each.commit for each in (*results, *networks))) or "none"
    lines = [*_HEAD.format(commits=commits).splitlines(), "", "## Aims", "", *_aims(findings, networks)]
    for name, table in _TABLES.items():
        if findings.has(name):
            lines += ["", *_TEXTS[name].splitlines(), "", *table(findings)]
    if networks:
        lines += ["", *_TEXTS[backbones.NAME].splitlines(), "", *_of_backbones(networks)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*lines, ""]))


def _aims(findings: Findings, networks: Sequence[backbones.Result]) -> list[str]:
    """Judge each aim as it was set before anything was measured."""
    rows = [*_learning_aims(findings), *_perfect_aims(findings)]
    for kind in throughput.KINDS:
        ratio = findings.speed(throughput.NAME, kind, throughput.OURS, throughput.THEIRS)
        met = None if ratio is None else ratio.median >= _SPEED
        rows.append(_row(f"throughput, {kind}: at least {_SPEED} times torchvision's", str(ratio), met))
    families = {each.family for each in networks if each.library == "timm" and each.status == "passed"}
    failed = sum(each.status == "failed" for each in networks)
    met = len(families) >= _FAMILIES if networks else None
    found = f"{len(families)} families of timm; {failed} networks fail"
    rows.append(_row(f"backbones: at least {_FAMILIES} families of timm", found, met))
    return table_lines(["aim", "found", "verdict"], rows)


def _learning_aims(findings: Findings) -> Iterator[list[str]]:
    for kind in overfitting.KINDS:
        values = findings.values(overfitting.NAME, kind, "ap50").values()
        seconds = findings.values(overfitting.NAME, kind, "of process").values()
        found = f"{min(values):.3f}, {max(seconds):.0f} s" if values else ""
        met = min(values) >= _LEARNED_AP and max(seconds) < _SECONDS if values else None
        aim = f"overfitting, {kind}: least AP50 at least {_LEARNED_AP} and longest training under {_SECONDS} s"
        yield _row(aim, found, met)
    gain = findings.difference(transfer.NAME, transfer.PRETRAINED, transfer.RANDOM, "ap50")
    met = None if gain is None else gain.mean >= _GAIN
    yield _row(f"transfer: AP50 at least {_GAIN:.2f} above that of random weights", _signed(gain), met)


def _perfect_aims(findings: Findings) -> Iterator[list[str]]:
    values = [
        value
        for kind in perfect.KINDS
        for rule in perfect.RULES
        for value in findings.values(perfect.NAME, kind, rule).values()
    ]
    met = min(values) == 1.0 if values else None
    yield _row("a perfect detector: 1.000 by every rule", f"least {min(values):.6f}" if values else "", met)


def _row(aim: str, found: str, is_met: bool | None) -> list[str]:
    if is_met is None:
        return [aim, "", "not measured"]
    return [aim, found, "met" if is_met else "**missed**"]


def _signed(found: Estimate | None) -> str:
    if found is None:
        return ""
    return f"{found.mean:+.3f} (one draw)" if isnan(found.error) else found.signed


def _of_overfitting(findings: Findings) -> list[str]:
    name = overfitting.NAME
    rows = [
        [
            kind,
            len(findings.values(name, kind, "ap50")),
            *(findings.estimate(name, kind, measure) for measure in ("ap50", "ap", "loss")),
            ", ".join(f"{seconds:.0f}" for seconds in findings.values(name, kind, "of process").values()),
        ]
        for kind in overfitting.KINDS
        if findings.values(name, kind, "ap50")
    ]
    return table_lines(["", "draws", "AP50", "AP", "last loss", "seconds of training"], rows)


def _of_transfer(findings: Findings) -> list[str]:
    name, rows = transfer.NAME, []
    for kind in transfer.KINDS:
        if by_seed := findings.values(name, kind, "ap50"):
            each = ", ".join(f"{value:.3f}" for value in by_seed.values())
            estimates = [findings.estimate(name, kind, measure) for measure in ("ap50", "ap", "loss")]
            seconds = findings.estimate(name, kind, "of process")
            rows.append([kind, f"{findings.rates[kind]:g}", each, *estimates, f"{seconds.mean:.0f}" if seconds else ""])
    return table_lines(["", "rate", "AP50 by draw", "AP50", "AP", "last loss", "seconds of training"], rows)


def _of_perfect(findings: Findings) -> list[str]:
    rows = []
    for kind in perfect.KINDS:
        if findings.values(perfect.NAME, kind, "ap"):
            least = [min(findings.values(perfect.NAME, kind, rule).values()) for rule in perfect.RULES]
            counts = [sum(findings.values(perfect.NAME, kind, measure).values()) for measure in ("true", "found")]
            rows.append([kind, *(f"{value:.6f}" for value in least), *(f"{count:.0f}" for count in counts)])
    header = ["least over draws", "AP50 (COCO)", "AP (COCO)", "AP50 (VOC)", "AP50 (VOC 2007)", "true boxes", "found"]
    return table_lines(header, rows)


def _of_throughput(findings: Findings) -> list[str]:
    name, rows, notes = throughput.NAME, [], []
    for kind in throughput.KINDS:
        ratio = findings.speed(name, kind, throughput.OURS, throughput.THEIRS)
        if ratio is None:
            continue
        speeds = [
            throughput.N_IMAGES / sorted(seconds)[len(seconds) // 2]
            for side in (throughput.THEIRS, throughput.OURS)
            for seconds in [list(findings.values(name, kind, side).values())]
        ]
        rows.append([kind, ratio.n_runs, *(f"{speed:.2f}" for speed in speeds), ratio])
    if apart := findings.values(name, throughput.INFERENCE, "scores apart"):
        detections = findings.estimate(name, throughput.INFERENCE, "detections")
        notes += ["", f"Scores of both differ by at most {max(apart.values()):.1e}; an image has"]
        notes[-1] += f" {detections.mean:.0f} detections." if detections else "."
    if learning := findings.values(name, throughput.TRAINING, f"learning, {throughput.OURS}"):
        theirs = findings.values(name, throughput.TRAINING, f"learning, {throughput.THEIRS}")
        notes += ["", f"{max(learning.values()):,.0f} parameters learn in ours, {max(theirs.values()):,.0f} in theirs."]
    return table_lines(["", "runs", "torchvision, images/s", "ours, images/s", "times as fast"], rows) + notes


def _of_backbones(networks: Sequence[backbones.Result]) -> list[str]:
    rows = [[_label(library, networks), *_counts(_of(networks, library))] for library in backbones.LIBRARIES]
    header = ["library", "tried", "work", "families of these", "one map", "one size", "failed", "excluded"]
    lines = table_lines(header, [*rows, ["all", *_counts(networks)]])
    for title, status in (("Failed", "failed"), ("Excluded", "excluded")):
        listed = [f"- `{each.name}` ({each.library}): {each.reason}" for each in networks if each.status == status]
        lines += ["", f"### {title}", "", *(listed or ["None."])]
    for library in backbones.LIBRARIES:
        lines += ["", f"### Work, {_TITLES[library]}", "", "| network | family | pixels | strides | maps |"]
        lines.append("|---|---|---:|---|---|")
        for each in _of(networks, library):
            if each.status == "passed":
                strides, layouts = ", ".join(map(str, each.strides)), ", ".join(dict.fromkeys(each.layouts))
                size = f"{each.side} only" if each.fixed_size else str(each.side)
                lines.append(f"| `{each.name}` | {each.family} | {size} | {strides} | {layouts} |")
    return lines


def _label(library: str, networks: Sequence[backbones.Result]) -> str:
    versions = sorted({each.version for each in _of(networks, library)})
    return f"{_TITLES[library]} {', '.join(versions)}".strip()


def _of(networks: Sequence[backbones.Result], library: str) -> list[backbones.Result]:
    return [each for each in networks if each.library == library]


def _counts(networks: Sequence[backbones.Result]) -> list[int]:
    passed = [each for each in networks if each.status == "passed"]
    n_failed, n_excluded = (sum(each.status == status for each in networks) for status in ("failed", "excluded"))
    one_map = sum(len(each.strides) == 1 for each in passed)
    one_size = sum(bool(each.fixed_size) for each in passed)
    n_families = len({each.family for each in passed})
    return [len(passed) + n_failed, len(passed), n_families, one_map, one_size, n_failed, n_excluded]


_TABLES = {
    overfitting.NAME: _of_overfitting,
    transfer.NAME: _of_transfer,
    perfect.NAME: _of_perfect,
    throughput.NAME: _of_throughput,
}
