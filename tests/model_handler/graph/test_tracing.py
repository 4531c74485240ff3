"""Tracing finds one graph, promotes what cannot be followed, and leaves the network as it was."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model_handler.errors import ModelError, UntraceableModelError
from model_handler.graph.tracing import trace
from model_handler.network.inputs import default_input_names
from model_handler.network.replica import share_weights
from tests.model_handler.networks import Attention, Convolutional, DataDependent, Residual, TwoInputs, images, snapshot


class DroppingOut(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return F.dropout(self.fc(x), 0.5, training=self.training)


class Stubborn(nn.Module):
    """Its children are fine, its own forward asks for numbers."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return self.inner(x) if float(x.sum()) < 1e9 else x


class Auxiliary(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.aux = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = self.body(x)
        return (x, self.aux(x)) if self.training else x


def modules_called(traced):
    return [str(node.target) for node in traced.graph.nodes if node.op == "call_module"]


def test_a_module_with_dropout_by_function_becomes_a_leaf_and_says_why():
    network = nn.Sequential(DroppingOut(), nn.Linear(4, 2))
    traced = trace(network, ["input"])
    assert modules_called(traced) == ["0", "1"]
    assert traced.promoted == {"0": "computes something else in training than in evaluation"}


def test_a_promoted_module_still_drops_out_in_training():
    network = nn.Sequential(DroppingOut(), nn.Linear(4, 2))
    graph = torch.fx.GraphModule(network, trace(network, ["input"]).graph)
    x = torch.randn(6, 4)
    assert not torch.equal(graph.train()(x), graph(x))
    assert torch.equal(graph.eval()(x), graph(x))


def test_an_auxiliary_head_of_the_network_itself_leaves_it_traceable():
    traced = trace(Auxiliary(), ["x"])
    assert modules_called(traced) == ["body"]
    assert traced.promoted == {}


def test_only_the_innermost_module_that_cannot_be_followed_is_promoted():
    network = nn.Sequential(nn.Sequential(nn.Linear(4, 4), Stubborn()), nn.Linear(4, 2))
    traced = trace(network, ["input"])
    assert modules_called(traced) == ["0.0", "0.1", "1"]
    assert list(traced.promoted) == ["0.1"]
    assert "float() argument must be" in traced.promoted["0.1"]


def test_a_network_that_cannot_be_followed_itself_is_untraceable_with_the_reason():
    where = r"TraceError: .*\(line \d+ of networks\.py: if x\.sum\(\) > 1e9:\)"
    with pytest.raises(UntraceableModelError, match=r"DataDependent itself cannot be traced: " + where):
        trace(DataDependent(), ["x"])


def test_var_positional_inputs_are_untraceable():
    class Star(nn.Module):
        def forward(self, *parts):
            return sum(parts)

    with pytest.raises(UntraceableModelError, match=r"takes \*args"):
        trace(Star(), ["x"])


def test_an_unknown_input_name_is_refused_with_the_nearest():
    with pytest.raises(ModelError, match=r"no argument 'scal'; nearest: \['scale'"):
        trace(TwoInputs(), ["a", "scal"])


@pytest.mark.parametrize("make", [Residual, DataDependent, Attention, lambda: nn.Sequential(Stubborn(), DroppingOut())])
def test_tracing_a_replica_leaves_the_network_bit_identical(make):
    network = make()
    next(network.children()).eval()
    before = snapshot(network)
    with suppress(UntraceableModelError):
        trace(share_weights(network), default_input_names(network))
    assert snapshot(network) == before


@pytest.mark.parametrize("make", [Residual, DataDependent])
def test_mixed_modes_survive_on_the_network_traced(make):
    network = make()
    first = next(network.children()).eval()
    modes = {name: module.training for name, module in network.named_modules()}
    with suppress(UntraceableModelError):
        trace(network, ["x"])
    assert not first.training
    assert {name: module.training for name, module in network.named_modules()} == modes


def test_what_a_forward_leaves_on_its_modules_is_undone():
    class Remembering(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.seen, self.cache = nn.Linear(4, 4), [], None

        def forward(self, x):
            self.seen.append(x)
            self.last = self.fc(x)
            if self.cache is None:
                self.cache = self.last
            return self.last + self.cache

    network = Remembering()
    trace(network, ["x"])
    assert network.seen == []
    assert network.cache is None
    assert not hasattr(network, "last")


def test_a_tensor_made_in_forward_and_written_to_makes_its_module_a_leaf():
    class Accumulating(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            total = torch.zeros(4)
            total += self.fc(x).sum(0)
            return x + total

    assert list(trace(nn.Sequential(Accumulating(), nn.Linear(4, 1)), ["input"]).promoted) == ["0"]
    with pytest.raises(UntraceableModelError, match="writes into a tensor that its forward makes"):
        trace(Accumulating(), ["x"])


def test_constants_made_in_forward_become_buffers_out_of_the_state_dict():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(x) + torch.arange(4.0)

    network = Shifted()
    keys = list(network.state_dict())
    trace(network, ["x"])
    assert [buffer.tolist() for buffer in network.buffers()] == [[0, 1, 2, 3]]
    assert list(network.state_dict()) == keys


def test_exits_give_the_value_of_a_containers_last_call():
    network = Residual()
    traced = trace(network, ["x"])
    values, after = traced.exits["layer1"]
    assert values is after
    assert str(values.target) == "layer1.1.relu"
    assert set(traced.exits) == {"layer1", "layer1.0", "layer1.1"}


def test_the_graph_computes_what_the_network_computes():
    network = Convolutional().eval()
    graph = torch.fx.GraphModule(network, trace(network, ["x"]).graph)
    assert torch.equal(graph(images()), network(images()))


class Hiding(nn.Module):
    """An encoder that cannot be traced, with `n` layers inside and `n_around` in front."""

    def __init__(self, n, n_around):
        super().__init__()
        self.before = nn.Sequential(*(nn.Linear(4, 4) for _ in range(n_around)))
        self.encoder = Untraceable(n)

    def forward(self, x):
        return self.encoder(self.before(x))


class Untraceable(nn.Sequential):
    def __init__(self, n):
        super().__init__(*(nn.Linear(4, 4) for _ in range(n)))

    def forward(self, x):
        return super().forward(x if x.sum() > -1e9 else -x)


def test_a_leaf_that_would_hide_most_layers_makes_a_network_untraceable():
    with pytest.raises(
        UntraceableModelError, match="'encoder', which holds 12 of the 14 layers with weights of Hiding"
    ):
        trace(Hiding(12, 2), ["x"])
    assert list(trace(Hiding(12, 13), ["x"]).promoted) == ["encoder"]
    assert list(trace(Hiding(3, 1), ["x"]).promoted) == ["encoder"]


class Waiting(nn.Module):
    """Waits for something in the middle of its forward."""

    def __init__(self, wait):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.wait = wait

    def forward(self, x):
        self.wait()
        return self.fc(x)


def test_networks_of_other_threads_compute_while_one_is_traced():
    found, x = [], torch.randn(3, 4)
    network = Waiting(lambda: found.append(pool.submit(other, x).result()))
    other = nn.Sequential(nn.ReLU(), network.fc)  # with weights that the trace knows
    with ThreadPoolExecutor(1) as pool:
        traced = trace(network, ["x"])
    assert [node.op for node in traced.graph.nodes] == ["placeholder", "call_module", "output"]
    assert found
    assert all(torch.equal(value, other(x)) for value in found)
