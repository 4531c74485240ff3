"""Filling: a network that was built without numbers gets its weights, and links between them are made again."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from model_handler.errors import CorruptFileError

__all__ = ["fill", "set_constants", "set_modes", "ties_of"]


def fill(network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Give a network that `build` made its weights, by name and in place, and return it.

    `state` has each parameter and buffer of its `state_dict` that has no numbers yet (a head that was exchanged has);
    its tensors become those of the network. Raises CorruptFileError where one is missing, of another shape or kind of
    number, or none of the network's; nothing was changed then.
    """
    own = {name: each for name, each in network.state_dict(keep_vars=True).items() if isinstance(each, Tensor)}
    if missing := [name for name, tensor in own.items() if name not in state and tensor.is_meta]:
        raise CorruptFileError(f"it has no weights {missing[0]!r}, which its network needs")
    if more := [name for name in state if name not in own]:
        raise CorruptFileError(f"it has weights {more[0][:60]!r}, of which its network knows nothing")
    for name, given in state.items():
        if given.shape != own[name].shape or given.dtype.is_floating_point != own[name].dtype.is_floating_point:
            raise CorruptFileError(
                f"its weights {name!r} are {given.dtype} of the shape {tuple(given.shape)}, where {own[name].dtype} of "
                f"the shape {tuple(own[name].shape)} were expected"
            )
    if left := [name for name, tensor in _tensors_of(network).items() if tensor.is_meta and name not in state]:
        raise CorruptFileError(f"it has no numbers for {left[0]!r}")
    ties = ties_of(network)
    network.load_state_dict(dict(state), strict=False, assign=True)
    for name, first in ties.items():
        owner, _, last = name.rpartition(".")
        network.get_submodule(owner)._parameters[last] = network.get_parameter(first)
    for module in network.modules():
        if isinstance(module, nn.RNNBase):  # it runs on a list of its weights
            module._flat_weights = [getattr(module, name, None) for name in module._flat_weights_names]
    return network


def set_constants(network: nn.Module, constants: Mapping[str, Tensor]) -> None:
    """Give buffers that are no part of the state their values, in place: all of them, and nothing else."""
    left = dict(constants)
    for path, module in network.named_modules():
        for name in sorted(module._non_persistent_buffers_set):
            own, whole = module._buffers[name], f"{path}.{name}".lstrip(".")
            if own is None:
                continue
            given = left.pop(whole, None)
            if given is None or given.shape != own.shape:
                raise CorruptFileError(f"its graph needs the constant {whole[:60]!r} of the shape {tuple(own.shape)}")
            module._buffers[name] = given
    if left:
        raise CorruptFileError(f"it holds the constant {next(iter(left))[:60]!r}, which its graph does not have")


def set_modes(network: nn.Module, said: Mapping[str, Any]) -> None:
    """Set which modules train, and which parameters learn, in place."""
    training, frozen = set(said["training"]), set(said["frozen"])
    modules, parameters = dict(network.named_modules()), dict(network.named_parameters())
    if unknown := sorted((training - set(modules)) | (frozen - set(parameters))):
        raise CorruptFileError(f"its graph has modes of {unknown[0][:60]!r}, which its network does not have")
    for path, module in modules.items():
        module.training = path in training
    for name, parameter in parameters.items():
        if parameter.requires_grad == (name in frozen):
            try:
                parameter.requires_grad_(name not in frozen)
            except RuntimeError as error:
                raise CorruptFileError(f"its graph has {name[:60]!r} learn, which cannot: {error}") from error


def ties_of(network: nn.Module) -> dict[str, str]:
    """Return each further name of a parameter that has several, with the first one."""
    first: dict[int, str] = {}
    ties = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        if first.setdefault(id(parameter), name) != name:
            ties[name] = first[id(parameter)]
    return ties


def _tensors_of(network: nn.Module) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}
