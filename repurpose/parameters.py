"""The parameters of a Repurposer are collected along its classes and checked for misspelt names.

A subclass names its own parameters and forwards the others with `**kwargs`; scikit-learn's `get_params`, `set_params`
and `clone` then need the whole list, which no single signature holds.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from inspect import Parameter
from numbers import Integral, Real
from typing import Any

from model_handler.errors import nearest

__all__ = [
    "constructor_parameters",
    "full_signature",
    "is_one_of",
    "is_positive",
    "is_whole",
    "mistakes_found",
    "only_given",
    "unknown_parameters",
    "weight_mistakes",
]


def is_whole(value: object, least: int) -> bool:
    """Return whether a value is a whole number of at least `least`; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def is_positive(value: object) -> bool:
    """Return whether a parameter is a finite number above 0."""
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < float("inf")


def is_one_of(value: object, names: Sequence[str]) -> bool:
    """Return whether a parameter is one of these words; an array of several values is none."""
    return isinstance(value, str) and value in names


def weight_mistakes(name: str, value: object) -> list[str]:
    """Say what is wrong with the weight of a term in a loss: any finite number of at least 0 is right."""
    if is_positive(value) or (isinstance(value, Real) and not isinstance(value, bool) and value == 0):
        return []
    return [f"{name} must be a finite number of at least 0, got {value!r}"]


def only_given(**options: object) -> dict[str, Any]:
    """Return the options that are not None: a method that a class wrote itself may not have the others."""
    return {name: value for name, value in options.items() if value is not None}


def mistakes_found(*checks: Callable[[], object]) -> list[str]:
    """Run checks that raise ValueError for a parameter that cannot be used: the sentence of each that does."""
    mistakes = []
    for check in checks:
        try:
            check()
        except ValueError as error:
            mistakes.append(str(error))
    return mistakes


def constructor_parameters(cls: type) -> dict[str, Parameter]:
    """Return every parameter that `cls(...)` takes, by name, those of the subclass first.

    The walk goes up the classes for as long as each `__init__` forwards `**kwargs`. A parameter that arrives through
    `**kwargs` can be given by keyword only, and is marked so. Raises TypeError for an `__init__` with `*args`.
    """
    found: dict[str, Parameter] = {}
    for owner in cls.__mro__[:-1]:
        if "__init__" not in vars(owner):
            continue
        first, forwards = not found, False
        for parameter in list(inspect.signature(vars(owner)["__init__"]).parameters.values())[1:]:
            if parameter.kind is Parameter.VAR_POSITIONAL:
                raise TypeError(f"{owner.__name__}.__init__ takes *{parameter.name}; a Repurposer names each parameter")
            if parameter.kind is Parameter.VAR_KEYWORD:
                forwards = True
            elif parameter.name not in found:
                found[parameter.name] = parameter if first else parameter.replace(kind=Parameter.KEYWORD_ONLY)
        if not forwards:
            break
    return found


def full_signature(cls: type) -> inspect.Signature:
    """Return the signature that `help` and editors show: all parameters in place of `**kwargs`."""
    parameters = constructor_parameters(cls).values()
    return inspect.Signature(sorted(parameters, key=lambda parameter: parameter.kind))


def unknown_parameters(cls: type, names: Iterable[str]) -> str:
    """Return the sentence for keywords that `cls` does not know, with the names that may have been meant."""
    known = list(constructor_parameters(cls))
    hints = [f"{name!r} (nearest: {', '.join(nearest(name, known))})" for name in names]
    return f"{cls.__name__} has no parameter {', '.join(hints)}; it takes {', '.join(known)}"
