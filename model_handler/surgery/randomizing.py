"""Randomizing: layers are reinitialised, each by its own `reset_parameters` or by an initialiser that is given.

The weights of the network that is given are never written to: what is drawn goes into tensors of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral

import torch
from torch import Tensor, nn

from model_handler.errors import ModelError
from model_handler.network.adapted_layer import AdaptedLayer
from model_handler.network.replica import keep_gradient_hooks, share_weights
from model_handler.surgery.computed_weights import inside_of_parametrizations, is_reparametrised, redraw
from model_handler.surgery.freezing import Selection

__all__ = ["Initializer", "check_randomizing", "check_seed", "randomized", "seeded"]

Initializer = Callable[[nn.Module], object]

_RESETS = ("reset_parameters", "_reset_parameters")  # the second is that of nn.MultiheadAttention


def check_randomizing(initializer: Initializer | None, random_state: int | None) -> None:
    """Raise ModelError for an initialiser that cannot be called, or a seed that is no whole number."""
    if initializer is not None and not callable(initializer):
        raise ModelError(f"initializer must be a function of a module, got {initializer!r}")
    check_seed(random_state)


def check_seed(random_state: int | None) -> None:
    """Raise ModelError for a seed that is no whole number."""
    is_whole_number = isinstance(random_state, Integral) and not isinstance(random_state, bool)
    if random_state is not None and not (is_whole_number and 0 <= random_state < 2**63):
        raise ModelError(f"random_state must be a whole number of at least 0 or None, got {random_state!r}")


def randomized(
    network: nn.Module, selection: Selection, initializer: Initializer | None, random_state: int | None
) -> nn.Module:
    """Return a copy of `network` whose selected modules have new weights and statistics; all else is shared.

    `initializer` is called with every selected module that has weights, as by `nn.Module.apply`; by default each
    resets itself. Of a module that computes its weight of others, as by weight norm, those are drawn that give
    the weight drawn for a plain one. Raises ModelError if nothing selected has weights, a module that has some cannot
    reset itself, or fails to.
    """
    copied = share_weights(network)
    modules = dict(copied.named_modules(remove_duplicate=False))
    # reversed, so that of an alias the first path is the one that errors name
    chosen = {modules[path]: path for path in reversed(selection.modules) if _own_tensors(modules[path])}
    if not chosen:
        raise ModelError(f"{list(selection.modules)[:3]} have no weights: there is nothing to randomize")
    if scripts := [path for module, path in chosen.items() if isinstance(module, torch.jit.ScriptModule)]:
        raise ModelError(f"{scripts} are TorchScript, which cannot be reinitialised: put the nn.Module it is of there")
    drawn = [module for module in chosen if module not in inside_of_parametrizations(copied)]
    if adapted := [path for module, path in chosen.items() if isinstance(module, AdaptedLayer)]:
        raise ModelError(f"{adapted} have adapters, which new weights would not fit: merge_adapters or remove_adapters")
    unable = [chosen[module] for module in drawn if _reset_of(module) is None]
    if unable and initializer is None:
        raise ModelError(f"{unable} have no reset_parameters of their own; say how: initializer=function_of_a_module")
    _clone_tensors(copied, list(chosen))
    with seeded(random_state), torch.no_grad():
        # in order of registration, as they are made: what a seed gives each depends on the order
        for module in reversed(drawn):
            try:
                if is_reparametrised(module):
                    redraw(module, initializer or _reset)
                else:
                    (initializer or _reset)(module)
            except Exception as error:
                raise ModelError(f"{chosen[module]!r} cannot be randomized: {error}") from error
    return copied


@contextmanager
def seeded(random_state: int | None) -> Iterator[None]:
    """Draw from a seed and leave torch's own generators as they were; with None draw from these."""
    if random_state is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(int(random_state))
        yield


def _own_tensors(module: nn.Module) -> list[Tensor]:
    return [tensor for slot in (module._parameters, module._buffers) for tensor in slot.values() if tensor is not None]


def _reset_of(module: nn.Module) -> Callable[[], object] | None:
    return next((getattr(module, name) for name in _RESETS if callable(getattr(module, name, None))), None)


def _reset(module: nn.Module) -> None:
    if reset := _reset_of(module):
        reset()


def _clone_tensors(network: nn.Module, chosen: Sequence[nn.Module]) -> None:
    """Give the chosen modules clones of their tensors, in place; what was tied stays tied."""
    clones: dict[int, Tensor] = {}
    for module in chosen:
        for tensor in _own_tensors(module):
            clone = tensor.detach().clone()
            if isinstance(tensor, nn.Parameter):
                clone = nn.Parameter(clone, requires_grad=tensor.requires_grad)
                keep_gradient_hooks(tensor, clone)
            clones.setdefault(id(tensor), clone)
    for module in network.modules():
        if isinstance(module, torch.jit.ScriptModule):  # of which none is chosen
            continue
        for slot in (module._parameters, module._buffers):
            held = {name: clones[id(tensor)] for name, tensor in slot.items() if id(tensor) in clones}
            slot.update(held)  # type: ignore[arg-type]
