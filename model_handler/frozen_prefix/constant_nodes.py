"""Constant nodes: which nodes of a graph give the same for the same row at every step of training.

A rule about each node comes first: nothing in it learns, follows the mode of the network or is drawn at random. Then
two runs side by side on few rows, one in the modes of training and one in those of evaluation, show what no rule can
know of: values that depend on the mode or on the rows beside them, and which values have a row for each input at all.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from model_handler.extraction.recording import GraphRun
from model_handler.graph.dependencies import may_write
from model_handler.graph.modes import IN_TRAINING, UNLIKE_TRAINING
from model_handler.graph.nodes import target_name
from model_handler.graph.tracer import OwnThreadTracer
from model_handler.network.adapted_layer import AdaptedLayer
from model_handler.network.closeness import tensors_are_close
from model_handler.network.inputs import NamedInputs, call_network
from model_handler.network.outputs import tensors_in
from model_handler.network.replica import Workspace, set_mode, share_weights

__all__ = ["N_ROWS", "Seen", "closed", "differs_in_training", "layer_of", "observe", "variable"]

_RANDOM = frozenset(
    "bernoulli cauchy exponential geometric gumbel_softmax log_normal multinomial normal poisson random uniform".split()  # noqa: SIM905
)
_RANDOM_PREFIXES = ("rand", "fractional_max_pool")
_PLACES_OF_TRAINING = {"stochastic_depth": 3, "rrelu": 3}  # among the arguments; 2 for every kind of dropout
_DROPPING = (nn.modules.dropout._DropoutNd, nn.RNNBase, nn.MultiheadAttention)
_SIZES = (bool, int, float, str, type(None), torch.dtype, torch.device)
_RANDOM_MODULES = (nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)


class _RowCount:
    """Stands for the number of rows in a size."""


N_ROWS = _RowCount()


@dataclass(frozen=True)
class Seen:
    """What a node was seen to hold: `rows`, a tensor of this shape a row; or a `size`, in which `N_ROWS` may stand."""

    rows: tuple[int, ...] | None = None
    dtype: torch.dtype | None = None
    size: Any = None
    is_size: bool = False

    @property
    def n_bytes(self) -> int:
        """The size of one row in bytes; 0 for what has no rows."""
        return 0 if self.rows is None or self.dtype is None else torch.Size(self.rows).numel() * self.dtype.itemsize


def variable(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> dict[fx.Node, str]:
    """Return the nodes that may give something else for the same arguments at the next step, each with why.

    `modules` are those of the network in the modes that they have while it trains.
    """
    reasons = {node: _why_varying(node, modules) for node in graph.nodes if node.op != "output"}
    return {node: reason for node, reason in reasons.items() if reason}


def closed(graph: fx.Graph, excluded: Collection[fx.Node], modules: dict[str, nn.Module], storage: Any) -> set[fx.Node]:
    """Find the nodes that depend on the inputs only through each other, without the `excluded` ones and the output.

    What others may write into is theirs from then on; `storage` is that of `dependencies.storages`.
    """
    kept: set[fx.Node] = set()
    written: set[fx.Node] = set()
    for node in graph.nodes:
        reads = node.all_input_nodes
        if node.op == "output" or node in excluded or any(n not in kept or storage[n] in written for n in reads):
            if node.op != "output" and may_write(node, modules):
                written.update(storage[argument] for argument in reads)
        else:
            kept.add(node)
    return kept


def observe(
    network: nn.Module, device: torch.device, graph: fx.Graph, nodes: Collection[fx.Node], inputs: NamedInputs
) -> tuple[dict[fx.Node, Seen], dict[fx.Node, str]]:
    """Run `nodes` on one or two rows: what each holds, and those that depend on the mode or other rows, with why.

    `inputs` are by name, on `device`. Raises what the network raises on them.
    """
    trained, evaluated = Workspace(network, device), Workspace(network, device)
    set_mode(trained.module, True)
    runs = [GraphRun(workspace.module, graph) for workspace in (trained, evaluated)]
    # two rows in training beside one in evaluation: what depends on the mode or on other rows comes out otherwise
    runs[0].args_iter, runs[1].args_iter = iter(_first_rows(inputs, 2)), iter(_first_rows(inputs, 1))
    seen: dict[fx.Node, Seen] = {}
    varying: dict[fx.Node, str] = {}
    devices = [device] if device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices):
        for node in graph.nodes:
            if node not in nodes:
                continue
            for run in runs:
                run.env[node] = run.run_node(node)
            of_two, of_one = (run.env[node] for run in runs)
            seen[node] = _seen(of_two, of_one)
            if seen[node].rows is not None and not (
                torch.equal(of_two[:1], of_one) or tensors_are_close([of_two[:1]], [of_one])
            ):
                varying[node] = "depends on the mode of the network or on other rows"
            for run in runs:
                # as fx.Interpreter.run frees them, which is not used here because some nodes are left out
                for done in run.user_to_last_uses.get(node, []):
                    run.env.pop(done, None)
    moved = [name for name, buffer in trained.module.named_buffers() if not _is_equal(buffer, network, name)]
    return seen, {**varying, **(dict.fromkeys(nodes, f"writes into {moved[0]!r}") if moved else {})}


def differs_in_training(network: nn.Module, device: torch.device, inputs: NamedInputs) -> str:
    """Return what a network does in training that no graph shows, or "".

    It may return tensors of other shapes (auxiliary heads answer in training alone), or put other tensors in the place
    of its buffers, where a network that shares them would not see it.
    """
    returned = []
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        for training in (True, False):
            workspace = Workspace(network, device)
            set_mode(workspace.module, training)
            buffers = dict(workspace.module.named_buffers())
            try:
                output = call_network(workspace.module, dict(zip(inputs, _first_rows(inputs, 2), strict=True)))
            except Exception as error:  # which training will explain
                return f"in training the network fails on the first rows: {error}"
            returned.append([tensor.shape for tensor in tensors_in(output)])
            after = dict(workspace.module.named_buffers())
            if exchanged := [name for name, buffer in buffers.items() if after.get(name) is not buffer]:
                return f"in training the network puts another tensor in the place of its buffer {exchanged[0]!r}"
    return "" if returned[0] == returned[1] else "in training the network returns something else than in evaluation"


def layer_of(node: fx.Node) -> str:
    """Return what users call a node."""
    return str(node.meta.get("layer") or (node.target if node.op in ("get_attr", "call_module") else node.name))


def _why_varying(node: fx.Node, modules: Mapping[str, nn.Module]) -> str:
    if UNLIKE_TRAINING in node.meta:
        return "computes something else in training"
    if node.op == "call_module":
        return _why_module_varies(modules[str(node.target)])
    if node.op == "get_attr":
        owner, _, name = str(node.target).rpartition(".")
        layer = modules[owner]
        if isinstance(layer, AdaptedLayer) and name in layer._adapter.targets:  # it is made of other parameters too
            return _why_module_varies(layer)
        value = getattr(layer, name, None)
        return "learns" if isinstance(value, Tensor) and value.requires_grad else ""
    if IN_TRAINING in node.meta:
        return "follows the mode of the network"
    return "is drawn at random" if _is_random(node) else ""


def _why_module_varies(module: nn.Module) -> str:
    if any(parameter.requires_grad for parameter in module.parameters()):
        return "learns"
    for part in module.modules():
        if isinstance(part, _RANDOM_MODULES):
            return "is drawn at random"
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is None:
            return "normalises by the rows of the batch"
        if part.training and _differs_in_training(part):
            return "is not held in evaluation mode"
    return ""


def _differs_in_training(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return module.running_mean is not None
    if isinstance(module, _DROPPING):
        return bool(getattr(module, "p", 0) or getattr(module, "dropout", 0))
    if isinstance(module, nn.RReLU):
        return True
    return not type(module).__module__.startswith("torch.nn.modules.") and _may_follow_mode(module)


def _may_follow_mode(module: nn.Module) -> bool:
    """Return whether a `forward` of which nothing is known may differ in training; it is traced in both modes."""
    graphs = []
    for training in (True, False):
        replica = share_weights(module)
        for part in replica.modules():
            part.training = training
        try:
            graphs.append(OwnThreadTracer().trace(replica))
        except Exception:  # whatever a forward raises on a proxy: what it does is not known
            return True
    return str(graphs[0]) != str(graphs[1]) or any(map(_is_random, graphs[0].nodes))


def _is_random(node: fx.Node) -> bool:
    if node.op not in ("call_function", "call_method"):
        return False
    name = target_name(node.target)
    if name == "scaled_dot_product_attention":
        dropout = node.kwargs.get("dropout_p", node.args[4] if len(node.args) > 4 else 0)
        return bool(dropout != 0)
    if "dropout" in name or name.startswith("drop_") or name in _PLACES_OF_TRAINING:
        place = _PLACES_OF_TRAINING.get(name, 2)
        return node.kwargs.get("training", node.args[place] if len(node.args) > place else True) is not False
    return name.strip("_") in _RANDOM or name.startswith(_RANDOM_PREFIXES)


def _first_rows(inputs: NamedInputs, n_rows: int) -> list[Any]:
    """Return the first rows, each input as memory of its own; the first one twice where there is no second."""
    sizes = [len(part) for part in inputs.values() if isinstance(part, Tensor) and part.ndim]
    places = [min(place, min(sizes, default=1) - 1) for place in range(n_rows)]
    # indexing by a list copies, as both runs may write into their inputs
    return [part[places] if isinstance(part, Tensor) and part.ndim else part for part in inputs.values()]


def _seen(of_two: object, of_one: object) -> Seen:
    if isinstance(of_two, Tensor):
        if not isinstance(of_one, Tensor) or of_two.shape != (2, *of_one.shape[1:]) or of_one.shape[:1] != (1,):
            return Seen()
        return Seen(tuple(of_one.shape[1:]), of_one.dtype)
    try:
        return Seen(size=_size_for_any_rows(of_two, of_one), is_size=True)
    except ValueError:
        return Seen()


def _size_for_any_rows(of_two: object, of_one: object) -> Any:
    """Return a size for any number of rows. Raises ValueError for what is none, or depends on it in another way."""
    if isinstance(of_two, (tuple, list)) and type(of_two) is type(of_one) and len(of_two) == len(of_one):
        parts = [_size_for_any_rows(part_of_two, part_of_one) for part_of_two, part_of_one in zip(of_two, of_one)]
        return parts if isinstance(of_two, list) else tuple(parts)
    if isinstance(of_two, _SIZES) and type(of_two) is type(of_one):
        if of_two == of_one:
            return of_two
        # 4 beside 2 may be twice the rows, or the rows plus something: only the number itself is sure
        if (of_two, of_one) == (2, 1):
            return N_ROWS
    raise ValueError(f"{of_two!r} is no size")


def _is_equal(buffer: Tensor, network: nn.Module, name: str) -> bool:
    owner, _, last = name.rpartition(".")
    original = getattr(network.get_submodule(owner), last)
    # NaN is never equal to itself, so such a buffer tells nothing
    return torch.equal(buffer, original.to(buffer.device)) or bool(torch.isnan(buffer).any())
