"""How alike the relations among rows are in two networks, whatever the widths of their rows.

Relational knowledge distillation, Park et al. (2019), arXiv:1904.05068, compares distances of pairs and angles of
triplets; correlation congruence, Peng et al. (2019), arXiv:1904.01802, how alike each two rows are. All take the rows
of the student and those of the teacher, (n_rows, width) each, and give one number, 0 where the relations are the same
and where there are too few rows to have any.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["RELATIONS", "angle_loss", "correlation_loss", "distance_loss", "rkd_loss"]

_OF_DISTANCES, _OF_ANGLES = 25.0, 50.0  # Park et al. (2019), section 4
_GAMMA, _ORDER = 0.4, 2  # Peng et al. (2019), section 4


def rkd_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute 25 times the loss of distances plus 50 times that of angles.

    Rotating, moving and scaling all rows of either network changes nothing.
    """
    return _OF_DISTANCES * distance_loss(student, teacher) + _OF_ANGLES * angle_loss(student, teacher)


def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute the mean Huber loss of ||x_i - x_j|| / mu over pairs of rows, where mu is the mean distance."""
    if len(student) < 2:
        return student.new_zeros(())
    return F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher))


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute the mean Huber loss, over triplets of rows, of the cosine of the angle at x_j between x_i and x_k.

    Where two rows are the same there is no angle, which counts as a cosine of 0. Memory grows with n_rows^3.
    """
    n_rows = len(student)
    if n_rows < 3:
        return student.new_zeros(())
    other = ~torch.eye(n_rows, dtype=torch.bool, device=student.device)
    distinct = other[:, :, None] & other[:, None, :] & other[None, :, :]  # of j, i, k
    return F.smooth_l1_loss(_cosines(student)[distinct], _cosines(teacher)[distinct])


def correlation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute the mean square, over pairs of rows, of how much the correlations of the networks differ.

    The correlation of two rows of length 1 is exp(-gamma ||x - y||^2) with gamma = 0.4, by its Taylor series in x'y up
    to order 2: the sum over p of exp(-2 gamma) (2 gamma)^p / p! (x'y)^p. Rotating all rows of either network and
    scaling any of them changes nothing.
    """
    return F.mse_loss(_correlations(student), _correlations(teacher))


RELATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"rkd": rkd_loss, "correlation": correlation_loss}


def _relative_distances(rows: Tensor) -> Tensor:
    first, second = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
    distances = _lengths(rows[first] - rows[second])
    mean = distances.mean()
    return distances / torch.where(mean > 0, mean, 1)  # rows that are all the same have no distances, and no mean


def _cosines(rows: Tensor) -> Tensor:
    """Return the cosines of angles, (n_rows, n_rows, n_rows), at j between i and k."""
    directions = _unit(rows[None, :, :] - rows[:, None, :])  # from j to i
    return directions @ directions.transpose(1, 2)


def _correlations(rows: Tensor) -> Tensor:
    unit = _unit(rows)
    products = unit @ unit.T
    terms = [(2 * _GAMMA) ** power / math.factorial(power) * products**power for power in range(_ORDER + 1)]
    return math.exp(-2 * _GAMMA) * torch.stack(terms).sum(dim=0)


def _unit(vectors: Tensor) -> Tensor:
    lengths = _lengths(vectors)[..., None]
    return vectors / torch.where(lengths > 0, lengths, 1)


def _lengths(vectors: Tensor) -> Tensor:
    """Return Euclidean lengths over the last axis; the gradient is 0, and not NaN, where one is 0."""
    squares = vectors.square().sum(dim=-1)
    is_some = squares > 0
    return torch.where(is_some, torch.where(is_some, squares, 1).sqrt(), 0)
