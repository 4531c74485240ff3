import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest

from model_handler import CorruptFileError
from model_handler.files.locks import locked
from repurpose.selection import TuningResult, tune
from tests.repurpose.selection.tuning.heads import CentreRepurposer, blobs, small_network

SPACE = {"sharpness": (1e-3, 1.0, "log"), "feature_layer_names": [["0"], ["1"]]}
KILLED = """
import os, signal, sys
from repurpose.selection.tuning.scoring import negative_log_loss
from tests.repurpose.selection.tuning import heads, test_study

def judge(repurposer, rows, labels):
    judge.n_calls += 1
    if judge.n_calls > 5 * 13 + 2:  # in the fourteenth trial
        os.kill(os.getpid(), signal.SIGKILL)
    return negative_log_loss(repurposer, rows, labels)

judge.n_calls = 0
judge.__name__ = "neg_log_loss"
test_study.tuned(sys.argv[1], scoring=judge)
"""


def tuned(path: str | Path | None, **options: object) -> TuningResult:
    given = {"data": blobs(), "space": SPACE, "budget": 16, "random_state": 0, "study_file": path, **options}
    return tune(given.pop("repurposer", None) or CentreRepurposer(small_network()), **given)


def drawn(result: TuningResult) -> list[tuple[float, str, float]]:
    rows = sorted(result.trials.to_dict("records"), key=lambda row: row["trial"])
    return [(row["sharpness"], row["feature_layer_names"], row["value"]) for row in rows]


@pytest.fixture(scope="module")
def uninterrupted() -> TuningResult:
    return tuned(None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a study of three trials."""
    path = tmp_path_factory.mktemp("studies") / "study.log"
    tuned(path, budget=3)
    return path


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    path = tmp_path / "study.log"
    path.write_bytes(finished.read_bytes())
    return path


def test_a_study_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path: Path, uninterrupted: TuningResult) -> None:
    path = tmp_path / "study.log"
    command = [sys.executable, "-c", KILLED, str(path)]
    root = Path(__file__).parents[4]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    killed = subprocess.run(command, cwd=root, env=environment, check=False, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    kept = path.read_bytes()
    n_trainings = CentreRepurposer.n_trainings
    resumed = tuned(path)
    assert path.read_bytes().startswith(kept)
    assert CentreRepurposer.n_trainings - n_trainings == 3 * 5 + 1  # three trials, and all rows
    assert drawn(resumed) == drawn(uninterrupted)
    assert resumed.best_parameters == uninterrupted.best_parameters


def test_a_line_that_was_torn_is_cut_off_and_the_study_goes_on(copied: Path, uninterrupted: TuningResult) -> None:
    with copied.open("ab") as file:
        file.write(b'{"op_code":6,"worker_id":"4')
    assert drawn(tuned(copied, budget=5)) == drawn(uninterrupted)[:5]
    assert all(isinstance(json.loads(line), dict) for line in copied.read_text().splitlines())


def test_a_finished_study_runs_no_trial_and_more_budget_runs_the_rest(
    copied: Path, uninterrupted: TuningResult
) -> None:
    before = CentreRepurposer.n_trainings
    assert drawn(tuned(copied, budget=3)) == drawn(uninterrupted)[:3]
    assert CentreRepurposer.n_trainings - before == 1
    assert drawn(tuned(copied, budget=4)) == drawn(uninterrupted)[:4]


def test_without_a_seed_a_study_goes_on_with_its_own(copied: Path, uninterrupted: TuningResult) -> None:
    assert drawn(tuned(copied, budget=4, random_state=None)) == drawn(uninterrupted)[:4]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"space": {"sharpness": (1e-3, 2.0, "log"), "feature_layer_names": [["0"], ["1"]]}}, "space: .*2.0"),
        ({"data": (blobs()[0] + 1, blobs()[1])}, "inputs: SHA-256"),
        ({"data": (blobs()[0], blobs()[1][::-1])}, "labels: 40"),
        ({"random_state": 1}, "seed: 0 in the file, now 1"),
        ({"scoring": "accuracy"}, "scoring: neg_log_loss in the file, now accuracy"),
        ({"repurposer": CentreRepurposer(small_network(), pooling="max")}, "parameters: "),
        ({"groups": np.arange(40) // 2}, "groups: none in the file"),
    ],
)
def test_the_study_of_another_tuning_is_refused_with_what_differs(
    copied: Path, options: dict[str, object], said: str
) -> None:
    kept = copied.read_bytes()
    with pytest.raises(ValueError, match=f"(?s)that of another tuning.*{said}"):
        tuned(copied, **options)
    assert copied.read_bytes() == kept


def test_another_network_is_another_tuning(copied: Path) -> None:
    network = small_network()
    network[0].weight.data += 1
    with pytest.raises(ValueError, match="network: Sequential of SHA-256"):
        tuned(copied, repurposer=CentreRepurposer(network))


@pytest.mark.parametrize("content", [b"some notes", b"some notes\n", b"\x89PNG\r\n", b"{}\n", b'{"op_code": 99}\n'])
def test_what_is_no_study_file_is_refused_and_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match="notes"):
        tuned(path)
    assert path.read_bytes() == content


def test_a_study_that_optuna_made_for_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.log"
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    optuna.create_study(storage=optuna.storages.JournalStorage(backend), study_name="mine")
    with pytest.raises(ValueError, match="holds 'mine', which tune did not make"):
        tuned(path)


def test_a_file_that_another_process_tunes_with_is_left_alone(copied: Path) -> None:
    with locked(copied.with_name("study.log.lock"), seconds=0), pytest.raises(TimeoutError, match="another process"):
        tuned(copied)


def test_a_file_that_cannot_be_written_shows_before_anything_runs(tmp_path: Path) -> None:
    path, before = tmp_path / "study.log", CentreRepurposer.n_trainings
    path.mkdir()
    with pytest.raises(OSError, match="study"):
        tuned(path)
    assert CentreRepurposer.n_trainings == before
