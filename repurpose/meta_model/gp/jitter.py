"""Kernel matrices that rounding leaves short of positive definite are factorised with jitter on the diagonal."""

import torch
from torch import Tensor

from model_handler.user_warnings import warn_user

__all__ = ["cholesky"]

_SMALLEST, _LARGEST = 1e-10, 1e-2


def cholesky(kernel: Tensor, noise: float | Tensor) -> Tensor:
    """Return the lower factor of `kernel` with `noise` (a number or (n,)) added to its diagonal: (n, n).

    Jitter, relative to the mean diagonal, grows until there is one.

    Raises ValueError for values that are not finite, or where even a hundredth of the diagonal does not help.
    """
    matrix = kernel.clone()
    matrix.diagonal().add_(noise)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if not failed:
        return factor
    # Jitter cannot help these, and would be tried in vain.
    if not torch.isfinite(matrix).all():
        raise ValueError("the kernel matrix has values that are not finite; are the features far too large?")
    scale, jitter = float(matrix.diagonal().mean()), _SMALLEST
    while jitter <= _LARGEST:
        # On top of the jitter added before, so that the sum still grows tenfold.
        matrix.diagonal().add_(jitter * scale)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if not failed:
            warn_user(
                f"the kernel matrix of {len(matrix)} examples is not positive definite; {jitter:.0e} of its diagonal "
                "was added. Are many examples the same?",
            )
            return factor
        jitter *= 10
    raise ValueError(f"the kernel matrix of {len(matrix)} examples is not positive definite, even with jitter")
