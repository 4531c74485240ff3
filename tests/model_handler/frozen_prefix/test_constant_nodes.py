"""Which nodes give the same for the same row at every step, by the rule about each and by two runs side by side."""

import operator

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn
from torchvision.ops import stochastic_depth

from model_handler.frozen_prefix.constant_nodes import (
    N_ROWS,
    Seen,
    closed,
    differs_in_training,
    layer_of,
    observe,
    variable,
)
from model_handler.graph.dependencies import storages
from model_handler.graph.tracing import trace
from model_handler.network.eval_lock import hold
from model_handler.network.inputs import default_input_names

CPU = torch.device("cpu")


class Functional(nn.Module):
    """A function and, in the end, a layer that learns."""

    def __init__(self, function):
        super().__init__()
        self.function, self.head = function, nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.function(x))


class Following(nn.Module):
    """An operation of its own `forward` that follows its mode."""

    def forward(self, x):
        return F.dropout(x, 0.5, self.training)


class Doubled(nn.Module):
    """A module with neither weights nor a mode."""

    def forward(self, x):
        return 2 * x


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x) if x.sum() > -1e9 else x  # which no tracer follows


class Drawing(nn.Module):
    """Draws in both modes."""

    def forward(self, x):
        return x + torch.randn_like(x)


class Parameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.learned, self.fixed = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4), requires_grad=False)
        self.register_buffer("offset", torch.ones(4))

    def forward(self, x):
        return (x * self.fixed + self.offset) * self.learned


def taken_apart(network):
    """The graph of a network, and its modules as they are while it trains."""
    network.train()
    return trace(network, default_input_names(network)).graph, dict(network.named_modules(remove_duplicate=False))


def reasons(network):
    return {layer_of(node): reason for node, reason in variable(*taken_apart(network)).items()}


def frozen(module):
    return module.requires_grad_(False)


def held(module):
    frozen(module)
    for part in module.modules():
        hold(part)
    return module


def kept(network):
    """The operations and layers in what is closed, the inputs left out."""
    graph, modules = taken_apart(network)
    found = closed(graph, variable(graph, modules), modules, storages(graph, modules))
    return [layer_of(node) for node in graph.nodes if node in found and node.op != "placeholder"]


def seen(network, x, training=True):
    """What nodes were seen to hold, and why some vary, by what users call them."""
    graph, _ = taken_apart(network)
    nodes = [node for node in graph.nodes if node.op != "output"]
    held_values, varying = observe(network.train(training), CPU, graph, nodes, {default_input_names(network)[0]: x})
    names = {node: layer_of(node) for node in nodes}
    return {names[n]: value for n, value in held_values.items()}, {names[n]: why for n, why in varying.items()}


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Linear(4, 4), "learns"),
        (frozen(nn.Linear(4, 4)), ""),
        (nn.Dropout(0.5), "is not held in evaluation mode"),
        (nn.Dropout(0.0), ""),
        (held(nn.Dropout(0.5)), ""),
        (nn.RReLU(), "is not held in evaluation mode"),
        (nn.ReLU(), ""),
        (nn.BatchNorm1d(4), "learns"),
        (frozen(nn.BatchNorm1d(4)), "is not held in evaluation mode"),
        (held(nn.BatchNorm1d(4)), ""),
        (held(nn.BatchNorm1d(4)).requires_grad_(True), "learns"),
        (nn.BatchNorm1d(4, affine=False), "is not held in evaluation mode"),
        (held(nn.BatchNorm1d(4, track_running_stats=False)), "normalises by the rows of the batch"),
        (frozen(nn.LayerNorm(4)), ""),
        (frozen(nn.GroupNorm(2, 4)), ""),
        (frozen(nn.InstanceNorm1d(4)), ""),
        (frozen(nn.InstanceNorm1d(4, track_running_stats=True)), "is not held in evaluation mode"),
        (held(nn.FractionalMaxPool2d(2, 2)), "is drawn at random"),
        (frozen(nn.TransformerEncoderLayer(4, 2, dropout=0.1)), "is not held in evaluation mode"),
        (frozen(nn.TransformerEncoderLayer(4, 2, dropout=0.0)), ""),
        (held(nn.TransformerEncoderLayer(4, 2, dropout=0.1)), ""),
        (frozen(nn.LSTM(4, 4, num_layers=2, dropout=0.5)), "is not held in evaluation mode"),
        (frozen(nn.LSTM(4, 4)), ""),
        (Noise(), "is not held in evaluation mode"),
        (Drawing(), "is not held in evaluation mode"),
        (Doubled(), ""),
    ],
)
def test_a_layer_varies_where_it_learns_draws_or_follows_the_mode(module, reason):
    assert reasons(nn.Sequential(module)).get("0", "") == reason


@pytest.mark.parametrize(
    ("function", "is_random"),
    [
        (lambda x: F.dropout(x, 0.5, True), True),
        (lambda x: F.dropout(x, 0.5, False), False),
        (lambda x: F.dropout(x, training=False), False),
        (lambda x: F.alpha_dropout(x, 0.5, True), True),
        (lambda x: F.rrelu(x, 0.1, 0.3, True), True),
        (lambda x: F.rrelu(x, 0.1, 0.3, False), False),
        (lambda x: torch.bernoulli(x.sigmoid()), True),
        (lambda x: torch.multinomial(x.sigmoid(), 4, False), True),  # which is not about training
        (lambda x: F.gumbel_softmax(x, 1.0, False), True),
        (lambda x: x + torch.rand_like(x), True),
        (lambda x: x.clone().uniform_(0, 1), True),
        (lambda x: x.clone().normal_(), True),
        (lambda x: F.scaled_dot_product_attention(x, x, x, None, 0.1), True),
        (lambda x: F.scaled_dot_product_attention(x, x, x, None, 0.0), False),
        (lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.1), True),
        (lambda x: F.relu(x).mul(2), False),
        (lambda x: x.narrow(1, 0, 4), False),
    ],
)
def test_operations_that_draw_are_known_by_their_names_and_what_they_are_told(function, is_random):
    found = reasons(Functional(function))
    assert found.pop("head") == "learns"
    assert set(found.values()) == ({"is drawn at random"} if is_random else set())


@pytest.mark.parametrize("training", [True, False])
def test_whether_an_operation_trains_may_stand_at_its_place(training):
    graph = fx.Graph()
    x = graph.placeholder("x")
    for function, more in ((F.dropout, (0.5,)), (F.rrelu, (0.1, 0.3)), (stochastic_depth, (0.5, "row"))):
        graph.call_function(function, (x, *more, training))
    assert len(variable(graph, {})) == (3 if training else 0)


def test_an_operation_that_follows_the_mode_of_the_network_varies():
    assert set(reasons(Functional(Following())).values()) == {"learns", "is not held in evaluation mode"}
    assert set(reasons(Following()).values()) == {"follows the mode of the network"}
    assert set(reasons(Functional(held(Following()))).values()) == {"learns"}
    assert set(reasons(Functional(Doubled())).values()) == {"learns"}


def test_what_training_computes_otherwise_varies():
    class Unlike(nn.Module):
        def forward(self, x):
            return x + 1 if self.training else x * 2

    assert set(reasons(Unlike()).values()) == {"computes something else in training"}


def test_parameters_that_an_operation_reads_vary_where_they_learn():
    assert reasons(Parameter()) == {"learned": "learns"}
    assert kept(Parameter()) == ["fixed", "mul", "offset", "add"]


def test_closed_is_what_depends_on_the_inputs_through_itself_alone():
    assert kept(nn.Sequential(frozen(nn.Linear(4, 4)), nn.ReLU(), nn.Linear(4, 4), frozen(nn.Linear(4, 4)))) == [
        "0",
        "1",
    ]
    assert kept(nn.Sequential(nn.Dropout(0.5), frozen(nn.Linear(4, 4)))) == []


def test_what_is_written_into_by_others_is_theirs_from_then_on():
    class Written(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.before, self.after = (frozen(nn.Linear(4, 4)) for _ in range(3))
            self.learning = nn.Linear(4, 4)

        def forward(self, x):
            x = self.first(x)
            y = self.before(x)
            x.add_(self.learning(x))
            return y + self.after(x)

    assert kept(Written()) == ["first", "before"]


def test_values_have_their_rows_and_sizes_the_number_of_rows():
    graph = fx.Graph()
    x = graph.placeholder("x")
    shape = graph.call_method("size", (x,))
    n_rows = graph.call_function(operator.getitem, (shape, 0))
    width = graph.call_function(operator.getitem, (shape, 1))
    doubled = graph.call_function(operator.mul, (n_rows, 2))
    flat = graph.call_method("reshape", (x, n_rows, -1))
    by_column = graph.call_method("t", (flat,))
    graph.output(flat)
    nodes = [node for node in graph.nodes if node.op != "output"]
    found, varying = observe(nn.Module(), CPU, graph, nodes, {"x": torch.ones(5, 3, 2, dtype=torch.float64)})
    assert varying == {}
    assert found[x] == Seen((3, 2), torch.float64)
    assert found[x].n_bytes == 48
    assert found[shape] == Seen(size=(N_ROWS, 3, 2), is_size=True)
    assert found[n_rows] == Seen(size=N_ROWS, is_size=True)
    assert found[width] == Seen(size=3, is_size=True)
    assert found[doubled] == Seen()  # depends on the number of rows in a way that is not kept
    assert found[flat] == Seen((6,), torch.float64)
    assert found[by_column] == Seen()
    assert found[doubled].n_bytes == 0


@pytest.mark.parametrize("n_rows", [1, 4])
def test_a_run_shows_what_depends_on_the_mode(n_rows):
    network = Functional(Noise())
    _, varying = seen(network, torch.ones(n_rows, 4))
    assert varying["function"] == "depends on the mode of the network or on other rows"
    _, varying = seen(Functional(Doubled()), torch.ones(n_rows, 4))
    assert varying == {}


def test_a_run_shows_what_depends_on_other_rows():
    x = torch.arange(12.0).view(3, 4)
    _, varying = seen(Functional(lambda x: x - x.mean(0)), x)
    assert varying["sub"] == "depends on the mode of the network or on other rows"
    _, varying = seen(Functional(lambda x: x - x.mean(1, keepdim=True)), x)
    assert varying == {}


def test_a_run_shows_buffers_that_are_written_into_and_leaves_the_network_alone():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x):
            self.count += 1
            return x

    network, state = nn.Sequential(Counting(), nn.Linear(4, 2)), torch.get_rng_state()
    _, varying = seen(network, torch.ones(3, 4))
    assert set(varying.values()) == {"writes into '0.count'"}
    assert network[0].count == 0
    assert torch.equal(torch.get_rng_state(), state)


def test_what_no_graph_shows_of_training_is_told():
    class Auxiliary(nn.Module):
        def forward(self, x):
            return (x, x) if self.training else x

    class Exchanging(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.zeros(4))

        def forward(self, x):
            if self.training:
                self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
            return x - self.mean

    class Failing(nn.Module):
        def forward(self, x):
            raise RuntimeError("no more of this")

    def difference(network):
        return differs_in_training(network, CPU, {default_input_names(network)[0]: torch.ones(3, 4)})

    assert difference(Auxiliary()) == "in training the network returns something else than in evaluation"
    assert difference(Exchanging()) == "in training the network puts another tensor in the place of its buffer 'mean'"
    assert difference(Failing()) == "in training the network fails on the first rows: no more of this"
    norm = nn.BatchNorm1d(4)
    assert difference(norm) == ""
    assert norm.num_batches_tracked == 0


def test_nodes_are_called_as_users_call_them():
    graph, _ = taken_apart(Parameter())
    assert [layer_of(node) for node in graph.nodes if node.op == "get_attr"] == ["fixed", "offset", "learned"]
