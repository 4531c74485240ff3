"""Every pooling against numpy, with the layouts and masks it knows, and what it refuses."""

import numpy as np
import pytest
import torch

from model_handler.errors import ModelError
from model_handler.extraction.pooling import POOLINGS, check_pooling, pool

MAPS = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("value", "layout", "axes"),
    [
        (MAPS, None, (2, 3)),
        (MAPS, "first", (2, 3)),
        (MAPS, "last", (1, 2)),
        (TOKENS, None, 1),
        (TOKENS, "last", 1),
        (TOKENS, "first", 2),
        (MAPS[..., None], None, (2, 3, 4)),
        (MAPS[..., None], "last", (1, 2, 3)),
    ],
)
@pytest.mark.parametrize(("pooling", "reduce"), [("avg", np.mean), ("auto", np.mean), ("max", np.max)])
def test_averages_and_maxima_are_numpys_over_the_positions(value, layout, axes, pooling, reduce):
    np.testing.assert_allclose(pool(value, pooling, layout), reduce(value.numpy(), axis=axes), atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_rows_pass_as_they_are(pooling):
    assert torch.equal(pool(MAPS[:, :, 0, 0], pooling), MAPS[:, :, 0, 0])
    assert torch.equal(pool(torch.arange(3), pooling), torch.arange(3)[:, None])


def test_flatten_keeps_the_order_of_numpy():
    channels_last = MAPS.contiguous(memory_format=torch.channels_last)
    assert np.array_equal(pool(channels_last, "flatten"), MAPS.numpy().reshape(3, -1))


def test_cls_is_the_first_token():
    assert torch.equal(pool(TOKENS, "cls"), TOKENS[:, 0])
    with pytest.raises(ModelError, match=r"'cls' needs an output of shape \(n, tokens, features\), got \(3, 4, 5, 6\)"):
        pool(MAPS, "cls")


@pytest.mark.parametrize("fill", [0.0, float("nan"), 1e30])
def test_a_mask_leaves_padding_out_whatever_it_holds(fill):
    padded = TOKENS.masked_fill(MASK[..., None] == 0, fill)
    means, maxima = pool(padded, "avg", "last", MASK), pool(padded, "max", "last", MASK)
    for row, kept in enumerate([3, 5]):
        np.testing.assert_allclose(means[row], TOKENS[row, :kept].numpy().mean(0), atol=1e-6)
        np.testing.assert_allclose(maxima[row], TOKENS[row, :kept].numpy().max(0))
    assert not means[2].any()
    assert not maxima[2].any()


def test_a_mask_of_another_shape_is_not_for_this_layer():
    assert torch.equal(pool(TOKENS, "avg", None, MASK[:, :3]), TOKENS.mean(1))


@pytest.mark.parametrize("pooling", ["avg", "max", "auto"])
def test_whole_numbers_can_be_pooled(pooling):
    integers = torch.arange(24).reshape(2, 3, 2, 2)
    reduce = np.max if pooling == "max" else np.mean
    np.testing.assert_allclose(pool(integers, pooling), reduce(integers.numpy(), axis=(2, 3)))


def test_a_callable_gets_the_output_and_may_use_view():
    channels_last = MAPS.contiguous(memory_format=torch.channels_last)
    assert torch.equal(pool(channels_last, lambda value: value.view(3, -1)), MAPS.flatten(1))
    assert pool(MAPS, lambda value: value.amax((1, 2, 3))).shape == (3, 1)
    assert pool(MAPS, lambda value: value[:, :, :2, :2]).shape == (3, 16)


@pytest.mark.parametrize(
    ("pooling", "got"), [(lambda v: v.mean(), r"\(\)"), (lambda v: v[:1], r"\(1, 4, 5, 6\)"), (lambda v: 3, "int")]
)
def test_a_callable_that_gives_no_rows_is_refused(pooling, got):
    with pytest.raises(ModelError, match=rf"pooling must return 3 rows for an output of \(3, 4, 5, 6\), got {got}"):
        pool(MAPS, pooling)


def test_an_unknown_pooling_names_the_valid_ones():
    with pytest.raises(ValueError, match=r"one of \['auto', 'flatten', 'avg', 'max', 'cls'\], got 'mean'"):
        check_pooling("mean")
