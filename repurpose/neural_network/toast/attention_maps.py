"""Attention maps: where the class token of the last block looks, before and after steering.

For a ConvNet, which has no attention, what the selection makes of the positions of each pass.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from model_handler import ModelError
from model_handler.data import as_batches, refuse_in_prefetching
from model_handler.extraction.engine import NETWORK_LOCK
from model_handler.network.module_hooks import watched
from repurpose.data.inputs import Inputs
from repurpose.data.padding import without_padding_alone
from repurpose.neural_network.toast.ended_network import on_network
from repurpose.neural_network.toast.steered_network import SteeredNetwork, outputs_of
from repurpose.neural_network.toast.steering import MULTI_HEAD
from repurpose.training.steps.forward import arguments_of
from repurpose.training.validation import failures_explained

__all__ = ["attention_of"]

_CLASS_TOKEN = re.compile(r"cls|class", re.IGNORECASE)  # cls_token, class_token, class_embedding
_SOFTMAX = (torch.softmax, Tensor.softmax, F.softmax)


class _AttentionWeights(TorchFunctionMode):
    """Keeps, in the `with` block, the weights of the last attention over all tokens of a row with each other.

    They are `last`, (n_rows, n_heads, n_tokens, n_tokens); None where there was none.
    """

    def __init__(self, n_tokens: int) -> None:
        super().__init__()
        self._n_tokens = n_tokens
        self.last: Tensor | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            return self._of_multi_head(func, args, kwargs)
        output = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            self._keep(_weights_of(*args, **kwargs))
        elif func in _SOFTMAX:
            self._keep(output)
        return output

    def _of_multi_head(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        arguments = MULTI_HEAD.bind(*args, **kwargs)
        arguments.apply_defaults()
        wanted = arguments.arguments["need_weights"]
        arguments.arguments.update(need_weights=True, average_attn_weights=False)
        output, weights = func(*arguments.args, **arguments.kwargs)
        self._keep(weights)
        return output, weights.mean(dim=1) if wanted else None

    def _keep(self, weights: Tensor) -> None:
        if weights.ndim == 4 and weights.shape[-2:] == (self._n_tokens, self._n_tokens):
            self.last = weights.detach()


def _weights_of(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Compute the weights that torch's scaled_dot_product_attention, whose arguments these are, keeps to itself."""
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
    logits = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        logits = logits.masked_fill(torch.ones_like(logits, dtype=torch.bool).triu(1), -torch.inf)
    if attn_mask is not None:
        logits = logits.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else logits + attn_mask
    return logits.softmax(dim=-1)


def attention_of(
    members: Sequence[nn.Module],
    data: object,
    reading: Mapping[str, Any],
    *,
    before: bool,
    judged: Callable[[Inputs], AbstractContextManager[None]],
) -> np.ndarray:
    """Compute the map of each row, the mean over the members; texts of unlike length are filled up with 0.

    `judged` raises ValueError for inputs unlike those of training, there or where the network fails on them. Raises
    ModelError for a network whose attention over its tokens is computed in another way than is known here.
    """
    refuse_in_prefetching()
    batches, found = as_batches(data, **reading), []
    with NETWORK_LOCK, torch.no_grad(), batches.watched():
        for batch in without_padding_alone(batches):
            maps = []
            for member in members:
                with judged(batch.inputs), failures_explained(member, batch.inputs):
                    maps.append(_map_of(cast(SteeredNetwork, member), batch.inputs, before=before))
            found.append(torch.stack(maps).mean(dim=0).float().cpu().numpy())
    sizes = np.max([part.shape[1:] for part in found], axis=0)
    padded = [
        np.pad(part, [(0, 0), *((0, most - size) for most, size in zip(sizes, part.shape[1:], strict=True))])
        for part in found
    ]
    return np.concatenate(padded)


def _map_of(module: SteeredNetwork, inputs: Inputs, *, before: bool) -> Tensor:
    args, options = arguments_of(on_network(module, inputs))
    z, mask = module.first_pass(*args, **options), module.mask(args, options)
    steering = nullcontext() if before else module.steered(z, mask)
    patches = _Patches(module)
    with (
        _AttentionWeights(z.shape[1]) as seen,
        outputs_of(module.network, module.end_of_first_pass) as ends,
        watched(module.network, lambda *arguments: None, patches.leave),
        steering,
    ):
        module.network(*args, **options)
    if module.places.of_maps:
        return module.scores(ends[-1])
    if seen.last is None:
        raise ModelError("the attention of the last block was not seen: it is not computed by a softmax over tokens")
    return _seen_by_class_token(module.network, seen.last.mean(dim=1), patches.grid, mask)


class _Patches:
    """Notes height and width of the last map of a convolution outside the blocks: in patches; None in texts."""

    def __init__(self, module: SteeredNetwork) -> None:
        self._inside = tuple(f"{end}." for end in module.places.ends)
        self._modules = dict(module.network.named_modules())
        self.grid: tuple[int, int] | None = None

    def leave(self, path: str, output: object) -> None:
        """Note the output of a convolution."""
        if isinstance(self._modules[path], nn.Conv2d) and not path.startswith(self._inside):
            height, width = output.shape[-2:]  # type: ignore[attr-defined]
            self.grid = height, width


def _seen_by_class_token(
    network: nn.Module, weights: Tensor, grid: tuple[int, int] | None, mask: Tensor | None
) -> Tensor:
    """Return what the class token looks at, or the mean token, from weights of shape (n_rows, n_tokens, n_tokens)."""
    if grid is None:
        return _of_texts(weights, mask)
    n_prefix = weights.shape[-1] - grid[0] * grid[1]
    has_class_token = n_prefix > 0 and any(_CLASS_TOKEN.search(name) for name, _ in network.named_parameters())
    seen = weights[:, 0] if has_class_token else weights.mean(dim=1)  # registers are no class token
    return seen[:, n_prefix:].unflatten(1, grid)


def _of_texts(weights: Tensor, mask: Tensor | None) -> Tensor:
    """Return what the first token looks at, but where each sees only those before it, the mean of what all see."""
    counts = torch.ones_like(weights[..., 0]) if mask is None else mask.to(weights)
    is_causal = not weights.triu(1).any()
    first = F.one_hot(counts.argmax(dim=1), counts.shape[1]).to(weights)  # padding may stand in front
    queries = counts if is_causal else first
    return torch.einsum("nq,nqk->nk", queries / queries.sum(dim=1, keepdim=True), weights)
