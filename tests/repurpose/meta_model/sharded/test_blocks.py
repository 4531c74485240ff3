"""Rows in shards come block by block, as they would all at once: judged, counted, outliers brought back."""

import numpy as np
import pytest

from model_handler import Features
from repurpose.data.scaling import center_and_variance
from repurpose.meta_model.outliers import bring_back_outliers
from repurpose.meta_model.sharded.blocks import TrainingBlocks
from tests.repurpose.meta_model.sharded.examples import InShards, simulated


def blocks_of(features: Features, **options: object) -> TrainingBlocks:
    return TrainingBlocks(InShards(features), features.layer_names, np.asarray(features.labels), **options)


def sample_of(blocks: TrainingBlocks, rows: np.ndarray) -> Features:
    return Features(blocks.take(rows).values, blocks.codes[rows])


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repurpose.meta_model.sharded.blocks._ELEMENTS", 700)


@pytest.mark.parametrize("weighted", [False, True])
def test_moments_over_blocks_are_those_of_all_rows(weighted: bool) -> None:
    features, _ = simulated()
    weights = np.random.RandomState(0).rand(len(features)) * 3 if weighted else None
    blocks = blocks_of(features, weights=weights)
    moments = blocks.read_moments(sample_of(blocks, np.arange(50)), bring_back_outliers)
    for found, expected in zip(moments.center_and_variance(), center_and_variance(features.matrix, weights)):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_rows_of_weight_zero_are_as_if_never_given() -> None:
    features, _ = simulated()
    codes = np.where(np.arange(len(features)) % 3 == 0, -1, features.labels)
    blocks = TrainingBlocks(InShards(features), features.layer_names, codes, np.ones(len(codes)))
    kept = np.flatnonzero(codes >= 0)
    np.testing.assert_array_equal(np.concatenate([b.matrix for b in blocks.in_blocks(77)]), features.matrix[kept])
    np.testing.assert_array_equal(np.concatenate([b.codes for b in blocks.in_blocks(77)]), codes[kept])
    assert sorted(blocks.rows_by_class()) == kept.tolist()
    assert len(blocks) == len(kept)


def test_a_broken_cell_is_brought_back_in_every_pass_where_shards_are_sorted_by_class() -> None:
    features, _ = simulated()
    order = np.argsort(features.labels, kind="stable")
    matrix = features.values["0"][order].copy()
    matrix[333, 2] = 1e6
    blocks = blocks_of(Features({"0": matrix}, features.labels[order]))
    with pytest.warns(UserWarning, match="1e\\+06 in row 333"):
        moments = blocks.read_moments(sample_of(blocks, np.arange(0, 600, 7)), bring_back_outliers)
    assert moments.center_and_variance()[1].max() < 10
    for _ in range(2):
        assert max(np.abs(block.matrix).max() for block in blocks.in_blocks()) < 10
    assert matrix[333, 2] == 1e6  # what was given stays


def test_a_row_with_nan_is_named_by_its_number_among_all() -> None:
    features, _ = simulated()
    features.values["1"][421, 0] = np.nan
    blocks = blocks_of(features)
    with pytest.raises(ValueError, match=r"layer '1' gives NaN in 1 of 63 rows \(row 421\)"):
        blocks.read_moments(sample_of(blocks, np.arange(50)), bring_back_outliers)


def test_shards_that_give_fewer_rows_than_labels_are_refused() -> None:
    features, _ = simulated()
    blocks = TrainingBlocks(InShards(features[:500]), features.layer_names, np.asarray(features.labels))
    with pytest.raises(ValueError, match="500 rows and there are 600 labels"):
        list(blocks.in_blocks(100))
