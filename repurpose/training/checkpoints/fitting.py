"""Whether a state from a file can be that of a training: the same names, shapes and dtypes as the training has now."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["check_fits"]

# What torch's optimisers keep of a parameter; those of others are taken as they come.
_KEPT_OF_A_PARAMETER = {
    "Adam": {"step", "exp_avg", "exp_avg_sq"},
    "AdamW": {"step", "exp_avg", "exp_avg_sq"},
    "SGD": {"momentum_buffer"},
}
_COUNTS = ("epoch", "step")


def check_fits(found: Mapping[str, Any], own: Mapping[str, Any], optimizer: Optimizer, scheduler: object) -> None:
    """Raise ValueError, naming the part, unless the state `found` can be a later one of what now has the state `own`.

    Both are as `TrainingState.state_dict` gives them, `optimizer` and `scheduler` those of the training. The state of a
    user's own scheduler is taken as it comes.
    """
    _check_names("the state", found, own)
    for name in _COUNTS:
        if type(found[name]) is not int or found[name] < 0:
            raise ValueError(f"{name} is {str(found[name])[:40]!r}, where a whole number was expected")
    for name in ("module", "average"):
        _check_like(name, found[name], own[name])
    if type(scheduler).__module__.partition(".")[0] in ("torch", "repurpose", "builtins"):
        _check_like("scheduler", found["scheduler"], own["scheduler"])
    _check_optimizer(found["optimizer"], own["optimizer"], optimizer)
    _check_history(found["history"], own["history"])
    if (kept := found["kept"]) is not None:
        _check_names("kept", kept, dict.fromkeys(("epoch", "step", "score", "weights")))
        if [type(kept[name]) for name in _COUNTS] != [int, int] or not isinstance(kept["score"], Real | None):
            raise ValueError("kept has no usable epoch, step or score")
        _check_like("kept.weights", kept["weights"], own["module"] if own["average"] is None else kept["weights"])


def _check_names(where: str, found: object, own: Mapping[str, Any]) -> None:
    if not isinstance(found, dict) or sorted(map(str, found)) != sorted(map(str, own)):
        names = sorted(map(str, found))[:9] if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"{where} has {names}, where {sorted(map(str, own))[:9]} were expected")


def _check_like(where: str, found: object, own: object) -> None:
    """Check containers item by item, tensors by dtype and shape, what else there is by its kind."""
    if isinstance(own, dict):
        _check_names(where, found, own)
        for name, value in found.items():  # type: ignore[attr-defined]
            _check_like(f"{where}.{name}", value, own.get(name, own.get(str(name))))
    elif isinstance(own, Tensor):
        _check_tensor(where, found, own)
    elif isinstance(own, (list, tuple)):
        if type(found) is not type(own):
            raise ValueError(f"{where} is a {type(found).__name__}, where a {type(own).__name__} was expected")
        if len(found) != len(own):
            raise ValueError(f"{where} has {len(found)} items, where {len(own)} were expected")
        for number, value in enumerate(found):
            _check_like(f"{where}[{number}]", value, own[number])
    elif isinstance(own, (bool, str)) or own is None:
        is_number = own is None and isinstance(found, (int, float))  # such as a best loss, which there was none of
        if not is_number and (type(found) is not type(own) or (isinstance(own, str) and found != own)):
            raise ValueError(f"{where} is {str(found)[:40]!r}, where {str(own)[:40]!r} was expected")
    elif isinstance(own, (int, float)):
        is_number = isinstance(found, (int, float)) and not isinstance(found, bool)
        if not is_number or (not math.isfinite(found) and found != own):  # type: ignore[arg-type]
            raise ValueError(f"{where} is {str(found)[:40]!r}, where a number was expected")


def _check_tensor(where: str, found: object, own: Tensor) -> None:
    if not isinstance(found, Tensor) or found.dtype != own.dtype or found.shape != own.shape:
        now = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"{where} is {now}, where {own.dtype} {tuple(own.shape)} was expected")
    if found.is_floating_point() and torch.isnan(found).any():
        raise ValueError(f"{where} holds NaN")


def _check_optimizer(found: object, own: Mapping[str, Any], optimizer: Optimizer) -> None:
    _check_names("optimizer", found, own)
    groups, state = found["param_groups"], found["state"]  # type: ignore[index]
    _check_like("optimizer.param_groups", groups, own["param_groups"])
    # Rates change in training, and momenta may; which parameters are in a group, and what is on or off, does not.
    if [_settled(group) for group in groups] != [_settled(group) for group in own["param_groups"]]:
        raise ValueError("optimizer has other groups of parameters")
    if not isinstance(state, dict):
        raise ValueError("optimizer has no state by parameter")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    names = _KEPT_OF_A_PARAMETER.get(type(optimizer).__name__)
    for number, kept in state.items():
        where = f"optimizer.state[{str(number)[:20]}]"
        if type(number) is not int or not 0 <= number < len(parameters) or not isinstance(kept, dict):
            raise ValueError(f"{where} is of no parameter")
        if names is not None and type(optimizer).__module__.startswith("torch.") and set(kept) != names:
            raise ValueError(f"{where} has {sorted(map(str, kept))}, where {sorted(names)} were expected")
        for name, value in kept.items():
            fits = isinstance(value, Tensor) and value.shape in ((), parameters[number].shape)
            if names is not None and not (fits or (name == "momentum_buffer" and value is None)):
                raise ValueError(f"{where}.{name} does not fit its parameter")


def _settled(group: Mapping[str, Any]) -> dict[str, Any]:
    kinds = (bool, str, type(None), list)
    return {name: value for name, value in group.items() if isinstance(value, kinds)}


def _check_history(found: object, own: Mapping[str, Any]) -> None:
    _check_names("history", found, own)
    records = found["records"]  # type: ignore[index]
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ValueError("history has no records")
    if [record.get("epoch") for record in records] != list(range(len(records))):
        raise ValueError("history has other records than one an epoch")
