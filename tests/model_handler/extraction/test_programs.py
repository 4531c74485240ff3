"""Programs compute what was asked and no more, and take each output before anything can overwrite it."""

import gc
import linecache

import numpy as np
import pytest
import torch
from torch import nn

from model_handler import ModelHandler
from model_handler.errors import ModelError
from model_handler.extraction.programs import HookedProgram, Tap, TracedProgram
from model_handler.extraction.recording import record_calls
from model_handler.graph.naming import layer_nodes
from model_handler.graph.tracing import trace
from model_handler.network.inputs import default_input_names
from tests.model_handler.networks import Branching, DataDependent, Residual, Shared, hooked, images


def traced_rows(network, inputs, names, pooling="flatten"):
    traced = trace(network.eval(), default_input_names(network))
    nodes = layer_nodes(traced, dict(network.named_modules()))
    taps = [
        (Tap(name, None, pooling), *((nodes[name],) * 2 if name in nodes else traced.exits[name])) for name in names
    ]
    with torch.no_grad():
        return TracedProgram(network, traced.graph, taps).run(inputs)


def hooked_rows(network, inputs, calls, pooling="flatten"):
    record = record_calls(network.eval(), inputs)
    taps = [(Tap(path, None, pooling), path, call) for path, call in calls]
    with torch.no_grad():
        return HookedProgram(network, record, taps).run(inputs)


class UnusedInPlace(nn.Module):
    """In-place operations whose results nobody uses: on a tensor, through a view, on what a container returned."""

    def __init__(self):
        super().__init__()
        self.fc, self.block = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Identity())
        self.relu, self.identity = nn.ReLU(inplace=True), nn.Identity()

    def forward(self, x):
        x = self.fc(x)
        x.add_(1)
        x.view(-1)[:4].mul_(0)
        y = self.block(x)
        self.relu(y)
        self.identity(y).sub_(3)
        return y + x


def test_in_place_operations_whose_result_is_unused_still_count():
    network, x = UnusedInPlace().eval(), torch.randn(3, 4)
    fc, block, add = traced_rows(network, {"x": x}, ["fc", "block", "add@1"])
    with torch.no_grad():
        assert torch.equal(fc, network.fc(x))
        shifted = network.fc(x) + 1
        shifted[0] = 0
        assert torch.equal(block, network.block(shifted))
        assert torch.equal(add, network(x))


def test_an_in_place_relu_does_not_reach_what_was_taken_before_it():
    network = Residual()
    names = ["conv1", "bn1", "layer1.0.bn", "layer1.0", "layer1"]
    wanted = hooked(network, (images(),), names)
    for rows in (
        traced_rows(network, {"x": images()}, names),
        hooked_rows(network, {"x": images()}, [(name, 0) for name in names]),
    ):
        assert all(torch.equal(row, wanted[name].flatten(1)) for name, row in zip(names, rows))


@pytest.mark.parametrize("name", ["first", "second", "third"])
def test_a_graph_runs_nothing_beyond_what_is_asked(name):
    calls = []
    network = Branching(calls).eval()
    traced_rows(network, {"x": torch.randn(2, 4)}, [name])
    assert calls == ["first", "second", "third"][: ["first", "second", "third"].index(name) + 1]


def test_hooks_stop_the_network_at_the_last_tap():
    calls = []
    network = Branching(calls).eval()
    record = record_calls(network, {"x": torch.randn(2, 4)})
    assert calls == ["first", "side", "side_relu", "second", "third"]
    calls.clear()
    taps = [(Tap("side", None, "flatten"), "side", 0), (Tap("first", None, "flatten"), "first", 0)]
    HookedProgram(network, record, taps).run({"x": torch.randn(2, 4)})
    assert calls == ["first", "side"]


def test_hooks_are_gone_after_a_run_and_after_a_failure():
    network, x = DataDependent().eval(), torch.randn(2, 4)
    record = record_calls(network, {"x": x})
    program = HookedProgram(network, record, [(Tap("stem", None, "flatten"), "stem", 0)])
    program.run({"x": x})
    with pytest.raises(ModelError):
        program.run({"x": torch.randn(2, 5)})
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_each_call_of_a_repeated_module_can_be_taken_by_hooks():
    network, x = Shared(), torch.randn(3, 4)
    first, second, third = hooked_rows(network, {"x": x}, [("relu", 0), ("relu", 1), ("relu", 2)])
    with torch.no_grad():
        assert torch.equal(first, network.a(x).relu())
        assert torch.equal(second, network.b(first).relu())
        assert torch.equal(third, (second - 0.1).relu())


def test_a_layer_that_does_not_run_is_an_error():
    network, x = DataDependent().eval(), torch.randn(2, 4)
    program = HookedProgram(network, record_calls(network, {"x": x}), [(Tap("head", None, "flatten"), "head", 0)])
    with pytest.raises(ModelError, match=r"layers \['head'\] did not run for these inputs"):
        program.run({"x": x + 1e12 * network.stem.weight.sum(0).sign()})


def test_a_single_number_has_no_rows():
    class Summing(nn.Module):
        def forward(self, x):
            return x.sum()

    with pytest.raises(ModelError, match="layer 'sum' gives a single number, not a row for each input"):
        traced_rows(Summing(), {"x": torch.randn(2, 4)}, ["sum"])


def test_a_failing_layer_is_named_by_both_programs():
    network, x = nn.Sequential(nn.Identity(), nn.Linear(3, 2)), torch.randn(2, 4)
    pattern = r"layer '1', Linear\(.*\), failed on input of shape \(2, 4\)"
    with pytest.raises(ModelError, match=pattern):
        traced_rows(network, {"input": x}, ["1"])
    with pytest.raises(ModelError, match=pattern):
        hooked_rows(network, {"input": x}, [("1", 0)])


def test_an_error_of_a_users_pooling_stays_what_it_is():
    def pooling(value):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        traced_rows(nn.Sequential(nn.Linear(3, 2)), {"input": torch.randn(2, 3)}, ["0"], pooling)
    with pytest.raises(KeyError, match="mine"):
        hooked_rows(nn.Sequential(nn.Linear(3, 2)), {"input": torch.randn(2, 3)}, [("0", 0)], pooling)


def test_a_tensor_used_outside_the_leaf_that_holds_it():
    class Scaling(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.tensor(2.0)

        def forward(self, x):
            return x * self.scale

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.scaling, self.fc = Scaling(), nn.Linear(3, 3)

        def forward(self, x):
            return self.fc(self.scaling(x) * self.scaling.scale) @ self.fc.weight

    network, x = Twice(), torch.randn(2, 3)
    (rows,) = traced_rows(network, {"x": x}, ["matmul"])
    assert torch.equal(rows, network(x).detach())


class Spectrum(nn.Module):
    def __init__(self):
        super().__init__()
        self.spectrum = nn.Linear(4, 3, dtype=torch.cfloat)

    def forward(self, x):
        return self.spectrum(x.to(torch.cfloat)).abs()


@pytest.mark.parametrize("pooling", ["auto", "flatten", lambda value: value])
def test_complex_features_are_refused_by_name_and_can_be_made_real(pooling):
    network, x = Spectrum(), torch.randn(5, 4)
    with pytest.raises(ModelError, match="layer 'spectrum' gives complex numbers"):
        ModelHandler(network).extract(x, ["spectrum"], pooling=pooling)
    real = ModelHandler(network).extract(x, ["spectrum"], pooling=torch.abs).matrix
    assert np.allclose(real, network(x).detach().numpy(), atol=1e-6)


def test_the_code_of_a_program_goes_with_it() -> None:
    def texts() -> int:
        gc.collect()
        return sum("eval_with_key" in name for name in linecache.cache)

    network, rows = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU()), torch.rand(5, 4)
    before = texts()
    held = ModelHandler(network, rows)
    held.extract(rows, ["0", "2"])
    assert texts() > before  # for tracebacks, as long as it can run
    del held
    assert texts() == before
