"""Freezing: which parts of a network still learn, decided once and kept through `.train()`, copies and files.

How a frozen module stays in evaluation mode is in `network.eval_lock`. After Yosinski et al. (2014), arXiv:1411.1792.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from model_handler.errors import ModelError
from model_handler.graph.tracing import Trace
from model_handler.network.eval_lock import hold, release

__all__ = ["Freezing", "Selection", "apply_freezing", "select_modules", "select_ran", "select_up_to"]


@dataclass(frozen=True)
class Selection:
    """Parts of a network: paths of modules and names of parameters, aliases included."""

    modules: tuple[str, ...]
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class Freezing:
    """What was decided: for parameters whether they learn, for modules whether they are held in evaluation mode."""

    learns: Mapping[str, bool] = field(default_factory=dict)
    held: Mapping[str, bool] = field(default_factory=dict)

    def frozen(self, selection: Selection, network: nn.Module, *, norm_stats: bool) -> "Freezing":
        """Return this decision with a selection frozen; without `norm_stats`, its running statistics keep moving."""
        modules = dict(network.named_modules(remove_duplicate=False))
        held = {path: norm_stats or not _has_statistics(modules[path]) for path in selection.modules}
        return Freezing({**self.learns, **dict.fromkeys(selection.parameters, False)}, {**self.held, **held})

    def unfrozen(self, selection: Selection) -> "Freezing":
        """Return this decision with a selection learning again."""
        return Freezing(
            {**self.learns, **dict.fromkeys(selection.parameters, True)},
            {**self.held, **dict.fromkeys(selection.modules, False)},
        )

    def is_trainable(self, name: str, parameter: torch.Tensor) -> bool:
        """Return whether a parameter learns, by its name in the network: as decided, or else as it came."""
        return self.learns.get(name, parameter.requires_grad)

    def within(self, before: nn.Module, after: nn.Module, renewed: Collection[str] = ()) -> "Freezing":
        """Return what of this decision concerns an edited network: a new layer under an old name is not frozen with it.

        Parameters are known by identity, those of TorchScript by their memory; a module by its path, unless it is among
        the `renewed` ones, and, where it has weights of its own, by these.
        """
        held = _identities(before)
        now = _identities(after)
        # by identity, not by name: what replaces a layer under its old name is not to be frozen with it
        same = {name: held.get(name) == identity for name, identity in now.items()}
        modules = dict(before.named_modules(remove_duplicate=False))
        kept = {
            path
            for path, module in after.named_modules(remove_duplicate=False)
            if path in modules
            and path not in renewed
            and all(same[f"{path}.{name}".lstrip(".")] for name, _ in _own(module))
        }
        return Freezing(
            {name: learns for name, learns in self.learns.items() if same.get(name)},
            {path: stays for path, stays in self.held.items() if path in kept},
        )

    def renamed(self, new_name: Callable[[str], str]) -> "Freezing":
        """Return this decision under other names."""
        return Freezing(
            {new_name(name): learns for name, learns in self.learns.items()},
            {new_name(path): stays for path, stays in self.held.items()},
        )


def select_modules(network: nn.Module, paths: Iterable[str]) -> Selection:
    """Return the modules at `paths` with all that is inside them, under each of their names.

    Raises ModelError where a weight is tied to one of another module that is not selected.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    chosen = {part for path in paths for part in modules[path].modules()}
    return _selection(network, chosen, [])


def select_up_to(network: nn.Module, trace: Trace, last: fx.Node) -> Selection:
    """Select `last` and all that runs before it: modules, parameters that operations read, and completed containers."""
    modules = dict(network.named_modules(remove_duplicate=False))
    order = {node: number for number, node in enumerate(trace.graph.nodes)}
    ran = [node for node in trace.graph.nodes if order[node] <= order[last]]
    read = [str(argument.target) for node in ran for argument in node.all_input_nodes if argument.op == "get_attr"]
    paths = [str(node.target) for node in ran if node.op == "call_module"]
    # a container counts once its last output is complete: then all that is in it has run
    paths += [path for path, (_, after) in trace.exits.items() if order[after] <= order[last]]
    return _selection(network, {part for path in paths for part in modules[path].modules()}, read)


def select_ran(network: nn.Module, paths: Iterable[str]) -> Selection:
    """Return the modules at `paths`, which have returned, and the parameters that those around them hold themselves.

    Without a graph nobody knows whether an operation has read these already, as is usual with class tokens and
    embeddings of positions.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    returned = list(dict.fromkeys(paths))
    # class tokens and embeddings of positions lie on containers, which return after all that is inside them
    around = {path[:dot] for path in returned for dot in (0, *_dots(path))} - set(returned)
    held = [f"{path}.{name}".lstrip(".") for path in sorted(around) for name in modules[path]._parameters]
    return _selection(network, {part for path in returned for part in modules[path].modules()}, held)


def apply_freezing(network: nn.Module, freezing: Freezing) -> None:
    """Freeze and unfreeze parts of `network`, in place."""
    for name, parameter in network.named_parameters(remove_duplicate=False):
        # whole numbers cannot require gradients, and are left as they are
        if name in freezing.learns and (parameter.is_floating_point() or parameter.is_complex()):
            parameter.requires_grad_(freezing.learns[name])
    for path, module in network.named_modules(remove_duplicate=False):
        if freezing.held.get(path) is True:
            hold(module)
        elif freezing.held.get(path) is False:
            release(module, training=network.training)


def _dots(path: str) -> list[int]:
    return [number for number, character in enumerate(path) if character == "."]


def _identities(network: nn.Module) -> dict[str, tuple[str, int]]:
    """Return what tells each parameter from others: its memory in TorchScript, whose copies have other objects."""
    scripts = [path for path, part in network.named_modules() if isinstance(part, torch.jit.ScriptModule)]
    inside = tuple(f"{path}." for path in scripts)
    return {
        name: ("memory", parameter.data_ptr()) if name.startswith(inside) else ("object", id(parameter))
        for name, parameter in network.named_parameters(remove_duplicate=False)
    }


def _own(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in module._parameters.items() if parameter is not None]


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats


def _selection(network: nn.Module, chosen: set[nn.Module], parameters: Sequence[str]) -> Selection:
    modules = network.named_modules(remove_duplicate=False)
    owners: dict[str, tuple[nn.Module, Any]] = {
        f"{path}.{name}" if path else name: (module, parameter)
        for path, module in modules
        for name, parameter in module._parameters.items()
        if parameter is not None
    }
    selected = [name for name, (module, _) in owners.items() if module in chosen or name in parameters]
    tensors = {id(owners[name][1]): name for name in selected}
    selected_modules = {owners[name][0] for name in selected}
    # torch has one requires_grad a tensor: half of a tied pair cannot be frozen
    loose = {
        name: tensors[id(parameter)]
        for name, (module, parameter) in owners.items()
        if name not in selected and id(parameter) in tensors and module not in selected_modules
    }
    if loose:
        ties = ", ".join(f"{name!r} is tied to {other!r}" for other, name in loose.items())
        raise ModelError(
            f"{ties}: one cannot be frozen, unfrozen or randomized without the other; name the modules of both"
        )
    paths = [path for path, module in network.named_modules(remove_duplicate=False) if module in chosen]
    return Selection(tuple(paths), tuple(name for name, (_, p) in owners.items() if id(p) in tensors))
