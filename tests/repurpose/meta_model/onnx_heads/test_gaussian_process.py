from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gpytorch.kernels import RBFKernel, ScaleKernel

from repurpose import GpRepurposer
from repurpose.meta_model.onnx_heads.gaussian_process import GaussianProcesses, LatentVariance
from tests.repurpose.examples import blob_features, identity_network, repeated
from tests.repurpose.hard_rows import HARD, as_features, new_rows, repeated_row, thousand_classes
from tests.repurpose.in_onnxruntime import computed, in_onnxruntime

OPTIONS = [{}, {"n_inducing": 15}, {"apply_l2_norm": False}]


def gp(**options: Any) -> GpRepurposer:
    return GpRepurposer(identity_network(), ["0", "1"], random_state=0, **options)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("training", HARD)
def test_it_gives_probabilities_and_variances_of_the_repurposer(training: Callable, options: dict) -> None:
    X, y = training()
    repurposer, rows = gp(**options).repurpose(as_features(X, y)), new_rows(X)
    head, variance = repurposer._onnx_head(), repurposer._onnx_variance()
    assert isinstance(head, GaussianProcesses)
    assert isinstance(variance, LatentVariance)
    assert np.abs(computed(head, rows) - repurposer.head_probabilities(rows)).max() < 1e-10
    assert np.allclose(computed(variance, rows), repurposer.head_variances(rows), rtol=1e-8, atol=1e-8)


def test_rows_with_weights_and_a_layer_that_never_varies_are_as_in_training() -> None:
    X, y, weights, _ = repeated()
    X = np.column_stack([np.full(len(X), 7.0, np.float32), X])
    repurposer, rows = gp().repurpose(as_features(X, y), sample_weight=weights), new_rows(X)
    rows[:, 0] += np.arange(len(rows))
    assert np.abs(computed(repurposer._onnx_head(), rows) - repurposer.head_probabilities(rows)).max() < 1e-11


def test_one_row_200_times_in_training_cancels_in_float32_and_not_in_onnxruntime() -> None:
    X, y = repeated_row()
    repurposer, rows = gp().repurpose(as_features(X, y)), new_rows(X)
    variance, wanted = repurposer._onnx_variance(), repurposer.head_variances(rows)
    (found,) = in_onnxruntime(variance, rows)
    assert found.dtype == np.float64
    assert np.abs(found / wanted - 1).max() < 1e-7
    # What float32 would have made of it.
    model = repurposer.target_model_
    cross = model.kernel.between(model.rows.transform(rows), model.points)
    inverse = (model.solve.sum() / 3).float()
    taken = ((cross.float() @ inverse) * cross.float()).sum(dim=1)
    single = model.kernel.diagonal(model.rows.transform(rows)).float() - taken
    assert np.abs(single.numpy() / wanted - 1).max() > 1e-5


@pytest.mark.parametrize("options", [OPTIONS[0], pytest.param(OPTIONS[1], marks=pytest.mark.slow)])
def test_onnxruntime_computes_the_same_probabilities(options: dict) -> None:
    X, y = repeated_row()
    repurposer, rows = gp(**options).repurpose(as_features(X, y)), new_rows(X)
    (found,) = in_onnxruntime(repurposer._onnx_head(), rows)
    assert np.abs(found - repurposer.head_probabilities(rows)).max() < 1e-10


@pytest.mark.slow
def test_a_thousand_classes_share_one_matrix() -> None:
    X, y = thousand_classes()
    repurposer, rows = gp().repurpose(as_features(X, y)), new_rows(X)
    head = repurposer._onnx_head()
    assert head is not None
    assert sum(tensor.nbytes for tensor in head.buffers()) < 1.6 * 8 * len(X) ** 2
    (found,) = in_onnxruntime(head, rows)
    assert np.abs(found - repurposer.head_probabilities(rows)).max() < 1e-10


def test_a_row_at_the_centre_has_no_direction() -> None:
    X, y = repeated_row()
    repurposer = gp().repurpose(as_features(X, y))
    center = repurposer.target_model_.rows.center
    rows = torch.from_numpy(center[None])
    wanted = repurposer.target_model_.probabilities(center[None])
    assert np.abs(repurposer._onnx_head()(rows).numpy() - wanted).max() < 1e-12


def test_a_kernel_of_gpytorch_is_refused() -> None:
    repurposer = GpRepurposer(identity_network(), ["0"], kernel=ScaleKernel(RBFKernel()), max_function_evaluations=2)
    repurposer.repurpose(blob_features())
    with pytest.raises(NotImplementedError, match=r"a kernel of gpytorch.*_onnx_head"):
        repurposer._onnx_head()
