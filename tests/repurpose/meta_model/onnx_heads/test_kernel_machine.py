from collections.abc import Callable

import numpy as np
import pytest

from repurpose import SvmRepurposer
from tests.repurpose.examples import identity_network
from tests.repurpose.hard_rows import HARD, as_features, new_rows, repeated_row
from tests.repurpose.in_onnxruntime import computed, in_onnxruntime


def svm(**options: str) -> SvmRepurposer:
    return SvmRepurposer(identity_network(), ["0", "1"], random_state=0, **options)


@pytest.mark.parametrize("kernel", ["linear", "poly", "rbf", "sigmoid"])
@pytest.mark.parametrize("training", HARD)
def test_it_gives_the_probabilities_of_the_repurposer(training: Callable, kernel: str) -> None:
    X, y = training()
    repurposer, rows = svm(kernel=kernel).repurpose(as_features(X, y)), new_rows(X)
    assert np.abs(computed(repurposer._onnx_head(), rows) - repurposer.head_probabilities(rows)).max() < 1e-11


def test_a_linear_one_keeps_a_vector_a_class_in_place_of_the_support_vectors() -> None:
    X, y = repeated_row()
    head = svm().repurpose(as_features(X, y))._onnx_head()
    assert head is not None
    assert head.get_buffer("vectors").shape == (4, 3)


@pytest.mark.parametrize(
    "kernel", [*(pytest.param(kernel, marks=pytest.mark.slow) for kernel in ("linear", "poly")), "rbf"]
)
def test_onnxruntime_computes_the_same(kernel: str) -> None:
    X, y = repeated_row()
    repurposer, rows = svm(kernel=kernel).repurpose(as_features(X, y)), new_rows(X)
    (found,) = in_onnxruntime(repurposer._onnx_head(), rows)
    assert np.abs(found - repurposer.head_probabilities(rows)).max() < 1e-11


@pytest.mark.slow
def test_onnxruntime_computes_the_same_of_a_sigmoid() -> None:
    test_onnxruntime_computes_the_same("sigmoid")
