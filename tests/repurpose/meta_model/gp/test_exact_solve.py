from dataclasses import replace

import pytest
import torch

from repurpose.meta_model.gp.exact_solve import ExactSolveSchema, class_batches, solve
from tests.repurpose.meta_model.gp.examples import SIZES, TARGETS, kernel_matrix, naive_inverses, naive_targets


@pytest.fixture(name="solved")
def _solved():  # type: ignore[no-untyped-def]
    return solve(kernel_matrix(), SIZES, own=TARGETS.own_noise, other=TARGETS.other_noise)


@pytest.fixture(name="inverses")
def _inverses() -> torch.Tensor:
    return naive_inverses(kernel_matrix(), naive_targets()[1])


def test_log_determinants_are_those_of_a_solve_for_each_class(solved, inverses) -> None:  # type: ignore[no-untyped-def]
    torch.testing.assert_close(solved.log_determinants, -torch.linalg.slogdet(inverses).logabsdet, rtol=1e-12, atol=0)


def test_what_is_asked_of_the_inverses_equals_naive_ones(solved, inverses) -> None:  # type: ignore[no-untyped-def]
    close = {"rtol": 1e-10, "atol": 1e-10}
    of_ones, of_own = solved.of_ones_and_own()
    torch.testing.assert_close(of_ones, inverses.sum(2).T, **close)
    torch.testing.assert_close(of_own, torch.einsum("cij,jc->ic", inverses, solved.own_columns), **close)
    torch.testing.assert_close(solved.sum(), inverses.sum(0), **close)
    cross = torch.randn(7, sum(SIZES), dtype=torch.float64)
    taken = torch.einsum("ri,cij,rj->rc", cross, inverses, cross)
    torch.testing.assert_close(solved.quadratic_forms(cross), taken, **close)
    spread, columns = solved.products(cross)
    torch.testing.assert_close(spread, cross @ solved.P, **close)
    for c in range(len(SIZES)):
        of_class = columns[:, solved.class_of_column == c].square().sum(1)
        torch.testing.assert_close((spread * cross).sum(1) + of_class, taken[:, c], **close)


def test_with_columns_it_says_the_same(solved, inverses) -> None:  # type: ignore[no-untyped-def]
    close, shared = {"rtol": 1e-10, "atol": 1e-10}, solved.with_columns()
    vectors, cross = torch.randn(sum(SIZES), len(SIZES)).double(), torch.randn(7, sum(SIZES)).double()
    torch.testing.assert_close(shared.weights(vectors), torch.einsum("cij,jc->ic", inverses, vectors), **close)
    torch.testing.assert_close(shared.sum(), inverses.sum(0), **close)
    torch.testing.assert_close(shared.quadratic_forms(cross), solved.quadratic_forms(cross), **close)
    for ours, theirs in zip(shared.products(cross), solved.products(cross)):
        torch.testing.assert_close(ours, theirs, **close)
    sets = torch.tensor([[3, 0, 25, 14], [9, 21, 5, 22]])
    for rows in (sets, sets[:, :2]):
        wanted = torch.stack([inverses[:, some][:, :, some] for some in rows])
        torch.testing.assert_close(shared.blocks(rows), wanted, **close)


def test_classes_that_go_and_come_take_their_determinants_along(solved, inverses) -> None:  # type: ignore[no-untyped-def]
    others = solved.with_classes(torch.tensor([1, 2, 3, 5]), 6)
    assert others.class_of_row.unique().tolist() == [1, 2, 3, 5]
    kept = -torch.linalg.slogdet(inverses).logabsdet
    torch.testing.assert_close(others.log_determinants[[1, 2, 3, 5]], kept)
    assert others.log_determinants[[0, 4]].tolist() == [solved.log_determinant] * 2


def test_classes_in_any_sizes_are_solved_together() -> None:
    for sizes in ([30], [1] * 30, [15, 15], [2, 2, 26]):
        inverses = naive_inverses(kernel_matrix(), naive_targets(sizes=sizes)[1])
        ours = solve(kernel_matrix(), sizes, own=TARGETS.own_noise, other=TARGETS.other_noise)
        torch.testing.assert_close(ours.sum(), inverses.sum(0), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(ours.log_determinants, -torch.linalg.slogdet(inverses).logabsdet)


@pytest.mark.parametrize("sizes", [(3, 2, 0, 3), (10, 1, 7, 8, 2), (1,), (1, 1000, 1)])
def test_each_class_is_in_one_batch_with_its_rows_and_with_others_of_about_its_size(sizes: tuple[int, ...]) -> None:
    starts = [sum(sizes[:c]) for c in range(len(sizes))]
    found = []
    for batch in class_batches(sizes):
        widths = batch.is_row.sum(1)
        assert widths.max() == batch.rows.shape[1]
        assert widths.min() >= 0.7 * widths.max()
        for c, rows, is_row in zip(batch.classes.tolist(), batch.rows, batch.is_row):
            assert rows[is_row].tolist() == list(range(starts[c], starts[c] + sizes[c]))
            found.append(c)
    assert sorted(found) == [c for c, size in enumerate(sizes) if size]


def test_blocks_are_those_of_the_classes_and_filled_up_with_a_unit_matrix() -> None:
    matrix, diagonal = torch.arange(49.0).double().view(7, 7), torch.arange(7.0).double() + 9
    (batch,) = class_batches((3, 4))
    assert batch.classes.tolist() == [1, 0]
    large, small = batch.diagonal_less(diagonal, matrix)
    assert torch.equal(large, torch.diag(diagonal[3:]) - matrix[3:, 3:])
    assert torch.equal(small[:3, :3], torch.diag(diagonal[:3]) - matrix[:3, :3])
    assert small[3].tolist() == small[:, 3].tolist() == [0, 0, 0, 1]
    inner = torch.zeros(7, 4).double()
    inner[:3, :3], inner[3:] = 7, 8
    large, small = batch.blocks_in(inner, fill=1.0)
    assert (large == 8).all()
    assert small.tolist() == [[7, 7, 7, 0]] * 3 + [[0, 0, 0, 1]]
    assert not batch.blocks_in(inner)[1, 3].any()


def test_what_a_file_holds_has_its_rows_sorted_and_room_for_every_block(solved) -> None:  # type: ignore[no-untyped-def]
    schema, sizes = ExactSolveSchema(), {"n_classes": 4}
    schema.check(solved, "solve", dict(sizes))
    with pytest.raises(ValueError, match=r"its solve\.inner has 11 columns, fewer than a class has rows"):
        schema.check(replace(solved, inner=solved.inner[:, :11]), "solve", dict(sizes))
    with pytest.raises(ValueError, match=r"its solve\.class_of_row is not sorted"):
        schema.check(replace(solved, class_of_row=solved.class_of_row.flip(0)), "solve", dict(sizes))
    with pytest.raises(ValueError, match=r"its solve\.P is"):
        schema.check(replace(solved, P=solved.P[:-1]), "solve", dict(sizes))
