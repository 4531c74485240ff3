import csv
from pathlib import Path

import pytest

from repurpose.training.callbacks import CsvLog, TensorBoardLog
from tests.repurpose.training.examples import batches, network, objective, plan, train


def test_a_csv_has_a_line_for_each_epoch_with_rates_by_group(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "history.csv"
    given = plan(callbacks=(CsvLog(path),), learning_rates={"head": 0.2, "*": 0.1})
    history = train(network(), batches(), given, objective(), validation=batches(seed=None))
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["loss"]) for line in lines] == history.values("loss")
    assert [float(line["validation_accuracy"]) for line in lines] == history.values("validation_accuracy")
    assert {line["learning_rate/head"] for line in lines} == {"0.2"}


def test_a_csv_that_cannot_be_written_fails_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    module = network()
    with pytest.raises(OSError, match="file"):
        train(module, batches(), plan(callbacks=(CsvLog(tmp_path / "file" / "history.csv"),)), objective())
    assert all(
        (trained_weight == initial).all()
        for trained_weight, initial in zip(module.parameters(), network().parameters())
    )


def test_tensorboard_says_what_to_install_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        train(network(), batches(), plan(callbacks=(TensorBoardLog(tmp_path),)), objective())


def test_tensorboard_gets_each_quantity(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = train(network(), batches(), plan(callbacks=(TensorBoardLog(tmp_path),)), objective())
    events = EventAccumulator(str(tmp_path)).Reload()
    assert {"loss", "accuracy"} <= set(events.Tags()["scalars"])
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(
        [record["loss"] for record in history.records]
    )
