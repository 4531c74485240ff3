"""`python -m benchmarks labels`: draws, aims and the report of cells that are made up, without training."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.adapters.cells import Cell, Result
from benchmarks.labels import BENCHMARK, errors, updates
from model_handler import Features

SETTING = errors.part_of(10, 0.1, errors.RANDOM)


def result(part: str, kind: str, seed: int, **measures: float) -> Result:
    return Result(Cell(part, kind, 0.0, seed), {name.replace("_", " "): x for name, x in measures.items()}, "abc")


def aims_of(results: list[Result], file: Path) -> dict[str, tuple[str, str]]:
    BENCHMARK.report(results, file)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in file.read_text().splitlines()]
    return {row[0]: (row[1], row[2]) for row in rows if len(row) == 3}


def digits(n_rows: int = 600) -> Features:
    rng = np.random.default_rng(0)
    labels = np.arange(n_rows) % 10
    return Features({"x": (3 * np.eye(10)[labels] + rng.normal(size=(n_rows, 10))).astype(np.float32)}, labels)


@pytest.mark.parametrize("how", [errors.RANDOM, errors.CONFUSED])
def test_so_many_labels_are_flipped_and_the_rows_to_test_on_are_others(
    how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(errors, "kept_features", lambda task, folder: digits())
    drawn = errors.draw(10, 0.2, how, 3, tmp_path)
    assert np.bincount(drawn.true).tolist() == [10] * 10
    assert drawn.is_flipped.sum() == 20
    assert not {row.tobytes() for row in drawn.rows.matrix} & {row.tobytes() for row in drawn.test.matrix}
    if how == errors.CONFUSED:
        flipped = np.unique(np.stack([drawn.true, drawn.given])[:, drawn.is_flipped], axis=1)
        assert len(np.unique(flipped[0])) == flipped.shape[1]  # one label for each class


def test_errors_are_judged_over_all_shares_by_draw(tmp_path: Path) -> None:
    results = []
    for share in errors.SHARES:
        for how in (errors.RANDOM, errors.CONFUSED):
            for seed, (ours, other) in enumerate([(0.80, 0.75), (0.90, 0.87)]):
                part = errors.part_of(10, share, how)
                results.append(result(part, errors.OURS, seed, average_precision=ours, seconds=0.5))
                results.append(result(part, errors.CLEANLAB, seed, average_precision=other, seconds=4.0))
    aims = aims_of(results, tmp_path / "report.md")
    name = "wrong labels, 10 a class, at random: average precision .03 above cleanlab's"
    assert aims[name] == ("+0.040 (0.010)", "met")
    assert aims["wrong labels, 10 a class: ten times as fast as cleanlab"] == ("8.000 (0.000)", "**missed**")
    assert aims["wrong labels, 20 a class: ten times as fast as cleanlab"] == ("", "not measured")
    assert "| 10 a class, 20% at random" in (tmp_path / "report.md").read_text()


def test_updates_are_judged_by_the_largest_difference_and_the_time_at_5000_rows(tmp_path: Path) -> None:
    measures = {updates.PROBABILITY: 1e-9, updates.VARIANCE: 1e-8, updates.SECONDS: 0.1, updates.SOLVE: 2.5}
    cells = [Cell(updates.part_of(5000), "1 added", 0.0, seed) for seed in range(2)]
    results = [Result(cell, {**measures, updates.TIMES: 25.0 + cell.seed}, "abc") for cell in cells]
    cell = Cell(updates.part_of(500), "1 added", 0.0, 0)
    results.append(Result(cell, {**measures, updates.PROBABILITY: 2e-6, updates.TIMES: 3.0}, "abc"))
    aims = aims_of(results, tmp_path / "report.md")
    assert aims["updates, 5,000 rows: 1 added, 20 times as fast as a solve"] == ("25.500 (0.500)", "met")
    assert aims["updates, 500 rows: no probability differs by more than 1e-6 from a solve"] == ("2e-06", "**missed**")
    assert "measured at commit abc" in (tmp_path / "report.md").read_text()


def test_drift_is_told_with_the_draws_in_which_a_refresh_was_due(tmp_path: Path) -> None:
    measures = {updates.HELD: 0.5, updates.REFRESHED: 0.4, updates.DROP: 0.05, updates.DUE: 1.0}
    cells = [Cell(updates.drift_of(updates.OTHER), "10%", 0.0, seed) for seed in range(3)]
    BENCHMARK.report([Result(cell, measures, "abc") for cell in cells], tmp_path / "report.md")
    row = next(line for line in (tmp_path / "report.md").read_text().splitlines() if "| 10%" in line)
    assert [cell.strip() for cell in row.split("|")[1:-1]][-3:] == ["+0.100 (0.000)", "0.050 (0.000)", "3"]


def test_parts_are_named_as_their_modules() -> None:
    assert (BENCHMARK.parts[0], BENCHMARK.parts[2]) == (errors.NAME, updates.NAME)
    assert all(part.partition(",")[0] == errors.NAME for part, _ in errors.kinds())
    assert len(set(errors.kinds())) == len(errors.kinds()) == 90
    assert {part for part, _ in updates.kinds()} >= {updates.part_of(n) for n in (500, 2000, 5000)}
