"""What of a state can be copied and set again."""

import pytest
import torch
from torch import nn

from model_handler import ModelHandler
from model_handler.network.states import copied_state, load_state, state_of

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")


class Counting(nn.Module):
    """Has a state of its own that is no tensor."""

    def __init__(self):
        super().__init__()
        self.linear, self.seen = nn.Linear(2, 2), ["a"]

    def get_extra_state(self):
        return self.seen

    def set_extra_state(self, state):
        self.seen = state


def quantized():
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), nn.BatchNorm1d(2)).eval()
    return torch.ao.quantization.quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8)


def test_packed_weights_are_left_out_and_stay():
    network, other = quantized(), quantized()
    x = torch.randn(5, 4)
    before = network[2](network[1](network[0](x)))
    state = state_of(network)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    other[3].running_mean.fill_(2.0)
    load_state(network, state_of(other))
    assert network[3].running_mean.tolist() == [2.0, 2.0]
    assert torch.equal(network[2](network[1](network[0](x))), before)


def test_a_missing_weight_is_told_all_the_same():
    state = {name: value for name, value in state_of(quantized()).items() if name != "3.running_mean"}
    with pytest.raises(RuntimeError, match=r"3\.running_mean"):
        load_state(quantized(), state)


def test_a_copied_state_does_not_change_with_the_network():
    network = Counting()
    state = copied_state(network)
    network.seen.append("b")
    with torch.no_grad():
        network.linear.weight.fill_(7.0)
    load_state(network, state)
    assert network.seen == ["a"]
    assert 7.0 not in network.linear.weight


def test_quantized_layers_are_layers():
    handler = ModelHandler(quantized())
    assert handler.layer_names == ["0", "1", "2", "3"]
    x = torch.randn(5, 4)
    network = quantized()
    wanted = network[1](network[0](x)).numpy()
    assert abs(ModelHandler(network).extract(x, ["1"]).matrix - wanted).max() == 0


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(("kind", "layout"), [(nn.Conv2d, torch.channels_last), (nn.Conv3d, torch.channels_last_3d)])
def test_channels_are_where_the_state_has_them(kind: type, layout: torch.memory_format, last: bool) -> None:
    given, network = kind(3, 4, 2), nn.Sequential(kind(3, 4, 2))
    (given if last else network).to(memory_format=layout)
    parameter = network[0].weight
    load_state(network, {f"0.{name}": value for name, value in given.state_dict().items()})
    assert network[0].weight is parameter
    assert torch.equal(parameter, given.weight)
    assert parameter.stride() == given.weight.stride()
