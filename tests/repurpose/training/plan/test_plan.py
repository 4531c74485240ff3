from typing import Any

import pytest

from tests.repurpose.training.examples import plan


def test_the_defaults_are_in_order() -> None:
    assert plan().mistakes() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_epochs": 0}, "num_epochs must be a whole number of at least 1, got 0"),
        ({"accumulation": 1.5}, "accumulation must be a whole number of at least 1, got 1.5"),
        ({"label_smoothing": 1.0}, "label_smoothing must be a number from 0 to below 1, got 1.0"),
        ({"clip_norm": 0}, "clip_norm must be a positive number or None, got 0"),
        ({"layer_decay": 1.5}, "layer_decay must be a number above 0, at most 1, or None, got 1.5"),
        ({"ema": 1}, "ema must be a number above 0, below 1, or None, got 1"),
        ({"mixup": -1}, "mixup must be a number of at least 0, got -1"),
        ({"early_stopping": 0}, "early_stopping must be a whole number of at least 1, got 0"),
        ({"precision": "float16"}, "precision must be one of"),
        ({"norm_statistics": "own"}, "norm_statistics must be 'source' or 'batch', got 'own'"),
        ({"l2_sp": (1, 2, 3)}, "l2_sp must be a number of at least 0, a pair"),
        ({"unfreeze": ["a"]}, "unfreeze must be a dict"),
        ({"unfreeze": {"a": -1}}, "no whole numbers of at least 0"),
        ({"unfreeze": {"a": 3}}, "'a' would begin to learn in epoch 3"),
        ({"probe_epochs": 3}, "'transferred' would begin to learn in epoch 3"),
        ({"unfreeze": {0: 1}}, "unfreeze names layers, types, 'new', 'transferred' or '*', got 0"),
        ({"decay_all": "no"}, "decay_all must be True or False, got 'no'"),
        ({"callbacks": (dict,)}, "callbacks must be functions"),
        ({"cache_frozen": {"folded": "no"}}, r"cache_frozen['folded'] must be True or False, got 'no'"),
        ({"callbacks": ("a",)}, "callbacks must be functions"),
    ],
)
def test_each_mistake_is_a_sentence_with_the_value(options: dict[str, Any], message: str) -> None:
    (mistake,) = plan(**options).mistakes()
    assert message in mistake


def test_all_mistakes_are_found_at_once() -> None:
    assert len(plan(num_epochs=0, ema=2, clip_norm=-1, optimizer="what").mistakes()) == 4


def test_one_number_is_alpha_and_beta_of_l2_sp() -> None:
    assert plan(l2_sp=0.1).l2_sp_coefficients == (0.1, 0.1)
    assert plan(l2_sp=(0.1, 0.01)).l2_sp_coefficients == (0.1, 0.01)
    assert plan().l2_sp_coefficients is None
