"""Surgery without a graph: where a network that only hooks can follow is ended, and what head it gets.

`network.truncated_network` makes such networks; here the stop is found, and what ran only behind it is taken off where
a run on the example inputs shows that nothing misses it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from model_handler.errors import ModelError
from model_handler.extraction.backends import HookBackend
from model_handler.extraction.engine import Engine
from model_handler.network.inputs import is_on_meta
from model_handler.network.outputs import select_tensor, tensors_in
from model_handler.network.truncated_network import modules_after, place_of_call, stopped, with_head
from model_handler.surgery.draft import Edited

__all__ = ["add_head", "output_tensor", "truncate_hooked"]

_OTHER_LAYERS = (
    "nor did any other layer: the forward of a copy of the network runs those of another module, as does a function "
    "that refers to the network itself (network.forward = lambda x: network.layer(x)). Write it as a method of the "
    "class, or bind it by types.MethodType(function, network), which copies follow"
)


def truncate_hooked(engine: Engine, backend: HookBackend, at: Sequence[str], example_inputs: object) -> Edited:
    """End the network of an engine, which runs by `backend`, when a module returns; of several, when the last has.

    Of a container the last call is meant, of several tensors the one that stands for the output. Without numbers to run
    on, and where the network looks at modules behind the stop, it keeps them all. Raises ModelError for a module that
    did not run, and for a container where nothing has run.
    """
    if example_inputs is not None and not backend.calls:
        engine.shapes(example_inputs)
    stops = [backend.stop_at(name) for name in at]
    for stop in stops:
        if backend.calls.count(stop.path) <= stop.call and example_inputs is not None:
            raise ModelError(
                f"{stop.name!r} did not run for the example inputs, so nothing can be cut there; "
                + ("see layer_names" if any(backend.calls) else _OTHER_LAYERS)
            )
    if len(stops) > 1 and not backend.calls:
        raise ModelError(f"which of {list(at)} runs last is not known: make the handler with example inputs")
    last = max(stops, key=lambda stop: place_of_call(backend.calls, stop)) if backend.calls else stops[0]
    several = stops if len(stops) > 1 else ()
    # First only ended: that is right in any case, and tells what the shorter network must give.
    ended = stopped(engine.network, last, returned=several)
    if example_inputs is None or is_on_meta(example_inputs):
        return Edited(ended)
    wanted = engine.edited(ended, None, ()).output(example_inputs)
    cut = stopped(engine.network, last, modules_after(engine.network, backend.calls, last), several)
    try:
        got = engine.edited(cut, None, ()).output(example_inputs)
    except Exception:  # whatever a forward raises that misses a module
        return Edited(ended)
    return Edited(cut if all(map(torch.equal, tensors_in(got), tensors_in(wanted))) else ended)


def add_head(engine: Engine, modules: Mapping[str, nn.Module]) -> Edited:
    """Run modules, one after the other, on the one tensor that the network returns."""
    return Edited(with_head(engine.network, modules), renewed=frozenset(modules))


def output_tensor(engine: Engine, example_inputs: object) -> Any:
    """Return what the network returns for the example inputs. Raises ModelError unless one tensor is meant by it."""
    try:
        return select_tensor(engine.output(example_inputs), "output", None)
    except ModelError as error:
        raise ModelError(
            f"add_layer_top needs a network with one output: {error}. Choose one: truncate(at=...)"
        ) from error
