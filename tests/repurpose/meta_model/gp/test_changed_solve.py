"""Rows added to and removed from a solve give the inverses of the matrices of the rows that are then there."""

import pytest
import torch
from torch import Tensor

from repurpose.meta_model.gp.changed_solve import add_rows, remove_rows, residual
from repurpose.meta_model.gp.shared_solve import SharedSolve, solve
from repurpose.meta_model.gp.targets import DirichletTargets

TARGETS = DirichletTargets.of(0.01 / 3)
SIZES = [5, 4, 5]
CODES = torch.repeat_interleave(torch.arange(3), torch.tensor(SIZES))
OUT = ([2], [0, 6], [5, 6, 7, 8], [0, 1, 2, 3, 4, 5, 9])  # one row, two classes, a whole class, half of all


def kernel_and_counts(weighted: bool) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(14, 3, generator=generator, dtype=torch.float64)
    counts = 0.2 + 3 * torch.rand(14, generator=generator, dtype=torch.float64)
    return 10 * torch.exp(-(torch.cdist(X, X) ** 2) / 8), counts if weighted else None


def largest_difference(found: SharedSolve, kernel: Tensor, codes: Tensor, counts: Tensor | None) -> float:
    differences = []
    for c in range(3):
        noise = torch.full(codes.shape, TARGETS.other_noise, dtype=torch.float64)
        noise[codes == c] = TARGETS.own_noise
        wanted = torch.linalg.inv(kernel + torch.diag(noise if counts is None else noise / counts))
        of_class = found.W[:, found.class_of_column == c]
        assert of_class.shape[1] == (codes == c).sum()
        differences.append(float((found.P + of_class @ of_class.T - wanted).abs().max()))
    return max(differences)


def of(counts: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if counts is None else counts[rows]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("out", OUT)
def test_inverses_are_those_of_the_rows_that_are_left_and_of_all_once_they_come_back(
    out: list[int], weighted: bool
) -> None:
    kernel, counts = kernel_and_counts(weighted)
    whole, _ = solve(kernel, SIZES, own=TARGETS.own_noise, other=TARGETS.other_noise, repeats=counts)
    gone = torch.tensor(out)
    left = torch.tensor([row for row in range(14) if row not in out])
    fewer = remove_rows(whole, gone, kernel[gone], TARGETS, counts)
    assert largest_difference(fewer, kernel[left][:, left], CODES[left], of(counts, left)) < 1e-12
    again = add_rows(fewer, kernel[left][:, gone], kernel[gone][:, gone], CODES[gone], TARGETS, of(counts, gone))
    order = torch.cat([left, gone])
    order = order[torch.argsort(CODES[order], stable=True)]
    together = kernel[order][:, order]
    assert largest_difference(again, together, CODES[order], of(counts, order)) < 1e-12
    assert residual(again, torch.tensor([0, 9]), together[[0, 9]], TARGETS, of(counts, order)) < 1e-12


def test_the_residual_tells_a_kernel_that_the_solve_is_not_of() -> None:
    kernel, _ = kernel_and_counts(weighted=False)
    whole, _ = solve(kernel, SIZES, own=TARGETS.own_noise, other=TARGETS.other_noise)
    assert residual(whole, torch.tensor([3]), 1.001 * kernel[[3]], TARGETS) > 1e-4
