"""Replicas: a network's structure copied, its weights shared, so that the user's own module is never touched.

Modes, hooks and attributes of a replica are its own; parameters and buffers are the same tensors, so what the user
trains is seen. `Workspace` adds what running needs: buffers of its own and another device.
"""

import copy
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, fx, nn

from model_handler.errors import ModelError
from model_handler.network.copying import CopyingValues, deep_copy
from model_handler.network.tensors import tensors_of

__all__ = [
    "Workspace",
    "keep_gradient_hooks",
    "requires_grad_kept",
    "set_mode",
    "share_weights",
]

_TENSOR_SLOTS = ("_parameters", "_buffers")
_MODULE_SLOTS = frozenset(vars(nn.Module()))  # each module has its own of these, so no alias is lost by making new ones
_ATOMS = (bool, int, float, str, type(None))


def share_weights(model: nn.Module, constants: Mapping[str, Tensor | None] | None = None) -> nn.Module:
    """Return a copy of the structure of `model` that holds the very same parameters and buffers, and `constants` too.

    Whatever hangs on a module beside its weights (hooks, settings, bound methods) is deep-copied where it can be, so
    that it refers to the copy; aliases stay aliases.
    """
    memo: dict[int, object] = {}
    with CopyingValues():
        replica = _shared(model, memo)
    for name, constant in (constants or {}).items():
        replica.register_buffer(name, constant, persistent=False)
    return replica


def _shared(model: nn.Module, memo: dict[int, object]) -> nn.Module:
    replicas = [(module, _empty_replica(module, memo)) for module in model.modules()]
    for module, replica in replicas:
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for name, value in vars(module).items():
            if name in _TENSOR_SLOTS:
                replica.__dict__[name] = dict(value)
            elif name == "_modules":
                replica.__dict__[name] = {key: memo.get(id(child), child) for key, child in value.items()}
            elif name in _MODULE_SLOTS and type(value) in (dict, OrderedDict) and not value:
                replica.__dict__[name] = type(value)()
            elif name != "_compiled_call_impl":  # what `.compile()` leaves there calls the user's own module
                replica.__dict__[name] = _deep_copied(value, memo)
        if isinstance(replica, fx.GraphModule):
            replica.recompile()  # its `forward` is on a class made for it alone
    return memo[id(model)]  # type: ignore[return-value]


def set_mode(network: nn.Module, training: bool) -> None:
    """Switch `network` to a mode, in place; weights learn or not as before."""
    with requires_grad_kept(network):
        try:
            network.train(training)
        except NotImplementedError as error:  # by torch.export
            raise ModelError(
                f"{type(network).__name__} cannot switch between training and evaluation ({error}); of a network "
                "exported by torch.export, give the nn.Module it was exported from"
            ) from error


@contextmanager
def requires_grad_kept(network: nn.Module) -> Iterator[list[Tensor]]:
    """Let parameters learn or not after this block as before it, whatever a `forward` or a `train` set.

    It gives a list that in the end holds those that had been changed.
    """
    learns = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    changed: list[Tensor] = []
    try:
        yield changed
    finally:
        for parameter, wanted in learns:
            if parameter.requires_grad != wanted:
                changed.append(parameter.requires_grad_(wanted))


def keep_gradient_hooks(source: Tensor, copied: Tensor) -> None:
    """Give a copy, in place, the hooks that change the gradient of a tensor (`register_hook`), which copying forgets.

    What runs after a gradient was added up (`register_post_accumulate_grad_hook`) is left out: it serves an optimiser
    of the user's.
    """
    for hook in (source._backward_hooks or {}).values() if copied.requires_grad else ():
        copied.register_hook(hook)


class Workspace:
    """A replica of `network` in eval mode on `device`: where features are computed.

    Its buffers are its own, so a layer that writes into them leaves the user's alone, and so are the weights of what
    may write into those: an embedding with `max_norm`, a module with a `train` of its own (LoRA merges its weights
    there, LeViT drops a cache). `refresh` brings weights and buffers up to date with those of `network`.

    In one for `learning` every parameter is one of its own that requires a gradient, in the same memory where it can
    be.
    """

    def __init__(self, network: nn.Module, device: torch.device, *, learning: bool = False) -> None:
        self.device, self._learning = device, learning
        self.module = share_weights(network)
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._switching = [
            (module, source)
            for module, source in zip(self.module.modules(), network.modules())
            if type(module).train is not nn.Module.train
        ]
        writers = {part for module, _ in self._switching for part in module.modules()}
        moved: dict[int, Tensor] = {}
        for module, source in zip(self.module.modules(), network.modules()):
            if isinstance(module, torch.jit.ScriptModule):
                self._own_script(module, source)
                continue
            writes = module in writers or getattr(module, "max_norm", None) is not None
            for tensors in (vars(module), *(vars(module)[slot] for slot in _TENSOR_SLOTS)):
                held = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
                tensors.update(
                    {name: self._own_tensor(tensor, moved, shared=not writes) for name, tensor in held.items()}
                )
            if isinstance(module, nn.RNNBase):  # it runs on a list of its weights
                module._flat_weights = [getattr(module, name, None) for name in module._flat_weights_names]
        set_mode(self.module, False)

    def refresh(self) -> None:
        """Copy in place what the network's tensors hold now."""
        for module, source in self._switching:  # first empty their caches, then be in the state of the tensors copied
            set_mode(module, True)
            set_mode(module, source.training)
        with torch.no_grad():
            for own, original in self._pairs:
                own.copy_(original)
        if self._switching:
            set_mode(self.module, False)

    def _own_tensor(self, tensor: Tensor, moved: dict[int, Tensor], *, shared: bool) -> Tensor:
        in_place = shared and isinstance(tensor, nn.Parameter) and self._is_here(tensor)
        if in_place and not self._learning:
            return tensor
        if id(tensor) not in moved:
            copied = tensor.detach() if in_place else tensor.detach().to(self.device, copy=True)
            if isinstance(tensor, nn.Parameter):
                learns = self._learning and (tensor.is_floating_point() or tensor.is_complex())
                copied = nn.Parameter(copied, requires_grad=learns)
            moved[id(tensor)] = copied
            self._pairs.append((copied, tensor))
        return moved[id(tensor)]

    def _own_script(self, module: nn.Module, source: nn.Module) -> None:
        """TorchScript holds its tensors in C++: they can be refilled, not exchanged."""
        for own, original in zip(tensors_of(module), tensors_of(source)):
            own.data = original.detach().to(self.device, copy=True)
            self._pairs.append((own, original))

    def _is_here(self, tensor: Tensor) -> bool:
        return tensor.device.type == self.device.type and self.device.index in (None, tensor.device.index)


def _empty_replica(module: nn.Module, memo: dict[int, object]) -> nn.Module:
    if isinstance(module, torch.jit.ScriptModule):
        scripted = deep_copy(module)  # its state lives in C++, where a shallow copy would share the mode
        for own, original in zip(tensors_of(scripted), tensors_of(module)):
            own.data = original.data
        memo[id(module)] = scripted
        return scripted
    memo[id(module)] = replica = type(module).__new__(type(module))
    for slot in _TENSOR_SLOTS:
        memo.update({id(tensor): tensor for tensor in vars(module)[slot].values() if tensor is not None})
    return replica


def _deep_copied(value: object, memo: dict[int, object]) -> object:
    if isinstance(value, Tensor) or type(value) in _ATOMS:
        return value
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # a lock, a generator, a tensor of a graph: what cannot be copied is shared
        return value
