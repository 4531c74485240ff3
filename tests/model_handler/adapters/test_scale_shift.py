"""Scale and shift, beside the plain layer whose output is multiplied and shifted by hand."""

import pytest
import torch
from torch import nn

from tests.model_handler.adapters.networks import LAYERS, randomise
from tests.model_handler.networks import handle


@pytest.mark.parametrize("name", LAYERS)
def test_what_a_layer_returns_is_multiplied_and_shifted(name: str) -> None:
    layer, shape = LAYERS[name]
    network, x = nn.Sequential(layer), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    module = handle(network, x).add_adapters("0", "scale_shift").get_module()
    torch.testing.assert_close(module(x), network(x), rtol=0, atol=0)
    randomise(module, 0.5)
    axes = [1] * len(getattr(layer, "kernel_size", ()))
    wanted = network(x) * module[0].ssf_scale.view(-1, *axes)
    if layer.bias is not None:
        wanted = wanted + module[0].ssf_shift.view(-1, *axes)
    assert hasattr(module[0], "ssf_shift") == (layer.bias is not None)  # it could not be merged
    torch.testing.assert_close(module(x), wanted)
    torch.testing.assert_close(handle(module, x).merge_adapters().get_module()(x), wanted)
