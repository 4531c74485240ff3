"""The posterior of other rows at held numbers: scaling, kernel, temperature and targets stay, the prior mean is new.

`refit_held` solves again. Where the posterior is exact, `update_held` comes to the same by `changed_solve`, in the time
of n^2 numbers for each row that came or went.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from repurpose.data.changed_rows import ChangedRows
from repurpose.meta_model.gp.changed_solve import add_rows, remove_rows, residual
from repurpose.meta_model.gp.evidence import Posterior, condition, weights_and_level
from repurpose.meta_model.gp.gpytorch_kernel import GpytorchKernel, KernelState
from repurpose.meta_model.gp.inducing import SparsePosterior, choose_points, condition_by_kernel
from repurpose.meta_model.gp.kernel import LayerKernels
from repurpose.meta_model.gp.model import GpModel
from repurpose.meta_model.gp.shared_solve import SharedSolve
from repurpose.meta_model.gp.targets import DirichletTargets

__all__ = ["refit_held", "update_held"]

_LARGEST_RESIDUAL = 1e-8
_N_CHECKED = 4  # rows in whose columns the residual is measured
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

    None where that would take longer, or where rounding makes it too inexact: then it is time to solve again.
    """
    if rows.n_changes > _LARGEST_SHARE * len(rows.codes):
        return None
    try:
        solve, points, repeats = _changed(model, rows, targets)
    except torch.linalg.LinAlgError:
        return None
    checked = torch.linspace(0, len(solve.P) - 1, _N_CHECKED, dtype=torch.float64).round().long()
    of_checked = _kernel_of(model).between([layer[checked] for layer in points], points)
    if not residual(solve, checked, of_checked, targets, repeats) <= _LARGEST_RESIDUAL:
        return None
    weights, level = weights_and_level(solve, targets)
    return _with_posterior(model, points, solve, weights, targets.other - level)


def _changed(
    model: GpModel, rows: ChangedRows, targets: DirichletTargets
) -> tuple[SharedSolve, list[Tensor], Tensor | None]:
    """Return the solve of the changed rows, their inputs of the kernel, and how often they count, sorted by class."""
    kernel, solve, points = _kernel_of(model), model.solve, model.points
    numbers = np.argsort(rows.codes_before, kind="stable")  # among the rows before, of the rows of the solve
    if rows.is_gone.any():
        gone = torch.from_numpy(np.flatnonzero(rows.is_gone[numbers]))
        of_gone = kernel.between([layer[gone] for layer in points], points)
        before = rows.weights_before
        solve = remove_rows(
            solve, gone, of_gone, targets, None if before is None else torch.from_numpy(before[numbers])
        )
        stay = ~rows.is_gone[numbers]
        points, numbers = [layer[torch.from_numpy(stay)] for layer in points], numbers[stay]
    solve = replace(
        solve,
        class_of_column=torch.from_numpy(rows.new_code)[solve.class_of_column],
        n_classes=len(rows.classes),
    )
    known = np.flatnonzero(~rows.is_new)  # rows in their order now, of which each was one before
    places = known[np.searchsorted(rows.came_from[known], numbers)]  # in that order, of the rows of the solve
    if rows.is_new.any():
        new = np.flatnonzero(rows.is_new)
        added = model.rows.transform(rows.matrix[new])
        codes = torch.from_numpy(rows.codes[new])
        counts = None if rows.weights is None else torch.from_numpy(rows.weights[new])
        solve = add_rows(solve, kernel.between(points, added), kernel.between(added, added), codes, targets, counts)
        places = np.concatenate([places, new])
        order = np.argsort(rows.codes[places], kind="stable")
        points = [torch.cat(pair)[torch.from_numpy(order)] for pair in zip(points, added)]
        places = places[order]
    wanted = np.argsort(rows.codes, kind="stable")
    if not np.array_equal(places, wanted):  # a row that came back between others of its class
        order = np.argsort(places)[wanted]
        solve, points = _reordered(solve, points, torch.from_numpy(order))
    return solve, points, None if rows.weights is None else torch.from_numpy(rows.weights[wanted])


def _reordered(solve: SharedSolve, points: list[Tensor], order: Tensor) -> tuple[SharedSolve, list[Tensor]]:
    """Put rows of the same class into another order; columns of W are of a class, and of no row."""
    P = solve.P.index_select(0, order).index_select(1, order)
    return replace(solve, P=P, W=solve.W.index_select(0, order)), [layer[order] for layer in points]


def _kernel_of(model: GpModel) -> LayerKernels | GpytorchKernel:
    if isinstance(model.kernel, KernelState):
        raise ValueError("the kernel of gpytorch is with the repurposer: use given_to")
    return model.kernel


def _with_posterior(model: GpModel, points: list[Tensor], solve: SharedSolve, weights: Tensor, mean: float) -> GpModel:
    kernel = model.kernel
    # The state of a kernel of gpytorch has some rows in it, by which it is recognised.
    state = kernel.state(points) if isinstance(kernel, GpytorchKernel) else kernel
    return replace(model, kernel=state, points=points, solve=solve, weights=weights, mean=mean)
