"""`python -m benchmarks quality`: splits, estimates, aims and report, on features that are drawn."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import sem, ttest_rel
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from benchmarks.quality.aims import verdicts
from benchmarks.quality.cells import ALL, Cell, Result, auroc_name, examine
from benchmarks.quality.findings import Findings
from benchmarks.quality.heads import BASELINE, NEAREST, PROBABILITY, TUNED, VARIANCE
from benchmarks.quality.images import HELD_OUT, N_TEST, TASKS, split_of
from benchmarks.quality.report import write
from benchmarks.quality.runs import measure, read_results
from benchmarks.tasks import LAYER
from model_handler import Features

LOSS = "log_loss"


@pytest.fixture(scope="module")
def features() -> dict[str, Features]:
    """As many rows as there are images, of few columns."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(10, 6))

    def draw(n_rows: int, shift: float) -> Features:
        labels = rng.permutation(np.arange(n_rows) % 10)
        rows = centers[labels] + rng.normal(size=(n_rows, 6)) + shift
        return Features({"early": rows[:, :2], LAYER: rows}, labels)

    sizes = {"digits": 1797, "drawings": 960, "mnist": 5000, "letters": 1200, "fonts": 1200, "places": 520}
    return {task: draw(sizes[task], shift) for shift, task in enumerate(TASKS)}


def rows_of(features: Features) -> set[bytes]:
    return {row.tobytes() for row in features.matrix}


def findings_of(**losses: list[float]) -> Findings:
    """With the log losses of each method by split, in every place."""
    titles = {"gp": "GP", "base": TUNED, "raw": BASELINE, "chosen": "tuned LR, chosen layers"}
    return Findings(
        [
            Result(Cell(task, n_labels, seed, titles[name]), {LOSS: loss})
            for task in ("digits", "mnist")
            for n_labels in (2, 5, 10, 50, ALL)
            for name, each in losses.items()
            for seed, loss in enumerate(each)
        ]
    )


def test_no_row_is_trained_on_and_tested_and_fewer_labels_are_among_more(features: dict[str, Features]) -> None:
    few, more, every = (split_of(features, "digits", n, seed=3) for n in (2, 5, ALL))
    assert rows_of(few.train) < rows_of(more.train) < rows_of(every.train)
    assert rows_of(few.test) == rows_of(every.test)
    assert rows_of(every.train).isdisjoint(rows_of(every.test))
    assert np.bincount(more.train.labels).tolist() == [5] * 10
    assert (len(every.test), len(every.train)) == (N_TEST["digits"], 1797 - N_TEST["digits"])


def test_unfamiliar_rows_are_of_other_images_and_held_out_classes_are_not_trained_on(
    features: dict[str, Features],
) -> None:
    split = split_of(features, "mnist", 5, seed=0)
    assert {name: len(each) for name, each in split.unfamiliar.items()} == {"digits": 1000, "places": 520}
    hard = split.without_classes(seed=0)
    held_out = set(hard.unfamiliar[HELD_OUT].labels.tolist())
    assert len(held_out) == 3  # a third of ten
    assert set(hard.train.labels.tolist()) == set(hard.test.labels.tolist()) == set(range(10)) - held_out
    assert len(hard.test) + len(hard.unfamiliar[HELD_OUT]) == len(split.test)


def test_a_cell_measures_what_scikit_learn_does(features: dict[str, Features]) -> None:
    split = split_of(features, "digits", 5, seed=1)
    found = examine(Cell("digits", 5, 1, "LR, C = 1"), features).measures

    training = split.train.select([LAYER]).matrix.astype(np.float64)
    factor = 16 / np.sqrt(training.var(axis=0).sum())

    def scaled(each: Features) -> np.ndarray:
        return factor * (each.select([LAYER]).matrix - training.mean(axis=0))

    model = LogisticRegression(tol=1e-8, max_iter=5000).fit(scaled(split.train), split.train.labels)
    probabilities = model.predict_proba(scaled(split.test))
    strange = model.predict_proba(scaled(split.unfamiliar["mnist"]))
    assert found[LOSS] == pytest.approx(log_loss(split.test.labels, probabilities), rel=1e-3)
    assert found["accuracy"] == pytest.approx((probabilities.argmax(axis=1) == split.test.labels).mean())
    scores = -np.concatenate([probabilities, strange]).max(axis=1)
    truth = np.repeat([0, 1], [len(probabilities), len(strange)])
    assert found[auroc_name("mnist", PROBABILITY)] == pytest.approx(roc_auc_score(truth, scores), abs=1e-3)
    assert auroc_name("mnist", VARIANCE) not in found


def test_differences_are_paired_by_split() -> None:
    ours, base = [0.5, 0.9, 0.4], [0.6, 0.8, 0.6]
    findings = findings_of(gp=ours, raw=[*base, 7.0])
    found = findings.difference("digits", [5], ("GP", LOSS), (BASELINE, LOSS))
    paired = ttest_rel(ours, base)
    assert found.mean == pytest.approx(np.mean(ours) - np.mean(base))
    assert found.mean / found.error == pytest.approx(paired.statistic)
    mean = findings.estimate("digits", [5], "GP", LOSS)
    assert (mean.mean, mean.error) == pytest.approx((np.mean(ours), sem(ours)))
    assert findings.estimate("digits", [5], "SVM", LOSS) is None


def test_a_mean_over_numbers_of_labels_takes_the_splits_that_have_all_of_them() -> None:
    cells = {(2, 0): 1.0, (5, 0): 3.0, (2, 1): 9.0}
    findings = Findings([Result(Cell("mnist", n, seed, "GP"), {LOSS: loss}) for (n, seed), loss in cells.items()])
    assert findings.estimate("mnist", (2, 5), "GP", LOSS).mean == 2.0


@pytest.mark.parametrize(("gp", "met"), [([0.5, 0.6], True), ([0.5, 0.9], False)])
def test_the_means_decide_whether_an_aim_is_met(gp: list[float], met: bool) -> None:
    found = [each for each in verdicts(findings_of(gp=gp, base=[0.6, 0.6])) if each.aim.startswith("log loss of GP")]
    assert [each.met for each in found] == [met] * 6


def test_a_default_loses_to_the_baseline_where_it_is_worse_by_more_than_twice_its_error() -> None:
    found = verdicts(findings_of(gp=[0.52, 0.56, 0.54], chosen=[0.50, 0.61, 0.50], raw=[0.5, 0.5, 0.5]))
    of_digits = {each.where: each.met for each in found if each.where.startswith("digits, 2") and "default" in each.aim}
    assert of_digits == {
        "digits, 2 labels a class, GP": False,  # +.040 (.012)
        "digits, 2 labels a class, tuned LR, chosen layers": True,  # +.037 (.037)
    }


def test_layers_are_judged_by_their_mean_ratio_and_the_largest() -> None:
    mean, largest = verdicts(findings_of(chosen=[0.8, 1.1], base=[1.0, 1.0]))[-2:]
    assert (mean.met, mean.found) == (False, "0.950")
    assert (largest.met, largest.found) == (True, "0.950 (digits, 5 labels); single split: 1.100")


def test_an_aim_without_results_is_not_measured() -> None:
    assert {each.word for each in verdicts(findings_of(base=[1.0]))} == {"not measured"}


def test_the_gain_of_the_gp_is_judged_against_lr_and_against_distance() -> None:
    def at(score: str, method: str, auroc: float) -> list[Result]:
        name = auroc_name("places", score)
        return [Result(Cell("digits", n, 0, method), {name: auroc}) for n in (2, 5, 10, 50)]

    base = [*at(PROBABILITY, TUNED, 0.90), *at(NEAREST, BASELINE, 0.95)]
    findings = Findings([*at(VARIANCE, "GP", 0.94), *base])
    found = [each for each in verdicts(findings) if each.where == "digits, places: variance"]
    assert [(each.found, each.met) for each in found] == [("+0.040 (nan)", True), ("-0.010 (nan)", False)]


def test_what_is_measured_is_kept_and_reported(
    tmp_path: Path, features: dict[str, Features], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, each in features.items():
        each.save(tmp_path / "cache" / f"{name}.safetensors")
    cells = [Cell("digits", 2, seed, title) for seed in range(2) for title in (BASELINE, "SVM")]
    for _ in range(2):
        measure(cells, tmp_path / "results.jsonl", cache=tmp_path / "cache", n_workers=1)
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 4
    assert "4 of 4" in capsys.readouterr().out
    findings = Findings(read_results(tmp_path / "results.jsonl"))
    write(findings, tmp_path / "docs" / "heads.md", before=findings)
    report = (tmp_path / "docs" / "heads.md").read_text()
    difference = findings.difference("digits", [2], ("SVM", "log_loss"), (BASELINE, "log_loss"))
    assert difference
    assert f"| {difference.signed} → {difference.signed} |" in report
    assert "a mean over splits, 2 with 2 labels,\n" in report
    assert "## Digits (scikit-learn), 2 labels a class" in report
    assert "## MNIST" not in report
    assert "not measured" in report
    assert "| GP " not in report.split("## Log loss")[1]
