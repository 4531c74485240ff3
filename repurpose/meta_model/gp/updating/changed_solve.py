"""The solve of more rows, or of fewer, follows from the one before by block inverses: n^2 numbers for each row.

With [B; C] the kernel of new rows with the old ones and among themselves,

    P' = [P 0; 0 0] + U S^-1 U^T,    U = [P B; -I],    S = C + other I - B^T P B

and M_c^-1 = I/d - P_cc changes likewise: N = [M_c 0; 0 d I] is what it would be if P' were [P 0; 0 0], new rows of the
class being those behind; so that with the rows U_c of the class

    M_c' = N + N U_c T_c^-1 U_c^T N,    T_c = S - U_c^T N U_c

where T_c is C + D_c - B^T A_c^-1 B, by whose determinant that of A_c grows. Rows are taken away by the same formulas
backwards. Rounding adds up over many such changes: `residual` measures it.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from repurpose.meta_model.gp.exact_solve import ExactSolve, large
from repurpose.meta_model.gp.targets import DirichletTargets

__all__ = ["add_rows", "remove_rows", "residual", "runs"]

_MANY_RUNS = 16  # of rows that stay: for more, choosing columns is faster than copying blocks


def add_rows(
    solve: ExactSolve,
    cross: Tensor,
    among: Tensor,
    places: Tensor,
    class_of_row: Tensor,
    targets: DirichletTargets,
    repeats: Tensor | None = None,
) -> ExactSolve:
    """Return the solve with k new rows, which come to the rising `places` (k,) among all n + k.

    `cross` (n, k) is the kernel of old and new rows, `among` (k, k) that of the new ones, which count `repeats` (k,)
    times; `class_of_row` (n + k,) is sorted. Raises torch's LinAlgError where rounding leaves no positive definite
    matrix.
    """
    n, k = cross.shape
    counts = torch.ones(k, dtype=cross.dtype) if repeats is None else repeats
    is_new = torch.zeros(n + k, dtype=torch.bool)
    is_new[places] = True
    spread = solve.P @ cross
    S = among - cross.T @ spread
    S.diagonal().add_(targets.other_noise / counts)
    U = torch.empty(n + k, k, dtype=S.dtype)
    U[~is_new], U[places] = spread, -torch.eye(k, dtype=S.dtype)
    P = large(n + k, n + k)
    kept = list(runs(~is_new))
    for rows, rows_before in kept:
        for columns, columns_before in kept:
            P[rows, columns] = solve.P[rows_before, columns_before]
    P[places], P[:, places] = 0, 0
    P.addmm_(U @ _inverse(S), U.T)
    noise = torch.zeros(n + k, dtype=S.dtype)
    noise[places] = (targets.other_noise - targets.own_noise) / counts
    log_determinants = solve.log_determinants + _log_determinant(S)
    changed, before = _without_inner(solve, P, class_of_row), dict(solve.members())
    for c, rows in changed.members():
        N, old = changed.of_class(rows), torch.nonzero(~is_new[rows]).flatten()
        N.diagonal().add_(noise[rows])
        if len(old):
            N[old[:, None], old] = solve.of_class(before[c])
        NU = N @ U[rows]
        T = S - U[rows].T @ NU
        N.addmm_(NU @ _inverse(T), NU.T)
        log_determinants[c] = solve.log_determinants[c] + _log_determinant(T)
    return replace(
        changed, log_determinant=solve.log_determinant + _log_determinant(S), log_determinants=log_determinants
    )


def remove_rows(solve: ExactSolve, gone: Tensor) -> ExactSolve:
    """Return the solve without the k rows numbered `gone` (k,), of which each class that has rows keeps its number.

    Raises torch's LinAlgError where rounding leaves no positive definite matrix.
    """
    kept = torch.ones(len(solve.P), dtype=torch.bool)
    kept[gone] = False
    stay = torch.nonzero(kept).flatten()
    D = solve.P[gone][:, gone]
    D_inverse = _inverse(D)
    lost = solve.P[:, gone] @ D_inverse
    P = large(len(stay), len(stay))
    left = list(runs(kept))
    for rows_before, rows in left:
        if len(left) > _MANY_RUNS:
            torch.index_select(solve.P[rows_before], 1, stay, out=P[rows])
            continue
        for columns_before, columns in left:
            P[rows, columns] = solve.P[rows_before, columns_before]
    P.addmm_(lost[stay], solve.P[gone][:, stay], alpha=-1)
    log_determinants = solve.log_determinants + _log_determinant(D)
    changed = _without_inner(solve, P, solve.class_of_row[stay])
    now = dict(changed.members())
    for c, rows in solve.members():
        M, of_gone = solve.of_class(rows), solve.P[gone, rows]
        # log|A_c| falls by that of the inverse, in the rows that go.
        log_determinants[c] = solve.log_determinants[c] + _log_determinant(D + of_gone @ M @ of_gone.T)
        if c not in now:
            continue
        here, of_class = torch.nonzero(kept[rows]).flatten(), torch.nonzero(~kept[rows]).flatten()
        part = changed.of_class(now[c])
        part.copy_(M[here[:, None], here])
        if len(of_class):
            between = M[here[:, None], of_class]
            part.addmm_(between @ _inverse(M[of_class[:, None], of_class]), between.T, alpha=-1)
        lost_here = lost[rows][here]
        moved = part @ lost_here
        part.addmm_(moved @ _inverse(D_inverse + lost_here.T @ moved), moved.T, alpha=-1)
    return replace(
        changed, log_determinant=solve.log_determinant + _log_determinant(D), log_determinants=log_determinants
    )


def residual(
    solve: ExactSolve, rows: Tensor, kernel_of_rows: Tensor, targets: DirichletTargets, repeats: Tensor | None = None
) -> float:
    """Return the largest entry of P P^-1 - I in the columns of the `rows` (k,), and of M_c M_c^-1 - I in one of each c.

    `kernel_of_rows` (k, n) is the kernel of these rows with all of them.
    """
    counts = torch.ones(len(solve.P), dtype=solve.P.dtype) if repeats is None else repeats
    largest = 0.0
    for row, kernel in zip(rows.tolist(), kernel_of_rows):
        column = kernel.clone()
        column[row] += targets.other_noise / counts[row]
        product = solve.P @ column
        product[row] -= 1
        largest = max(largest, float(product.abs().max()))
    for _, of_class in solve.members():
        column = -solve.P[of_class, of_class.start]
        column[0] += counts[of_class.start] / (targets.other_noise - targets.own_noise)
        product = solve.of_class(of_class) @ column
        product[0] -= 1
        largest = max(largest, float(product.abs().max()))
    return largest


def runs(kept: Tensor) -> Iterator[tuple[slice, slice]]:
    """Yield the runs of True in `kept` (n,), as slices of it, each with the slice of the numbers of the True alone."""
    edges = (
        torch.nonzero(torch.diff(kept.int(), prepend=torch.tensor([0]), append=torch.tensor([0]))).flatten().tolist()
    )
    n_before = 0
    for start, stop in zip(edges[::2], edges[1::2]):
        yield slice(start, stop), slice(n_before, n_before + stop - start)
        n_before += stop - start


def _without_inner(solve: ExactSolve, P: Tensor, class_of_row: Tensor) -> ExactSolve:
    """Return the solve of these rows where every M_c is zero, to be set."""
    widest = int(torch.bincount(class_of_row).max())
    return replace(solve, P=P, class_of_row=class_of_row, inner=torch.zeros(len(P), widest, dtype=P.dtype))


def _inverse(matrix: Tensor) -> Tensor:
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix))


def _log_determinant(matrix: Tensor) -> float:
    return 2 * float(torch.linalg.cholesky(matrix).diagonal().log().sum())
