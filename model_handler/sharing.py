"""Estimators of scikit-learn share the network that they reuse: clones of one, and one its handler while it fits."""

from collections.abc import Callable, Collection, MutableMapping
from copy import deepcopy
from typing import Any, Protocol, TypeVar

from sklearn.base import clone

from model_handler.handler import ModelHandler

__all__ = ["clone_sharing", "kept_handler"]

_OF_SCIKIT_LEARN = ("_metadata_request", "_sklearn_output_config")


class _Estimator(Protocol):
    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name."""


E = TypeVar("E", bound=_Estimator)


def clone_sharing(estimator: E, shared: Collection[str], attributes: Collection[str]) -> E:
    """Make an untrained copy of an estimator, whose parameters are cloned but for the `shared` ones.

    Private `attributes` that are there go along as they are. Raises RuntimeError where `__init__` alters a parameter.
    """
    values = estimator.get_params(deep=False)
    values = {name: value if name in shared else clone(value, safe=False) for name, value in values.items()}
    copied = type(estimator)(**values)
    if altered := [name for name, value in values.items() if getattr(copied, name) is not value]:
        raise RuntimeError(
            f"{type(estimator).__name__}.__init__ must store its parameters untouched, but alters {altered}"
        )
    for name in (*_OF_SCIKIT_LEARN, *attributes):
        if name in vars(estimator):
            value = vars(estimator)[name]
            setattr(copied, name, value if name in attributes else deepcopy(value))
    return copied


def kept_handler(
    kept: MutableMapping[str, Any], wanted: tuple[Any, ...], make: Callable[[], ModelHandler]
) -> ModelHandler:
    """Return the handler that is kept, made when first needed and again when the parameters `wanted` have changed."""
    made_of, handler = kept.get("_cached_handler", ((), None))
    if handler is None or any(new is not old and new != old for new, old in zip(wanted, made_of)):
        handler = make()
        kept["_cached_handler"] = (wanted, handler)
    return handler
