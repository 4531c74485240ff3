"""Replicas share weights and nothing else; workspaces compute elsewhere and leave the network alone."""

import copy
import threading
import types

import pytest
import torch
from torch import fx, nn
from torch._subclasses import FakeTensorMode
from torch.nn.utils import parametrizations

from model_handler.extraction.programs import HookedProgram, Tap, TracedProgram
from model_handler.extraction.recording import record_calls
from model_handler.graph.tracing import trace
from model_handler.network.replica import Workspace, set_mode, share_weights
from tests.model_handler.networks import Residual, Shared, images, snapshot

CPU = torch.device("cpu")
BN1, LAYER1 = Tap("bn1", None, "avg"), Tap("layer1", None, "avg")


class Merging(nn.Linear):
    """As LoRA does: its extra weight is added to the weight itself in eval mode."""

    def __init__(self):
        super().__init__(3, 3)
        self.extra, self.merged = nn.Parameter(torch.ones(3, 3)), False

    def train(self, mode=True):
        super().train(mode)
        if mode == self.merged:
            self.weight.data += -self.extra if mode else self.extra
            self.merged = not mode
        return self

    def forward(self, x):
        return nn.functional.linear(x, self.weight if self.merged else self.weight + self.extra, self.bias)


class Caching(nn.Module):
    """As LeViT does: what follows from the weights is computed once in eval mode and dropped in training."""

    def __init__(self):
        super().__init__()
        self.weight, self.cache = nn.Parameter(torch.ones(3)), {}

    def train(self, mode=True):
        super().train(mode)
        if mode:
            self.cache = {}
        return self

    def forward(self, x):
        if self.training:
            return x * self.weight.exp()
        if "w" not in self.cache:
            self.cache["w"] = self.weight.exp()
        return x * self.cache["w"]


def test_weights_are_the_same_tensors_and_modules_are_not():
    network = Residual()
    replica = share_weights(network)
    assert all(shared is original for shared, original in zip(replica.parameters(), network.parameters(), strict=True))
    assert all(shared is original for shared, original in zip(replica.buffers(), network.buffers(), strict=True))
    assert not set(map(id, replica.modules())) & set(map(id, network.modules()))
    assert list(replica.state_dict()) == list(network.state_dict())


def test_aliases_and_tied_weights_stay_tied():
    network = Shared()
    network.b.weight = network.a.weight
    replica = share_weights(network)
    assert replica.alias is replica.relu
    assert replica.b.weight is replica.a.weight is network.a.weight


def test_modes_hooks_and_attributes_are_its_own():
    network = Residual()
    network.note = {"seen": []}
    replica = share_weights(network).eval()
    replica.fc.register_forward_hook(print)
    replica.note["seen"].append(1)
    assert network.training
    assert not network.fc._forward_hooks
    assert network.note == {"seen": []}


def test_what_cannot_be_copied_is_shared():
    network = nn.Linear(2, 2)
    network.lock = threading.Lock()
    assert share_weights(network).lock is network.lock


def test_a_bound_method_set_on_an_instance_is_bound_to_the_replica():
    network = nn.Sequential(nn.Linear(2, 2))
    network.forward = types.MethodType(lambda self, x: self, network)
    replica = share_weights(network)
    assert replica(0) is replica


@pytest.mark.parametrize(
    "make",
    [
        lambda: parametrizations.weight_norm(nn.Linear(3, 3)),
        lambda: torch.nn.utils.weight_norm(nn.Linear(3, 3)),
        lambda: fx.symbolic_trace(nn.Sequential(nn.Linear(3, 3), nn.ReLU())),
        lambda: nn.Sequential(torch.jit.script(nn.Sequential(nn.Linear(3, 3), nn.ReLU()))),
        lambda: nn.LSTM(3, 3, proj_size=2),
    ],
    ids=["parametrized", "weight_norm hooks", "GraphModule", "ScriptModule child", "LSTM"],
)
@pytest.mark.filterwarnings(
    "ignore:.*torch.jit.script.*", "ignore:The .grad attribute", "ignore:LSTM with projections", "ignore:.*weight_norm"
)
def test_special_modules_follow_the_weights_of_the_original(make):
    network, x = make().eval(), torch.randn(4, 3)
    workspace = Workspace(share_weights(network), CPU)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.5)
        workspace.refresh()
        torch.testing.assert_close(workspace.module(x), network(x))


def test_a_module_compiled_in_place_runs_as_its_own_replica():
    network = nn.Sequential(nn.BatchNorm1d(3))
    network[0].compile(backend="eager")
    Workspace(share_weights(network), CPU).module(torch.randn(5, 3) + 4)
    assert not network[0].running_mean.any()


def test_a_workspace_sees_training_and_keeps_the_networks_buffers():
    network = Residual()
    workspace = Workspace(share_weights(network), CPU)
    network(images()).sum().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.sub_(parameter.grad if parameter.grad is not None else 0, alpha=0.1)
    workspace.refresh()
    network.eval()
    before = snapshot(network)
    with torch.no_grad():
        assert torch.equal(workspace.module(images()), network(images()))
    workspace.module.bn1.running_mean.add_(1)
    assert snapshot(network) == before


def test_set_mode_restores_what_a_train_of_its_own_makes_learn():
    class Thawing(nn.Linear):
        def train(self, mode=True):
            self.requires_grad_(not mode)
            return super().train(mode)

    network = nn.Sequential(Thawing(2, 2))
    network[0].weight.requires_grad_(False)
    set_mode(network, False)
    assert [parameter.requires_grad for parameter in network.parameters()] == [False, True]


@pytest.mark.parametrize("training", [True, False])
def test_weights_merged_in_eval_mode_are_merged_in_the_workspace_alone(training):
    network, x = nn.Sequential(Merging()).train(training), torch.randn(4, 3)
    network.requires_grad_(False)
    wanted, before = network(x), snapshot(network)
    workspace = Workspace(share_weights(network), CPU)
    for _ in range(2):
        torch.testing.assert_close(workspace.module(x), wanted)
        workspace.refresh()
    torch.testing.assert_close(workspace.module(x), wanted)
    assert snapshot(network) == before


def test_caches_dropped_in_training_are_dropped_on_refresh():
    network, x = nn.Sequential(Caching()), torch.ones(1, 3)
    workspace = Workspace(share_weights(network), CPU)
    assert torch.allclose(workspace.module(x), network(x))
    with torch.no_grad():
        network[0].weight.zero_()
    workspace.refresh()
    assert torch.equal(workspace.module(x), torch.ones(1, 3))


def test_an_embedding_that_rescales_its_weight_rescales_a_copy():
    network = nn.Sequential(nn.Embedding(5, 3, max_norm=0.1))
    before = snapshot(network)
    Workspace(share_weights(network), CPU).module(torch.arange(5))
    assert snapshot(network) == before


class Constants(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.fc, self.bn = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False), nn.BatchNorm1d(4)
        self.fc.weight = self.embedding.weight

    def forward(self, ids):
        x = self.bn(self.embedding(ids)) + torch.tensor([1.0, 2.0, 3.0, 4.0])
        return self.fc(x)


def test_a_network_on_the_cpu_computes_on_a_gpu_and_stays_where_it_is():
    with FakeTensorMode(allow_non_fake_inputs=True):
        source = Constants()
        network = share_weights(source)
        traced = trace(network, ["ids"])
        workspace = Workspace(network, torch.device("cuda"))
        tensors = [*workspace.module.parameters(), *workspace.module.buffers()]
        assert {tensor.device.type for tensor in tensors} == {"cuda"}
        assert len(tensors) == 3 + 3 + 1  # the tied weight counts once, the constant is the last
        assert workspace.module.fc.weight is workspace.module.embedding.weight
        assert {tensor.device.type for tensor in source.state_dict().values()} == {"cpu"}
        node = next(node for node in traced.graph.nodes if node.target == "fc")
        inputs = {"ids": torch.zeros(3, dtype=torch.long, device="cuda")}
        (rows,) = TracedProgram(workspace.module, traced.graph, [(Tap("fc", None, "flatten"), node, node)]).run(inputs)
        assert (rows.device.type, tuple(rows.shape)) == ("cuda", (3, 5))
        workspace.refresh()


def test_a_network_on_a_gpu_is_shared_and_runs_there_by_graph_and_by_hooks():
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        source = Residual()
        network = share_weights(source)
        traced = trace(network, ["x"])
        workspace = Workspace(network, torch.device("cuda"))
        assert workspace.module.fc.weight is source.fc.weight
        inputs = {"x": torch.zeros(2, 3, 8, 8)}
        taps = [(BN1, *_call(traced, "bn1")), (LAYER1, *traced.exits["layer1"])]
        rows = TracedProgram(workspace.module, traced.graph, taps).run(inputs)
        record = record_calls(workspace.module, inputs)
        hooked = HookedProgram(workspace.module, record, [(BN1, "bn1", 0), (LAYER1, "layer1", 0)]).run(inputs)
        assert [(part.device.type, tuple(part.shape)) for part in (*rows, *hooked)] == [("cuda", (2, 4))] * 4


def _call(traced, path):
    node = next(node for node in traced.graph.nodes if node.target == path)
    return node, node


def test_a_replica_of_a_replica_can_be_deep_copied():
    network = Residual().eval()
    copied = copy.deepcopy(share_weights(share_weights(network)))
    assert torch.equal(copied(images()), network(images()))


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_recurrent_layers_use_the_weights_of_their_device(cell):
    with FakeTensorMode(allow_non_fake_inputs=True):
        workspace = Workspace(share_weights(cell(4, 3, batch_first=True)), torch.device("cuda"))
        assert {weight.device.type for weight in workspace.module._flat_weights} == {"cuda"}
        assert workspace.module._flat_weights[0] is workspace.module.weight_ih_l0


def test_torchscript_in_a_workspace_is_a_copy_that_follows_training():
    scripted = torch.jit.trace(nn.Linear(3, 2), torch.zeros(1, 3))
    network = nn.Sequential(scripted)
    workspace = Workspace(share_weights(network), torch.device("cpu"))
    with torch.no_grad():
        scripted.weight.fill_(2.0)
        workspace.refresh()
        assert torch.equal(workspace.module[0].weight, scripted.weight)
        workspace.module[0].weight.zero_()
    assert bool((scripted.weight == 2).all())
