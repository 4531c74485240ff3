import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import linear_kernel, rbf_kernel

from repurpose.meta_model.gp.fitting import learn_kernel
from repurpose.meta_model.gp.kernel import LayerKernels, Products
from tests.repurpose.meta_model.gp.examples import KERNEL, TARGETS, rows


def test_the_matrix_is_the_sum_of_scikit_learns_kernels_over_the_layers() -> None:
    x, z = rows(6), rows(4, seed=1)
    expected = sum(
        a * rbf_kernel(first, second, gamma=0.5 / s**2) + b * linear_kernel(first, second)
        for a, s, b, first, second in zip(KERNEL.radial, KERNEL.lengthscale, KERNEL.linear, x, z)
    )
    assert np.allclose(KERNEL.matrix(Products.between(x, z)), expected, rtol=0, atol=1e-12)
    assert np.allclose(KERNEL.diagonal(x), KERNEL.matrix(Products.between(x, x)).diagonal(), rtol=0, atol=1e-12)


def test_a_row_has_no_distance_to_itself_however_far_out_it_lies() -> None:
    x = [1e6 + torch.rand(3, 5, dtype=torch.float64)]
    assert Products.between(x, x).squares[0].diagonal().tolist() == [0, 0, 0]


def test_lengthscales_start_at_the_median_distance_and_at_one_where_all_rows_are_the_same() -> None:
    x = [torch.tensor([[0.0], [1.0], [5.0]], dtype=torch.float64), torch.zeros(3, 2, dtype=torch.float64)]
    start = LayerKernels.start(Products.between(x, x), 8.0)
    assert start.lengthscale == pytest.approx([4.0, 1.0])
    assert start.radial.tolist() == start.linear.tolist() == [2.0, 2.0]


def test_rows_that_differ_by_rounding_alone_are_the_same_and_can_be_learned_from() -> None:
    """Features of one direction, as of a narrow layer: their rows are 1 and -1, up to the last digits of float32."""
    generator = torch.Generator().manual_seed(0)
    side = torch.tensor([1.0] * 24 + [-1.0] * 6, dtype=torch.float64)
    x = [side[:, None] * (1 + 1e-6 * torch.randn(30, 1, dtype=torch.float64, generator=generator))]
    products = Products.between(x, x)
    assert LayerKernels.start(products, 8.0).lengthscale.tolist() == [1.0]
    learned = learn_kernel(products, [10, 10, 10], TARGETS, max_function_evaluations=30)
    assert np.isfinite(learned.posterior.log_evidence)


def test_logarithms_there_and_back() -> None:
    read_back = LayerKernels.from_logarithms(KERNEL.logarithms)
    assert np.allclose(
        [read_back.radial, read_back.lengthscale, read_back.linear], [KERNEL.radial, KERNEL.lengthscale, KERNEL.linear]
    )


def test_learning_starts_at_the_median_distance_of_all_repeats() -> None:
    x, repeats = rows(15), torch.arange(15) % 4 + 1
    again = [layer.repeat_interleave(repeats, dim=0) for layer in x]
    found = LayerKernels.start(Products.between(x, x), 3.0, repeats.double())
    expected = LayerKernels.start(Products.between(again, again), 3.0)
    assert np.allclose(found.logarithms, expected.logarithms, rtol=1e-7)
    once = LayerKernels.start(Products.between(x, x), 3.0)
    assert not np.allclose(found.lengthscale, once.lengthscale, rtol=1e-3)
    ones = LayerKernels.start(Products.between(x, x), 3.0, torch.ones(15, dtype=torch.float64))
    assert np.array_equal(ones.logarithms, once.logarithms)
