"""Errors of tracing: where following a network failed, and which plain function it was that torch.fx cannot follow.

Such a function (timm's resampling of embeddings, which asks for sizes) becomes one operation of the graph, where a
module that cannot be followed becomes a leaf.
"""

import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, fx, nn

__all__ = ["function_to_blame", "line_to_blame"]

_PLAIN = (Tensor, fx.Proxy, bool, int, float, str, torch.dtype, torch.device)


def function_to_blame(error: BaseException) -> tuple[Callable[..., Any], ModuleType] | None:
    """Return the function, and the Python module where it is called, in which tracing failed; None if in a method.

    Of functions that call each other the outermost one that a method of a network calls. It has to be found under its
    own name in its own Python module, so that graphs can be pickled; to take tensors and plain values alone, which a
    graph can hold; and not to say that it may return None, since what follows would take a value for certain.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    methods = [number for number, frame in enumerate(frames) if isinstance(frame.f_locals.get("self"), nn.Module)]
    if not methods or methods[-1] + 1 == len(frames):
        return None
    caller, called = frames[methods[-1]], frames[methods[-1] + 1]
    # the innermost method is the network's own code; the call right below it is the function that it called
    function = _function_of(called)
    home = sys.modules.get(caller.f_globals.get("__name__", ""))
    # torch.fx wraps a function in the globals of the module that calls it, so it has to be found there
    if function is None or home is None or not any(value is function for value in vars(home).values()):
        return None
    return (function, home) if _takes_plain_values(called) and not _may_return_none(function) else None


def line_to_blame(error: BaseException) -> str:
    """Say where in a network's code tracing failed, as " (line 12 of net.py: if x.sum() > 0:)"; "" if nowhere."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    methods = [number for number, frame in enumerate(frames) if _is_own_method(frame)]
    if not methods:
        return ""
    line = traceback.extract_tb(error.__traceback__)[methods[-1]]
    return f" (line {line.lineno} of {Path(line.filename).name}: {line.line})"


def _is_own_method(frame: FrameType) -> bool:
    """Tell whether a frame is a method of a network, and not torch's call of one. A `forward` may rename `self`."""
    if frame.f_globals.get("__name__") == nn.Module.__module__:
        return False
    code = frame.f_code
    first = code.co_varnames[0] if code.co_name == "forward" and code.co_argcount else "self"
    return isinstance(frame.f_locals.get(first), nn.Module)


def _takes_plain_values(frame: FrameType) -> bool:
    names, args, kwargs, values = inspect.getargvalues(frame)
    return all(map(_holds_no_module, (values[name] for name in (*names, args, kwargs) if name in values)))


def _holds_no_module(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(map(_holds_no_module, value.values()))
    if isinstance(value, (tuple, list)):
        return all(map(_holds_no_module, value))
    return value is None or isinstance(value, _PLAIN)


def _may_return_none(function: FunctionType) -> bool:
    annotation = str(inspect.signature(function).return_annotation)
    return "None" in annotation or "Optional" in annotation


def _function_of(frame: FrameType) -> FunctionType | None:
    found = frame.f_globals.get(frame.f_code.co_name)
    is_it = isinstance(found, FunctionType) and found.__code__ is frame.f_code
    return found if is_it and not found.__module__.startswith(("torch.fx", "torch.nn.modules")) else None
