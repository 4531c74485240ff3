import pytest
import torch

from repurpose.meta_model.gp.shared_solve import solve
from tests.repurpose.meta_model.gp.examples import SIZES, TARGETS, kernel_matrix, naive_inverses, naive_targets


@pytest.fixture(name="solved")
def _solved():  # type: ignore[no-untyped-def]
    return solve(kernel_matrix(), SIZES, own=TARGETS.own_noise, other=TARGETS.other_noise)


@pytest.fixture(name="inverses")
def _inverses() -> torch.Tensor:
    return naive_inverses(kernel_matrix(), naive_targets()[1])


def test_log_determinants_are_those_of_a_solve_for_each_class(solved, inverses) -> None:  # type: ignore[no-untyped-def]
    assert solved[1] == pytest.approx(-float(torch.linalg.slogdet(inverses).logabsdet.sum()), rel=1e-12)


def test_what_is_asked_of_the_inverses_equals_naive_ones(solved, inverses) -> None:  # type: ignore[no-untyped-def]
    ours, vectors = solved[0], torch.randn(sum(SIZES), len(SIZES), dtype=torch.float64)
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(ours.weights(vectors), torch.einsum("cij,jc->ic", inverses, vectors), **close)
    torch.testing.assert_close(ours.sum(), inverses.sum(0), **close)
    cross = torch.randn(7, sum(SIZES), dtype=torch.float64)
    torch.testing.assert_close(
        ours.quadratic_forms(cross), torch.einsum("ri,cij,rj->rc", cross, inverses, cross), **close
    )
    some = torch.tensor([3, 0, 25, 14])
    for rows in (some, some[:2]):  # more than there are classes, and fewer
        torch.testing.assert_close(ours.blocks(rows), inverses[:, rows][:, :, rows], **close)


def test_classes_in_any_sizes_are_solved_together() -> None:
    for sizes in ([30], [1] * 30, [15, 15], [2, 2, 26]):
        inverses = naive_inverses(kernel_matrix(), naive_targets(sizes=sizes)[1])
        ours, log_determinants = solve(kernel_matrix(), sizes, own=TARGETS.own_noise, other=TARGETS.other_noise)
        torch.testing.assert_close(ours.sum(), inverses.sum(0), rtol=1e-10, atol=1e-10)
        assert log_determinants == pytest.approx(-float(torch.linalg.slogdet(inverses).logabsdet.sum()), rel=1e-12)
