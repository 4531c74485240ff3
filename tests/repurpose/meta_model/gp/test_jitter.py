import warnings

import pytest
import torch

from repurpose.meta_model.gp.jitter import cholesky


def test_the_factor_is_that_of_the_kernel_and_the_noise() -> None:
    kernel = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        factor = cholesky(kernel, 0.5)
    assert torch.allclose(factor @ factor.T, kernel + 0.5 * torch.eye(2, dtype=torch.float64))
    assert kernel.diagonal().tolist() == [2, 2]


def test_a_matrix_short_of_positive_definite_is_helped_with_a_warning_that_names_the_cause() -> None:
    kernel = torch.ones(5, 5, dtype=torch.float64)
    kernel[0, 0] -= 1e-9
    with pytest.warns(UserWarning, match="of 5 .* is not positive definite; .* of its diagonal was added.*the same"):
        factor = cholesky(kernel, 0.0)
    assert torch.allclose(factor @ factor.T, kernel, rtol=0, atol=1e-6)


def test_what_cannot_be_helped_is_an_error() -> None:
    with pytest.raises(ValueError, match="is not positive definite, even with jitter"):
        cholesky(-torch.eye(3, dtype=torch.float64), 0.0)
    with pytest.raises(ValueError, match="values that are not finite"):
        cholesky(torch.full((3, 3), torch.nan, dtype=torch.float64), 1.0)
