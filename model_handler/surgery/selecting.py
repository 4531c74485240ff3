"""Selecting: which parts of a network a user means by names, by a last layer or by types.

Exact names only: "fc1" never means "fc10". What is done with a selection is in `freezing` and `randomizing`.
"""

from collections.abc import Iterable, Sequence

from torch import nn

from model_handler.errors import ModelError
from model_handler.extraction.backends import TracedBackend
from model_handler.extraction.engine import Engine
from model_handler.graph.naming import module_path
from model_handler.network.layer_types import is_of_type, known_types
from model_handler.surgery.freezing import Selection, select_modules, select_ran, select_up_to

__all__ = ["Types", "select"]

Types = str | type[nn.Module] | Sequence[str | type[nn.Module]]


def select(
    engine: Engine, names: str | Sequence[str] | None, up_to: str | None, types: Types | None, *, ran: bool = False
) -> Selection:
    """Select the parts that exactly one of `names`, `up_to` and `types` means; `ran` says that the network ran once.

    Raises UnknownLayerError listing every unknown name, and ModelError for anything else that means nothing.
    """
    if sum(choice is not None for choice in (names, up_to, types)) != 1:
        raise ModelError("give one of names, up_to and types")
    if up_to is not None:
        return _up_to(engine, up_to, ran)
    if types is not None:
        return _of_types(engine, types)
    if not isinstance(names, (str, Iterable)):
        raise TypeError(f"names must be a name of a layer or a list of these, got {names!r}")
    wanted = [names] if isinstance(names, str) else list(names)
    if not wanted:
        raise ModelError("names is empty: name at least one layer")
    engine.refuse_unknown(wanted)
    modules = engine.backend.modules
    # one call of a module ("relu@1") means the module: its weights are the same in each call
    paths = [name if name in modules else module_path(name) for name in wanted]
    if operations := [name for name, path in zip(wanted, paths) if path not in modules]:
        raise ModelError(f"{operations} are operations without weights: name modules")
    return select_modules(engine.network, paths)


def _of_types(engine: Engine, types: Types) -> Selection:
    asked = list(types) if isinstance(types, Iterable) and not isinstance(types, (str, type)) else [types]
    if not asked:
        raise ModelError("types is empty: name at least one, such as 'batchnorm' or torch.nn.Linear")
    layers = engine.backend.layers.values()
    present = {layer if isinstance(layer, str) else type(layer).__name__ for layer in layers}
    for layer_type in asked:
        known_types(present, layer_type)
    modules = engine.backend.modules.items()
    paths = [path for path, module in modules if any(is_of_type(module, layer_type) for layer_type in asked)]
    if not paths:
        raise ModelError(f"the network has no module of type {types!r}")
    return select_modules(engine.network, paths)


def _up_to(engine: Engine, up_to: str, ran: bool) -> Selection:
    engine.refuse_unknown([up_to])
    backend = engine.backend
    if isinstance(backend, TracedBackend):
        if (last := backend.last_node(up_to)) is None:
            raise ModelError(f"{up_to!r} is inside another layer or does not run, so nothing is before it")
        return select_up_to(engine.network, backend.trace, last)
    if not ran:
        raise ModelError("the order of layers is not known without a graph: make the handler with example inputs")
    stop = backend.stop_at(up_to)
    returns = [number for number, path in enumerate(backend.calls) if path == stop.path]
    if stop.call >= len(returns):
        raise ModelError(f"{up_to!r} did not run, so nothing is before it")
    return select_ran(engine.network, backend.calls[: returns[stop.call] + 1])
