"""What a handler gives does not depend on the modes of torch around the call."""

import numpy as np
import pytest
import torch
from torch import nn

from model_handler import ModelHandler
from model_handler.network.ambient_modes import undisturbed

MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


def modes():
    return torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("mode", MODES)
def test_modes_are_put_aside_and_back_after_an_error_too(mode):
    @undisturbed()
    def fails():
        assert modes() == (False, True, False)
        raise KeyError

    with MODES[mode]():
        before = modes()
        with pytest.raises(KeyError):
            fails()
        assert modes() == before


@pytest.mark.parametrize("mode", MODES)
def test_features_are_those_of_the_precision_asked_for(mode):
    network, x = nn.Sequential(nn.Linear(64, 8), nn.ReLU()), torch.randn(5, 64)
    with torch.no_grad():
        wanted = (x.double() @ network[0].weight.double().T + network[0].bias.double()).relu()
    handler = ModelHandler(network)
    outside = handler.extract(x, ["1"]).matrix
    with MODES[mode]():
        inside = ModelHandler(network, x).extract(x, ["1"]).matrix
    assert (inside == outside).all()
    assert abs(inside - wanted.numpy()).max() < 1e-6  # bfloat16 would be off by 1e-2


@pytest.mark.parametrize("made", ["outside", "inside"])
def test_modules_handed_out_in_inference_mode_can_learn_after_it(made):
    def make():
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))

    network = make()
    with torch.inference_mode():
        network = make() if made == "inside" else network
        x = torch.randn(6, 3)
        handler = ModelHandler(network, x).randomize("0").add_layer_top([nn.Linear(2, 2)])
        module = handler.get_module()
    before = module[0].weight.detach().clone() if isinstance(module, nn.Sequential) else None
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    module(torch.randn(6, 3)).square().sum().backward()
    optimizer.step()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert not any(tensor.is_inference() for tensor in module.state_dict(keep_vars=True).values())
    assert before is None or not torch.equal(before, module[0].weight)


def test_rows_keep_their_digits_whatever_the_default_dtype():
    network = nn.Sequential(nn.Identity(), nn.Linear(3, 2, dtype=torch.float32))
    rows = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return len(rows)

        def __getitem__(self, number):
            return rows[number], 0

    try:
        torch.set_default_dtype(torch.bfloat16)
        for data in (rows, Rows()):
            assert (ModelHandler(network).extract(data, ["0"]).matrix == rows).all()
    finally:
        torch.set_default_dtype(torch.float32)
