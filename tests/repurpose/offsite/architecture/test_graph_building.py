"""Hostile graphs: whatever a file says, no code runs, no memory fills, and what is wrong is named."""

import copy
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor, nn

from model_handler import CorruptFileError, UnsafeFileError
from repurpose.offsite.architecture import build, describe, fill

_REFUSALS = (UnsafeFileError, CorruptFileError)


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("shift", torch.ones(4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.body(x) * self.scale + self.shift).flatten(1)


@pytest.fixture(scope="module")
def sent() -> Any:
    return describe(_Net(), torch.rand(2, 4))


def _build(sent: Any, change: Callable[[dict[str, Any]], object]) -> nn.Module:
    said = copy.deepcopy(sent.said)
    change(said)
    return build(said, sent.constants)


def _steps(said: dict[str, Any]) -> list[Any]:
    return said["modules"][""]["programs"][0]["steps"]


def _with_step(*step: Any) -> Callable[[dict[str, Any]], object]:
    """Put one more step before the others' end, whose value nothing reads."""
    return lambda said: _steps(said).append(list(step))


_X = {"value": 0}


@pytest.mark.parametrize(
    ("step", "named"),
    [
        (("function", "torch.load", ["/etc/passwd"], {}), "'torch.load', which is none that networks may use"),
        (("function", "os.system", ["true"], {}), "os.system"),
        (("function", "builtins.eval", ["1"], {}), "builtins.eval"),
        (("function", "operator.methodcaller", ["x"], {}), "operator.methodcaller"),
        (("function", "torch.nn.functional.__builtins__", [], {}), "__builtins__"),
        (("function", "timm.layers.drop.os", [], {}), "timm.layers.drop.os"),
        (("method", "__class__", [_X], {}), "__class__"),
        (("method", "__reduce_ex__", [_X, 2], {}), "__reduce_ex__"),
        (("method", "apply_", [_X], {}), "apply_"),
        (("method", "add", ["text", 1], {}), "of nothing that it computed"),
        (("function", "builtins.getattr", [_X, "__dict__"], {}), "none of tensors"),
        (("function", "builtins.getattr", [_X, "data", 3], {}), "none of tensors"),
        (("import", "os", [], {}), "unknown kind 'import'"),
        (("module", "body; import os", [_X], {}), "no module 'body; import os'"),
        (("module", "..", [_X], {}), "no module"),
        (("weight", "body.0.__dict__", [], {}), "no such weight"),
        (("weight", "forward", [], {}), "no such weight"),
        (("method", "add", [_X, {"value": 99}], {}), "reads the value '99'"),
        (("method", "add", [_X, {"value": -1}], {}), "reads the value '-1'"),
        (("method", "add", [_X, {"code": "os"}], {}), "no known kind"),
        (("method", "add", [_X, {"dtype": "load"}], {}), "unknown dtype 'load'"),
        (("method", "add", [_X, 10**30], {}), "no known kind"),
        (("method", "add", [_X], {}, "grad"), "unknown kind"),
        (("method", "add", _X, {}), "arguments"),
        ((), "the step"),
    ],
)
def test_a_step_outside_the_tables_is_refused_by_name(sent: Any, step: tuple[Any, ...], named: str) -> None:
    with pytest.raises(_REFUSALS, match=named.replace("(", r"\(")):
        _build(sent, _with_step(*step))


def test_arguments_nested_too_deep_are_refused(sent: Any) -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    with pytest.raises(UnsafeFileError, match="nested more than"):
        _build(sent, _with_step("method", "add", [_X, deep], {}))


@pytest.mark.parametrize(
    "steps",
    [
        [["function", "torch.ones", [[10**6, 10**6]], {}]],
        [["method", "repeat", [_X, 10**6, 10**6], {}]],
        [["method", "expand", [{"value": 0}, 2**30, 2, 4], {}]],
        [["method", "new_zeros", [_X, [2**50]], {}]],
        [["function", "torch.nn.functional.pad", [_X, [0, 2**40]], {}]],
        [["function", "operator.pow", [9, 10**9], {}]],
        [["function", "operator.lshift", [1, 10**12], {}]],
        [["function", "operator.mul", [[1], 10**10], {}]],
        [["function", "operator.mod", ["%9999999999d", 1], {}]],
        [["function", "operator.mul", ["x", 10**10], {}]],
        [["function", "torch.arange", [2**40], {}]],
        [["function", "torch.zeros", [2**27], {"device": "cpu"}]],
        [
            ["function", "operator.getitem", ["cpu-", {"slice": [0, 3, None]}], {}],
            ["function", "torch.zeros", [2**27], {"device": {"value": 7}}],
        ],
        [["method", "new_zeros", [_X, 2**27], {"device": "cpu"}]],
        [["function", "torch.ones", [2**27], {}], ["method", "unbind", [{"value": 7}], {}]],
        [["function", "operator.mul", [[2**62], 90_000], {}], ["function", "math.prod", [{"value": 7}], {}]],
        [["function", "operator.mul", [[_X], 9_000], {}], ["function", "operator.mul", [[{"value": 7}], 9_000], {}]],
        [["function", "operator.add", [[_X], []], {}], ["function", "operator.setitem", [{"value": 7}, 0, _X], {}]],
    ],
)
def test_sizes_that_are_lies_take_no_memory(sent: Any, steps: list[Any]) -> None:
    before, start = psutil.Process().memory_info().rss, time.process_time()
    with pytest.raises(_REFUSALS):
        _build(sent, lambda said: _steps(said).extend(steps))
    assert psutil.Process().memory_info().rss - before < 50_000_000
    assert time.process_time() - start < 2


@pytest.mark.parametrize("power", [2, 3, 7])
def test_sizes_that_grow_faster_than_the_rows_are_refused(sent: Any, power: int) -> None:
    def ask(said: dict[str, Any]) -> None:
        number = 1 + len(_steps(said))  # the place of the value of the next step, behind the one input
        _steps(said).extend(
            [
                ["method", "size", [_X, 0], {}],
                ["function", "operator.pow", [{"value": number}, power], {}],
                ["function", "torch.ones", [[{"value": number + 1}, 5_000]], {}],
            ]
        )

    with pytest.raises(UnsafeFileError, match="of 64 rows, which grows faster than the number of rows"):
        _build(sent, ask)


def test_a_graph_of_two_rows_alone_is_refused(sent: Any) -> None:
    with pytest.raises(CorruptFileError, match="takes 2 rows and fails on 64 of the same shape: RuntimeError: shape"):
        _build(sent, _with_step("function", "torch.reshape", [_X, [2, 4]], {}))


class _AcrossTokens(nn.Module):
    """Attends across tokens, normalises across rows, and compares each row with each other one."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        given = self.attention(x, x, x, need_weights=False)[0]
        rows = self.norm(given.transpose(1, 2)).mean(dim=2)
        return torch.softmax(rows @ rows.t(), dim=1) @ rows


def test_attention_and_normalisation_across_rows_are_no_growth() -> None:
    network = _AcrossTokens().eval()
    sent = describe(network, torch.rand(2, 50, 8))
    X = torch.rand(70, 50, 8)
    assert torch.equal(fill(build(sent.said, sent.constants), network.state_dict())(X), network(X))


def test_a_network_that_returns_lists_in_lists_without_end_is_refused(sent: Any) -> None:
    def nest(said: dict[str, Any]) -> None:
        steps, program = _steps(said), said["modules"][""]["programs"][0]
        steps.append(["function", "operator.mul", [[_X], 9_000], {}])
        program["output"] = [{"value": len(steps)}] * 9_000

    with pytest.raises(UnsafeFileError, match="a list of more than"):
        _build(sent, nest)


def test_a_list_that_doubles_is_stopped(sent: Any) -> None:
    def double(said: dict[str, Any]) -> None:
        steps = _steps(said)
        steps.append(["function", "operator.add", [[1, 2], [3]], {}])
        for _ in range(60):
            last = {"value": len(steps)}  # one input before the steps
            steps.append(["function", "operator.add", [last, last], {}])

    with pytest.raises(UnsafeFileError, match="a list of more than"):
        _build(sent, double)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda said: said["modules"].update({"x": {"leaf": "subprocess.Popen", "options": {}}}), "subprocess.Popen"),
        (lambda said: said["modules"].update({"x": {"leaf": "torch.nn.DataParallel", "options": {}}}), "DataParallel"),
        (lambda said: said["modules"].update({"x": {"leaf": ["torch"], "options": {}}}), "none that is made"),
        (lambda said: said["modules"]["body.0"]["options"].update(out_features=2**40), "out_features 1099511627776"),
        (lambda said: said["modules"]["body.0"]["options"].update(device="cuda"), "device"),
        (lambda said: said["modules"].update({"__class__": {"list": "Sequential"}}), "__class__"),
        (lambda said: said["modules"].update({"forward": {"list": "Sequential"}}), "cannot be named 'forward'"),
        (lambda said: said["modules"].update({"a\nb": {"list": "Sequential"}}), "no module or weight has"),
        (lambda said: said["modules"].update({"no.x": {"list": "Sequential"}}), "no module 'no'"),
        (lambda said: said["modules"].update({"body.0.x": {"list": "Sequential"}}), "inside a layer"),
        (lambda said: said["modules"].update({"x": {"list": "Module"}}), "none"),
        (lambda said: said["modules"].update({"x": {"alias": ""}}), "inside themselves"),
        (lambda said: said["modules"].update({"x": 3}), "modules that are none"),
        (lambda said: said.update(modules={}), "modules, or none"),
        (lambda said: said.update(inputs=["x", "x"]), "no names of arguments"),
        (lambda said: said.update(inputs=["x): import os #"]), "no names of arguments"),
        (lambda said: said.update(inputs=["self"]), "no names of arguments"),
        (lambda said: said.update(inputs="x"), "no names of arguments"),
        (lambda said: said.update(frozen=["scale.grad_fn"]), "does not have"),
        (lambda said: said.update(ties={"scale": "body.0.weight"}), "do not fit"),
        (lambda said: said.update(code="x"), "'code'"),
        (
            lambda said: said["modules"][""]["tensors"].update(
                training={"kind": "buffer", "shape": [], "dtype": "bool"}
            ),
            "training",
        ),
        (lambda said: said["modules"][""]["tensors"]["scale"].update(shape=[2**50]), "no memory holds"),
        (lambda said: said["modules"][""]["tensors"]["scale"].update(shape=[-1]), "shape"),
        (lambda said: said["modules"][""]["tensors"]["scale"].update(dtype="load"), "unknown kind"),
        (lambda said: said["modules"][""]["programs"].extend([None, None]), "programs"),
        (lambda said: said["modules"][""]["programs"][0].update(inputs=2), "fails on its own inputs|reads"),
        (lambda said: said["modules"][""]["programs"][0].update(inputs=-1), "-1 inputs"),
        (lambda said: said["example"]["parts"]["x"].update(shape=[2, 2**40]), "shape"),
        (lambda said: said.pop("example"), "no shape|inputs"),
    ],
)
def test_modules_and_names_outside_the_tables_are_refused(sent: Any, change: Any, named: str) -> None:
    with pytest.raises(_REFUSALS, match=named):
        _build(sent, change)


def test_modules_that_call_each_other_again_and_again_are_refused(sent: Any) -> None:
    def chain(said: dict[str, Any]) -> None:
        path = "deep"
        for _ in range(40):
            twice = [["module", "x", [_X], {}], ["module", "x", [{"value": 1}], {}]]
            said["modules"][path] = {"tensors": {}, "programs": [{"inputs": 1, "steps": twice, "output": {"value": 2}}]}
            path += ".x"
        said["modules"][path] = {"list": "Sequential"}
        _steps(said).append(["module", "deep", [_X], {}])

    start = time.process_time()
    with pytest.raises(UnsafeFileError, match="calls"):
        _build(sent, chain)
    assert time.process_time() - start < 2


def test_a_program_of_thousands_of_steps_is_refused_before_it_runs(sent: Any) -> None:
    start = time.process_time()
    with pytest.raises(UnsafeFileError, match="its graph makes more than 25,000 calls"):
        _build(sent, lambda said: _steps(said).extend([["method", "abs", [_X], {}]] * 18_000))
    assert time.process_time() - start < 5


def test_modules_nested_too_deep_are_refused(sent: Any) -> None:
    def nest(said: dict[str, Any]) -> None:
        for depth in range(1, 3000):
            said["modules"][".".join(["x"] * depth)] = {"list": "Sequential"}

    with pytest.raises(UnsafeFileError, match="nested more than"):
        _build(sent, nest)


def test_aliases_that_multiply_are_refused(sent: Any) -> None:
    def multiply(said: dict[str, Any]) -> None:
        path, last = "a", ""
        said["modules"]["a"] = {"list": "ModuleList"}
        for number in range(40):
            said["modules"][f"b{number}"] = {"list": "ModuleList"}
            for name in "lr":
                said["modules"][f"b{number}.{name}"] = {"alias": last or path}
            last = f"b{number}"

    with pytest.raises(UnsafeFileError, match="paths"):
        _build(sent, multiply)


def test_constants_are_those_of_the_graph(sent: Any) -> None:
    for constants in ({}, {"shift": torch.ones(5)}, {"shift": torch.ones(4), "more": torch.ones(1)}):
        with pytest.raises(CorruptFileError, match="constant"):
            build(sent.said, constants)


def test_a_graph_leaves_no_weights_before_it_is_filled(sent: Any) -> None:
    network = build(sent.said, sent.constants)
    assert all(parameter.is_meta for parameter in network.parameters())
    assert torch.equal(network.get_buffer("shift"), torch.ones(4))


def test_a_program_writes_no_rows_into_weights(sent: Any) -> None:
    def write(said: dict[str, Any]) -> None:
        steps = _steps(said)
        place = 1 + len(steps)
        steps += [
            ["weight", "scale", [], {}],
            ["function", "torch.select", [_X, 0, 0], {}],
            ["method", "copy_", [{"value": place}, {"value": place + 1}], {}, "no_grad"],
        ]

    network = fill(_build(sent, write), _Net().state_dict())
    network(torch.full((2, 4), 7.0))
    assert torch.equal(network.get_parameter("scale"), torch.ones(4))
