"""A network that hands out, while it trains, the rows of some of its layers beside the logits: what is to be adapted.

A layer is read by a `Tap` behind it, in the network itself, so that it is read too where only the rest behind a frozen
part is run.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from model_handler import ModelHandler, UntraceableModelError
from model_handler.extraction.pooling import Pooling
from repurpose.data.inputs import Inputs
from repurpose.domain.networks.inner_split import SplitInside
from repurpose.neural_network.heads import Pooled, add_head, unused_name, with_masks
from repurpose.training.steps.forward import logits_of
from repurpose.training.validation import logits_in_batches

__all__ = ["Tap", "TappedNetwork", "tapped_network"]

HEAD_INPUT = "what the head reads"  # the layer that is read where none is named


class Tap(Pooled):
    """Passes on what it gets, and keeps it, pooled to one row an input, until `take` asks for it."""

    rows: Tensor | None = None

    def forward(self, value: Tensor) -> Tensor:
        """Return the value itself."""
        self.rows = super().forward(value)
        return value

    def take(self) -> Tensor | None:
        """Return the rows of the last pass (n_rows, width), and forget them."""
        rows, self.rows = self.rows, None
        return rows


class TappedNetwork(SplitInside):
    """A network with taps, which in training returns {"logits": ..., "layers": rows (n_rows, width) by layer}.

    In evaluation it returns what the network does. A layer of which nothing is left in the rest behind a frozen part is
    left out.

    Parameters
    ----------
    network : nn.Module
    taps : dict of str to str
        The path of the tap of each layer.
    parts : dict of str to nn.ModuleList
        By a name of their own, none or one list of a module for each tap, which maps its rows in training.
    """

    def __init__(self, network: nn.Module, taps: Mapping[str, str], parts: Mapping[str, nn.ModuleList]) -> None:
        super().__init__(network, parts)
        self._taps, self._lists = dict(taps), [*parts]

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Compute what the network returns, and in training the rows of the layers, float32."""
        output = self.network(*inputs, **options)
        taken = {layer: tap.take() for layer, tap in self.taps().items()}
        if not self.training:
            return output
        # copied: sharded networks must not hand out views, as a flattened layer gives
        layers = {layer: rows.float().clone() for layer, rows in taken.items() if rows is not None}
        for parts in map(self.get_submodule, self._lists):
            mapped = dict(zip(self._taps, parts.children(), strict=True))
            layers = {layer: mapped[layer](rows) for layer, rows in layers.items()}
        return {"logits": logits_of(output), "layers": layers}

    def taps(self) -> dict[str, Tap]:
        """Return the tap of each layer that is in the network, or in the rest of it."""
        known = dict(self.network.named_modules())
        found = {layer: known.get(path) for layer, path in self._taps.items()}
        return {layer: tap for layer, tap in found.items() if isinstance(tap, Tap)}

    def rows_of(self, example_inputs: Inputs) -> dict[str, Tensor]:
        """Return the rows of each layer for an example, in evaluation mode; nothing changes."""
        was_training = self.training
        self.network.eval()
        logits_in_batches(self.network, example_inputs, "float32")
        self.network.train(was_training)
        taken = {layer: tap.take() for layer, tap in self.taps().items()}
        return {layer: rows for layer, rows in taken.items() if rows is not None}

    def out_of_reach(self, frozen: Collection[str], example_inputs: Inputs) -> list[str]:
        """List the layers that nothing changes while the parameters named in `frozen` stay as they are."""
        learns = [(parameter, parameter.requires_grad) for parameter in self.parameters()]
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name not in frozen and parameter.is_floating_point())
        try:
            return [layer for layer, rows in self.rows_of(example_inputs).items() if not rows.requires_grad]
        finally:
            for parameter, was_learning in learns:
                parameter.requires_grad_(was_learning)


def tapped_network(
    handler: ModelHandler,
    layers: Sequence[str] | None,
    n_outputs: int,
    pooling: Pooling,
    make_part: Callable[[int], nn.Module | None],
    example_inputs: Inputs,
) -> TappedNetwork:
    """Put a head of `n_outputs` on the network of a handler, and taps behind `layers`, by default below the head.

    `make_part` makes of the width of a layer what maps its rows in training, or None. Raises UnknownLayerError, and
    ModelError for a layer behind which nothing can be put.
    """
    taps: dict[str, str] = {}
    if layers is None:
        taps[HEAD_INPUT] = unused_name("tap", handler)
        network = add_head(handler, n_outputs, pooling, [(taps[HEAD_INPUT], Tap(pooling, None))])
    else:
        add_head(handler, n_outputs, pooling)
        for layer in layers:
            layout = handler.truncate(layer).output_layout
            handler.undo()
            taps[layer] = unused_name("tap", handler)
            with _naming_the_way_out():
                handler.insert_after(layer, [(taps[layer], Tap(pooling, layout))])
        network = with_masks(handler)
    tapped = TappedNetwork(network, taps, {})
    made = [_like(rows, make_part(rows.shape[1])) for rows in tapped.rows_of(example_inputs).values()]
    parts = [part for part in made if part is not None]
    return TappedNetwork(network, taps, {unused_name("domain", handler): nn.ModuleList(parts)}) if parts else tapped


@contextmanager
def _naming_the_way_out() -> Iterator[None]:
    try:
        yield
    except UntraceableModelError as error:
        raise UntraceableModelError(
            f"{error}. What the head reads, which is compared by default, needs none"
        ) from error


def _like(rows: Tensor, part: nn.Module | None) -> nn.Module | None:
    return None if part is None else part.to(rows.device)
