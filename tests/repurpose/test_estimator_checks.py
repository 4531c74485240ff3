"""scikit-learn's own checks of the estimator contract, on the identity as source network.

Its `check_array_api_input` asks for an environment variable and skips itself; all others apply and none is expected to
fail. One thing is hidden from them: they take any attribute called `transform` for the method of a transformer, while
ours is a parameter, the preprocessing of images.
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


@pytest.mark.filterwarnings("ignore::UserWarning")
@parametrize_with_checks(
    [
        LrRepurposer(identity_network(), ["0"], c=1.0),
        LrRepurposer(identity_network(), ["0"], random_state=0),
        BnnRepurposer(identity_network(), ["0"], num_epochs=15, num_samples_mc_prediction=16, random_state=0),
        GpRepurposer(identity_network(), ["0"], random_state=0),
        LaplaceRepurposer(identity_network(), ["0"], c=1.0, random_state=0),
        SvmRepurposer(identity_network(), ["0"], random_state=0),
        KnnRepurposer(identity_network(), ["0"]),
        NeuralNetworkFineTuneRepurposer(
            identity_network(), "0", num_epochs=30, optimizer_params={"learning_rate": 0.1}, random_state=0
        ),
    ]
)
def test_scikit_learn_contract(estimator: Any, check: Any) -> None:
    check(estimator)
