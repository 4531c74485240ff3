"""The needed part of a graph gives what the full run gives, in-place operations and views included."""

import operator
import random

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from model_handler.graph.dependencies import needed_nodes

ROWS = 4


def random_graph(seed):
    """A random chain of views, fresh operations and in-place ones over two inputs, and the modules it calls."""
    rng = random.Random(seed)
    graph = fx.Graph()
    modules = {
        "relu": nn.ReLU(inplace=True),
        "fc": nn.Linear(ROWS, ROWS),
        "identity": nn.Identity(),
        "dropout": nn.Dropout(),
        "block": nn.Sequential(nn.Linear(ROWS, ROWS), nn.Hardtanh(inplace=True)),
    }
    known = [graph.placeholder("x"), graph.placeholder("y")]
    make = [
        lambda a, b: graph.call_function(torch.add, (a, b)),
        lambda a, b: graph.call_function(operator.mul, (a, 0.5)),
        lambda a, b: graph.call_function(torch.sigmoid, (a,)),
        lambda a, b: graph.call_function(torch.einsum, ("ij->ji", a)),
        lambda a, b: graph.call_function(torch.cat, ([a],)),
        lambda a, b: graph.call_function(operator.getitem, (a, slice(0, ROWS))),
        lambda a, b: graph.call_method("t", (a,)),
        lambda a, b: graph.call_method("view", (graph.call_method("contiguous", (a,)), ROWS, ROWS)),
        lambda a, b: graph.call_method("detach", (a,)),
        lambda a, b: graph.call_method("add_", (a, 1.0)),
        lambda a, b: graph.call_method("copy_", (a, graph.call_function(torch.tanh, (b,)))),
        lambda a, b: graph.call_function(operator.iadd, (a, 0.25)),
        lambda a, b: graph.call_function(operator.imul, (a, 1.5)),
        lambda a, b: graph.call_function(operator.setitem, (a, 0, 2.0)),
        lambda a, b: graph.call_function(F.relu, (a,), {"inplace": True}),
        lambda a, b: graph.call_function(F.hardtanh, (a, -1.0, 1.0, True)),
        lambda a, b: graph.call_function(torch.sub, (graph.call_function(torch.tanh, (a,)), 1.0), {"out": b}),
        lambda a, b: graph.call_module(rng.choice(list(modules)), (a,)),
    ]
    for _ in range(rng.randrange(4, 16)):
        made = rng.choice(make)(rng.choice(known), rng.choice(known))
        if made.target is not operator.setitem:
            known.append(made)
    graph.output(known[-1])
    return graph, {name: module.eval() for name, module in modules.items()}, rng


def run(graph, modules, nodes, reads):
    """Run some nodes, taking a copy of what is read right after the node under which it is asked for."""
    generator = torch.Generator().manual_seed(0)
    values, taken = {}, {}
    interpreter = fx.Interpreter(nn.ModuleDict(modules), graph=graph)
    interpreter.env = values
    inputs = iter([torch.randn(ROWS, ROWS, generator=generator) for _ in range(2)])
    for node in graph.nodes:
        if node.op == "placeholder":
            values[node] = next(inputs)
        elif node in nodes and node.op != "output":
            values[node] = interpreter.run_node(node)
        for read in reads.get(node, ()):
            taken[node, read] = values[read].clone()
    return taken


@pytest.mark.parametrize("seed", range(200))
def test_the_needed_nodes_give_what_the_full_run_gives(seed):
    graph, modules, rng = random_graph(seed)
    nodes = [node for node in graph.nodes if node.op != "output" and node.target is not operator.setitem]
    reads = {}
    for _ in range(rng.randrange(1, 4)):
        position = rng.randrange(len(nodes))
        reads.setdefault(nodes[position], []).append(nodes[rng.randrange(position + 1)])
    with torch.no_grad():
        full = run(graph, modules, set(graph.nodes), reads)
        pruned = run(graph, modules, needed_nodes(graph, reads, modules), reads)
    assert full.keys() == pruned.keys()
    for key, value in full.items():
        assert torch.equal(pruned[key], value), graph


def needed_targets(forward, read=-1):
    graph = fx.Tracer().trace(forward)
    node = [node for node in graph.nodes if node.op not in ("placeholder", "output")][read]
    return [
        getattr(n.target, "__name__", n.target) for n in graph.nodes if n in needed_nodes(graph, {node: [node]}, {})
    ]


def test_an_in_place_operation_whose_result_is_unused_is_kept():
    def forward(x):
        y = x * 2
        y.add_(1)
        return y.sum()

    assert needed_targets(forward) == ["x", "mul", "add_", "sum"]


def test_an_in_place_operation_through_a_view_is_kept():
    def forward(x):
        y = x * 2
        y.view(-1)[0].zero_()
        return y.sum()

    assert needed_targets(forward) == ["x", "mul", "view", "getitem", "zero_", "sum"]


def test_a_side_branch_that_writes_into_memory_of_its_own_is_dropped():
    def forward(x):
        y = torch.sigmoid(x)
        F.relu(torch.exp(y), inplace=True).add_(1)
        return y.sum()

    assert needed_targets(forward) == ["x", "sigmoid", "sum"]


def test_nothing_behind_the_last_read_is_needed():
    def forward(x):
        y = x * 2
        return y.add_(1).sum()

    assert needed_targets(forward, read=0) == ["x", "mul"]
