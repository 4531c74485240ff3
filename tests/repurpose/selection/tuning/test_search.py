import time

import numpy as np
import pytest

from repurpose.selection import TuningResult, tune
from tests.repurpose.selection.tuning.heads import CentreRepurposer, blobs, small_network


def tuned(space: dict[str, object], **options: object) -> TuningResult:
    return tune(CentreRepurposer(small_network()), blobs(), space=space, **{"random_state": 0, **options})


def test_parameters_that_come_again_are_not_tried_again() -> None:
    before = CentreRepurposer.n_trainings
    result = tuned({"sharpness": [0.01, 0.1]}, budget=12)
    assert CentreRepurposer.n_trainings - before == 2 * 5 + 1
    rows = result.trials.to_dict("records")
    assert len(rows) == 12
    of_trial = {row["trial"]: row for row in rows}
    repeated = [row for row in rows if row["repeats"] == row["repeats"] and row["repeats"] is not None]
    assert len(repeated) == 10
    assert all(row["value"] == of_trial[row["repeats"]]["value"] for row in repeated)
    assert all(row["sharpness"] == of_trial[row["repeats"]]["sharpness"] for row in repeated)


def test_a_trial_that_fails_is_a_row_with_its_reason() -> None:
    result = tuned({"sharpness": [0.1, 60.0, 0.2, 70.0]}, budget=8)
    rows = result.trials.to_dict("records")
    failed = [row for row in rows if row["state"] == "failed"]
    assert {row["message"] for row in failed} <= {f"ValueError: sharpness {n} cuts" for n in (60, 70)}
    assert failed == rows[-len(failed) :]
    assert result.best_parameters["sharpness"] < 50


def test_where_all_trials_fail_the_first_reason_is_told() -> None:
    with pytest.raises(ValueError, match="none of 3 trials gave a score; the first one says: ValueError: sharpness 6"):
        tuned({"sharpness": (60.0, 69.0)}, budget=3)


def test_a_score_that_is_no_number_is_a_failure() -> None:
    with pytest.raises(ValueError, match="the score is nan"):
        tuned({"sharpness": [0.1]}, budget=1, scoring=lambda repurposer, rows, labels: np.nan)


def test_what_is_no_fault_of_parameters_ends_the_tuning() -> None:
    def broken(repurposer: object, rows: object, labels: object) -> float:
        raise KeyError("a mistake of the scorer")

    with pytest.raises(KeyError, match="a mistake of the scorer"):
        tuned({"sharpness": [0.1]}, budget=1, scoring=broken)


def test_no_trial_begins_after_the_seconds_but_one_is_run() -> None:
    space = {"sharpness": (0.001, 1.0)}
    assert len(tuned(space, budget=None, seconds=1e-9).trials) == 1
    started = time.monotonic()
    assert 1 <= len(tuned(space, budget=10**6, seconds=0.3).trials) < 1000
    assert time.monotonic() - started < 30


def test_the_same_seed_gives_the_same_trials_and_another_one_others() -> None:
    space = {"sharpness": (1e-3, 1.0, "log"), "feature_layer_names": [["0"], ["1"]]}
    first, again, other = (tuned(space, budget=12, random_state=seed).trials["sharpness"] for seed in (0, 0, 1))
    assert list(first) == list(again)
    assert list(first) != list(other)


def test_the_search_finds_a_better_value_than_its_random_beginning() -> None:
    space = {"sharpness": (1e-6, 40.0, "log")}
    rows = tuned(space, budget=25).trials.to_dict("records")
    assert rows[0]["trial"] >= 10  # of the ten that are drawn at random, none is best
    assert [row["value"] for row in rows] == sorted((row["value"] for row in rows), reverse=True)
