"""Kernel mean matching: weights under which the source has the mean of the target in the space of a kernel.

Huang, Smola, Gretton, Borgwardt and Schölkopf (2007), Correcting sample selection bias by unlabeled data, NIPS 19. The
quadratic program is solved by clarabel: Goulart and Chen (2024), arXiv:2405.12762.
"""

import numpy as np
import torch

__all__ = ["match_kernel_means", "solve_weights"]

_LARGEST_WEIGHT = 1000.0  # the paper's B
_ACCURACY = 1e-12  # with the 1e-8 that clarabel has by default, weights of 600 rows were up to .02 off


def match_kernel_means(
    of_source: np.ndarray, to_target: np.ndarray, counts: np.ndarray, regularization: float = 0.0
) -> np.ndarray:
    """Return how much more often the target has rows like each source row, at least 0: (n_source,).

    `of_source` is the kernel matrix (n_source, n_source) of the source, `to_target` (n_source,) has the mean of the
    kernel of each of its rows with those of the target, and `counts` (n_source,) as how many rows each one counts. With
    n for their sum, the ratios b make |sum_i counts_i b_i phi(x_i) - n mean_j phi(z_j)|^2 / 2 +
    r sum_i counts_i (b_i - 1)^2 / 2 least, under 0 <= b_i <= 1000 and |sum_i counts_i b_i - n| <= n eps with
    eps = (sqrt(n) - 1) / sqrt(n). In the paper all counts are 1, and the `regularization` r is 0. Raises ValueError
    where the solver ends without a solution.
    """
    n = counts.sum()
    K = counts[:, None] * of_source
    K *= counts
    K[np.diag_indices(len(K))] += regularization * counts
    slack = n * (np.sqrt(n) - 1) / np.sqrt(n)
    return solve_weights(K, counts * (n * to_target + regularization), counts, _LARGEST_WEIGHT, (n - slack, n + slack))


def solve_weights(
    K: np.ndarray, kappa: np.ndarray, counts: np.ndarray, largest: float, limits: tuple[float, float]
) -> np.ndarray:
    """Return the b (n,) that makes b'K b / 2 - kappa'b least under 0 <= b <= `largest` and `limits` of counts'b.

    K (n, n) is symmetric and positive semidefinite. Raises ValueError where the solver ends without a solution.
    """
    import clarabel  # here, since nothing else needs it
    from scipy import sparse

    n, (low, high) = len(kappa), limits
    box, total = sparse.eye_array(n), sparse.csc_array(counts[None])
    bounded = sparse.vstack([-box, box, total, -total], format="csc")  # the slacks of these are at least 0
    bounds = np.concatenate([np.zeros(n), np.full(n, largest), [high, -low]])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = _ACCURACY
    settings.max_threads = torch.get_num_threads()  # one where rows are few, see `repurpose.threads`
    cones = [clarabel.NonnegativeConeT(2 * n + 2)]
    found = clarabel.DefaultSolver(_upper_triangle(K), -kappa, bounded, bounds, cones, settings).solve()
    if found.status != clarabel.SolverStatus.Solved:
        raise ValueError(
            f"kernel mean matching of {n:,} source rows found no weights: clarabel ended with {found.status}; give a "
            'larger regularization, or use method="kliep" or "classifier"'
        )
    return np.clip(found.x, 0, largest)


def _upper_triangle(symmetric: np.ndarray) -> object:
    """Return what the solver reads of a symmetric matrix, in scipy's csc: column j has the entries of rows 0 to j."""
    from scipy import sparse

    n = len(symmetric)
    is_below = np.tri(n, dtype=bool)  # row by row, what column by column is above
    rows = np.broadcast_to(np.arange(n, dtype=np.int32), (n, n))[is_below]
    starts = np.concatenate([[0], np.cumsum(np.arange(1, n + 1))])
    return sparse.csc_array((symmetric[is_below], rows, starts), shape=(n, n))
