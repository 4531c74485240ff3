"""Building a network from the graph that `graphs` wrote, with everything checked before anything is computed.

Modules are made on torch's "meta" and run there once, so that sizes which are lies are found before they take memory.
"""

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor, nn

from model_handler.errors import CorruptFileError, UnsafeFileError
from model_handler.files.canonical_json import JsonValue
from repurpose.offsite.architecture.arguments import DTYPES
from repurpose.offsite.architecture.filling import set_constants, set_modes
from repurpose.offsite.architecture.leaves import has_own_children, is_leaf, leaf_from_json
from repurpose.offsite.architecture.programs import Part, Program, rebuilt_network

__all__ = ["network_from"]

_LISTS: dict[str, type[nn.Module]] = {each.__name__: each for each in (nn.Sequential, nn.ModuleList, nn.ModuleDict)}
_MOST_MODULES, _MOST_DEEP, _MOST_AXES = 50_000, 48, 16
_MOST_CALLS = 25_000  # in both modes, where deep networks of timm make some 4,000; on "meta" they take seconds
_LARGEST_TENSOR = 2**40
_NAMES = ("kind", "inputs", "modules", "ties", "frozen", "training")


def network_from(said: Mapping[str, JsonValue], constants: Mapping[str, Tensor]) -> nn.Module:
    """Build the network of a graph, on "meta" but for its constants.

    Raises UnsafeFileError or CorruptFileError for a graph that `graphs.graph_of` cannot have written.
    """
    _check_form(said)
    network = rebuilt_network("RebuiltNetwork", said["inputs"])
    for number, (path, entry) in enumerate(said["modules"].items()):
        if (path == "") != (number == 0):
            raise CorruptFileError("its graph does not begin with the network itself")
        if path:
            _add(network, path, entry)
        else:
            _fill_part(network, entry)
    _check_tree(network)
    for path, module in network.named_modules():
        if isinstance(module, Part):
            _check_programs(path, module)
    _check_cost(network)
    _link(network, said["ties"])
    set_constants(network, constants)
    set_modes(network, said)
    return network


def _check_form(said: Mapping[str, JsonValue]) -> None:
    if sorted(said) != sorted(_NAMES):
        raise CorruptFileError(f"its graph has {sorted(map(str, said))[:9]}, where {list(_NAMES)} were expected")
    modules, ties = said["modules"], said["ties"]
    if not isinstance(modules, dict) or not 0 < len(modules) <= _MOST_MODULES:
        raise UnsafeFileError(f"its graph has more than {_MOST_MODULES:,} modules, or none")
    if any(type(entry) is not dict for entry in modules.values()):
        raise CorruptFileError("its graph has modules that are none")
    names = said["inputs"]
    if not _is_texts(names) or len(set(names)) < len(names) or not all(map(_is_argument, names)):
        raise UnsafeFileError(f"its graph has the inputs {str(names)[:60]}, which are no names of arguments")
    if not isinstance(ties, dict) or not _is_texts(list(ties.values())):
        raise CorruptFileError("its graph has links between weights that are none")
    if not _is_texts(said["frozen"]) or not _is_texts(said["training"]):
        raise CorruptFileError("its graph has modes that are none")


def _is_texts(value: JsonValue) -> bool:
    return type(value) is list and all(type(item) is str for item in value)


def _is_argument(name: str) -> bool:
    return name.isidentifier() and name.isascii() and name != "self" and not name.startswith("__") and len(name) < 200


def _check_name(name: str) -> None:
    """Raise UnsafeFileError for what is no name of a module or tensor: it stands in paths and messages."""
    if not name or not name.isprintable() or "." in name or name.startswith("__") or len(name) > 200:
        raise UnsafeFileError(f"its graph has the name {name[:60]!r}, which no module or weight has")


def _add(network: nn.Module, path: str, entry: dict[str, JsonValue]) -> None:
    """Add a module under its path, in place."""
    above, _, name = path.rpartition(".")
    _check_name(name)
    if path.count(".") > _MOST_DEEP:
        raise UnsafeFileError(f"its graph has modules nested more than {_MOST_DEEP} deep")
    owner = _module_at(network, above)
    if is_leaf(owner):
        if not has_own_children(owner) or name not in owner._modules:
            raise UnsafeFileError(f"its graph has {path[:60]!r} inside a layer, which has no such part")
        owner._modules[name] = _made(network, entry)
        return
    try:
        owner.add_module(name, _made(network, entry))
    except KeyError as error:  # of a name that every module has a use for
        raise UnsafeFileError(f"its graph has a module that cannot be named {name!r}: {error}") from error


def _made(network: nn.Module, entry: dict[str, JsonValue]) -> nn.Module:
    if {"leaf", "options"} <= entry.keys() <= {"leaf", "options", "dtype"}:
        return leaf_from_json(entry)
    if list(entry) == ["list"] and (kind := _LISTS.get(str(entry["list"]))):
        return kind()
    if list(entry) == ["alias"] and type(entry["alias"]) is str:
        return _module_at(network, entry["alias"])
    return _fill_part(Part(), entry)


def _module_at(network: nn.Module, path: str) -> nn.Module:
    """Return the module of a path, by the tables of modules and not by attributes."""
    found: nn.Module | None = network
    for name in path.split(".") if path else ():
        found = found._modules.get(name) if found is not None else None
    if found is None:
        raise CorruptFileError(f"its graph has no module {path[:60]!r} where one is needed")
    return found


def _fill_part(part: Part, entry: dict[str, JsonValue]) -> Part:
    """Give a part its tensors, on "meta", and its programs."""
    if sorted(entry) != ["programs", "tensors"] or type(entry["tensors"]) is not dict:
        raise UnsafeFileError(f"its graph has a module of {sorted(entry)[:9]}, which is none")
    for name, tensor in entry["tensors"].items():
        _check_name(name)
        kind, empty = _empty_tensor(tensor)
        try:
            if kind == "parameter":
                part.register_parameter(name, nn.Parameter(empty, empty.is_floating_point() or empty.is_complex()))
            else:
                part.register_buffer(name, empty, persistent=kind == "buffer")
        except KeyError as error:
            raise UnsafeFileError(f"its graph has a weight that cannot be named {name!r}: {error}") from error
    programs = entry["programs"]
    if type(programs) is not list or len(programs) not in (1, 2):
        raise UnsafeFileError(f"its graph has the programs {str(programs)[:60]}")
    read = [None if said is None else Program(said) for said in programs]
    part._programs = (read[0], read[-1])
    return part


def _empty_tensor(said: JsonValue) -> tuple[str, Tensor]:
    if type(said) is not dict or sorted(said) != ["dtype", "kind", "shape"]:
        raise CorruptFileError(f"its graph has the weight {str(said)[:60]}")
    shape, dtype = said["shape"], DTYPES.get(str(said["dtype"]))
    if dtype is None or said["kind"] not in ("parameter", "buffer", "constant"):
        raise CorruptFileError(f"its graph has a weight of the unknown kind {str(said)[:60]}")
    if type(shape) is not list or len(shape) > _MOST_AXES or not all(type(n) is int and n >= 0 for n in shape):
        raise CorruptFileError(f"its graph has a weight of the shape {str(shape)[:60]}")
    if prod(shape) > _LARGEST_TENSOR:
        raise UnsafeFileError(f"its graph has a weight of the shape {str(shape)[:60]}, which no memory holds")
    return said["kind"], torch.empty(shape, dtype=dtype, device="meta")


def _check_programs(path: str, part: Part) -> None:
    """Raise CorruptFileError where a program calls a child, or reads a weight, that its module does not have."""
    for program in part._programs:
        for child in program.children() if program else ():
            _module_at(part, child)
        for weight in program.weights() if program else ():
            above, _, name = weight.rpartition(".")
            owner = _module_at(part, above)
            if owner._parameters.get(name) is None and owner._buffers.get(name) is None:
                raise CorruptFileError(f"its graph reads {weight[:60]!r} of {path[:60]!r}, which has no such weight")


def _check_tree(network: nn.Module) -> None:
    """Raise UnsafeFileError where a module is inside itself, or has more paths than any network: aliases can do it."""
    known: dict[nn.Module, int] = {}

    def n_paths(module: nn.Module, depth: int) -> int:
        if depth > 2 * _MOST_DEEP:
            raise UnsafeFileError("its graph has modules inside themselves, or nested too deeply")
        if module not in known:
            below = filter(None, module._modules.values())
            known[module] = 1 + sum(n_paths(child, depth + 1) for child in below)
            if known[module] > 2 * _MOST_MODULES:
                raise UnsafeFileError(f"its graph has modules of more than {2 * _MOST_MODULES:,} paths")
        return known[module]

    n_paths(network, 0)


def _check_cost(network: nn.Module) -> None:
    """Raise UnsafeFileError where a call makes more calls than any network: parts call parts, each more than once."""
    known: dict[nn.Module, int] = {}

    def n_calls(module: nn.Module) -> int:
        if module not in known:
            total = 1
            if isinstance(module, Part):
                for program in filter(None, module._programs):
                    total += len(program)
                    total += sum(n_calls(_module_at(module, child)) for child in program.children())
            elif isinstance(module, nn.Sequential):
                total += sum(map(n_calls, module))
            known[module] = total
            if total > _MOST_CALLS:
                raise UnsafeFileError(f"its graph makes more than {_MOST_CALLS:,} calls")
        return known[module]

    n_calls(network)


def _link(network: nn.Module, ties: Mapping[str, str]) -> None:
    """Make parameters that are one and the same so, in place."""
    for name, first in ties.items():
        above, _, last = name.rpartition(".")
        owner, (first_above, _, first_last) = _module_at(network, above), first.rpartition(".")
        parameter = _module_at(network, first_above)._parameters.get(first_last)
        own = owner._parameters.get(last)
        if parameter is None or own is None or parameter.shape != own.shape:
            raise CorruptFileError(f"its graph links {name[:60]!r} to {first[:60]!r}, which do not fit")
        owner._parameters[last] = parameter
