"""Whether a network that was rebuilt from data is the one that was described: bit for bit, in both modes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from model_handler.errors import ModelError
from model_handler.network.copying import deep_copy
from model_handler.network.inputs import own_inputs
from model_handler.network.states import copied_state
from repurpose.offsite.architecture.filling import fill

__all__ = ["check_agreement"]

_SEED = 5  # any: both draw the same dropout by it
_DRAWS = (
    ", and so are those of the network itself when it runs a second time from one seed of torch: its forward probably "
    "draws numbers by something else (random, numpy), or counts its calls; draw by torch"
)
_GRADIENTS = 1e-4  # relative: the order in which gradients are added up may differ, and with it the last digits


def check_agreement(network: nn.Module, rebuilt: nn.Module, inputs: Mapping[str, Any], fix: str) -> None:
    """Compare a network with the unfilled one that its description makes, on some rows.

    `inputs` are on the CPU. In evaluation outputs are the same bit for bit, in training too, drawn by the same seed;
    then gradients and buffers are compared. The network stays as it is; the other is filled with copies of its weights,
    and of no further use. Raises ModelError saying in what they differ, and `fix`.
    """
    original = deep_copy(network).to("cpu")
    state = copied_state(original)
    if difference := _difference_of_names(original, rebuilt):
        raise _differs(network, difference, fix)
    fill(rebuilt, state)
    for training in (False, True, False):  # the last one finds what training changed
        where = "training" if training else "evaluation"
        expected = _run(original, inputs, training)
        found = _run(rebuilt, inputs, training)
        if isinstance(expected, Exception):
            if not training:
                raise ModelError(f"{type(network).__name__} fails on the example inputs: {expected}") from expected
            return  # it cannot be trained on so few rows, or not at all: then nothing is to be compared
        if isinstance(found, Exception):
            raise _differs(network, f"in {where} it fails: {type(found).__name__}: {found}", fix) from found
        if not _are_same(expected, found):
            again = _run(original, inputs, training)
            is_steady = not isinstance(again, Exception) and _are_same(expected, again)
            raise _differs(network, f"its outputs in {where} are others{'' if is_steady else _DRAWS}", fix)
        if training and (difference := _difference_of_gradients(original, rebuilt)):
            raise _differs(network, difference, fix)


def _differs(network: nn.Module, how: str, fix: str) -> ModelError:
    return ModelError(
        f"{type(network).__name__} cannot be sent as data: rebuilt from it, it is another network: {how}; {fix}"
    )


def _difference_of_names(original: nn.Module, rebuilt: nn.Module) -> str:
    for what in ("state_dict", "named_parameters"):
        own, other = (dict(getattr(each, what)()) for each in (original, rebuilt))
        if list(own) != list(other):
            different = sorted(set(own) ^ set(other))
            return (
                f"its weights have other names, {different[0]!r} for one" if different else "its weights change order"
            )
    return ""


def _run(network: nn.Module, inputs: Mapping[str, Any], training: bool) -> Any:
    """Return the tensors of the output, or the error; in training gradients of their squares are left behind."""
    network.train(training)
    network.zero_grad()
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.set_grad_enabled(training):
            torch.manual_seed(_SEED)
            leaves, structure = tree_flatten(network(**own_inputs(inputs)))
            tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
            learning = [each for each in tensors if each.requires_grad]
            if training and learning:
                sum(each.abs().square().sum() for each in learning).backward()  # type: ignore[union-attr]
    except Exception as error:  # a network may raise anything, and the other one is to raise too
        return error
    return [each.detach() for each in tensors], structure


def _are_same(expected: Any, found: Any) -> bool:
    if str(expected[1]) != str(found[1]) or len(expected[0]) != len(found[0]):
        return False
    return all(_is_same(own, other) for own, other in zip(expected[0], found[0]))


def _is_same(tensor: Tensor, other: Tensor) -> bool:
    if tensor.dtype != other.dtype or tensor.shape != other.shape:
        return False
    return bool(((tensor == other) | ((tensor != tensor) & (other != other))).all())


def _are_apart(gradient: Tensor, other: Tensor) -> bool:
    return bool(gradient.numel()) and bool((gradient - other).abs().max() > _GRADIENTS * gradient.abs().max())


def _difference_of_gradients(original: nn.Module, rebuilt: nn.Module) -> str:
    learned = dict(rebuilt.named_parameters())
    for name, parameter in original.named_parameters():
        own, other = parameter.grad, learned[name].grad
        if (own is None) != (other is None) or parameter.requires_grad != learned[name].requires_grad:
            return f"{name!r} learns in one of them alone"
        if own is not None and other is not None and _are_apart(own, other):
            return f"the gradient of {name!r} is another"
    buffers = dict(rebuilt.named_buffers())
    changed = [name for name, each in original.named_buffers() if name in buffers and not _is_same(each, buffers[name])]
    return f"training changes {changed[0]!r} in another way" if changed else ""
