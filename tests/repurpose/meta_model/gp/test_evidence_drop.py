import pytest

from repurpose.meta_model.gp.evidence_drop import evidence_of_change, is_refresh_due


def test_the_fall_is_from_the_training_on_and_stays_while_classes_change() -> None:
    learned = {"evidence_per_row_": -2.0}
    learned |= evidence_of_change(learned, -2.01, True)
    assert not is_refresh_due(learned)
    learned |= evidence_of_change(learned, -2.03, True)
    assert learned["evidence_drop_"] == pytest.approx(0.03)  # from the training, not from the change before
    assert is_refresh_due(learned)
    learned |= evidence_of_change(learned, -1.5, False)
    assert learned == {"evidence_per_row_": pytest.approx(-1.47), "evidence_drop_": pytest.approx(0.03)}
    learned |= evidence_of_change(learned, -1.48, True)
    assert learned["evidence_drop_"] == pytest.approx(0.01)


def test_where_the_evidence_is_not_known_nothing_is_said() -> None:
    assert evidence_of_change({"evidence_per_row_": -2.0}, None, True) == {}  # inducing points now
    assert evidence_of_change({}, -2.0, True) == {}  # a file of an earlier version
    assert not is_refresh_due({})
