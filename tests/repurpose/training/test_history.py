import pytest

from repurpose.training import History


def test_records_are_read_by_epoch_and_by_name() -> None:
    history = History([{"epoch": 0, "loss": 2.0}, {"epoch": 1, "loss": 1.0, "validation_loss": 3.0}])
    assert len(history) == 2
    assert history[-1]["loss"] == 1.0
    assert history.values("loss") == [2.0, 1.0]
    assert history.values("validation_loss") == [3.0]
    assert [record["epoch"] for record in history] == [0, 1]


def test_it_shows_the_last_epoch() -> None:
    history = History([{"epoch": 0, "loss": 2.0, "accuracy": None}])
    assert repr(history) == "History(1 epochs; the last: loss 2)"
    measured = {"epoch": 0, "loss": 2.0, "learning_rates": {"*": 0.1}, "source_error": 0.25, "seconds": 9.0}
    assert repr(History([measured])) == "History(1 epochs; the last: loss 2, source_error 0.25)"
    assert repr(History()) == "History(no epoch)"


def test_the_plot_has_a_curve_for_training_and_one_for_validation() -> None:
    pytest.importorskip("matplotlib").use("Agg")
    history = History([{"epoch": e, "loss": 2.0 - e, "validation_loss": 3.0 - e} for e in range(2)], best_epoch=1)
    ax = history.plot()
    training, validation, kept = ax.get_lines()
    assert training.get_xydata().tolist() == [[1, 2], [2, 1]]
    assert validation.get_xydata().tolist() == [[1, 3], [2, 2]]
    assert list(kept.get_xdata()) == [2, 2]
    with pytest.raises(ValueError, match="no epoch"):
        History().plot()
