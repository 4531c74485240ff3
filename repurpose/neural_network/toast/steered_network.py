"""`SteeredNetwork`: a frozen network run twice, the second time steered by what was selected in the first.

Shi et al. (2023), arXiv:2305.15542. The first pass is a constant of the input: it is handed over as
the frozen part of the network, to be computed once where rows repeat.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_handler.extraction.channel_layout import Layout
from model_handler.extraction.pooling import Pooling, pool
from model_handler.network.outputs import select_tensor
from model_handler.surgery.freezing import Freezing, apply_freezing
from repurpose.data.inputs import Inputs
from repurpose.data.padding import MASK
from repurpose.neural_network.toast.ended_network import on_network
from repurpose.neural_network.toast.feedback import Feedback
from repurpose.neural_network.toast.places import Places, signal_of
from repurpose.neural_network.toast.selection import Selection
from repurpose.neural_network.toast.steering import SteeredValues, steered_stages, value_weights
from repurpose.training.steps.forward import arguments_of

__all__ = ["SteeredNetwork", "outputs_of"]


class SteeredNetwork(nn.Module):
    """Runs a frozen network, selects, feeds back, runs it again with what was fed back, and puts a head on top.

    Parameters
    ----------
    network : nn.Module
        A copy of its own, which is frozen here; its output are the features that the head reads.
    places : Places
    rank : int, optional
        The rank of TOAST-Lite; None learns all of the feedback.
    pooling : str or callable
        How maps and tokens that the network returns become a row.
    layout : "first", "last" or None
        Where maps that it returns have their channels.
    """

    head: nn.Module

    def __init__(
        self,
        network: nn.Module,
        places: Places,
        *,
        rank: int | None = None,
        pooling: Pooling = "auto",
        layout: Layout | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.places = places
        self.pooling = pooling
        self.layout = layout
        self.selection = Selection(places.width)
        self.feedback = Feedback(places.sizes, of_maps=places.of_maps, rank=rank)
        self.head = nn.Identity()
        modules, parameters = dict(network.named_modules()), dict(network.named_parameters())
        apply_freezing(network, Freezing(dict.fromkeys(parameters, False), dict.fromkeys(modules, True)))
        names = list(inspect.signature(network.forward).parameters)
        self._place_of_mask = names.index(MASK) if MASK in names else None

    def with_head(self, n_outputs: int, example_inputs: Inputs) -> Self:
        """Begin on an example, in place, and put a linear layer on top of what it gives."""
        rows = self.begin(example_inputs)
        self.head = nn.Linear(rows.shape[1], n_outputs).to(rows)
        return self

    def begin(self, example_inputs: Inputs) -> Tensor:
        """Run both passes over an example and return what a head would read, (n_rows, n_features).

        In place, xi is turned round where it selects nothing of the example: -xi is as likely to be drawn, and where
        tokens all point to one side, as they do in many networks, no gradient would ever reach the one on the other.
        Raises ModelError for a network that cannot be steered.
        """
        self.to(next(self.network.parameters())).eval()
        args, options = arguments_of(example_inputs)
        with torch.no_grad():
            z = self.first_pass(*args, **options)
            if not self.scores(z, self.mask(args, options)).any():
                self.selection.xi.neg_()
            return self.second_pass(z, *args, **options)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Map what the network takes to logits (n_rows, n_outputs)."""
        return self.second_pass(self.first_pass(*inputs, **options), *inputs, **options)

    def first_pass(self, *inputs: Any, **options: Any) -> Tensor:
        """Compute z, what the last block gives, normalised for tokens: (n_rows, n_tokens, width) or a map."""
        # copies, as many networks write into what they get, and the second pass is to read the same
        own, named = map(_cloned, inputs), {name: _cloned(value) for name, value in options.items()}
        with torch.no_grad(), outputs_of(self.network, self.end_of_first_pass) as found:
            self.network(*own, **named)
        return signal_of(found[-1]).detach()

    @property
    def end_of_first_pass(self) -> str:
        """The module that gives z."""
        norm = None if self.places.of_maps else self.places.final_norm
        return self.places.ends[-1] if norm is None else norm

    def second_pass(self, z: Tensor, *inputs: Any, **options: Any) -> Any:
        """Compute the logits of the steered pass over the same inputs."""
        mask = self.mask(inputs, options)
        with self.steered(z, mask):
            features = select_tensor(self.network(*inputs, **options), "the network", None)
        return self.head(pool(features, self.pooling, self.layout, mask))

    @contextmanager
    def steered(self, z: Tensor, mask: Tensor | None) -> Iterator[list[Tensor]]:
        """Run the network, in this block, with what is selected of z and fed back; gives what is added, by block."""
        u = self._selected(z, mask)
        if self.places.of_maps:
            top_down = self.feedback(u)
            with steered_stages(self.network, self.places, top_down):
                yield top_down
        else:
            added = self.feedback.projected(u, value_weights(self.network, self.places.values))
            with SteeredValues(self.network, self.places.values, added):
                yield added

    def scores(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute s, how much of each token (n_rows, n_tokens) or position (n_rows, height, width) is selected."""
        return self.selection.scores(self._normalised(self._with_channels_last(z)), mask)

    def share_selected(self, inputs: Inputs) -> float:
        """Compute the share of the tokens or positions of inputs of which anything is fed back, from 0 to 1."""
        args, options = arguments_of(on_network(self, inputs))
        mask = self.mask(args, options)
        with torch.no_grad():
            selected = self.scores(self.first_pass(*args, **options), mask) > 0
        return float(selected.sum() / (selected.numel() if mask is None else mask.sum()))

    def mask(self, inputs: tuple[Any, ...], options: dict[str, Any]) -> Tensor | None:
        """Return which tokens are no padding, bool of shape (n_rows, n_tokens); None for inputs without a mask.

        Raises ValueError for a row that is padding alone.
        """
        given = options.get(MASK)
        if given is None and self._place_of_mask is not None and len(inputs) > self._place_of_mask:
            given = inputs[self._place_of_mask]
        if given is None or given.ndim != 2:  # some networks take masks of pairs of tokens
            return None
        mask = given.bool()
        if torch.compiler.is_exporting():  # which cannot look at numbers
            return mask
        if not (filled := mask.any(dim=-1)).all():
            first = int((~filled).nonzero()[0])
            raise ValueError(
                f"row {first} of a batch has no token: its {MASK} is 0 everywhere; leave out empty texts, or give "
                "them one token"
            )
        return mask

    def _selected(self, z: Tensor, mask: Tensor | None) -> Tensor:
        u = self.selection(self._with_channels_last(z), self.scores(z, mask))
        return u.movedim(-1, 1) if self.places.of_maps else u

    def _with_channels_last(self, z: Tensor) -> Tensor:
        return z if self.places.channels_last else z.movedim(1, -1)

    def _normalised(self, z: Tensor) -> Tensor:
        """Normalise maps over their channels, for the cosine alone; tokens are behind their normalisation already."""
        if not self.places.of_maps:
            return z
        norm: Any = self.network.get_submodule(self.places.final_norm) if self.places.final_norm else None
        weight, bias, eps = (norm.weight, norm.bias, norm.eps) if norm is not None else (None, None, 1e-6)
        return F.layer_norm(z, z.shape[-1:], weight, bias, eps)


@contextmanager
def outputs_of(network: nn.Module, path: str) -> Iterator[list[Any]]:
    """Collect, in this block, what each call of a module returns."""
    found: list[Any] = []

    def note(module: nn.Module, inputs: object, output: Any) -> None:
        found.append(output)

    with network.get_submodule(path).register_forward_hook(note):
        yield found


def _cloned(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
