"""Dirichlet targets make classification a regression with known noise: Milios et al. (2018), arXiv:1805.10915.

A label is taken for a draw from Dirichlet(alpha), with alpha = `alpha_eps` + 1 for the class seen and `alpha_eps` for
the others. Each concentration is a Gamma variable, matched in its first two moments by a log-normal one: the target of
regression is its mean log(alpha) - noise / 2, the noise its variance log(1 + 1/alpha).
"""

from dataclasses import dataclass
from math import log, log1p

__all__ = ["OTHERS", "DirichletTargets"]

# `alpha_eps` of all the other classes together. Choosing it by left-out examples measured no better, and worse with few
# labels a class.
OTHERS = 0.01


@dataclass(frozen=True)
class DirichletTargets:
    """The target and the noise variance of the examples of a class (`own`) and of all others (`other`)."""

    own: float
    other: float
    own_noise: float
    other_noise: float

    @classmethod
    def of(cls, alpha_eps: float) -> "DirichletTargets":
        (own, own_noise), (other, other_noise) = _log_normal(1 + alpha_eps), _log_normal(alpha_eps)
        return cls(own, other, own_noise, other_noise)


def _log_normal(alpha: float) -> tuple[float, float]:
    variance = log1p(1 / alpha)
    return log(alpha) - variance / 2, variance
