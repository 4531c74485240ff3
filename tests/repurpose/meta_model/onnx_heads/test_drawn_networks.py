from collections.abc import Callable

import numpy as np
import pytest

from repurpose import BnnRepurposer
from repurpose.meta_model.onnx_heads.drawn_networks import DrawnNetworks
from tests.repurpose.examples import identity_network
from tests.repurpose.hard_rows import HARD, as_features, new_rows, repeated_row
from tests.repurpose.in_onnxruntime import computed, in_onnxruntime


def bnn(**options: int) -> BnnRepurposer:
    return BnnRepurposer(identity_network(), ["0", "1"], c=1.0, num_epochs=2, random_state=0, **options)


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("training", HARD)
def test_it_gives_the_probabilities_of_the_repurposer(training: Callable, n_layers: int) -> None:
    X, y = training()
    repurposer, rows = bnn(num_layers=n_layers).repurpose(as_features(X, y)), new_rows(X)
    head = repurposer._onnx_head()
    assert isinstance(head, DrawnNetworks)
    assert np.abs(computed(head, rows) - repurposer.head_probabilities(rows)).max() < 1e-12


def test_onnxruntime_computes_the_same() -> None:
    X, y = repeated_row()
    repurposer, rows = bnn(num_layers=2, num_samples_mc_prediction=20).repurpose(as_features(X, y)), new_rows(X)
    (found,) = in_onnxruntime(repurposer._onnx_head(), rows)
    assert np.abs(found - repurposer.head_probabilities(rows)).max() < 1e-12
