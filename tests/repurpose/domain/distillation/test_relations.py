"""Each loss of relations beside the same in numpy, written out pair by pair, and what changes nothing about it."""

from collections.abc import Callable
from math import exp, factorial

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group
from torch import Tensor

from repurpose.domain.distillation.relations import (
    RELATIONS,
    angle_loss,
    correlation_loss,
    distance_loss,
    rkd_loss,
)

Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES = [distance_loss, angle_loss, correlation_loss, rkd_loss]


def huber(difference: float) -> float:
    return 0.5 * difference**2 if abs(difference) <= 1 else abs(difference) - 0.5


def pairs(n_rows: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(n_rows) for j in range(n_rows) if i != j]


def distances(rows: np.ndarray) -> np.ndarray:
    found = np.array([np.linalg.norm(rows[i] - rows[j]) for i, j in pairs(len(rows))])
    return found / found.mean()


def cosine(rows: np.ndarray, i: int, j: int, k: int) -> float:
    first, second = rows[i] - rows[j], rows[k] - rows[j]
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def in_numpy(loss: Loss, student: np.ndarray, teacher: np.ndarray) -> float:
    n_rows = len(student)
    if loss is distance_loss:
        return float(np.mean([huber(d) for d in distances(student) - distances(teacher)]))
    if loss is angle_loss:
        triplets = [(i, j, k) for i, j in pairs(n_rows) for k in range(n_rows) if k not in (i, j)]
        return float(np.mean([huber(cosine(student, *of) - cosine(teacher, *of)) for of in triplets]))
    if loss is rkd_loss:
        return 25 * in_numpy(distance_loss, student, teacher) + 50 * in_numpy(angle_loss, student, teacher)
    total = 0.0
    for i in range(n_rows):
        for j in range(n_rows):
            found = []
            for rows in (student, teacher):
                product = rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j])
                found.append(sum(exp(-0.8) * 0.8**p / factorial(p) * product**p for p in (0, 1, 2)))
            total += (found[0] - found[1]) ** 2
    return total / n_rows**2


def two_views(n_rows: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(n_rows, 3, generator=generator, dtype=torch.float64)
    teacher = 4 * torch.randn(n_rows, 5, generator=generator, dtype=torch.float64) + 1
    teacher[0] = 100  # far from all: beyond the square part of Huber's loss
    return student, teacher


@pytest.mark.parametrize("loss", LOSSES)
def test_it_is_what_the_papers_write(loss: Loss) -> None:
    student, teacher = two_views()
    expected = in_numpy(loss, student.numpy(), teacher.numpy())
    assert expected > 1e-3
    assert float(loss(student, teacher)) == pytest.approx(expected, rel=1e-12)


def test_the_kernel_is_nearly_a_gaussian() -> None:
    """Of order 2 the series is within 0.8^3 / 3! of exp(2 gamma x'y)."""
    student, teacher = two_views()
    gaussians = []
    for rows in (student, teacher):
        unit = rows / rows.norm(dim=1, keepdim=True)
        gaussians.append(torch.exp(-0.4 * torch.cdist(unit, unit) ** 2))
    exact = (gaussians[0] - gaussians[1]).square().mean()
    assert float(correlation_loss(student, teacher)) == pytest.approx(float(exact), rel=0.2)


@pytest.mark.parametrize("loss", LOSSES)
def test_what_changes_no_relation_changes_nothing(loss: Loss) -> None:
    student, teacher = two_views()
    turn = torch.from_numpy(ortho_group.rvs(3, random_state=0))
    expected = float(loss(student, teacher))
    assert float(loss(student @ turn, teacher)) == pytest.approx(expected, rel=1e-12)
    changed = {"moved": student + 7, "scaled": 3 * student, "rows scaled": student * torch.arange(1, 7)[:, None]}
    same = {"scaled", "rows scaled"} if loss is correlation_loss else {"scaled", "moved"}
    for how, rows in changed.items():
        assert (float(loss(rows, teacher)) == pytest.approx(expected, rel=1e-9)) == (how in same), how
        assert (float(loss(rows, student)) < 1e-12) == (how in same), how


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "rows",
    [torch.rand(1, 3), torch.rand(2, 3), torch.ones(5, 3), torch.zeros(5, 3), torch.eye(4)[:, :3]],
    ids=["one", "two", "the same", "zeros", "one of zeros"],
)
def test_rows_with_few_relations_have_a_finite_loss_and_gradient(loss: Loss, rows: Tensor) -> None:
    student = rows.clone().requires_grad_()
    other = torch.rand(len(rows), 2, generator=torch.Generator().manual_seed(0))
    for teacher in (other, torch.ones(len(rows), 2)):
        value = loss(student, teacher)
        assert value.isfinite()
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value, student)
            assert gradient.isfinite().all()
    n_without_relations = 1 if loss is correlation_loss else 2  # of two rows the distance is the mean distance
    if len(rows) <= n_without_relations:
        assert float(loss(rows, other)) == pytest.approx(0, abs=1e-12)


def test_names_are_those_of_the_parameter() -> None:
    assert {"rkd": rkd_loss, "correlation": correlation_loss} == RELATIONS


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_differences(loss: Loss) -> None:
    student, teacher = two_views(4)
    assert torch.autograd.gradcheck(lambda rows: loss(rows, teacher), student.requires_grad_())
