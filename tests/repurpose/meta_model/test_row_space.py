import numpy as np

from repurpose.meta_model.row_space import rotate_into_row_space


def test_wide_rows_are_rotated_without_loss() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 40))
    rows[3] = rows[2]  # a repeated row
    rotated, basis = rotate_into_row_space(rows)
    assert rotated.shape == (5, 5)
    assert basis is not None
    assert np.allclose(rotated @ basis.T, rows)
    assert np.allclose(basis.T @ basis, np.eye(5))
    assert np.allclose(rotated @ rotated.T, rows @ rows.T)


def test_rows_that_are_not_wide_stay_as_they_are() -> None:
    rows = np.zeros((5, 5))
    rotated, basis = rotate_into_row_space(rows)
    assert rotated is rows
    assert basis is None
