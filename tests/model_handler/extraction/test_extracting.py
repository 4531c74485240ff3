"""Batches become one float32 matrix, rows in order, whatever the data's length is known to be."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model_handler.data import Batch
from model_handler.errors import ModelError
from model_handler.extraction.extracting import chunks, extract_features, refuse_other_rows


def batches_of(*sizes, labels=False):
    start = 0
    for size in sizes:
        rows = torch.arange(start, start + size, dtype=torch.float64)[:, None] * torch.ones(3, dtype=torch.float64)
        yield Batch(rows, np.arange(start, start + size) if labels else None, size)
        start += size


def two_layers(batch):
    yield [batch.inputs.float(), -batch.inputs[:, :2].float()]


@pytest.mark.parametrize("n_rows", [10, 12, None])
def test_rows_keep_their_order_over_a_ragged_last_batch(n_rows):
    (features,) = extract_features(batches_of(4, 4, 2, labels=True), two_layers, ["a", "b"], n_rows)
    assert features.matrix.dtype == np.float32
    assert np.array_equal(features.values["a"], np.repeat(np.arange(10)[:, None], 3, axis=1))
    assert np.array_equal(features.values["b"], -np.repeat(np.arange(10)[:, None], 2, axis=1))
    assert np.array_equal(features.labels, np.arange(10))


@pytest.mark.parametrize("n_rows", [10, 12, None])
def test_layers_are_views_of_one_contiguous_matrix(n_rows):
    (features,) = extract_features(batches_of(4, 4, 2), two_layers, ["a", "b"], n_rows)
    assert features.matrix.shape == (10, 5)
    assert features.matrix.flags.c_contiguous
    assert all(np.shares_memory(features.matrix, array) for array in features.values.values())
    assert features.labels is None


def test_rows_of_sorted_batches_are_put_back_as_one_matrix():
    batches = [replace(batch, places=9 - batch.labels) for batch in batches_of(4, 6, labels=True)]
    (features,) = extract_features(batches, two_layers, ["a", "b"], 10)
    assert features.values["a"][:, 0].tolist() == features.labels.tolist() == list(range(9, -1, -1))
    assert all(np.shares_memory(features.matrix, array) for array in features.values.values())


def test_there_is_one_allocation_where_the_number_of_rows_is_known(monkeypatch):
    shapes, empty = [], np.empty
    monkeypatch.setattr(np, "empty", lambda shape, **kwargs: shapes.append(shape) or empty(shape, **kwargs))
    extract_features(batches_of(*[4] * 10), two_layers, ["a", "b"], 40)
    assert shapes == [(40, 5)]
    extract_features(batches_of(*[4] * 10), two_layers, ["a", "b"], None)
    assert shapes[1:] == [(4, 5), (8, 5), (16, 5), (32, 5), (64, 5)]


def test_several_blocks_of_a_batch_come_one_after_the_other():
    def in_blocks(batch):
        yield from ([block] for block in batch.inputs.float().split(3))

    (features,) = extract_features(batches_of(4, 5), in_blocks, ["a"], 9)
    assert features.matrix[:, 0].tolist() == list(range(9))


def test_widths_that_differ_between_batches_are_refused():
    widths = iter([3, 2])

    def narrowing(batch):
        yield [batch.inputs[:, : next(widths)].float()]

    with pytest.raises(ModelError, match=r"widths \[2\] where the ones before gave \[3\].*pool with 'avg' or 'max'"):
        extract_features(batches_of(4, 4), narrowing, ["a"], 8)


def test_no_batch_is_an_error():
    with pytest.raises(ValueError, match="the data is empty"):
        extract_features(iter(()), two_layers, ["a", "b"], None)


def test_a_layer_without_a_row_for_each_input_is_refused():
    refuse_other_rows("fc", torch.ones(4, 2), 4)
    with pytest.raises(ModelError, match="layer 'lstm' gives 2 rows for 4 inputs"):
        refuse_other_rows("lstm", torch.ones(2, 4), 4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_rows_of_any_dtype_become_float32(dtype):
    (features,) = extract_features(batches_of(3), lambda batch: iter([[batch.inputs.to(dtype)]]), ["a"], 3)
    assert features.matrix[:, 0].tolist() == [0, 1, 2]


def test_only_images_are_cut_and_every_row_comes_once():
    image, ids = torch.randn(18, 3, 224, 224), torch.arange(18)
    pieces = list(chunks({"x": image, "ids": ids, "scale": torch.ones(2), "flag": None}, 18))
    assert [n_rows for _, n_rows in pieces] == [4, 4, 4, 4, 2]
    assert torch.equal(torch.cat([piece["x"] for piece, _ in pieces]), image)
    assert torch.equal(torch.cat([piece["ids"] for piece, _ in pieces]), ids)
    assert all(len(piece["scale"]) == 2 and piece["flag"] is None for piece, _ in pieces)
    assert [n_rows for _, n_rows in chunks({"x": torch.ones(1000, 5000)}, 1000)] == [1000]
