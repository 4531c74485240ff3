import copy

import pytest
import torch
from torch import nn

from repurpose.neural_network.architecture import WithParts, as_spec, like_spec, new_parameters, refuse_label_as_input
from tests.repurpose.examples import small_network


def test_what_holds_the_sources_weights_under_its_name_is_not_new_also_behind_a_path() -> None:
    source = small_network()
    body = copy.deepcopy(source)
    with torch.no_grad():
        body[0].bias.add_(1)
    module = nn.ModuleDict({"body": body, "2": nn.Linear(6, 5), "head": nn.Linear(3, 2)})
    assert new_parameters(module, source) == {"body.0.bias", "2.weight", "2.bias", "head.weight", "head.bias"}


def test_shapes_and_dtypes_of_inputs_come_back_from_plain_values() -> None:
    parts = {"ids": torch.full((2, 4), 7), "half": torch.ones(2, dtype=torch.bfloat16)}
    by_name, by_position = like_spec(as_spec(parts)), like_spec(as_spec((torch.ones(2, 3), *parts.values())))
    assert by_position[0].shape == (2, 3)
    for ids, half in ((by_name["ids"], by_name["half"]), by_position[1:]):
        assert ids.tolist() == [[7] * 4] * 2
        assert (half.dtype, half.shape) == (torch.bfloat16, (2,))


def test_parts_beside_a_network_keep_its_names_its_forward_and_its_modes() -> None:
    network, part = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)), nn.Linear(2, 2)
    both = WithParts(network, {"part_": part})
    assert list(both.state_dict()) == ["0.weight", "0.bias", "part_.weight", "part_.bias"]
    x = torch.ones(1, 4)
    assert torch.equal(both.eval()(x), network(x))
    assert not network.training
    assert both.train().get_submodule("1") is network[1]
    assert network.training
    assert network[1].training
    copied = copy.deepcopy(both).eval()
    with torch.no_grad():
        copied.get_parameter("0.weight").zero_()
    assert torch.equal(copied(x), copied.get_parameter("0.bias")[None])
    assert network[0].weight.any()
    assert both.double()(x.double()).dtype == torch.float64


def test_a_part_that_is_called_like_a_label_is_refused_unless_training_had_it() -> None:
    x, y = torch.ones(2, 3), torch.ones(2)
    refuse_label_as_input({"x": x, "y": y}, as_spec({"x": x, "y": y}))
    refuse_label_as_input({"x": x, "mask": y}, as_spec({"x": x}))
    refuse_label_as_input(x, as_spec(x))
    for spec in ({"x": x}, x, (x, x)):
        with pytest.raises(
            ValueError, match="trained without an input 'label'; if it is the label, its key is 'labels'"
        ):
            refuse_label_as_input({"x": x, "label": y}, as_spec(spec))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"dtype": "load"}, "unknown dtype 'load'"),
        ({"dtype": "float33"}, "unknown dtype 'float33'"),
        ({"shape": [1 << 40, 3]}, "the shape .1099511627776, 3."),
        ({"shape": [-1, 3]}, "the shape .-1, 3."),
        ({"shape": [True, 3]}, "the shape .True, 3."),
    ],
)
def test_inputs_that_no_training_had_are_not_made(changed, said):
    with pytest.raises(ValueError, match=said):
        like_spec({**as_spec(torch.ones(2, 3)), **changed})
