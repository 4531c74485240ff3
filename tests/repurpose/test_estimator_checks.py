"""scikit-learn's own checks of the estimator contract, on the identity as source network.

Its `check_array_api_input` asks for an environment variable and skips itself; all others apply, and one is expected to
fail for some: that a row of weight k is as good as k rows, to seven digits, cannot hold where chance deals with rows.
It does hold for logistic regression with a given `c`, once the optimiser goes on until the digits settle.

One thing is hidden from them: they take any attribute called `transform` for the method of a transformer, while ours is
a parameter, the preprocessing of images.
"""

import builtins
from typing import Any

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from repurpose import (
    BnnRepurposer,
    GpRepurposer,
    LaplaceRepurposer,
    LrRepurposer,
    NeuralNetworkFineTuneRepurposer,
    SvmRepurposer,
)
from tests.repurpose.examples import KnnRepurposer, identity_network


def _has_method(thing: Any, name: str) -> bool:
    return name != "transform" and builtins.hasattr(thing, name)


estimator_checks.hasattr = _has_method  # type: ignore[attr-defined]


def _expected_to_fail(estimator: Any) -> dict[str, str]:
    """By the name of the check: why."""
    reasons = {
        BnnRepurposer: "each repeat of a row draws outputs of its own, and is dealt into a fold of its own to choose C",
        GpRepurposer: "the temperature is chosen by rows left out one by one, of which repeats are one each",
        SvmRepurposer: "the sharpness is chosen by folds, into which the repeats of a row are dealt one by one",
    }
    reason = reasons.get(type(estimator))
    if type(estimator) is LrRepurposer and estimator.c == "auto":
        reason = "C is chosen by folds, into which the repeats of a row are dealt one by one"
    return {"check_sample_weight_equivalence_on_dense_data": reason} if reason else {}


@pytest.mark.filterwarnings("ignore::UserWarning")
@parametrize_with_checks(
    [
        LrRepurposer(identity_network(), ["0"], c=1.0, tol=1e-8),
        LrRepurposer(identity_network(), ["0"], random_state=0),
        BnnRepurposer(identity_network(), ["0"], num_epochs=15, num_samples_mc_prediction=16, random_state=0),
        GpRepurposer(identity_network(), ["0"], random_state=0),
        LaplaceRepurposer(identity_network(), ["0"], c=1.0, tol=1e-8, random_state=0),
        SvmRepurposer(identity_network(), ["0"], random_state=0),
        KnnRepurposer(identity_network(), ["0"]),
        NeuralNetworkFineTuneRepurposer(
            identity_network(), "0", num_epochs=30, optimizer_params={"learning_rate": 0.1}, random_state=0
        ),
    ],
    expected_failed_checks=_expected_to_fail,
)
def test_scikit_learn_contract(estimator: Any, check: Any) -> None:
    check(estimator)
