"""The report of all cells: docs/benchmarks/sources.md, with the aims and a verdict on each."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.adapters.cells import Result
from benchmarks.adapters.findings import Findings
from benchmarks.domains.images import small_network
from benchmarks.quality.findings import Estimate
from benchmarks.sources import encoding, groups, images, ranking, text, tuning
from benchmarks.sources.aims import aims, median_speed
from benchmarks.sources.corpus import corpus
from benchmarks.sources.told import PRETRAINED_ONLY, RANKINGS, WAYS, Told
from benchmarks.timing import table_lines

__all__ = ["write"]

_HEAD = f"""# Sources: which one, which layer, and text

Written by `python -m benchmarks sources` with torch {torch.__version__}, measured at commit {{commits}}; do not edit it
by hand. Each cell is kept in `build/sources` and not measured again; each part runs alone (`--parts`). Figures are
means over draws with standard errors in brackets, and differences are paired by draw; one thread throughout.
"""
_RANKING = f"""## Rankings before anything is trained

Eight sources: EfficientNet-Lite0, -Lite1 and -Lite2 with weights of ImageNet and with random ones, a small network
({{small:,}} parameters) that has learned MNIST, and the same that has learned digits of scikit-learn, which are in no
task. Of each up to four layers are candidates, pooled by the mean. Four tasks (handwritten digits, drawn things,
rendered letters, squares of photographs) of {images.N_IMAGES} images; in each draw {images.N_LABELS} of each class are
labelled, and scored as `rank_sources` does it. What is reached afterwards is the log loss (nats) of logistic regression
with its defaults, trained on those rows, on all others. {{draws}} draws of tasks; those of one task share images, so
that the standard errors are too small for new tasks.

The rank correlation is Spearman's, of the order by a score with the order by what is reached. Regret is how much larger
the log loss of the first choice is than the smallest one of all candidates. Where a ranking cannot tell layers apart,
the last one counts as its choice. Seconds are those of all candidates of a draw, without extraction, which all
share. 5-fold cross-validation trains the head itself, its C chosen in each fold.
"""
_EXTRACTION = f"""### Extraction

One pass of {images.N_IMAGES} images for all layers.
"""
_TUNING = f"""## Tuning on one extraction

`tune` with {tuning.N_TRIALS} trials of C and pooling of logistic regression on two layers of EfficientNet-Lite0; rows
are counted as they enter the network, and divided by those of the data. A few rows more than once are two rows that are
looked at first.
"""
_TEXT = f"""## Few labels of text

First paragraphs of docstrings, to be told apart by the package that they are from; names of packages and modules are
taken out. {text.N_TEST} of each class to test on, the same for any number of labels. Sentence embeddings are those of
MiniLM (`"minilm"`), the bag of words scikit-learn's `TfidfVectorizer` with logistic regression, its C by
cross-validation. Fine-tuning is `NeuralNetworkFineTuneRepurposer` of the same network on texts of
{text.N_TOKENS} tokens at most{{chosen}}.

{{counts}}
"""
_ENCODING = f"""## Encoding

{encoding.N_TEXTS:,} of these texts, in batches of 32, by `ModelHandler.extract` and by sentence-transformers' own
`encode`, in turns; the speed is the median over pairs of runs.
"""
_GROUPS = f"""## Groups

Rows of patients, each of whom has one of {groups.N_CLASSES} classes and adds a look of his own to each of his rows:
{groups.N_PATIENTS} patients of a class, {groups.N_ROWS} rows each. Sets are promised to hold the right class 9 times in
10, and tested on patients that are new. Without `groups=` rows of a patient are on both sides of a fold.
"""


def write(results: Sequence[Result], file: Path) -> None:
    """Write the report in Markdown, of the parts that were measured."""
    findings, told = Findings(results), Told(results)
    commits = ", ".join(dict.fromkeys(result.commit for result in results)) or "none"
    lines = [*_HEAD.format(commits=commits).splitlines(), "", "## Aims", ""]
    judged = [*aims(findings, told)]
    verdicts = Counter(verdict for _, _, verdict in judged)
    lines += table_lines(["aim", "found", "verdict"], judged)
    lines += ["", f"{', '.join(f'{n} {verdict}' for verdict, n in verdicts.most_common())}."]
    lines += _rankings(told)
    for section in (_extraction, _tuning, _text, _encoding, _groups):
        lines += section(findings)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*lines, ""]))


def _rankings(told: Told) -> Iterator[str]:
    if not told.n_draws:
        return
    small = sum(parameter.numel() for parameter in small_network(10).parameters())
    yield from ["", *_RANKING.format(draws=told.n_draws, small=small).splitlines()]
    for way in WAYS:
        rows = []
        for name in RANKINGS:
            worth, seconds = told.worth(way, name), told.seconds(name)
            row = [name, str(Estimate.of(worth.correlations)), str(Estimate.of(worth.regrets))]
            rows.append([*row, f"{worth.regrets.max():.3f}", f"{seconds.mean:.1f}" if seconds else ""])
        header = [way, "rank correlation", "regret", "largest", "seconds"]
        yield from ["", *table_lines(header, rows)]
    rows = [
        [
            name,
            *(str(Estimate.of(told.worth(PRETRAINED_ONLY, name, [task]).correlations) or "") for task in images.TASKS),
        ]
        for name in RANKINGS
    ]
    yield from ["", "By task, of learned weights only, rank correlations:", ""]
    yield from table_lines([PRETRAINED_ONLY, *images.TASKS], rows)


def _extraction(findings: Findings) -> Iterator[str]:
    rows = []
    for title in images.SOURCES:
        of_tasks = [
            found
            for task in images.TASKS
            if (found := findings.estimate(ranking.part_of(ranking.EXTRACTION, task), title, "seconds"))
        ]
        part = ranking.part_of(ranking.EXTRACTION, images.TASKS[0])
        size, width = (findings.estimate(part, title, name) for name in ("parameters", "megabytes"))
        if of_tasks and size and width:
            mean = sum(found.mean for found in of_tasks) / len(of_tasks)
            rows.append([title, f"{size.mean:,.0f}", f"{mean:.1f}", f"{width.mean:.1f}"])
    if rows:
        yield from ["", *_EXTRACTION.splitlines(), "", *table_lines(["source", "parameters", "seconds", "MB"], rows)]


def _tuning(findings: Findings) -> Iterator[str]:
    names = (tuning.EXTRACTIONS, tuning.SECONDS, tuning.ONE_PASS)
    found = [findings.estimate(tuning.NAME, tuning.KIND, name) for name in names]
    if all(found):
        yield from ["", *_TUNING.splitlines(), ""]
        yield from table_lines(names, [[f"{estimate.mean:.2f}" for estimate in found if estimate]])


def _text(findings: Findings) -> Iterator[str]:
    rows = []
    for n_labels in text.N_LABELS:
        part = text.part_of(n_labels)
        for kind in findings.kinds(part):
            cells = [str(findings.estimate(part, kind, name)) for name in (text.ACCURACY, text.LOSS)]
            less = findings.difference(part, kind, text.WORDS, text.ACCURACY)
            beside = "" if less is None or kind == text.WORDS else less.signed
            of_heads = findings.difference(part, kind, text.LR, text.ACCURACY)
            beside_lr = "" if of_heads is None or kind == text.LR else of_heads.signed
            seconds = findings.estimate(part, kind, text.SECONDS)
            row = [str(n_labels), kind, str(findings.n_draws(part, kind)), *cells, beside, beside_lr]
            rows.append([*row, f"{seconds.mean:.1f}" if seconds else ""])
    if rows:
        counts = "\n".join(f"    {line}" for line in str(corpus().docstring_texts()).splitlines())
        yield from ["", *_TEXT.format(counts=counts, chosen=text.CHOSEN).splitlines(), ""]
        header = ["labels a class", "kind", "draws", "accuracy", "log loss", "less words", f"less {text.LR}", "seconds"]
        yield from table_lines(header, rows)


def _encoding(findings: Findings) -> Iterator[str]:
    if (speed := median_speed(findings)) is None:
        return
    rows = []
    for kind in (encoding.OWN, encoding.OTHER):
        seconds = findings.estimate(encoding.NAME, kind, encoding.SECONDS)
        rows.append([kind, str(seconds), f"{encoding.N_TEXTS / seconds.mean:.0f}" if seconds else ""])
    yield from ["", *_ENCODING.splitlines(), "", *table_lines(["", "seconds", "texts a second"], rows), ""]
    yield f"Median speed: {speed.mean:.3f} times."


def _groups(findings: Findings) -> Iterator[str]:
    rows = []
    for kind in findings.kinds(groups.NAME):
        names = (groups.COVERED, groups.LABELS, groups.LOSS)
        rows.append([kind, *(str(findings.estimate(groups.NAME, kind, name)) for name in names)])
    if rows:
        draws = len(findings.values(groups.NAME, findings.kinds(groups.NAME)[0], groups.COVERED))
        header = [f"{draws} draws", groups.COVERED, groups.LABELS, groups.LOSS]
        yield from ["", *_GROUPS.splitlines(), "", *table_lines(header, rows)]
