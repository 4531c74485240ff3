"""Rows of few examples are rotated into the space that they span: fewer columns, and nothing lost.

A linear model with an L2 penalty has its solution among combinations of the rows, and a rotation changes neither norms
nor products (the representer theorem; Hastie and Tibshirani 2004, "Efficient quadratic regularization for expression
arrays"). 300 examples of 2,048 features are as well described by 300 numbers each.
"""

import numpy as np

__all__ = ["rotate_into_row_space"]


def rotate_into_row_space(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Find `rotated` and `basis` with ``rows == rotated @ basis.T``; rows that are not wide come back, with None.

    For rows (n_samples, n_features) with n_samples < n_features, `rotated` is (n_samples, n_samples) and `basis`, whose
    columns are orthonormal, (n_features, n_samples). A coefficient found for `rotated` is turned back by ``basis @``.
    """
    n_samples, n_features = rows.shape
    if n_samples >= n_features:
        return rows, None
    # rows^T = Q R, so that rows = R^T Q^T: R^T has the same products of rows, and Q turns coefficients back.
    basis, triangle = np.linalg.qr(rows.T)
    return np.ascontiguousarray(triangle.T), basis
