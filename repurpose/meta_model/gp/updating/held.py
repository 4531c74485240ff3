"""The posterior of other rows at held numbers: scaling, kernel, temperature and targets stay, the prior mean is new.

`refit_held` solves again. Where the posterior is exact, `update_held` comes to the same by `changed_solve`, in the time
of n^2 numbers for each row that came or went.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from repurpose.data.changed_rows import ChangedRows
from repurpose.meta_model.gp.evidence import Posterior, condition, weights_and_mean
from repurpose.meta_model.gp.exact_solve import ExactSolve, large
from repurpose.meta_model.gp.gpytorch_kernel import GpytorchKernel, KernelState
from repurpose.meta_model.gp.inducing import SparsePosterior, choose_points, condition_by_kernel
from repurpose.meta_model.gp.kernel import LayerKernels
from repurpose.meta_model.gp.model import GpModel
from repurpose.meta_model.gp.shared_solve import SharedSolve
from repurpose.meta_model.gp.targets import DirichletTargets
from repurpose.meta_model.gp.updating.changed_solve import add_rows, remove_rows, residual, runs

__all__ = ["refit_held", "update_held"]

_LARGEST_RESIDUAL = 1e-8
_N_CHECKED = 2  # rows in whose columns the residual is measured
_LARGEST_SHARE = 0.1  # of the rows: for more, solving again takes no longer


def refit_held(
    model: GpModel,
    rows: ChangedRows,
    targets: DirichletTargets,
    n_points: int | None,
    random_state: np.random.RandomState,
) -> GpModel:
    """Solve for the rows at the numbers of `model`, exactly or through `n_points` points that are chosen anew.

    Raises ValueError as `cholesky` does.
    """
    order = np.argsort(rows.codes, kind="stable")
    kernel, layers = _kernel_of(model), model.rows.transform(rows.matrix[order])
    sizes = np.bincount(rows.codes, minlength=len(rows.classes)).tolist()
    repeats = None if rows.weights is None else torch.from_numpy(rows.weights[order])
    posterior: Posterior | SparsePosterior
    if n_points is None:
        posterior = condition(kernel.between(layers, layers), sizes, targets, repeats)
        return _with_posterior(model, layers, posterior.solve, posterior.weights, posterior.mean)
    points = choose_points(layers, sizes, n_points, random_state, repeats)
    posterior = condition_by_kernel(kernel, points, layers, sizes, targets, repeats)
    return _with_posterior(model, points, posterior.solve, posterior.weights, posterior.mean)


def update_held(model: GpModel, rows: ChangedRows, targets: DirichletTargets) -> GpModel | None:
    """Return what `refit_held` would, by an update of the exact solve of `model`.

    None where that would take longer, where rounding makes it too inexact, and for a solve that an earlier version
    saved: then it is time to solve again.
    """
    if rows.n_changes > _LARGEST_SHARE * len(rows.codes) or not isinstance(model.solve, ExactSolve):
        return None
    try:
        solve, points, repeats = _changed(model, model.solve, rows, targets)
    except torch.linalg.LinAlgError:
        return None
    checked = torch.linspace(0, len(solve.P) - 1, _N_CHECKED, dtype=torch.float64).round().long()
    of_checked = _kernel_of(model).between([layer[checked] for layer in points], points)
    if not residual(solve, checked, of_checked, targets, repeats) <= _LARGEST_RESIDUAL:
        return None
    weights, mean = weights_and_mean(solve, targets)
    return _with_posterior(model, points, solve, weights, mean)


def _changed(
    model: GpModel, solve: ExactSolve, rows: ChangedRows, targets: DirichletTargets
) -> tuple[ExactSolve, list[Tensor], Tensor | None]:
    """Return the solve of the changed rows, their inputs of the kernel, and how often they count, sorted by class."""
    kernel, points = _kernel_of(model), model.points
    order = np.argsort(rows.codes, kind="stable")
    if rows.is_gone.any():
        is_gone = torch.from_numpy(rows.is_gone[np.argsort(rows.codes_before, kind="stable")])
        solve = remove_rows(solve, torch.nonzero(is_gone).flatten())
        points = [layer[~is_gone] for layer in points]
    solve = solve.with_classes(torch.from_numpy(rows.new_code), len(rows.classes))
    is_new = torch.from_numpy(rows.is_new[order])
    if is_new.any():
        new = order[rows.is_new[order]]
        added = model.rows.transform(rows.matrix[new])
        counts = None if rows.weights is None else torch.from_numpy(rows.weights[new])
        of_kernel = kernel.between(points, added), kernel.between(added, added)
        places, codes = torch.nonzero(is_new).flatten(), torch.from_numpy(rows.codes[order])
        solve = add_rows(solve, *of_kernel, places, codes, targets, counts)
        points = [_merged(layer, new_rows, is_new) for layer, new_rows in zip(points, added)]
    return solve, points, None if rows.weights is None else torch.from_numpy(rows.weights[order])


def _merged(known: Tensor, new: Tensor, is_new: Tensor) -> Tensor:
    """Put new rows into their places among the known ones."""
    merged = large(len(is_new), known.shape[1])
    for rows, rows_before in runs(~is_new):
        merged[rows] = known[rows_before]
    merged[torch.nonzero(is_new).flatten()] = new
    return merged


def _kernel_of(model: GpModel) -> LayerKernels | GpytorchKernel:
    if isinstance(model.kernel, KernelState):
        raise ValueError("the kernel of gpytorch is with the repurposer: use given_to")
    return model.kernel


def _with_posterior(
    model: GpModel, points: list[Tensor], solve: ExactSolve | SharedSolve, weights: Tensor, mean: float
) -> GpModel:
    kernel = model.kernel
    # The state of a kernel of gpytorch has some rows in it, by which it is recognised.
    state = kernel.state(points) if isinstance(kernel, GpytorchKernel) else kernel
    return replace(model, kernel=state, points=points, solve=solve, weights=weights, mean=mean)
