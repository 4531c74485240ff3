"""The graph of a network as data: its modules in their order, each a leaf, a list or a program on its children.

What is written here is read back by `graph_building`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from model_handler.errors import ModelError
from model_handler.files.canonical_json import JsonValue
from model_handler.network.inputs import default_input_names, named_inputs
from model_handler.network.replica import share_weights
from repurpose.offsite.architecture.arguments import UnsendableError
from repurpose.offsite.architecture.filling import ties_of
from repurpose.offsite.architecture.leaves import has_own_children, is_leaf, leaf_as_json
from repurpose.offsite.architecture.recording import FIX, Recording, record

__all__ = ["graph_of"]

_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def graph_of(network: nn.Module, inputs: Any) -> tuple[dict[str, JsonValue], dict[str, Tensor]]:
    """Return the graph of a network as JSON, and the tensors that are no part of its state, by name.

    `inputs` are a batch as `forward` takes it. Raises ModelError naming what has no form as data.
    """
    _refuse_hooks(network)
    names = tuple(named_inputs(network, inputs, default_input_names(network)))
    replica = share_weights(network)
    recordings = record(replica, names, is_leaf)
    modules: dict[str, JsonValue] = {}
    constants: dict[str, Tensor] = {}
    for path, module in _sent_modules(replica):
        try:
            modules[path] = _module_as_json(path, module, recordings)
        except UnsendableError as error:
            raise ModelError(f"{type(network).__name__} cannot be sent as data: {path!r} is {error}; {FIX}") from None
        made = recordings[0].constants.get(path, {})
        constants |= {f"{path}.{name}".lstrip("."): tensor for name, tensor in made.items()}
        if "tensors" in modules[path]:
            modules[path]["tensors"] |= {name: _tensor_as_json(tensor, "constant") for name, tensor in made.items()}
    constants |= _not_in_state(network)
    said = {
        "kind": "graph",
        "inputs": list(names),
        "modules": _with_aliases(network, modules),
        "ties": ties_of(network),
        "frozen": [name for name, parameter in network.named_parameters() if not parameter.requires_grad],
        "training": [path for path, module in network.named_modules() if module.training],
    }
    return said, {name: tensor.detach().cpu().clone() for name, tensor in constants.items()}


def _refuse_hooks(network: nn.Module) -> None:
    for path, module in network.named_modules():
        if any(vars(module).get(name) for name in _HOOKS):
            raise ModelError(
                f"{type(network).__name__} cannot be sent as data: {path or 'it'!r} has a hook, which is code; {FIX}"
            )


def _sent_modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Return the modules in the order of registration, without what is inside leaves."""
    inside = ""
    for path, module in network.named_modules():
        if inside and path.startswith(inside):
            continue
        inside = ""
        yield path, module
        if path and is_leaf(module) and not has_own_children(module):
            inside = f"{path}."


def _module_as_json(path: str, module: nn.Module, recordings: tuple[Recording, Recording]) -> dict[str, JsonValue]:
    programs = [recording.programs.get(path) for recording in recordings]
    if path and is_leaf(module):  # the network itself has inputs with names, and so a program
        return leaf_as_json(module)
    kind = _list_kind(module) if path else None
    if kind and all(program is None or _is_chain(module, program) for program in programs):
        return {"list": kind.__name__}
    if None not in programs and programs[0]["inputs"] != programs[1]["inputs"]:  # type: ignore[index]
        raise UnsendableError("what takes other values in training than in evaluation")
    tensors = {
        **{name: _tensor_as_json(each, "parameter") for name, each in module._parameters.items() if each is not None},
        **{
            name: _tensor_as_json(each, _kind(module, name))
            for name, each in module._buffers.items()
            if each is not None
        },
    }
    # one program for both modes, where they do the same
    both = programs[:1] if programs[0] == programs[1] else programs
    return {"tensors": tensors, "programs": both}


def _list_kind(module: nn.Module) -> type[nn.Module] | None:
    kind = next((kind for kind in _LISTS if isinstance(module, kind)), None)
    if kind is None or module._parameters or module._buffers:
        return None
    return kind if type(module) is kind or type(module).forward is kind.forward else None


def _is_chain(module: nn.Module, program: Mapping[str, Any]) -> bool:
    """Tell whether a program calls each child with what the one before it returned, as `nn.Sequential` does."""
    if not isinstance(module, nn.Sequential) or program["inputs"] != 1:
        return False
    steps = [["module", name, [{"value": place}], {}] for place, name in enumerate(module._modules)]
    return program["steps"] == steps and program["output"] == {"value": len(steps)}


def _kind(module: nn.Module, name: str) -> str:
    return "constant" if name in module._non_persistent_buffers_set else "buffer"


def _tensor_as_json(tensor: Tensor, kind: str) -> dict[str, JsonValue]:
    return {"kind": kind, "shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}


def _not_in_state(network: nn.Module) -> dict[str, Tensor]:
    return {
        f"{path}.{name}".lstrip("."): module._buffers[name]
        for path, module in network.named_modules()
        for name in module._non_persistent_buffers_set
        if module._buffers.get(name) is not None
    }


def _with_aliases(network: nn.Module, modules: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the modules with an entry for each further path of one that has several."""
    first: dict[nn.Module, str] = {}
    found: dict[str, JsonValue] = {}
    inside = ""
    for path, module in network.named_modules(remove_duplicate=False):
        if inside and path.startswith(inside):
            continue
        inside = ""
        if first.setdefault(module, path) != path:
            found[path] = {"alias": first[module]}
            inside = f"{path}."
        elif path in modules:
            found[path] = modules[path]
    return found
