"""One backward pass is compared before the first edit, and nothing of the user's is touched by it."""

import copy

import pytest
import torch
from torch import fx, nn

from model_handler import ModelHandler
from model_handler.errors import UntraceableModelError
from model_handler.extraction.backends import TracedBackend
from model_handler.extraction.gradient_check import hooked_containers, same_gradients
from model_handler.frozen_prefix.splitting import split
from model_handler.graph.tracing import trace

CPU = torch.device("cpu")


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.two(self.one(x))


class Net(nn.Module):
    """A layer, a part of two layers, and a head: 3 -> 4 -> 4 -> 2."""

    def __init__(self, part=None):
        super().__init__()
        self.first, self.part, self.head = nn.Linear(3, 4), part or Part(), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.part(self.first(x)).relu())


class Lossy(Net):
    """Keeps half of the digits for the backward pass: no value shows it, and no node of a graph."""

    def forward(self, x):
        with torch.autograd.graph.saved_tensors_hooks(lambda kept: kept.round(), lambda kept: kept):
            return super().forward(x)


def rows(n_columns=3):
    return torch.randn(5, n_columns, generator=torch.Generator().manual_seed(1))


def seeded(kind, *args):
    torch.manual_seed(0)
    return kind(*args)


def has_same_gradients(network, inputs=None, changed=None):
    """What the comparison says of the graph of a network, in which `changed` changes something first."""
    inputs = {"x": rows()} if inputs is None else inputs
    network.eval()
    graph = trace(network, list(inputs)).graph
    if changed:
        changed(graph)
    return same_gradients(network, graph, inputs, CPU)


def detach_behind(target):
    def change(graph):
        node = next(candidate for candidate in graph.nodes if str(candidate.target) == target)
        with graph.inserting_after(node):
            detached = graph.call_method("detach", (node,))
        node.replace_all_uses_with(detached)
        detached.args = (node,)

    return change


def test_a_graph_has_the_gradients_of_its_network():
    assert has_same_gradients(seeded(Net))


@pytest.mark.parametrize("layer", ["first", "part.one", "head"])
def test_a_gradient_that_is_lost_is_seen_though_no_value_shows_it(layer):
    network = seeded(Net)
    assert not has_same_gradients(network, changed=detach_behind(layer))


def test_a_gradient_that_is_lost_is_seen_in_frozen_layers_too():
    network = seeded(Net).requires_grad_(False)
    assert not has_same_gradients(network, changed=detach_behind("first"))
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_small_wrong_gradient_beside_large_ones_is_seen():
    network = seeded(Net)
    with torch.no_grad():
        network.part.two.weight.mul_(1e-6)  # so that nearly nothing reaches what comes before

    def reverse(graph):
        node = next(candidate for candidate in graph.nodes if candidate.target == "part.one")
        with graph.inserting_before(node):
            node.args = (graph.call_function(_reversed, (node.args[0],)),)

    assert has_same_gradients(network)
    assert not has_same_gradients(network, changed=reverse)


def _reversed(x):
    return 2 * x.detach() - x


_reversed.__module__ = __name__


def test_tokens_several_inputs_and_several_outputs():
    class Several(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.other = nn.Embedding(7, 4, sparse=True), nn.Linear(3, 4)
            self.recurrent = nn.GRU(4, 4, batch_first=True)

        def forward(self, tokens, x):
            out, state = self.recurrent(self.embed(tokens) + self.other(x).unsqueeze(1))
            return {"out": out, "state": [state, tokens]}

    inputs = {"tokens": torch.arange(10).reshape(5, 2) % 7, "x": rows()}
    assert has_same_gradients(seeded(Several), inputs)
    assert not has_same_gradients(seeded(Several), inputs, changed=detach_behind("other"))


def test_statistics_dropout_generators_and_gradients_stay_as_they_are():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.ReLU(), nn.Linear(4, 2))
    network[0].weight.grad = torch.ones(4, 3)
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    ModelHandler(network, rows()).drop_layer_top(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(network[0].weight.grad, torch.ones(4, 3))
    assert all(parameter.grad is None for parameter in [*network.parameters()][1:])
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert network.training


def test_noise_that_is_drawn_in_evaluation_is_the_same_in_both_passes():
    class Noisy(Net):
        def forward(self, x):
            return super().forward(x + torch.randn_like(x)) ** 2

    assert has_same_gradients(seeded(Noisy))


def test_what_a_forward_keeps_for_the_next_one_stays_out_of_the_other_pass():
    class Keeping(Part):
        """As LeViT, which looks its biases up once and keeps them while it is evaluated."""

        def __init__(self):
            super().__init__()
            self.bias, self.kept = nn.Parameter(torch.ones(4)), None

        def forward(self, x):
            if self.training:
                return super().forward(x) + self.bias * 2
            self.kept = self.bias * 2 if self.kept is None else self.kept
            return super().forward(x) + self.kept

    assert has_same_gradients(seeded(Net, Keeping()))


def test_gradients_that_cancel_in_float32_are_compared_in_double():
    class Cancelling(nn.Module):
        """Equal in every value, but the order in which gradients are added up: 1e4 + x - 1e4."""

        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x):
            return self.scale * 1e4 + self.scale * x - self.scale * 1e4

    network = Cancelling()
    graph = fx.Graph()
    x, scale = graph.placeholder("x"), graph.get_attr("scale")
    large = graph.call_function(torch.mul, (scale, 1e4))
    rest = graph.call_function(torch.sub, (graph.call_function(torch.mul, (scale, x)), large))
    graph.output(graph.call_function(torch.add, (large, rest)))
    assert same_gradients(network, graph, {"x": rows()}, CPU)


def test_a_network_without_any_gradient_has_none_to_lose():
    class Hard(Net):
        def forward(self, x):
            return super().forward(x).argmax(1)

    assert has_same_gradients(seeded(Hard))
    handler = ModelHandler(seeded(Hard), rows()).truncate("head")
    assert handler.get_module()(rows()).requires_grad


def test_a_container_with_a_hook_of_the_backward_pass_becomes_one_layer_when_it_is_edited():
    network = seeded(Net)
    network.part.register_full_backward_hook(lambda module, into, out: (into[0] * 7,))
    handler = ModelHandler(network, rows())
    assert "part.one" in handler.layer_names  # looking changes nothing
    handler.drop_layer_top(1)
    assert handler.layer_names == ["first", "part", "relu"]
    assert_trained_as(network, handler)


def test_without_rows_too():
    network = seeded(Net)
    network.part.register_full_backward_pre_hook(lambda module, out: (out[0] * 7,))
    handler = ModelHandler(network).drop_layer_top(1)
    assert handler.layer_names == ["first", "part", "relu"]
    assert_trained_as(network, handler)


def test_a_hook_of_the_forward_pass_that_changes_gradients_makes_its_container_one_layer():
    network = seeded(Net)
    network.part.register_forward_hook(_triple_gradient)
    handler = ModelHandler(network, rows()).drop_layer_top(1)
    assert handler.layer_names == ["first", "part", "relu"]
    assert_trained_as(network, handler)


def _triple_gradient(module, inputs, output):
    if output.requires_grad:
        output.register_hook(lambda gradient: gradient * 3)


def test_a_hook_that_changes_nothing_costs_no_layer():
    network, seen = seeded(Net), []
    network.part.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    assert len(ModelHandler(network, rows()).drop_layer_top(1).layer_names) == 4


def test_what_neither_a_graph_nor_a_closed_container_holds_is_run_by_hooks():
    network = seeded(Lossy)
    handler = ModelHandler(network, rows())
    with pytest.raises(UntraceableModelError, match="has other gradients than it"):
        handler.drop_layer_top(1)
    handler = ModelHandler(network, rows()).truncate("part")
    got, wanted = handler.get_module(), copy.deepcopy(network)
    wanted.head = nn.Identity()
    got(rows()).square().sum().backward()
    with torch.autograd.graph.saved_tensors_hooks(lambda kept: kept.round(), lambda kept: kept):
        wanted.part(wanted.first(rows())).square().sum().backward()
    torch.testing.assert_close(got.first.weight.grad, wanted.first.weight.grad)


def test_added_modules_with_such_hooks_are_one_layer_each():
    part = seeded(Part)
    part.register_full_backward_hook(lambda module, into, out: (into[0] * 7,))
    network = nn.Sequential(nn.Linear(3, 4))
    handler = ModelHandler(network, rows()).add_layer_top([("part", part)])
    assert handler.layer_names == ["0", "part"]
    edited = handler.get_module()
    edited(rows()).sum().backward()
    hidden = network[0](rows()).detach().requires_grad_()
    part(hidden).sum().backward()
    torch.testing.assert_close(edited.get_submodule("0").bias.grad, hidden.grad.sum(0))


def test_a_network_that_is_split_to_be_trained_is_compared_too():
    network = seeded(Lossy)
    network.first.eval().requires_grad_(False)
    found = split(network, rows())
    assert found.frontier is None
    assert "has other gradients than it" in found.reason
    assert split(_frozen_first(seeded(Net)), rows()).frontier is not None


def _frozen_first(network):
    network.first.requires_grad_(False)
    return network


def test_extraction_alone_runs_no_backward_pass(monkeypatch):
    monkeypatch.setattr("model_handler.extraction.engine.same_gradients", lambda *given: pytest.fail("a backward pass"))
    handler = ModelHandler(seeded(Net), rows())
    handler.extract(rows(), ["part"])
    handler.freeze("first").get_module()


def test_it_is_compared_once_and_on_rows_that_were_only_extracted(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "model_handler.extraction.engine.same_gradients", lambda *given: bool(calls.append(given)) or True
    )
    handler = ModelHandler(seeded(Net))
    handler.extract(rows(), ["part"])
    handler.drop_layer_top(1).add_layer_top(nn.Linear(4, 5)).truncate("part")
    assert len(calls) == 1


def test_modules_that_were_exchanged_since_are_compared_anew():
    network = seeded(Net)
    handler = ModelHandler(network, rows())
    handler.drop_layer_top(1).undo()
    network.part = seeded(Part)
    network.part.register_full_backward_hook(lambda module, into, out: (into[0] * 7,))
    handler.drop_layer_top(1)
    assert handler.layer_names == ["first", "part", "relu"]
    assert_trained_as(network, handler)


def test_hooked_containers_are_those_alone():
    network = seeded(Net)
    network.first.register_full_backward_hook(lambda *given: None)
    network.part.register_forward_hook(lambda *given: None)
    assert not hooked_containers(network)
    assert list(hooked_containers(network, forward=True)) == ["part"]


def test_an_engine_knows_its_shapes_after_a_container_was_closed():
    network = seeded(Net)
    network.part.register_full_backward_hook(lambda module, into, out: into)
    handler = ModelHandler(network, rows())
    handler.drop_layer_top(1).undo()
    assert handler.layer_names[-1] == "head"
    assert isinstance(handler._engine.backend, TracedBackend)
    assert handler.add_layer_top(nn.Linear(2, 2)).get_module()(rows()).shape == (5, 2)


def assert_trained_as(network, handler):
    """With its head put on again, the edited network has the gradients of the network."""
    edited = handler.add_layer_top([("head", copy.deepcopy(network.head))]).get_module()
    wanted = copy.deepcopy(network)
    for network in (edited, wanted):
        network(rows()).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in wanted.named_parameters()}
    for name, parameter in edited.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name])


def test_images_are_contiguous_where_their_gradient_is_asked_for():
    seen = []

    class Noting(nn.Conv2d):
        def forward(self, x):
            seen.append((x.requires_grad, x.is_contiguous()))
            return super().forward(x)

    network = nn.Sequential(Noting(3, 4, 3), nn.Flatten()).eval()
    images = torch.rand(2, 3, 8, 8).to(memory_format=torch.channels_last)
    graph = trace(network, ["input"]).graph
    seen.clear()
    assert same_gradients(network, graph, {"input": images}, CPU)
    assert seen == [(True, True)] * 2
