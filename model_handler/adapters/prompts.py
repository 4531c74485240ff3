"""Prompts: tokens that learn run through the blocks beside those of the input (VPT, Jia et al. 2022, arXiv:2203.12119).

They are put before the first block, behind the class token, and taken out behind the last one, so that nothing after it
sees them; deep ones are put before each block anew and taken out behind it. Masks are lengthened, so that every token
attends to them. Where this can be done is judged in `prompting`.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.errors import ModelError
from model_handler.network.adapted_layer import LayerAdapter

__all__ = ["PROMPTS", "Prompts", "mask_names", "refuse_nested"]

PROMPTS = "prompt_tokens"


@dataclass(frozen=True)
class Prompts(LayerAdapter):
    """What a block does with `n_tokens` prompts, which stand behind the first `place` tokens.

    It may put its own in and take them out; those of an earlier block run through it. Of a causal network, whose
    tokens see what is before them alone, `place` is 0.
    """

    n_tokens: int
    place: int
    puts_in: bool
    takes_out: bool

    kind = "prompt"
    wraps_calls = True

    @property
    def parameter_names(self) -> tuple[str, ...]:
        return (PROMPTS,) if self.puts_in else ()

    @property
    def targets(self) -> frozenset[str]:
        return frozenset()

    def changed(self, layer: nn.Module, name: str, tensor: Tensor) -> Tensor:
        return tensor

    def around(self, layer: nn.Module, forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
        call = inspect.signature(forward).bind(*inputs, **options)
        given = call.arguments
        first = next(iter(given))
        refuse_nested(given[first])
        n_rows = given[first].shape[0]
        if self.puts_in:
            given[first] = self._with_prompts(given[first], getattr(layer, PROMPTS))
        for name in mask_names(call):
            given[name] = self._lengthened(name, given[name], n_rows, isinstance(layer, nn.TransformerEncoderLayer))
        returned = forward(*call.args, **call.kwargs)
        if not self.takes_out:
            return returned
        if isinstance(returned, tuple):
            return (self._without_prompts(returned[0]), *returned[1:])
        return self._without_prompts(returned)

    def _with_prompts(self, tokens: Tensor, prompts: Any) -> Tensor:
        own = prompts.unsqueeze(0).expand(tokens.shape[0], -1, -1).type_as(tokens)
        return torch.cat([tokens[:, : self.place], own, tokens[:, self.place :]], dim=1)

    def _without_prompts(self, tokens: Tensor) -> Tensor:
        return torch.cat([tokens[:, : self.place], tokens[:, self.place + self.n_tokens :]], dim=1)

    def _lengthened(self, name: str, mask: Tensor, n_rows: int, true_hides: bool) -> Tensor:
        """Return a mask of more keys and, where it has a row for each query, more queries.

        All see the prompts, and these see what the first token sees; of a causal network those before them alone.
        """
        shown, hidden = _signs(mask, true_hides)
        mask = self._inserted(mask, -1, mask.new_full((*mask.shape[:-1], self.n_tokens), shown))
        is_of_keys = mask.ndim == 2 and ("key_padding" in name or mask.shape[0] == n_rows)
        if is_of_keys or mask.shape[-2] == 1:
            return mask
        own = mask[..., :1, :].expand(*mask.shape[:-2], self.n_tokens, -1)
        if self.place == 0:
            later = torch.ones(own.shape[-2:], dtype=torch.bool, device=mask.device).triu(1)
            own = torch.full_like(own, shown).masked_fill(later, hidden)
        return self._inserted(mask, -2, own)

    def _inserted(self, mask: Tensor, axis: int, more: Tensor) -> Tensor:
        before, after = mask.split([self.place, mask.shape[axis] - self.place], axis)
        return torch.cat([before, more, after], axis)

    def __str__(self) -> str:
        put = f"{self.n_tokens} prompts" if self.puts_in else "prompts of an earlier block"
        return f"{put}, taken out behind it" if self.takes_out else put


def refuse_nested(tokens: object) -> None:
    """Raise ModelError for tokens of which padding was cut off, to which no others can be added."""
    if isinstance(tokens, Tensor) and tokens.is_nested:
        raise ModelError(
            "prompts cannot be put among nested tensors, which nn.TransformerEncoder makes where there is padding: "
            "make it with enable_nested_tensor=False"
        )


def mask_names(call: inspect.BoundArguments) -> list[str]:
    """Return which arguments of a call are masks."""
    # not by the type Tensor: while torch.fx traces they are none, and are to fail and make the block one layer
    given = call.arguments.items()
    return [name for name, value in given if "mask" in name and value is not None and not isinstance(value, bool)]


def _signs(mask: Tensor, true_hides: bool) -> tuple[Any, Any]:
    """Return what stands in a mask for what is seen and for what is not."""
    if mask.is_floating_point():  # added to the scores
        return 0.0, torch.finfo(mask.dtype).min
    if mask.dtype is torch.bool and true_hides:  # as torch's own layers have it, not its scaled_dot_product_attention
        return False, True
    return (True, False) if mask.dtype is torch.bool else (1, 0)
