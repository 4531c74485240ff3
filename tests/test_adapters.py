"""`python -m benchmarks adapters`: draws, cells, estimates and the report, without training."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy.stats import sem

from benchmarks.adapters.cells import CELLS, Cell, Result, measure, read_results
from benchmarks.adapters.findings import Findings, chosen_rates
from benchmarks.adapters.methods import FULL, LEFT_AFTER, LEFT_BEFORE, LINEAR, TOAST, TUNING_SEEDS
from benchmarks.adapters.report import write


def results_of(kind: str, accuracies: list[float], rate: float = 0.01, **measures: float) -> list[Result]:
    return [
        Result(Cell("steering", kind, rate, seed), {"accuracy": accuracy, **measures}, "abc")
        for seed, accuracy in enumerate(accuracies)
    ]


def tuned(kind: str, rate: float, accuracy: float) -> Result:
    return Result(Cell("steering", kind, rate, TUNING_SEEDS[0]), {"accuracy": accuracy}, "abc")


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, with digits that are drawn."""
    module = pytest.importorskip("benchmarks.adapters.pairs")
    digits = torch.randn(60, 1, 12, 12), torch.arange(60) % 10
    monkeypatch.setattr(module, "_digits", lambda part: digits)
    return module


def test_pairs_have_each_left_digit_as_often_as_the_others(pairs: ModuleType) -> None:
    images, left = pairs.left_pairs("train", 40, seed=0)
    assert images.shape == (40, 1, 12, 24)
    assert np.bincount(left).tolist() == [4] * 10
    known = {digit.numpy().tobytes(): int(label) for digit, label in zip(*pairs._digits("train"))}
    assert [known[image[..., :12].contiguous().numpy().tobytes()] for image in images] == left.tolist()


def test_no_digit_is_in_two_parts(pairs: ModuleType) -> None:
    rows = [set(range(5000)[part]) for part in pairs.PARTS.values()]
    assert sum(map(len, rows)) == len(set.union(*rows)) == 5000


def test_a_pair_has_one_number_in_either_order(pairs: ModuleType) -> None:
    _, labels = pairs.source_pairs(600, seed=0)
    _, left, right = pairs.draw_pairs(*pairs._digits("source"), 600, 0)
    numbers: dict[int, set] = {}
    for number, pair in zip(labels.tolist(), zip(left.tolist(), right.tolist())):
        numbers.setdefault(number, set()).add(frozenset(pair))
    assert all(len(shown) == 1 for shown in numbers.values())
    assert len(set.union(*numbers.values())) == len(numbers)


def test_the_share_of_the_left_half_is_a_mean_over_rows(pairs: ModuleType) -> None:
    maps = np.array([[[3.0, 0.0, 1.0, 0.0]], [[1.0, 1.0, 0.0, 2.0]]])
    assert pairs.left_share(maps) == pytest.approx((0.75 + 0.5) / 2)


def test_a_cell_is_measured_once_and_kept(tmp_path: Path) -> None:
    asked: list[Cell] = []

    def examine(cell: Cell) -> Mapping[str, float]:
        asked.append(cell)
        return {"accuracy": cell.seed / 10}

    cells = [Cell("steering", LINEAR, 0.01, seed) for seed in range(3)]
    measure(cells[:2], tmp_path / CELLS, examine, "abc")
    measure(cells, tmp_path / CELLS, examine, "def")
    assert asked == cells
    found = [
        (result.cell.seed, result.measures["accuracy"], result.commit) for result in read_results(tmp_path / CELLS)
    ]
    assert found == [(0, 0.0, "abc"), (1, 0.1, "abc"), (2, 0.2, "def")]


def test_a_rate_is_chosen_on_other_draws_and_only_its_results_count() -> None:
    results = [tuned(LINEAR, 0.01, 0.6), tuned(LINEAR, 0.03, 0.7)]
    results += results_of(LINEAR, [0.9, 0.9]) + results_of(LINEAR, [0.1, 0.3], rate=0.03)
    assert chosen_rates(results, "steering") == {LINEAR: 0.03}
    found = Findings(results).estimate("steering", LINEAR, "accuracy")
    assert (found.mean, found.error) == pytest.approx((0.2, sem([0.1, 0.3])))


def test_differences_are_paired_by_draw_and_wins_counted() -> None:
    findings = Findings(results_of(TOAST, [0.7, 0.5, 0.9]) + results_of(LINEAR, [0.5, 0.6]))
    found = findings.difference("steering", TOAST, LINEAR)
    assert (found.mean, found.error) == pytest.approx((0.05, sem([0.2, -0.1])))
    assert findings.won("steering", TOAST, LINEAR) == "1 of 2"


@pytest.mark.parametrize(("after", "word"), [(0.8, "met"), (0.6, "**missed**")])
def test_attention_is_to_move_half_of_the_way(tmp_path: Path, after: float, word: str) -> None:
    shares = {LEFT_BEFORE: 0.5, LEFT_AFTER: after}
    results = results_of(TOAST, [0.7, 0.8], **shares) + results_of(LINEAR, [0.5, 0.6]) + results_of(FULL, [0.9, 0.9])
    write(results, tmp_path / "docs" / "adapters.md")
    report = (tmp_path / "docs" / "adapters.md").read_text()
    line = next(line for line in report.splitlines() if line.startswith("| attention moves left"))
    assert word in line
    assert "measured at commit abc;" in report
    assert "Full tuning less TOAST on the left digit: +0.150 (0.050), ahead in 2 of 2 draws" in report
