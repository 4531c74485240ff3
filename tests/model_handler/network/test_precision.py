"""Features in bfloat16 are close to those in float32, and float32 arrays all the same."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.model_handler.networks import DataDependent, Residual, handle, hooked, images, snapshot


def share_of_largest(got, wanted):
    return np.abs(got - wanted).max() / np.abs(wanted).max()


@pytest.mark.parametrize(
    ("network", "x", "name"),
    [(Residual(), images(40), "layer1"), (DataDependent(), torch.randn(8, 4), "block")],
    ids=["traced", "by hooks"],
)
def test_bfloat16_is_close_to_float32_and_is_not_float32(network, x, name):
    network.eval()
    before = snapshot(network)
    features = handle(network, precision="bfloat16").extract(x, [name])
    wanted = hooked(network, (x,), [name])[name].flatten(1).numpy()
    assert features.matrix.dtype == np.float32
    assert 1e-5 < share_of_largest(features.matrix, wanted) < 2**-5
    assert snapshot(network) == before


def test_float32_is_the_default_and_changes_nothing():
    network, x = Residual().eval(), images()
    default = handle(network).extract(x, ["layer1"]).matrix
    assert np.array_equal(handle(network, precision="float32").extract(x, ["layer1"]).matrix, default)


def test_edits_keep_the_precision():
    network, x = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 4)).eval(), torch.randn(8, 16)
    handler = handle(network, precision="bfloat16").truncate("1")
    wanted = hooked(network, (x,), ["1"])["1"].numpy()
    assert 1e-5 < share_of_largest(handler.extract(x, ["1"]).matrix, wanted) < 2**-5


def test_a_precision_that_there_is_not_is_an_error_naming_those_there_are():
    with pytest.raises(ValueError, match="precision must be one of 'float32', 'bfloat16', got 'half'"):
        handle(Residual(), precision="half")
    with pytest.raises(ValueError, match="precision must be one of"):
        handle(Residual(), precision=torch.bfloat16)
