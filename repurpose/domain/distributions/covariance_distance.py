"""The distance between the covariances of two sets of rows, to be made small by training.

Sun and Saenko (2016), Deep CORAL: correlation alignment for deep domain adaptation, arXiv:1607.01719.
"""

from torch import Tensor

from repurpose.domain.distributions.differentiable import differentiable

__all__ = ["covariance_distance"]


@differentiable
def covariance_distance(source: Tensor, target: Tensor) -> Tensor:
    """Return |C_S - C_T|_F^2 / (4 d^2) of rows (n_source, d) and (n_target, d).

    C is the covariance of the rows of a domain, divided by their number less one (equations 1 to 3 of the paper).
    """
    return (_covariance(source) - _covariance(target)).square().sum() / (4 * source.shape[1] ** 2)


def _covariance(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(dim=0)
    return centred.T @ centred / (len(rows) - 1)
