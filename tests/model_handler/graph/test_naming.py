"""Names of layers: module paths, operations under their module, repeats with a suffix no identifier has."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model_handler.graph.naming import layer_nodes, split_index
from model_handler.graph.tracing import trace
from tests.model_handler.networks import Attention, Convolutional, Residual, Shared


def names_of(network, inputs=("x",)):
    paths = [path for path, _ in network.named_modules(remove_duplicate=False)]
    return list(layer_nodes(trace(network, inputs), paths))


def test_leaves_have_their_paths_and_operations_their_modules_path():
    block = ["conv", "bn", "add", "relu"]
    assert names_of(Residual()) == [
        *("conv1", "bn1", "relu"),
        *(f"layer1.{number}.{part}" for number in (0, 1) for part in block),
        *("avgpool", "flatten", "fc"),
    ]


def test_names_that_end_in_numbers_stay_what_they_are():
    assert names_of(Convolutional()) == ["conv_1", "conv_2", "conv_3", "flatten", "fc"]


def test_a_repeat_gets_a_suffix_and_a_shared_module_its_first_name():
    assert names_of(Shared()) == ["a", "relu", "b", "relu@1", "sub", "relu@2"]


def test_on_a_clash_the_module_keeps_the_plain_name():
    class Clash(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu, self.add = nn.ReLU(), nn.Linear(4, 4)

        def forward(self, x):
            return self.relu(self.add(F.relu(x) + 1))

    assert names_of(Clash()) == ["relu@1", "add@1", "add", "relu"]


def test_a_container_that_never_runs_keeps_its_name_from_operations():
    class Clash(nn.Module):
        def __init__(self):
            super().__init__()
            self.flatten = nn.Sequential(nn.ReLU())

        def forward(self, x):
            return torch.flatten(x, 1)

    assert names_of(Clash()) == ["flatten@1"]


def test_sizes_checks_and_unpacking_are_no_layers():
    class Shapes(nn.Module):
        def forward(self, x):
            n, c = x.shape[0], x.size(1)
            torch._assert(x.dim() == 4, "a map")
            return x.reshape(n * 1, c * 2 // 2, -1)

    assert names_of(Shapes()) == ["reshape"]
    assert names_of(Attention()) == ["attention", "lstm", "getitem"]


@pytest.mark.parametrize("write", [lambda x: x + 1, lambda x: x.add(1), lambda x: x.add_(1), torch.Tensor.__iadd__])
def test_all_forms_of_an_operation_have_one_name(write):
    class Adding(nn.Module):
        def forward(self, x):
            x = x * 2
            if write is torch.Tensor.__iadd__:
                x += 1
                return x
            return write(x)

    assert names_of(Adding()) == ["mul", "add"]


@pytest.mark.parametrize(
    ("name", "parts"),
    [("attn[1]", ("attn", 1)), ("attn", ("attn", None)), ("a.b@1[12]", ("a.b@1", 12)), ("x[y]", ("x[y]", None))],
)
def test_an_index_is_split_off(name, parts):
    assert split_index(name) == parts
