"""Networks that stop: they compute what the source did up to there, and are ordinary modules of the source's kind."""

import copy
import functools
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from model_handler import ModelError
from model_handler.graph.leaves import is_leaf
from model_handler.network.inputs import default_input_names
from model_handler.network.truncated_network import RemovedModule, Stop, modules_after, stopped, with_head
from tests.model_handler.networks import Attention, DataDependent, Residual, images, saved_and_loaded, snapshot


def test_a_stopped_network_returns_what_the_call_returned():
    network, x = DataDependent().eval(), torch.randn(3, 4)
    before = snapshot(network)
    stem = network.stem(x)
    once, twice = network.block(stem), network.block(network.block(stem))
    assert torch.equal(stopped(network, Stop("stem", "stem"))(x), stem)
    assert torch.equal(stopped(network, Stop("block", "block", 0))(x), once)
    assert torch.equal(stopped(network, Stop("block", "block", 1))(x=x), twice)
    assert torch.equal(stopped(network, Stop("block.0@1", "block.0", 1))(x), network.block[0](once))
    assert snapshot(network) == before


def test_it_is_a_module_of_the_sources_kind():
    network, x = DataDependent(), torch.randn(3, 4)
    made = with_head(stopped(network, Stop("block", "block", 1), ["head"]), {"norm": nn.BatchNorm1d(4)})
    assert isinstance(made, DataDependent)
    assert type(made).__name__ == "DataDependent"
    assert repr(made).startswith("DataDependent(")
    assert default_input_names(made) == ("x",)
    assert inspect.signature(made.forward) == inspect.signature(network.forward)
    assert is_leaf(made)
    wanted = made.eval()(x)
    for variant in (copy.deepcopy(made), saved_and_loaded(made), copy.deepcopy(saved_and_loaded(made))):
        assert list(variant.state_dict()) == list(made.state_dict())
        assert torch.equal(variant(x), wanted)
        assert all(a is not b for a, b in zip(variant.parameters(), made.parameters()))
        assert not variant._modules["stem"]._forward_hooks
    assert made.double()(x.double()).dtype == torch.float64
    made.train().requires_grad_(True)(x.double()).sum().backward()
    assert made.stem.weight.grad is not None
    assert {tensor.device.type for tensor in made.to("meta").state_dict().values()} == {"meta"}


def test_a_failing_forward_and_a_call_that_does_not_come_leave_no_hook():
    network = DataDependent()
    made = stopped(network, Stop("block@2", "block", 2))
    with pytest.raises(ModelError, match="'block@2', where the network ends, did not run for these inputs"):
        made(torch.randn(3, 4))
    with pytest.raises(RuntimeError):
        made(torch.randn(3, 9))
    assert not any(part._forward_hooks for part in made.modules())


def test_one_of_several_tensors_is_the_output():
    network, x = Attention(), torch.randn(2, 5, 4)
    output, weights = network.attention(x, x, x)
    torch.testing.assert_close(stopped(network, Stop("attention", "attention", index=1))(x), weights)
    torch.testing.assert_close(stopped(network, Stop("attention", "attention", index=0))(x), output)
    with pytest.raises(ModelError, match=r"name one of attention\[0\] .*attention\[1\]"):
        stopped(network, Stop("attention", "attention"))(x)


def test_a_head_runs_on_the_output_and_can_be_cut_inside():
    network, x = DataDependent(), torch.randn(3, 4)
    inner, last = nn.Sequential(nn.Linear(4, 6), nn.ReLU()), nn.Linear(6, 2)
    made = with_head(with_head(stopped(network, Stop("stem", "stem")), {"inner": inner}), {"last": last})
    assert torch.equal(made(x), last(inner(network.stem(x))))
    assert torch.equal(stopped(made, Stop("inner", "inner"), ["last"])(x), inner(network.stem(x)))
    cut = stopped(made, Stop("inner.0", "inner.0"), ["inner.1", "last"])
    assert torch.equal(cut(x), inner[0](network.stem(x)))
    assert [name for name, _ in cut.named_children()] == ["stem", "block", "head", "inner"]
    assert torch.equal(with_head(cut, {"last": last})(x), last(inner[0](network.stem(x))))
    assert torch.equal(stopped(made, Stop("stem", "stem"))(x), network.stem(x))
    headed = with_head(network, {"top": nn.Linear(2, 7)})
    assert torch.equal(headed(x), headed.top(network(x)))


def test_what_ran_only_behind_the_stop_is_found_and_taken_off():
    network = nn.Sequential(nn.Linear(4, 4), nn.ModuleList([nn.Linear(4, 4), nn.Tanh()]), nn.Linear(4, 4))
    calls = ["0", "1.0", "1.1", "1.0", "2"]
    assert modules_after(network, calls, Stop("1.0", "1.0", 0)) == ["1.1", "2"]
    assert modules_after(network, calls, Stop("1.0@1", "1.0", 1)) == ["2"]
    made = stopped(network, Stop("0", "0"), ["1.0", "1.1", "2"])
    assert len(made[1]) == 2
    assert list(made.state_dict()) == ["0.weight", "0.bias"]
    assert isinstance(made[2], RemovedModule)
    with pytest.raises(ModelError, match="a module that truncate took off"):
        made[2](torch.randn(1, 4))


def test_a_stopped_network_in_another_one_ends_itself_alone():
    x, inner = torch.randn(3, 4), stopped(DataDependent(), Stop("stem", "stem"))
    outer = stopped(nn.Sequential(inner, nn.Tanh(), nn.Linear(4, 2)), Stop("1", "1"))
    assert torch.equal(outer(x), inner(x).tanh())
    within = stopped(nn.Sequential(nn.Tanh(), inner), Stop("1.stem", "1.stem"))
    assert torch.equal(within(x), inner.stem(x.tanh()))


def test_a_forward_of_the_objects_own_is_the_one_that_is_stopped():
    network, x = Residual().eval(), images()
    network.forward = functools.partial(lambda self, images: Residual.forward(self, images * 2), network)
    made = stopped(network, Stop("conv1", "conv1"))
    assert torch.equal(made(x), network.conv1(x * 2))
    assert torch.equal(copy.deepcopy(made)(x), network.conv1(x * 2))


def test_names_of_the_sources_own_are_not_touched():
    class Naming(nn.Module):
        def __init__(self):
            super().__init__()
            self._head, self._stop, self.stop, self.head = nn.Linear(4, 4), 2, 3, nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self._run(x) if x.sum() < 1e9 else x)

        def _run(self, x):
            return self._value(self._head(x)) * self._stop * self.stop

        def _value(self, x):
            return x + 1

    network, x = Naming(), torch.randn(3, 4)
    made = copy.deepcopy(with_head(stopped(network, Stop("head", "head")), {"last": nn.Linear(2, 3)}))
    torch.testing.assert_close(made(x), made.last(network(x)))


def test_threads_that_run_it_together_each_get_their_own_output():
    both_inside = threading.Barrier(2, timeout=60)

    class Meeting(nn.Sequential):
        def forward(self, x):
            both_inside.wait()
            return super().forward(x)

    network = Meeting(nn.Linear(4, 4), nn.Linear(4, 2)).eval()
    made = stopped(network, Stop("0", "0"))
    inputs = [torch.randn(3, 4) for _ in range(2)]
    with torch.no_grad(), ThreadPoolExecutor(2) as threads:
        found = list(threads.map(made, inputs))
        for x, output in zip(inputs, found):
            assert torch.equal(output, network[0](x))


def test_a_stopped_network_compiles():
    network, x = DataDependent().eval(), torch.randn(3, 4)
    made = with_head(stopped(network, Stop("block.1@1", "block.1", 1)), {"last": nn.Linear(4, 2)})
    torch.testing.assert_close(torch.compile(made, backend="eager")(x), made(x))
