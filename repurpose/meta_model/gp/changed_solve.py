"""The shared solve of more rows, or of fewer, follows from the one before by block inverses: n^2 numbers for each row.

With V the columns W_c of a class and [B; C] the kernel of new rows with the old ones and among themselves,

    P' = [P 0; 0 0] + U S^-1 U^T,    U = [P B; -I],    S = C + other I - B^T P B
    A_c'^-1 - P' = [V U] M [V U]^T,  with a matrix M of the size of the class

where M differs from the unit matrix in as many directions as there are new rows: so W changes by a matrix of that rank,
and gets a column for each new row of the class. Rows are taken away by the same formulas backwards. Rounding adds up
over many such changes: `residual` measures it.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from repurpose.meta_model.gp.shared_solve import SharedSolve
from repurpose.meta_model.gp.targets import DirichletTargets

__all__ = ["add_rows", "remove_rows", "residual"]


def add_rows(
    solve: SharedSolve,
    cross: Tensor,
    among: Tensor,
    codes: Tensor,
    targets: DirichletTargets,
    repeats: Tensor | None = None,
) -> SharedSolve:
    """Return the solve with k new rows of the classes `codes` (k,), all rows sorted by class, new ones behind old ones.

    `cross` (n, k) is the kernel of old and new rows, `among` (k, k) that of the new ones, which count `repeats` (k,)
    times. Raises torch's LinAlgError where rounding leaves no positive definite matrix.
    """
    n, k = cross.shape
    difference = targets.other_noise - targets.own_noise
    counts = torch.ones(k, dtype=cross.dtype) if repeats is None else repeats
    spread = solve.P @ cross
    S = among - cross.T @ spread
    S.diagonal().add_(targets.other_noise / counts)
    S_inverse = _inverse(S)
    beside = torch.cat([spread, -torch.eye(k, dtype=S.dtype)])  # U
    P = beside @ S_inverse @ beside.T
    P[:n, :n] += solve.P
    n_columns = solve.W.shape[1]
    W = solve.W.new_zeros(n + k, n_columns + k)
    W[:n, :n_columns] = solve.W
    G = solve.W.T @ cross
    for c, columns in _columns_of_classes(solve):
        own = codes == c
        S_c = S - G[columns].T @ G[columns]
        S_c.diagonal().sub_(own.to(S.dtype) * difference / counts)
        S_c_inverse = _inverse(S_c)
        Q, R = torch.linalg.qr(G[columns])
        root = torch.linalg.cholesky(_unit(R) + R @ S_c_inverse @ R.T)
        # V becomes V N + U S_c^-1 G^T N^-T, for N = I + Q (root - I) Q^T and N N^T = I + G S_c^-1 G^T.
        moved = beside @ S_c_inverse @ torch.linalg.solve_triangular(root, R, upper=False).T
        moved[:n] += solve.W[:, columns] @ Q @ (root - _unit(R))
        W[:, columns].addmm_(moved, Q.T)
    for c in codes.unique().tolist():
        own_rows = torch.nonzero(codes == c).flatten()
        inner = torch.diag(counts[own_rows] / difference) - S_inverse[own_rows][:, own_rows]
        factor = torch.linalg.cholesky(inner)
        W[:, n_columns + own_rows] = beside @ torch.linalg.solve_triangular(factor, S_inverse[own_rows], upper=False).T
    return _sorted_by_class(SharedSolve(P, W, torch.cat([solve.class_of_column, codes]), solve.n_classes))


def remove_rows(
    solve: SharedSolve,
    gone: Tensor,
    kernel_of_gone: Tensor,
    targets: DirichletTargets,
    repeats: Tensor | None = None,
) -> SharedSolve:
    """Return the solve without the k rows numbered `gone` (k,), for rows sorted by class.

    `kernel_of_gone` (k, n) is their kernel with all rows, of which each counts `repeats` (n,) times. Raises torch's
    LinAlgError where rounding leaves no positive definite matrix.
    """
    difference = targets.other_noise - targets.own_noise
    kept = torch.ones(len(solve.P), dtype=torch.bool)
    kept[gone] = False
    stay = torch.nonzero(kept).flatten()
    counts = torch.ones(len(solve.P), dtype=solve.P.dtype) if repeats is None else repeats
    D_inverse = _inverse(solve.P[gone][:, gone])
    lost = solve.P[stay][:, gone] @ D_inverse
    P = torch.addmm(solve.P[stay][:, stay], lost, solve.P[gone][:, stay], alpha=-1)
    left = torch.addmm(solve.W[stay], lost, solve.W[gone], alpha=-1)
    # (K + other I) W is zero but in the rows of the class; see below.
    of_gone = kernel_of_gone @ solve.W + (targets.other_noise / counts[gone])[:, None] * solve.W[gone]
    parts = []
    for c, columns in _columns_of_classes(solve):
        V_gone = solve.W[gone, columns]
        Q, R = torch.linalg.qr(V_gone.T)
        # V becomes (V - F D^-1 V_gone) N, with N N^T = (I + V_gone^T D^-1 V_gone)^-1 and N = I + Q (root^-T - I) Q^T.
        root = torch.linalg.cholesky(_unit(R) + R @ D_inverse @ R.T)
        part = left[:, columns]
        part = part + part @ Q @ (torch.linalg.inv(root).T - _unit(R)) @ Q.T
        own = solve.class_of_column[gone] == c
        if own.any():
            # What is left has as many columns too many as the class loses rows: these directions are turned to the
            # front, where they are zero. T^-1 e_o is one of them for W_c = P[:, c] T.
            null = (counts[gone[own]] / difference)[:, None] * of_gone[own][:, columns] - V_gone[own]
            null = null.T + Q @ (root.T - _unit(R)) @ (Q.T @ null.T)
            part = torch.ormqr(*torch.geqrf(null), part, left=False)[:, int(own.sum()) :]
        parts.append(part)
    W = torch.cat(parts, dim=1) if parts else left
    return SharedSolve(P, W, solve.class_of_column[stay], solve.n_classes)


def residual(
    solve: SharedSolve, rows: Tensor, kernel_of_rows: Tensor, targets: DirichletTargets, repeats: Tensor | None = None
) -> float:
    """Return the largest entry of A_c^-1 A_c - I, over all classes, in the columns of the `rows` (k,).

    `kernel_of_rows` (k, n) is the kernel of these rows with all of them.
    """
    own = solve.own_columns[rows]
    noise = targets.other_noise + own * (targets.own_noise - targets.other_noise)
    if repeats is not None:
        noise = noise / repeats[rows, None]
    largest = 0.0
    for row, kernel, of_classes in zip(rows.tolist(), kernel_of_rows, noise):
        columns = kernel[:, None].repeat(1, solve.n_classes)
        columns[row] += of_classes
        product = solve.weights(columns)
        product[row] -= 1
        largest = max(largest, float(product.abs().max()))
    return largest


def _columns_of_classes(solve: SharedSolve) -> Iterator[tuple[int, slice]]:
    """Yield each class that has columns, with these: they are sorted by class."""
    ends = torch.bincount(solve.class_of_column, minlength=solve.n_classes).cumsum(0).tolist()
    for c, (start, end) in enumerate(zip([0, *ends], ends)):
        if end > start:
            yield c, slice(start, end)


def _sorted_by_class(solve: SharedSolve) -> SharedSolve:
    order = torch.argsort(solve.class_of_column, stable=True)
    P, W = (square.index_select(0, order).index_select(1, order) for square in (solve.P, solve.W))
    return SharedSolve(P, W, solve.class_of_column[order], solve.n_classes)


def _inverse(matrix: Tensor) -> Tensor:
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix))


def _unit(square_or_wide: Tensor) -> Tensor:
    """Return the unit matrix of as many rows."""
    return torch.eye(len(square_or_wide), dtype=square_or_wide.dtype)
