"""`python -m benchmarks domains`: draws, choices without labels, aims and the report, without training."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import sem
from sklearn.datasets import load_digits

from benchmarks.adapters.cells import Cell, Result
from benchmarks.adapters.findings import Findings
from benchmarks.domains import bias, classes, features, images, labels, relations
from benchmarks.domains.choices import choose
from benchmarks.domains.report import write

PART = features.part_of("MNIST to digits")


def results_of(part: str, kind: str, accuracies: list[float], **measures: list[float]) -> list[Result]:
    return [
        Result(
            Cell(part, kind, 0.0, seed),
            {"accuracy": accuracy, **{name: values[seed] for name, values in measures.items()}},
            "abc",
        )
        for seed, accuracy in enumerate(accuracies)
    ]


def aims_of(results: list[Result], file: Path) -> dict[str, tuple[str, str]]:
    write(results, file)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in file.read_text().splitlines()]
    return {row[0]: (row[1], row[2]) for row in rows if len(row) == 3}


def test_the_source_keeps_rows_as_often_as_the_known_function_says() -> None:
    columns, _, probabilities = bias._rows()
    largest = columns[:, 0].argsort()[-50:]
    assert probabilities[largest].mean() < 0.15 < 0.5 < probabilities.mean()
    draws = [bias.draw(seed) for seed in range(20)]
    expected = probabilities.mean() * (len(columns) - len(columns) // 2)
    assert np.mean([len(drawn.source) for drawn in draws]) == pytest.approx(expected, rel=0.05)
    kept = {row.tobytes(): probability for row, probability in zip(columns, probabilities)}
    drawn = draws[0]
    of_source = np.array([kept[row.tobytes()] for row in drawn.source.matrix])
    assert np.allclose(drawn.true_weights * of_source, (drawn.true_weights * of_source).mean())
    assert drawn.true_weights.mean() == pytest.approx(1)
    assert not {row.tobytes() for row in drawn.source.matrix} & {row.tobytes() for row in drawn.target.matrix}


def test_digits_are_eight_pixels_wide_as_they_come() -> None:
    assert np.allclose(labels.pixels_of("digits").matrix * 16, load_digits().data, atol=0.04)  # they were bytes


def test_small_networks_have_fewer_parameters_than_promised() -> None:
    assert sum(parameter.numel() for parameter in images.small_network(10).parameters()) < 100_000
    assert images.small_network(5)(torch.zeros(2, 1, images.SIDE, images.SIDE)).shape == (2, 5)


def test_no_row_that_is_learned_is_tested_on(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.arange(4000.0).reshape(-1, 1, 1, 1), np.arange(4000) % 10
    for module in (classes, relations):
        monkeypatch.setattr(module, "small_images", lambda task: rows)
    drawn = classes.draw(0, classes.N_FEW)
    parts = [set(part[0].flatten().tolist()) for part in (drawn.old, drawn.new, drawn.old_test, drawn.new_test)]
    assert [len(part) for part in parts] == [5 * classes.N_OLD, 5 * classes.N_FEW, 5 * 150, 5 * 150]
    assert len(set.union(*parts)) == sum(map(len, parts))
    assert set(drawn.new[1]) == set(drawn.new_test[1]) == {5, 6, 7, 8, 9}
    assert parts[3] == set(classes.draw(0, classes.N_NEW).new_test[0].flatten().tolist())
    known, test = relations._rows(0)
    assert not set(known) & set(test)


def test_what_has_the_highest_score_is_chosen_and_judged() -> None:
    results = results_of(PART, features.SOURCE, [0.5, 0.5], iwv=[0.9, 0.1])
    results += results_of(PART, "CORAL", [0.7, 0.6], iwv=[0.2, 0.8]) + results_of(PART, "TCA", [0.4, 0.7], iwv=[0.1, 0])
    found = choose(Findings(results), PART, [features.SOURCE, "CORAL", "TCA"], "iwv")
    assert found is not None
    assert found.kinds == Counter({features.SOURCE: 1, "CORAL": 1})
    margins = (found.accuracy, found.less_best, found.less_worst, found.less_source)
    assert [margin.mean for margin in margins] == pytest.approx([0.55, -0.15, 0.1, 0.05])
    assert found.less_source.error == pytest.approx(sem([0.0, 0.1]))
    assert choose(Findings(results), PART, [features.SOURCE, "KMM"], "iwv") is None


@pytest.mark.parametrize(("coral", "tca", "words"), [(0.06, -0.01, ["met", "met"]), (0.02, -0.03, ["**missed**"] * 2)])
def test_one_method_is_to_gain_and_none_to_lose(tmp_path: Path, coral: float, tca: float, words: list[str]) -> None:
    results = results_of(PART, features.SOURCE, [0.5, 0.6], seconds=[1.0, 2.0])
    for kind, gain in (("CORAL", coral), ("TCA", tca)):
        results += results_of(PART, kind, [0.49 + gain, 0.61 + gain], seconds=[1.0, 2.0])
    aims = aims_of(results, tmp_path / "domains.md")
    assert aims[f"{PART}: one method 3 points above source only (CORAL)"] == (f"{coral:+.3f} (0.010)", words[0])
    lowest = aims[f"{PART}: none more than 2 points below source only (lowest: TCA)"]
    assert lowest == (f"{tca:+.3f} (0.010)", words[1])
    assert "not measured" in aims["relations: neighbours of student, rkd better than alone"]
    assert "measured at commit abc;" in (tmp_path / "domains.md").read_text()


def test_the_old_task_is_to_be_kept_and_the_new_one_learned(tmp_path: Path) -> None:
    part = [*classes.BOTH][1]
    old = classes.OLD_ACCURACY
    results = results_of(part, classes.FINE_TUNED, [0.9, 0.9], **{old: [0.7, 0.6]})
    results += results_of(part, classes.LWF, [0.89, 0.87], **{old: [0.9, 0.8]})
    aims = aims_of(results, tmp_path / "domains.md")
    assert aims[f"{part}: LwF keeps 15 points more of the old task"] == ("+0.200 (0.000)", "met")
    new = aims[f"{part}: LwF's new task within 2 points of fine-tuning"]
    assert new == (f"-0.020 ({sem([-0.01, -0.03]):.3f})", "met")
