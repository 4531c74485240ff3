"""Kernel mean matching: weights under which the source has the mean of the target in the space of a kernel.

Huang, Smola, Gretton, Borgwardt and Schölkopf (2007), Correcting sample selection bias by unlabeled data, NIPS 19.
"""

import numpy as np
from scipy.linalg import cho_factor, cho_solve

__all__ = ["match_kernel_means", "solve_weights"]

_LARGEST_WEIGHT = 1000.0  # the paper's B
_MOST_STEPS = 100
_STEP_TO_BORDER = 0.99
_ACCURACY = 1e-9


def match_kernel_means(of_source: np.ndarray, to_target: np.ndarray, regularization: float = 0.0) -> np.ndarray:
    """Return weights of the source rows, at least 0 and about 1 on average: (n_source,).

    `of_source` is the kernel matrix (n_source, n_source) of the source, `to_target` (n_source,) has the mean of the
    kernel of each of its rows with those of the target. The weights w make w'K w / 2 - kappa'w + r |w - 1|^2 / 2 least,
    with the `regularization` r and kappa_i = n_S/n_T sum_j k(x_i, z_j), under 0 <= w_i <= 1000 and
    |sum w - n_S| <= n_S eps with eps = (sqrt(n_S) - 1) / sqrt(n_S). In the paper r is 0.
    """
    n_source = len(of_source)
    kappa = n_source * to_target + regularization
    slack = n_source * (np.sqrt(n_source) - 1) / np.sqrt(n_source)
    K = of_source + regularization * np.eye(n_source)
    return solve_weights(K, kappa, _LARGEST_WEIGHT, n_source - slack, n_source + slack)


def solve_weights(K: np.ndarray, kappa: np.ndarray, largest: float, low: float, high: float) -> np.ndarray:
    """Return the w (n,) that makes w'K w / 2 - kappa'w least under 0 <= w <= `largest`, `low` <= sum w <= `high`.

    K (n, n) is positive semidefinite, and the weights that are all 1 lie within the bounds. A primal-dual
    interior-point method with Mehrotra's corrector (Nocedal and Wright 2006, Numerical optimization, section 16.6): as
    there is one constraint beside the box, a step is one Cholesky factorisation of K plus a diagonal.
    """
    n, w = len(kappa), np.ones(len(kappa))
    bounds = np.concatenate([np.zeros(n), np.full(n, largest), [-low, high]])  # of G w <= bounds

    def constrained(v: np.ndarray) -> np.ndarray:  # G v
        return np.concatenate([-v, v, [-v.sum(), v.sum()]])

    def gathered(z: np.ndarray) -> np.ndarray:  # G'z
        return -z[:n] + z[n : 2 * n] + z[-1] - z[-2]

    slacks = bounds - constrained(w)
    multipliers = 1 / slacks
    for _ in range(_MOST_STEPS):
        gap = slacks @ multipliers / len(slacks)
        residual = K @ w - kappa + gathered(multipliers)
        if gap < _ACCURACY and np.abs(residual).max() < _ACCURACY * max(1.0, np.abs(kappa).max()):
            break
        ratios = multipliers / slacks
        hessian = K + (ratios[-1] + ratios[-2])
        hessian[np.diag_indices(n)] += ratios[:n] + ratios[n : 2 * n]
        factor = cho_factor(hessian, overwrite_a=True)

        def step(complementarity: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            move = cho_solve(factor, -residual + gathered(complementarity / slacks))  # noqa: B023 (used at once)
            by_slack = -constrained(move)
            return move, by_slack, -(complementarity + multipliers * by_slack) / slacks  # noqa: B023

        _, by_slack, by_multiplier = step(slacks * multipliers)
        length = min(_length(slacks, by_slack), _length(multipliers, by_multiplier))
        ahead = (slacks + length * by_slack) @ (multipliers + length * by_multiplier) / len(slacks)
        wanted = gap * (ahead / gap) ** 3
        move, by_slack, by_multiplier = step(slacks * multipliers + by_slack * by_multiplier - wanted)
        length = _STEP_TO_BORDER * min(_length(slacks, by_slack), _length(multipliers, by_multiplier))
        w, multipliers = w + length * move, multipliers + length * by_multiplier
        slacks = slacks + length * by_slack
    return np.clip(w, 0, largest)


def _length(values: np.ndarray, change: np.ndarray) -> float:
    """Return how much of a change, 1 at most, keeps all values above 0."""
    falling = change < 0
    return min(1.0, float((-values[falling] / change[falling]).min(initial=np.inf)))
