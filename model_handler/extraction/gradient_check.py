"""The gradient check compares a graph with its network by one backward pass of each on the same rows.

A trace is compared with its network by values first, which says nothing of what only governs gradients.
`graph.gradients` keeps what is known to; a hook on a container, or what nobody has thought of, shows here. Both passes
run in evaluation, where nothing is drawn and no statistics move, from the same seed all the same, on parameters that
share the memory of the network's and are others: no `.grad` is left there.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from model_handler.extraction.recording import GraphRun
from model_handler.graph.leaves import is_leaf
from model_handler.network.closeness import tensors_are_close
from model_handler.network.inputs import NamedInputs, call_network, own_inputs
from model_handler.network.outputs import tensors_in
from model_handler.network.replica import Workspace

__all__ = ["hooked_containers", "hooks_to_blame", "same_gradients"]

_BACKWARD_HOOKS = ("_backward_hooks", "_backward_pre_hooks")
_FORWARD_HOOKS = ("_forward_hooks", "_forward_pre_hooks")

Gradients = list[Tensor | None]
Run = Callable[[nn.Module, NamedInputs], Any]


def same_gradients(network: nn.Module, graph: fx.Graph, inputs: NamedInputs, device: torch.device) -> bool:
    """Return whether a graph of `network` gives the gradients that the network does, for all parameters and the inputs.

    Where they differ in the dtype of the weights they are computed again in double, as rounding may be magnified. A
    network of which no gradient can be computed has none to be lost.
    """

    def of_network(*, exact: bool) -> Gradients | None:
        return _gradients(network, device, partial(call_network, may_set=True), inputs, exact=exact)

    def of_graph(*, exact: bool) -> Gradients | None:
        return _gradients(network, device, lambda own, given: _run_graph(own, graph, given), inputs, exact=exact)

    with torch.inference_mode(False), torch.enable_grad():
        if (wanted := of_network(exact=False)) is None:
            return True
        got = of_graph(exact=False)
        if got is None or _presence(got) != _presence(wanted):
            return False
        if tensors_are_close(_present(got), _present(wanted)):
            return True
        if (finer := of_network(exact=True)) is not None:
            wanted, got = finer, of_graph(exact=True)
        # what is bound to its dtype is measured there, by the largest of all
        return (
            got is not None
            and _presence(got) == _presence(wanted)
            and tensors_are_close([_in_one(got)], [_in_one(wanted)])
        )


def hooked_containers(network: nn.Module, *, forward: bool = False) -> dict[str, str]:
    """Return the containers with hooks of their own, which a graph goes past, each with the reason to leave it closed.

    Those with a hook of the backward pass, or where asked for with one of the forward pass, which may set others.
    """
    slots = _BACKWARD_HOOKS + (_FORWARD_HOOKS if forward else ())
    return {
        path: "has a hook that may change gradients"
        for path, part in network.named_modules()
        if path and not is_leaf(part) and any(getattr(part, slot) for slot in slots)
    }


def hooks_to_blame(network: nn.Module) -> str:
    """Return which containers have forward hooks, which a graph goes past; "" where none has."""
    containers = (item for item in network.named_modules() if not is_leaf(item[1]))
    hooked = [
        path or "the network itself" for path, part in containers if part._forward_hooks or part._forward_pre_hooks
    ]
    return (
        f": hooks sit on {hooked}, and no graph holds those; remove them and make the handler anew." if hooked else ""
    )


def _run_graph(network: nn.Module, graph: fx.Graph, inputs: NamedInputs) -> Any:
    return GraphRun(network, graph).run(*inputs.values())


def _gradients(
    network: nn.Module, device: torch.device, run: Run, inputs: NamedInputs, *, exact: bool
) -> Gradients | None:
    """Return the gradients for all parameters and inputs of a fixed sum of all that `run` returns.

    None for one that there is not, and instead of all where a forward, a hook or a backward fails. Each pass has a copy
    of its own, as a `forward` may keep what it computed for the next one. `torch.autograd.grad` adds to no `.grad`, not
    even of what is no part of the network.
    """
    try:
        own = Workspace(network, device, learning=True).module
        own = own.double() if exact else own
        given = {name: _own_copy(part) if isinstance(part, Tensor) else part for name, part in inputs.items()}
        given = {name: part.double() if exact and _is_real(part) else part for name, part in given.items()}
        sources = [part.requires_grad_() for part in given.values() if _is_real(part)]
        sources += [parameter for parameter in own.parameters() if parameter.requires_grad]
        with _equal_draws(), torch.backends.cudnn.flags(enabled=False):  # which has none of recurrent layers here
            outputs = [tensor for tensor in tensors_in(run(own, own_inputs(given))) if tensor.requires_grad]
            if not outputs:
                return [None] * len(sources)
            found = torch.autograd.grad([_weighted(output) for output in outputs], sources, allow_unused=True)
    except Exception:  # whatever the user's code raises
        return None
    # `nn.Embedding(sparse=True)` has sparse gradients, to be compared as all others are
    return [None if gradient is None else gradient.to_dense() for gradient in found]


@contextmanager
def _equal_draws() -> Iterator[None]:
    """Draw from one seed inside this block, and leave torch's generators as they were.

    Not by `torch.manual_seed`, which imports torch's compiler.
    """
    gpus = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    with torch.random.fork_rng(devices=gpus):
        for generator in (torch.default_generator, *(torch.cuda.default_generators[gpu] for gpu in gpus)):
            generator.manual_seed(0)
        yield


def _weighted(output: Tensor) -> Tensor:
    """Sum the numbers of an output, each with another weight: with equal ones a softmax has the gradient 0."""
    numbers = torch.view_as_real(output) if output.is_complex() else output
    drawn = torch.randn(numbers.shape, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    return (numbers * drawn.to(numbers.device, numbers.dtype)).sum()


def _own_copy(part: Tensor) -> Tensor:
    """Copy an input, contiguous: with channels last the gradient for images ends the process in some networks.

    RepVGG, MobileOne and FastViT do so in torch 2.14 on CPUs. No training asks for that gradient.
    """
    return part.detach().clone(memory_format=torch.contiguous_format)


def _is_real(part: object) -> bool:
    return isinstance(part, Tensor) and part.is_floating_point()


def _presence(gradients: Iterable[Tensor | None]) -> list[bool]:
    return [gradient is not None for gradient in gradients]


def _present(gradients: Iterable[Tensor | None]) -> list[Tensor]:
    present = [gradient for gradient in gradients if gradient is not None]
    return [torch.view_as_real(gradient) if gradient.is_complex() else gradient for gradient in present]


def _in_one(gradients: Iterable[Tensor | None]) -> Tensor:
    present = [gradient.flatten().double() for gradient in _present(gradients)]
    return torch.cat(present) if present else torch.empty(0)
