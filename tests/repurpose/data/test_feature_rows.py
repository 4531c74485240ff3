"""Rows that are empty, too many for their labels or not finite are refused by name."""

import numpy as np
import pytest

from model_handler import Features
from repurpose.data.feature_rows import check_rows


def test_what_is_not_finite_is_named_by_layer_and_row() -> None:
    rows = np.zeros((4, 2), np.float32)
    rows[1, 0], rows[3, 1] = np.nan, np.inf
    features = Features({"deep": np.zeros((4, 1), np.float32), "early": rows})
    with pytest.raises(ValueError, match=r"layer 'early' gives NaN and inf in 2 of 4 rows \(row number 1, number 3\)"):
        check_rows(features, name_of=lambda row: f"number {row}")


def test_every_row_needs_a_label() -> None:
    features = Features({"0": np.zeros((3, 2), np.float32)})
    check_rows(features, np.zeros(3, dtype=int))
    with pytest.raises(ValueError, match="3 rows and 2 labels"):
        check_rows(features, np.zeros(2, dtype=int))
