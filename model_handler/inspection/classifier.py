"""The classifier of a network, its last linear layer, and the layer whose output it reads.

A head takes the place of the last linear layer that stands behind all blocks, whatever comes after it. Features are
what it reads, where the network ends in it and they have a name.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from torch import nn

from model_handler.blocks.finding import BlocksMixin
from model_handler.errors import NoBlocksError
from model_handler.extraction.backends import HookBackend, TracedBackend
from model_handler.graph.naming import module_path

__all__ = ["ClassifierMixin", "classifier_behind", "classifier_input", "layers_before", "type_name"]

# What stands behind or before the classifier without changing what its features are at prediction.
_WITHOUT_EFFECT = {"dropout", "flatten", "identity", "logsoftmax", "reshape", "softmax", "squeeze", "view"}


class ClassifierMixin(BlocksMixin):
    """The classifier of a network, and the layers whose outputs stand for its inputs."""

    get_layer_names_matching_type: Callable[[str], list[str]]
    _source_layer: str | None = None

    @property
    def classifier(self) -> str | None:
        """The module of the last linear layer behind all blocks, in whose place a new head comes; None without one.

        Raises ModelError without example inputs, by which blocks are found.

        >>> import torch
        >>> from torchvision.models import resnet18
        >>> from model_handler import ModelHandler
        >>> ModelHandler(resnet18(), torch.empty(1, 3, 64, 64, device="meta")).classifier
        'fc'
        """
        try:
            blocks = [block.name for block in self.blocks]
        except NoBlocksError:
            blocks = []
        return classifier_behind(
            blocks, list(self._engine.backend.layers), self.get_layer_names_matching_type("fullyconnected")
        )

    @property
    def classifier_input(self) -> str | None:
        """The layer that a fully connected layer at the end of the network reads; None where it does not end in one."""
        backend = self._engine.backend
        types = {name: type_name(layer) for name, layer in backend.layers.items()}
        dense = self.get_layer_names_matching_type("fullyconnected")
        return classifier_input(types, dense, partial(layers_before, backend))

    @property
    def default_layer(self) -> str | None:
        """The layer whose output is taken as features where none is named; None where there is none to take.

        It is the one that the source names, such as the embedding of a sentence encoder, or else `classifier_input`.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> ModelHandler(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))).default_layer
        '1'
        """
        named = self._source_layer
        return named if named is not None and self._engine.backend.knows(named) else self.classifier_input


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


def type_name(layer: nn.Module | str) -> str:
    """Return the name of a layer's class, or of the operation that it is."""
    return layer if isinstance(layer, str) else type(layer).__name__
