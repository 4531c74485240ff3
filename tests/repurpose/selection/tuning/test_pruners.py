import optuna
import pytest

from repurpose.selection.tuning.pruners import chosen_pruner


def test_a_pruner_comes_by_name_or_as_it_is() -> None:
    own = optuna.pruners.ThresholdPruner(lower=0.0)
    assert chosen_pruner(own) is own
    assert isinstance(chosen_pruner("median"), optuna.pruners.MedianPruner)
    assert isinstance(chosen_pruner("halving"), optuna.pruners.SuccessiveHalvingPruner)
    assert isinstance(chosen_pruner(None), optuna.pruners.NopPruner)


def test_another_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ValueError, match="no pruner 'halvin'; nearest: 'halving'"):
        chosen_pruner("halvin")
    with pytest.raises(TypeError, match="got 3"):
        chosen_pruner(3)
