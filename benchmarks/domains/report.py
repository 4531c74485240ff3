"""The report of all cells: docs/benchmarks/domains.md, with the aims and a verdict on each."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.adapters.cells import Result
from benchmarks.adapters.findings import Findings
from benchmarks.domains import bias, classes, features, labels, networks, relations
from benchmarks.domains.aims import aims
from benchmarks.domains.choices import choose
from benchmarks.domains.features import ACCURACY, DIRECTIONS, SOURCE
from benchmarks.domains.images import SIDE, small_network
from benchmarks.timing import table_lines

__all__ = ["write"]

_HEAD = f"""# Transfer between domains and tasks

Written by `python -m benchmarks domains` with torch {torch.__version__}, measured at commit {{commits}}; do not edit
it by hand. Each cell is kept in `build/domains` and not measured again; each part runs alone (`--parts`). Figures are
means over draws with standard errors in brackets; differences are paired by draw, and "won" counts the draws in which a
kind is ahead. Every method has its defaults, but where a table says otherwise. Sizes, epochs and rates were chosen on
one draw that is not reported, and what was seen there stands with each part.
"""
_BIAS = """## A known bias

Tumours of scikit-learn's breast_cancer (569 rows, 30 columns). Half of the rows are the target, without labels. Of the
others a row is kept for the source with the probability .05 + .95 / (1 + exp(2 z)), z being its place on the first
principal axis of the standardised columns: the source has mostly small tumours. MMD^2 is that of columns standardised
over both domains, at the median width, with the estimated weights to without; log loss is that of logistic regression
on the target. "True weights" are one over the probabilities. "Covered" is how often a set of labels that is to hold the
right one 95 times in 100 does: weighted conformal sets, beside those of the same head that knows of no other domain.
"""
_LABELS = f"""## Few labels in the target

{labels.N_SOURCE} labelled digits of MNIST and few of scikit-learn's, {labels.SIDE} x {labels.SIDE} pixels as features
(MNIST without its margin of 4 pixels, as a row of the other has none), logistic regression with its C by
cross-validation; accuracy on all other digits of scikit-learn.

On the draw that is not reported, at 5 labels a class: with their margin, digits of MNIST are smaller than the others,
and 500 of them alone were worth .34 in place of .56. Of 2,000 rows, source only was .54, pooled .67, TrAdaBoost .73
(of 500: .56, .72 and .74). Its heads are right about the few rows of the target from the first
rounds on and about most of the source, so that few weights change.
"""
_FEATURES = f"""## Features of EfficientNet-Lite0, no labels in the target

Handwritten digits, {features.N_SOURCE:,} labelled rows of the source, {features.N_ADAPT:,} of the target to adapt to,
and {features.N_TEST} others to test on; {{draws}} draws. The network has seen neither, and here images of MNIST keep
their margin. KMM, KLIEP and the domain
classifier weigh rows (`ImportanceWeightedRepurposer`), which is for domains that overlap; how many rows are left to
decide, the effective share says. Seconds are those of adaptation and training, on a busy machine.
"""
_CHOICES = f"""## A choice without labels

Among the methods on features and source only, the one with the highest `score_without_labels` is taken in each
draw; "iwv" has {features.N_HELD_OUT} source rows of its own to score by. Accuracy is on labelled rows of the target.
"""
_NETWORKS = f"""## A small network, no labels in the target

Digits of {SIDE} x {SIDE} pixels (MNIST without its margin of 4 pixels), {features.N_SOURCE:,} labelled rows of the
source, {features.N_ADAPT:,} of the target to adapt to, and {features.N_TEST} others to test on; {{draws}} draws. The
network, of two convolutions and two linear layers ({{size:,}} parameters), has learned the rows of the source in 300
steps of a plain loop; from there each method goes on for {networks.N_EPOCHS} epochs, all else by default.

On the draw that is not reported: with its margin, a network that learned MNIST was worth .57 on the other digits in
place of .72, and .20 in place of .51 the other way round.
"""
_BOTH = f"""## A new task, and the old one afterwards

Such a network has learned the digits 0 to 4 of MNIST ({classes.N_OLD} a class) and learns 5 to 9 ({classes.N_NEW} a
class, {classes.N_EPOCHS} epochs) without a row of the old ones; accuracy of either task on all other rows, of the old
one by the old classifier. "Warmed up" is `LwfRepurposer` with a `distillation_weight` of 0.

The library gives transferred layers a tenth of the rate of new ones (1e-3): so fine-tuning hardly forgets here, and its
new task is not learned to the end. One rate of {classes.RATE:g} for all layers was the best of four (the default, .001,
.003 and .01) for fine-tuning the new task on a draw that is not reported: .906, .966, .970, .982, while the old one
went from .986 to .65. On scikit-learn's digits (50 a class, 20 epochs) it went to .955 and .898 at .001 and .003.
"""
_FEW = f"""## Two tasks together

The new task has {classes.N_FEW} labels a class, and {classes.N_OLD} rows a class of the old one train beside it, or
not, in as many steps: from random weights (one rate of 1e-3), or from the network that has learned the old task.
"""
_RELATIONS = f"""## Relations to a teacher

The teacher, of twice the width, has learned all ten digits of MNIST ({relations.N_TEACHER} a class); the student learns
0 to 4 ({relations.N_STUDENT} a class, {relations.N_EPOCHS} epochs, from random weights). For rows that neither has seen
it is asked whether the nearest row before the classifier, among those of the teacher, is of the same of ten classes.
"""


def write(results: Sequence[Result], file: Path) -> None:
    """Write the report in Markdown, of the parts that were measured."""
    findings = Findings(results)
    commits = ", ".join(dict.fromkeys(result.commit for result in results)) or "none"
    lines = [*_HEAD.format(commits=commits).splitlines(), "", "## Aims", ""]
    judged = [*aims(findings)]
    verdicts = Counter(verdict for _, _, verdict in judged)
    lines += table_lines(["aim", "found", "verdict"], judged)
    lines += ["", f"{', '.join(f'{n} {verdict}' for verdict, n in verdicts.most_common())}."]
    for section in (_bias, _labels, _features, _networks, _choices, _both_tasks, _few, _relations):
        lines += section(findings)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*lines, ""]))


def _bias(findings: Findings) -> Iterator[str]:
    if not (kinds := findings.kinds(bias.NAME)):
        return
    header = ["weights", "draws", bias.KEPT, bias.CORRELATION, bias.SIZE, bias.LOSS, "less unweighted", "accuracy"]
    header += [bias.COVERED, bias.LABELS]
    rows = []
    for kind in kinds:
        kept, rank, size, loss, accuracy = (
            str(findings.estimate(bias.NAME, kind, measure))
            for measure in (bias.KEPT, bias.CORRELATION, bias.SIZE, bias.LOSS, bias.ACCURACY)
        )
        ahead = findings.difference(bias.NAME, kind, bias.UNWEIGHTED, bias.LOSS)
        has_weights = kind != bias.UNWEIGHTED
        row = [kind, str(findings.n_draws(bias.NAME, kind)), *([kept, rank, size] if has_weights else [""] * 3)]
        sets = [str(findings.estimate(bias.NAME, kind, measure) or "") for measure in (bias.COVERED, bias.LABELS)]
        rows.append([*row, loss, ahead.signed if ahead and has_weights else "", accuracy, *sets])
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
            seconds = findings.estimate(part, kind, features.SECONDS)
            row = [kind, str(findings.estimate(part, kind, ACCURACY)), *_against(findings, part, kind, SOURCE)]
            row += [str(findings.estimate(part, kind, features.SIZE) or ""), f"{seconds.mean:.0f}" if seconds else ""]
            rows.append(row)
        header = [direction, "accuracy", f"less {SOURCE}", "won", features.SIZE, "seconds"]
        yield from ["", *table_lines(header, rows)]


def _networks(findings: Findings) -> Iterator[str]:
    parts = {networks.part_of(direction): direction for direction in DIRECTIONS}
    if not any(findings.kinds(part) for part in parts):
        return
    draws = max(findings.n_draws(part, kind) for part in parts for kind in findings.kinds(part))
    size = sum(parameter.numel() for parameter in small_network(10).parameters())
    yield from ["", *_NETWORKS.format(draws=draws, size=size).splitlines()]
    for part, direction in parts.items():
        rows = [
            [kind, str(findings.estimate(part, kind, ACCURACY)), *_against(findings, part, kind, SOURCE)]
            for kind in findings.kinds(part)
        ]
        yield from ["", *table_lines([direction, "accuracy", f"less {SOURCE}", "won"], rows)]


def _both_tasks(findings: Findings) -> Iterator[str]:
    rows = []
    for part in classes.BOTH:
        for kind in findings.kinds(part):
            row = [part.rpartition(", ")[2], kind, str(findings.n_draws(part, kind))]
            for measure in (classes.OLD_ACCURACY, ACCURACY):
                row.append(str(findings.estimate(part, kind, measure)))
                row += _against(findings, part, kind, classes.FINE_TUNED, measure)[:1]
            rows.append(row)
    if rows:
        header = ["rates", "kind", "draws", "old task", "less fine-tuning", "new task", "less fine-tuning"]
        yield from ["", *_BOTH.splitlines(), "", *table_lines(header, rows)]


def _few(findings: Findings) -> Iterator[str]:
    rows = []
    for kind in findings.kinds(classes.FEW):
        alone = f"{classes.TARGET}, {kind.partition(', ')[2]}"
        row = [kind, str(findings.n_draws(classes.FEW, kind)), str(findings.estimate(classes.FEW, kind, ACCURACY))]
        rows.append(row + _against(findings, classes.FEW, kind, alone))
    if rows:
        yield from ["", *_FEW.splitlines(), "", *table_lines(["kind", "draws", "accuracy", "less alone", "won"], rows)]


def _relations(findings: Findings) -> Iterator[str]:
    name, rows = relations.NAME, []
    for kind in findings.kinds(name):
        row = [kind, str(findings.n_draws(name, kind)), str(findings.estimate(name, kind, ACCURACY))]
        row += _against(findings, name, kind, relations.ALONE)
        rows.append(row + [str(findings.estimate(name, kind, seen)) for seen in (relations.SEEN, relations.UNSEEN)])
    if rows:
        header = ["kind", "draws", "all ten classes", "less alone", "won", "learned classes", "other classes"]
        yield from ["", *_RELATIONS.splitlines(), "", *table_lines(header, rows)]


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


def _against(findings: Findings, part: str, kind: str, other: str, measure: str = ACCURACY) -> list[str]:
    """Return the difference to another kind and the draws won; nothing for that kind itself."""
    found = findings.difference(part, kind, other, measure)
    return ["", ""] if kind == other or found is None else [found.signed, findings.won(part, kind, other, measure)]
