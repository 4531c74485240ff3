"""Rows added to and removed from a solve give the inverses of the matrices of the rows that are then there."""

import pytest
import torch
from torch import Tensor

from repurpose.meta_model.gp.exact_solve import ExactSolve, solve
from repurpose.meta_model.gp.targets import DirichletTargets
from repurpose.meta_model.gp.updating import changed_solve
from repurpose.meta_model.gp.updating.changed_solve import add_rows, remove_rows, residual

TARGETS = DirichletTargets.of(0.01 / 3)
SIZES = [5, 4, 5]
CODES = torch.repeat_interleave(torch.arange(3), torch.tensor(SIZES))
# One row, the first of all, two classes, a whole class, the largest classes, half of all.
OUT = ([2], [0], [0, 6], [5, 6, 7, 8], [0, 1, 2, 3, 9, 10, 11], [0, 1, 2, 3, 4, 5, 9])


def kernel_and_counts(weighted: bool) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(14, 3, generator=generator, dtype=torch.float64)
    counts = 0.2 + 3 * torch.rand(14, generator=generator, dtype=torch.float64)
    return 10 * torch.exp(-(torch.cdist(X, X) ** 2) / 8), counts if weighted else None


def matrix_of(c: int, kernel: Tensor, codes: Tensor, counts: Tensor | None) -> Tensor:
    noise = torch.full(codes.shape, TARGETS.other_noise, dtype=torch.float64)
    noise[codes == c] = TARGETS.own_noise
    return kernel + torch.diag(noise if counts is None else noise / counts)


def largest_difference(found: ExactSolve, kernel: Tensor, codes: Tensor, counts: Tensor | None) -> float:
    """Of the inverses and the logarithms of the determinants, to those of dense algebra."""
    assert torch.equal(found.class_of_row, codes)
    columns, differences = found.with_columns().W, []
    assert not found.inner[torch.arange(found.inner.shape[1]) >= torch.tensor(found.sizes)[codes][:, None]].any()
    for c in range(3):
        wanted = matrix_of(c, kernel, codes, counts)
        of_class = columns[:, codes == c]
        differences.append((found.P + of_class @ of_class.T - torch.linalg.inv(wanted)).abs().max())
        differences.append((found.log_determinants[c] - torch.linalg.slogdet(wanted).logabsdet).abs())
    of_none = torch.linalg.slogdet(matrix_of(3, kernel, codes, counts)).logabsdet
    return float(torch.stack([*differences, (of_none - found.log_determinant).abs()]).max())


def of(counts: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if counts is None else counts[rows]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("out", OUT, ids=str)
@pytest.mark.parametrize("many_runs", [0, 16])
def test_inverses_are_those_of_the_rows_that_are_left_and_of_all_once_they_come_back(
    out: list[int], weighted: bool, many_runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changed_solve, "_MANY_RUNS", many_runs)
    kernel, counts = kernel_and_counts(weighted)
    whole = solve(kernel, SIZES, own=TARGETS.own_noise, other=TARGETS.other_noise, repeats=counts)
    assert largest_difference(whole, kernel, CODES, counts) < 1e-12
    gone = torch.tensor(out)
    left = torch.tensor([row for row in range(14) if row not in out])
    fewer = remove_rows(whole, gone)
    assert largest_difference(fewer, kernel[left][:, left], CODES[left], of(counts, left)) < 1e-12
    again = add_rows(fewer, kernel[left][:, gone], kernel[gone][:, gone], gone, CODES, TARGETS, of(counts, gone))
    assert largest_difference(again, kernel, CODES, counts) < 1e-12
    assert residual(again, torch.tensor([0, 9]), kernel[[0, 9]], TARGETS, counts) < 1e-12


def test_the_residual_tells_a_kernel_that_the_solve_is_not_of() -> None:
    kernel, _ = kernel_and_counts(weighted=False)
    whole = solve(kernel, SIZES, own=TARGETS.own_noise, other=TARGETS.other_noise)
    assert residual(whole, torch.tensor([3]), 1.001 * kernel[[3]], TARGETS) > 1e-4


def test_the_residual_tells_blocks_of_classes_that_are_not_those_of_the_whole() -> None:
    kernel, _ = kernel_and_counts(weighted=False)
    whole = solve(kernel, SIZES, own=TARGETS.own_noise, other=TARGETS.other_noise)
    whole.inner[CODES == 1] *= 1 + 1e-6
    assert residual(whole, torch.tensor([3]), kernel[[3]], TARGETS) > 1e-7
