"""Plugging in: what an adapter's file holds is judged against the owner's network before anything is made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model_handler import ModelHandler
from model_handler.errors import first_few
from repurpose.offsite.adapter_files import AdapterContents
from repurpose.offsite.package import PackageContents
from repurpose.offsite.packing import Head

__all__ = ["Plug", "adapter_pairs", "checked_weights", "refuse_other_network"]

_HEAD = ("weight", "bias")


@dataclass(frozen=True, eq=False)
class Plug:
    """Weights of an adapter by their names in the owner's network, those of a head, and the class of each output."""

    blocks: Mapping[str, Tensor]
    head: Mapping[str, Tensor]
    classes: Sequence[str | int]


def adapter_pairs(contents: PackageContents, handler: ModelHandler) -> dict[str, str]:
    """Give the owner's name of each adapter block in a package, by its name there.

    Raises ValueError where the package is not of the owner's network: other blocks, or other weights in them.
    """
    names = [block.name for block in handler.blocks]
    n_first, n_last = len(contents.first), len(contents.last)
    if n_first + n_last + len(contents.emulator) > len(names):
        raise ValueError(f"the package is of another network: it has more blocks than the {len(names)} that are here")
    pairs = dict(zip([*contents.first, *contents.last], [*names[:n_first], *names[len(names) - n_last :]]))
    refuse_other_network(contents, handler.network, pairs)
    return pairs


def refuse_other_network(contents: PackageContents, network: nn.Module, pairs: Mapping[str, str]) -> None:
    """Raise ValueError unless the adapter that was sent is that of the network, bit for bit."""
    other = [
        f"{block}.{name}"
        for sent, block in pairs.items()
        for name, own in network.get_submodule(block).named_parameters()
        if (value := contents.state.get(f"{sent}.{name}")) is None or not _is_equal(value, own)
    ]
    if other:
        raise ValueError(
            f"the package is of another network: {first_few(other)} of this one are not what it holds; plug in with "
            "the network that was exported, as it was"
        )


def checked_weights(
    adapter: AdapterContents,
    network: nn.Module,
    pairs: Mapping[str, str],
    own_head: Head,
    what: str = "this adapter",
) -> Plug:
    """Return the weights of an adapter as the owner's network names them. Raises ValueError listing every mistake.

    `pairs` gives the owner's name of each of its blocks, by the name in the package; `own_head` is
    that of the owner, which stays where the adapter has none; `what` names its file.
    """
    wanted = {
        f"{sent}.{name}": (f"{block}.{name}", own)
        for sent, block in pairs.items()
        for name, own in network.get_submodule(block).named_parameters()
    }
    missing, further = wanted.keys() - adapter.blocks.keys(), adapter.blocks.keys() - wanted.keys()
    mistakes = [f"it lacks {first_few(sorted(missing))}"] if missing else []
    mistakes += [f"it has further tensors, {first_few(sorted(further))}"] if further else []
    for sent in wanted.keys() & adapter.blocks.keys():
        mistakes += _tensor_mistakes(sent, adapter.blocks[sent], tuple(wanted[sent][1].shape), wanted[sent][1].dtype)
    head, classes = (adapter.head, None) if adapter.head else _weights_of(network, own_head)
    mistakes += _head_mistakes(head, own_head.n_inputs, _dtype_of_head(network, own_head))
    if not mistakes:
        n_outputs = len(head["weight"])
        classes = adapter.class_names or classes or tuple(range(n_outputs))
        mistakes += _class_mistakes(classes, n_outputs)
    if mistakes:
        raise ValueError(f"{what} cannot be plugged in: {'; '.join(mistakes)}")
    return Plug({wanted[sent][0]: value for sent, value in adapter.blocks.items()}, head, tuple(classes or ()))


def _weights_of(network: nn.Module, head: Head) -> tuple[dict[str, Tensor], Sequence[str | int] | None]:
    if head.path is None:
        return {}, None
    layer = network.get_submodule(head.path)
    return {name: value.detach() for name, value in layer.named_parameters()}, head.class_names


def _tensor_mistakes(name: str, value: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> list[str]:
    if tuple(value.shape) != shape:
        return [f"{name} has the shape {tuple(value.shape)}, where {shape} was expected"]
    if value.dtype != dtype:
        return [f"{name} is of {value.dtype}, where {dtype} was expected"]
    return [] if torch.isfinite(value).all() else [f"{name} has numbers that are infinite or none"]


def _dtype_of_head(network: nn.Module, head: Head) -> torch.dtype:
    """Return the dtype of the owner's head, that of the network's numbers where it has none."""
    inside = network if head.path is None else network.get_submodule(head.path)
    return next((value.dtype for value in inside.parameters() if value.is_floating_point()), torch.float32)


def _head_mistakes(head: Mapping[str, Tensor], n_inputs: int, dtype: torch.dtype) -> list[str]:
    if not head:
        return ["it has no head, and the network has none of its own: tune it first"]
    if "weight" not in head or not set(head) <= set(_HEAD):
        return [f"its head has the tensors {first_few(sorted(head))}, where weight and bias were expected"]
    if head["weight"].ndim != 2:
        return [
            f"the weight of its head has the shape {tuple(head['weight'].shape)}, where (n, {n_inputs}) was expected"
        ]
    n_outputs = len(head["weight"])
    shapes = {"weight": (n_outputs, n_inputs), "bias": (n_outputs,)}
    mistakes = [] if n_outputs > 1 else [f"its head has {n_outputs} outputs, where at least 2 were expected"]
    return mistakes + [
        mistake for name in head for mistake in _tensor_mistakes(f"head.{name}", head[name], shapes[name], dtype)
    ]


def _class_mistakes(classes: Sequence[str | int], n_outputs: int) -> list[str]:
    if not 2 <= len(classes) <= n_outputs:
        return [f"it names {len(classes)} classes, and its head has {n_outputs} outputs"]
    if len(set(classes)) < len(classes):
        twice = sorted({str(name) for name in classes if list(classes).count(name) > 1})
        return [f"it names the classes {first_few(twice)} more than once"]
    if len({type(name) for name in classes}) > 1:
        return ["its classes are some of them numbers and some text"]
    return []


def _is_equal(value: Tensor, own: Tensor) -> bool:
    return value.dtype == own.dtype and torch.equal(value.cpu(), own.detach().cpu())
