"""What the benchmark of sources makes of its cells: rankings judged by hand, aims, and draws without leaks."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import sem, spearmanr

from benchmarks.adapters.cells import Cell, Result
from benchmarks.sources import encoding, groups, images, ranking, report, text, tuning
from benchmarks.sources.scores import CROSS_VALIDATION, GP, SCORES
from benchmarks.sources.told import ACCURACY, ALL, LAST, PRETRAINED_ONLY, SIZE, WITHIN, Told

TASK = images.TASKS[0]
LITE0, LITE1, RANDOM = "efficientnet-lite0, ImageNet", "efficientnet-lite1, ImageNet", "efficientnet-lite0, random"
# source, depth, what the Gaussian process says, what cross-validation says, what is reached
CANDIDATES = [
    (LITE0, 0, 0.9, 0.5, 0.8),
    (LITE0, 1, 0.3, 0.4, 0.2),
    (LITE1, 0, 0.5, 0.3, 0.5),
    (LITE1, 1, 0.6, 0.6, 0.6),
]
OTHERS = [(RANDOM, 0, 1.5, 2.0, 1.9), (RANDOM, 1, 1.4, 1.9, 1.7)]


def result(part: str, kind: str, seed: int = 0, **measures: float) -> Result:
    return Result(Cell(part, kind, 0.0, seed), measures, "abc")


def ranking_results(seed: int = 0) -> list[Result]:
    sizes = {LITE0: 4e6, LITE1: 5e6, RANDOM: 4e6}
    where = ranking.part_of(ranking.EXTRACTION, TASK)
    found = [result(where, source, parameters=size, seconds=2.0, megabytes=1.0) for source, size in sizes.items()]
    for source, depth, gp, folds, loss in CANDIDATES + OTHERS:
        measures = dict.fromkeys(SCORES, 0.0) | {GP: gp, CROSS_VALIDATION: folds, ranking.LOSS: loss}
        measures |= {ranking.seconds_of(name): 0.1 for name in SCORES} | {ranking.DEPTH: depth}
        measures[ranking.seconds_of(CROSS_VALIDATION)] = 0.7
        found.append(
            Result(Cell(ranking.part_of(ranking.NAME, TASK), f"{source}: layer{depth}", 0.0, seed), measures, "abc")
        )
    return found


def aims_of(results: list[Result], file: Path) -> dict[str, tuple[str, str]]:
    report.write(results, file)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in file.read_text().splitlines()]
    return {row[0]: (row[1], row[2]) for row in rows if len(row) == 3}


def test_a_ranking_is_worth_what_spearman_and_the_first_choice_say() -> None:
    told = Told(ranking_results())
    losses = [loss for *_, loss in CANDIDATES + OTHERS]
    gp = told.worth(ALL, GP)
    assert gp.correlations == pytest.approx([spearmanr([c[2] for c in CANDIDATES + OTHERS], losses).statistic])
    assert gp.regrets == pytest.approx([0.0])
    folds = told.worth(PRETRAINED_ONLY, CROSS_VALIDATION)
    assert folds.correlations == pytest.approx(
        [spearmanr([c[3] for c in CANDIDATES], [c[4] for c in CANDIDATES]).statistic]
    )
    assert folds.regrets == pytest.approx([0.5 - 0.2])
    within = told.worth(WITHIN, GP)
    assert within.correlations == pytest.approx([1.0])
    assert within.regrets == pytest.approx([0.0])
    assert told.worth(WITHIN, CROSS_VALIDATION).regrets == pytest.approx([0.0])
    assert told.faster(GP, CROSS_VALIDATION).mean == pytest.approx(7.0)
    assert told.seconds(GP).mean == pytest.approx(0.6)
    assert told.seconds(SIZE) is None


def test_simple_rankings_choose_the_last_layer_of_the_largest_or_best_known() -> None:
    told = Told(ranking_results())
    for simple in (SIZE, ACCURACY):
        assert told.worth(PRETRAINED_ONLY, simple).regrets == pytest.approx([0.6 - 0.2])  # of Lite1, the last layer
        assert told.worth(WITHIN, simple).correlations == pytest.approx([0.0])  # they cannot tell layers apart
    of_last = [0.0, 0.6 - 0.5, 0.0]
    assert told.worth(WITHIN, LAST).regrets == pytest.approx([np.mean(of_last)])


def test_aims_say_what_was_found_and_what_was_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "corpus", lambda: SimpleNamespace(docstring_texts=lambda: "numpy 400"))
    results = ranking_results(0) + ranking_results(1)
    part, words = text.part_of(5), text.WORDS
    for seed, (ours, theirs) in enumerate([(0.50, 0.40), (0.46, 0.40)]):
        of_words = {text.ACCURACY: theirs, text.LOSS: 1.0, text.SECONDS: 1.0}
        results += [
            result(part, text.LR, seed, **(of_words | {text.ACCURACY: ours})),
            result(part, words, seed, **of_words),
        ]
        for kind, seconds in ((encoding.OWN, 2.0), (encoding.OTHER, 1.8 + 0.2 * seed)):
            measures = {encoding.SECONDS: seconds, encoding.DISTANCE: 0.02}
            results.append(Result(Cell(encoding.NAME, kind, 0.0, seed), measures, "abc"))
    for seed, covered in enumerate([0.91, 0.79]):
        measures = {groups.COVERED: covered, groups.LABELS: 2.0, groups.LOSS: 1.0}
        results.append(Result(Cell(groups.NAME, groups.kind_of("LR", groups.WITH), 0.0, seed), measures, "abc"))
    counted = {tuning.EXTRACTIONS: 1.045, tuning.SECONDS: 9.0, tuning.ONE_PASS: 2.0}
    results.append(Result(Cell(tuning.NAME, tuning.KIND, 0.0, 0), counted, "abc"))
    aims = aims_of(results, tmp_path / "sources.md")
    of_words = aims[f"{part}: {text.LR} above {words}"]
    assert of_words == (f"+0.080 ({sem([0.10, 0.06]):.3f})", "met")
    assert aims["encoding: as fast as sentence-transformers"] == ("0.950 (0.050)", "**missed**")
    assert aims["groups: sets of LR with groups cover 90 % of new patients, less 3"] == ("0.850 (0.060)", "**missed**")
    assert aims[f"ranking: {GP} takes a fifth of its time"] == ("7.000 (0.000)", "met")
    assert aims[f"ranking, {PRETRAINED_ONLY}: regret below that of {SIZE}"] == ("-0.400 (0.000)", "met")
    assert aims["tuning: 100 trials on one extraction"] == ("1.045 (nan)", "met")
    assert aims[f"{text.part_of(50)}: {text.LR} above {words}"] == ("", "not measured")
    written = (tmp_path / "sources.md").read_text()
    assert "measured at commit abc;" in written
    titles = ["Rankings before", "Extraction", "Tuning on", "Few labels of text", "Encoding", "Groups"]
    assert [title for title in titles if f"# {title}" not in written] == []


def test_rows_of_a_patient_are_alike_and_new_patients_are_new() -> None:
    train, patients, test = groups.draw(0)
    assert len(train) == groups.N_CLASSES * groups.N_PATIENTS * groups.N_ROWS
    rows = train.matrix
    same = [rows[patients == patient].std(axis=0).mean() for patient in np.unique(patients)]
    of_class = [rows[train.labels == label].std(axis=0).mean() for label in range(groups.N_CLASSES)]
    assert max(same) < 0.7 < min(of_class)
    assert all(len(np.unique(train.labels[patients == patient])) == 1 for patient in np.unique(patients))
    assert not {row.tobytes() for row in rows} & {row.tobytes() for row in test.matrix}


def test_no_digit_of_a_task_was_seen_by_the_network_that_learned_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(images, "learned", lambda network, rows, codes: seen.append(rows) or network)
    images._small("digits")
    pixels, _ = images.task_images("digits", images.N_IMAGES)
    everything, _ = images.task_images("digits")
    assert len(seen[0]) + len(pixels) == len(everything)
    small, _ = images.small_images("digits")
    of_task = np.random.default_rng(0).permutation(len(everything))[: images.N_IMAGES]
    assert np.array_equal(everything[of_task], pixels)
    learned = {row.numpy().tobytes() for row in seen[0]}
    shared = [row for row in of_task if small[row].numpy().tobytes() in learned]
    assert len(shared) <= 2  # of 1,797 a few are equal to one another
