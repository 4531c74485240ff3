"""The classifier of a network, its last linear layer, and the layer whose output it reads.

A head takes the place of the last linear layer that stands behind all blocks, whatever comes after it. Features are
what it reads, where the network ends in it and they have a name.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from model_handler.extraction.backends import HookBackend, TracedBackend
from model_handler.graph.naming import module_path

__all__ = ["classifier_behind", "classifier_input", "layers_before"]

# What stands behind or before the classifier without changing what its features are at prediction.
_WITHOUT_EFFECT = {"dropout", "flatten", "identity", "logsoftmax", "reshape", "softmax", "squeeze", "view"}


def classifier_behind(blocks: Collection[str], layers: Sequence[str], dense: Collection[str]) -> str | None:
    """Return the module of the last fully connected layer behind all blocks; None where there is none.

    `layers` are in order of execution, `dense` are the fully connected ones of them.
    """
    inside = tuple(f"{module_path(block)}." for block in blocks)
    end = max((number for number, name in enumerate(layers) if name.startswith(inside)), default=-1) if inside else -1
    return next((module_path(name) for name in reversed(layers[end + 1 :]) if name in dense), None)


def classifier_input(
    types: Mapping[str, str], dense: Collection[str], leading_to: Callable[[str], Collection[str]]
) -> str | None:
    """Return the layer that a fully connected layer at the end of the network reads; None where it does not end in one.

    `types` gives the type of each layer, in order of execution, `dense` are the fully connected ones, and `leading_to`
    gives the layers whose outputs one depends on: of two heads side by side, neither reads the other.
    """
    names = [name for name, kind in types.items() if not _is_without_effect(kind)]
    if not names or names[-1] not in dense:
        return None
    before = leading_to(names[-1])
    return next((name for name in reversed(names[:-1]) if name in before), None)


def layers_before(backend: TracedBackend | HookBackend, layer_name: str) -> set[str]:
    """Return the layers on whose outputs a layer depends; without a graph, those that ran before it."""
    names = list(backend.layers)
    if not isinstance(backend, TracedBackend):
        return set(names[: names.index(layer_name)])
    nodes = dict(zip(names, backend.nodes, strict=True))
    found, left = set(), [nodes[layer_name]]
    while left:
        new = [node for node in left.pop().all_input_nodes if node not in found]
        found.update(new)
        left.extend(new)
    return {name for name, node in nodes.items() if node in found}


def _is_without_effect(kind: str) -> bool:
    return kind.lower().replace("_", "").rstrip("123d") in _WITHOUT_EFFECT
