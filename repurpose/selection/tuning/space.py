"""The space of a tuning: which values parameters may take, judged before anything runs and put in Optuna's words.

A choice that a file cannot hold, such as a list of layers or a function, is drawn by a label, which stands for it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from math import isfinite
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from model_handler import Source
from model_handler.errors import nearest
from repurpose.parameters import constructor_parameters
from repurpose.repurposer import Repurposer
from repurpose.source import describe_source
from repurpose.training.checkpoints.configuration import describe

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["Drawn", "Space", "judged_space", "with_parameters"]

Drawn = Mapping[str, Any]  # the values of one trial as Optuna has them, labels in the place of choices
R = TypeVar("R", bound=Repurposer)

_LOG = "log"
_SCALAR = (str, bool, int, float, type(None))
_PLAIN = (*_SCALAR, list, tuple, Mapping)
_RANGE = "a range is (low, high) or (low, high, 'log') of numbers, and choices are a list"
# What a tuning settles by itself: the rows that judge a trial, and the files of a training.
_NOT_TUNED = {
    "validation_fraction": "each trial of a network is judged by the same held-out rows",
    "checkpoint_dir": "the trainings of trials are not written down",
}


@dataclass(frozen=True, eq=False)
class Space:
    """What may be drawn: a distribution of Optuna's for each parameter, and what the labels of choices stand for."""

    distributions: "Mapping[str, BaseDistribution]"
    choices: Mapping[str, Mapping[Any, Any]]

    def __contains__(self, name: str) -> bool:
        return name in self.distributions

    def parameters(self, drawn: Drawn) -> dict[str, Any]:
        """Return the parameters that were drawn, choices in the place of their labels."""
        return {name: self.choices[name][value] if name in self.choices else value for name, value in drawn.items()}

    def describe(self) -> dict[str, str]:
        """Write each parameter's values as text, the same in every process."""
        return {
            name: describe(list(self.choices[name].values())) if name in self.choices else repr(distribution)
            for name, distribution in self.distributions.items()
        }


def judged_space(space: Mapping[str, object], repurposer: Repurposer) -> Space:
    """Put the values that parameters may take in Optuna's words.

    Raises ValueError that lists every unknown parameter (with the nearest names), impossible range, and value that the
    Repurposer refuses; TypeError where `space` is no dict.
    """
    if not isinstance(space, Mapping):
        raise TypeError(
            f"space must be a dict of values by parameter, such as {{'c': (1e-4, 10, 'log')}}, got {space!r}"
        )
    if not space:
        raise ValueError("space is empty; name a parameter and its values, such as {'c': (1e-4, 10, 'log')}")
    distributions, choices, mistakes = {}, {}, []
    for name, values in space.items():
        if unknown := _name_mistake(name, repurposer):
            mistakes.append(unknown)
            continue
        try:
            distributions[name], labelled = _distribution_of(values)
        except ValueError as error:
            mistakes.append(f"space[{name!r}]: {error}")
            continue
        if labelled is not None:
            choices[name] = labelled
        tried = _ends(distributions[name]) if labelled is None else list(labelled.values())
        mistakes += _refused(name, tried, repurposer)
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return Space(distributions, choices)


def with_parameters(repurposer: R, parameters: Mapping[str, Any]) -> R:
    """Return an untrained copy with other parameters; ``"optimizer_params__momentum"`` is an entry of a dict.

    They are set as attributes, since a class of the user's need not take all that its base class has.
    """
    changed = repurposer.__sklearn_clone__()
    for name, value in sorted(parameters.items(), key=lambda item: "__" in item[0]):  # entries after whole dicts
        owner, _, entry = name.partition("__")
        setattr(changed, owner, {**(getattr(changed, owner) or {}), entry: value} if entry else value)
    return changed


def _name_mistake(name: object, repurposer: Repurposer) -> str:
    """Say what is wrong with the name of a parameter; empty text where nothing is."""
    if not isinstance(name, str):
        return f"parameters are named by text, got {name!r}"
    known = constructor_parameters(type(repurposer))
    owner, dots, entry = name.partition("__")
    if owner not in known:
        near = ", ".join(nearest(owner, known))
        return f"{type(repurposer).__name__} has no parameter {owner!r} (nearest: {near}); it takes {', '.join(known)}"
    if owner in _NOT_TUNED:
        return f"{owner!r} cannot be tuned: {_NOT_TUNED[owner]}"
    if dots and not (entry and _takes_dict(known[owner], getattr(repurposer, owner))):
        return f"{name!r} would be an entry of {owner}, which is no dict; name {owner!r} itself"
    return ""


def _takes_dict(parameter: Parameter, value: object) -> bool:
    return isinstance(value, Mapping) or (value is None and "Mapping" in str(parameter.annotation))


def _distribution_of(values: object) -> "tuple[BaseDistribution, dict[Any, Any] | None]":
    """Return a distribution, and of choices what their labels stand for. Raises ValueError for impossible ones."""
    from optuna import distributions

    if isinstance(values, distributions.CategoricalDistribution):
        values = list(values.choices)
    if isinstance(values, distributions.BaseDistribution):
        return values, None
    if isinstance(values, tuple):
        return _range_of(values), None
    if not isinstance(values, Sequence) or isinstance(values, (str, bytes)):
        raise ValueError(f"{_RANGE}, got {values!r}")
    labelled = _labelled(list(values))
    return distributions.CategoricalDistribution(list(labelled)), labelled


def _range_of(values: tuple) -> "BaseDistribution":
    from optuna.distributions import FloatDistribution, IntDistribution

    *ends, last = values if len(values) == 3 else (*values, None)
    if last not in (None, _LOG) or len(ends) != 2 or not all(map(_is_number, ends)):
        raise ValueError(f"{_RANGE}, got {values!r}" + (f"; write {list(values)!r}" if values else ""))
    low, high = ends
    if not (isfinite(low) and isfinite(high)) or low > high:
        raise ValueError(f"{values!r} is no range: both ends must be finite, and the first at most the last")
    whole = isinstance(low, Integral) and isinstance(high, Integral)
    if last == _LOG and (low <= 0 or (whole and low < 1)):
        raise ValueError(f"{values!r} is no range: on a logarithmic scale the low end must be above 0")
    if whole:
        return IntDistribution(int(low), int(high), log=last == _LOG)
    return FloatDistribution(float(low), float(high), log=last == _LOG)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _labelled(choices: list[Any]) -> dict[Any, Any]:
    """Return the choices by their labels. Raises ValueError for none, and for one that is there twice."""
    if not choices:
        raise ValueError("the list of choices is empty")
    labels: list[Any] = []
    for place, choice in enumerate(choices):
        label = _label(choice)
        twin = label in labels and not isinstance(choice, _PLAIN)  # such as one of two lambdas
        same = any(choice is earlier for earlier in choices[:place])
        labels.append(f"{label} ({place})" if twin and not same else label)
    if any(isinstance(label, float) and not isfinite(label) for label in labels):
        raise ValueError(f"choices must be finite, got {choices!r}")
    labelled = dict(zip(labels, choices))
    if len(labelled) < len(choices):
        twice = sorted({str(label) for label in labels if labels.count(label) > 1})
        raise ValueError(f"choices must differ, and these are there more than once: {', '.join(twice)}")
    return labelled


def _label(choice: Any) -> Any:
    if isinstance(choice, (nn.Module, Source)):
        return describe_source(choice)
    return choice if isinstance(choice, _SCALAR) else describe(choice)


def _ends(distribution: "BaseDistribution") -> list[Any]:
    return [getattr(distribution, end) for end in ("low", "high") if hasattr(distribution, end)]


def _refused(name: str, values: Sequence[Any], repurposer: Repurposer) -> Iterator[str]:
    """Yield what the Repurposer says against values of a parameter, as far as it is about this parameter alone."""
    if "__" in name:
        return
    for value in values:
        for mistake in with_parameters(repurposer, {name: value})._parameter_mistakes():
            if mistake.startswith(f"{name} "):
                yield f"space[{name!r}]: {mistake}"
