"""The head of a method on features: a meta-model by a short name, or an object whose own source is ignored."""

from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.base import clone
from torch import nn

from model_handler import Source
from model_handler.errors import nearest
from repurpose.meta_model import BnnRepurposer, GpRepurposer, LaplaceRepurposer, LrRepurposer, SvmRepurposer
from repurpose.meta_model.meta_model_repurposer import MetaModelRepurposer
from repurpose.persistence.registry import class_name, find_class

__all__ = ["HEADS", "describe_head", "head_from_description", "head_mistakes", "make_head"]

HEADS: Mapping[str, type[MetaModelRepurposer]] = {
    "lr": LrRepurposer,
    "gp": GpRepurposer,
    "svm": SvmRepurposer,
    "laplace": LaplaceRepurposer,
    "bnn": BnnRepurposer,
}
_SHARED = ("device", "verbose")  # what a head that is given by name takes from the Repurposer that it belongs to


def head_mistakes(head: object) -> list[str]:
    """List what is wrong with the parameter `head`, a sentence each."""
    if isinstance(head, str):
        if head in HEADS:
            return []
        return [f"head must be one of {[*HEADS]} or a meta-model, got {head!r}; nearest: {nearest(head, HEADS)}"]
    if not isinstance(head, MetaModelRepurposer):
        return [f"head must be one of {[*HEADS]} or a meta-model, such as LrRepurposer(network), got {head!r:.80}"]
    return [f"head: {mistake}" for mistake in head._parameter_mistakes()]


def make_head(
    head: str | MetaModelRepurposer, source_model: nn.Module | Source | str, options: Mapping[str, Any]
) -> MetaModelRepurposer:
    """Make an untrained head with the source of the Repurposer that it belongs to.

    `options` are parameters of that Repurposer: a head by name takes some of them, a head that was given as an object
    its `random_state` where it has none.
    """
    if isinstance(head, str):
        own = {name: options[name] for name in (*_SHARED, "random_state")}
        return HEADS[head](source_model, **own)
    made = clone(head).set_params(source_model=source_model)
    if made.random_state is None:
        made.random_state = options["random_state"]
    return made


def describe_head(head: str | MetaModelRepurposer) -> str | dict[str, Any]:
    """Return what a file holds of the parameter `head`."""
    if isinstance(head, str):
        return head
    parameters = {name: value for name, value in head.get_params(deep=False).items() if name != "source_model"}
    return {"class": class_name(type(head)), "parameters": parameters}


def head_from_description(description: Any, source_model: nn.Module | Source | str, barred: Sequence[type]) -> Any:
    """Return the parameter `head` of what `describe_head` gave; text, and a head given anew, come back as they are.

    Raises ValueError for a class that is no meta-model, or one of those `barred`.
    """
    if not isinstance(description, dict):
        return description
    cls = find_class(str(description.get("class")), "the head")
    if not issubclass(cls, MetaModelRepurposer) or issubclass(cls, tuple(barred)):
        raise ValueError(f"its head is a {cls.__name__}, which is no meta-model")
    parameters = description.get("parameters")
    if not isinstance(parameters, dict):
        raise ValueError("its head has no parameters")
    return cls(**{**parameters, "source_model": source_model})
