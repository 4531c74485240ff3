"""`AdapterRepurposer`: a frozen network, a few parameters beside its weights that learn, and a new head."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from model_handler import ModelHandler, Source
from model_handler.adapters.kinds import KINDS
from model_handler.errors import nearest
from model_handler.extraction.pooling import Pooling
from repurpose.data.inputs import Inputs
from repurpose.neural_network.classifier import before_classifier
from repurpose.neural_network.ensemble import as_one_network, members_of
from repurpose.neural_network.heads import add_head, class_count_mistakes, pooling_mistakes, width_of_head
from repurpose.neural_network.neural_network_repurposer import NeuralNetworkRepurposer
from repurpose.parameters import is_whole

__all__ = ["AdapterRepurposer"]

_KINDS = (*KINDS, "prompt")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class AdapterRepurposer(NeuralNetworkRepurposer):
    """Freezes a network, puts adapters beside its weights and a linear layer on top, and trains these alone.

    Between a new head on frozen features and a network tuned whole: a few parameters learn, and a file holds no others.
    `ModelHandler.add_adapters` describes the kinds and cites their papers.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network to reuse, or its name.
    kind : str, default="lora"
        As in `ModelHandler.add_adapters`: "lora", "bias", "norm", "scale_shift" or "prompt".
    layers : str, class or sequence of these, default="auto"
        Which layers get an adapter: `where` of `ModelHandler.add_adapters`.
    rank : int, default=4
        Of LoRA.
    transfer_layer_name : str, optional
        The layer whose output the new linear layer reads; by default what the last linear layer of the network reads.
    target_class_count : int, optional
        The width of the new layer; by default the number of classes seen in training.
    alpha : float, optional
        LoRA's product is scaled by alpha / rank; by default by 1.
    n_tokens : int, default=10
        How many prompts there are.
    deep : bool, default=False
        Whether each block has prompts of its own.
    pooling : str or callable, default="auto"
        How maps and tokens become a row before the new layer, as in `ModelHandler.extract`.
    **kwargs
        The parameters of `NeuralNetworkRepurposer` and `Repurposer`. In `learning_rates`, adapters are ``"new"``.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import AdapterRepurposer
    >>> X, y = make_blobs(30, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 5))
    >>> repurposer = AdapterRepurposer(network, layers=["0"], rank=2, num_epochs=3).repurpose((X, y))
    >>> [name for name, weight in repurposer.target_model_.named_parameters() if weight.requires_grad]
    ['0.lora_A', '0.lora_B', 'head.weight', 'head.bias']
    >>> list(dict(repurposer.merged_module().named_parameters()))
    ['0.weight', '0.bias', 'head.weight', 'head.bias']
    """

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        kind: str = "lora",
        layers: str | type[nn.Module] | Sequence[str | type[nn.Module]] = "auto",
        rank: int = 4,
        transfer_layer_name: str | None = None,
        target_class_count: int | None = None,
        *,
        alpha: float | None = None,
        n_tokens: int = 10,
        deep: bool = False,
        pooling: Pooling = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, **kwargs)
        self.kind = kind
        self.layers = layers
        self.rank = rank
        self.transfer_layer_name = transfer_layer_name
        self.target_class_count = target_class_count
        self.alpha = alpha
        self.n_tokens = n_tokens
        self.deep = deep
        self.pooling = pooling

    def merged_module(self) -> nn.Module:
        """Return the trained network with its head, the adapters computed into the weights: no slower than the source.

        Its outputs are those of `target_model_` but for rounding. Raises ModelError where what was learned cannot go
        into weights, and NotFittedError before `repurpose`.
        """
        self._check_is_repurposed()
        merged = [ModelHandler(member).merge_adapters().get_module() for member in members_of(self.target_model_)]
        return as_one_network(merged).eval()

    def _create_target_module(self, example_inputs: Inputs) -> nn.Module:
        handler, end = self._handler_and_end(example_inputs)
        if self.kind == "prompt":  # which run through the forwards of blocks, before any edit
            handler.add_adapters(self.layers, "prompt", n_tokens=self.n_tokens, deep=self.deep)
        if end is not None:
            handler.truncate(end)
        if self.kind != "prompt":  # of layers that stay alone
            handler.add_adapters(self.layers, self.kind, self.rank, self.alpha)
        return add_head(handler, width_of_head(self.target_class_count, self.classes_), self.pooling)

    def _handler_and_end(self, example_inputs: Inputs) -> tuple[ModelHandler, str | None]:
        """Make a handler on the network, and name the layer whose output the new layer reads; None is all of it."""
        handler = self._handler_for(example_inputs)
        if self.transfer_layer_name is not None:
            return handler, self.transfer_layer_name
        network, end = before_classifier(handler)
        if end is None:
            return handler, None
        return ModelHandler(network, example_inputs, device=self.device, batch_size=self.batch_size), end

    def _is_made_again(self, name: str) -> bool:
        of_source = self._source_network().state_dict(keep_vars=True).get(name)
        if isinstance(of_source, nn.Parameter):  # a new layer may have a name that the source has further up
            return name in self.parameter_groups_.frozen
        path, _, last = name.rpartition(".")
        follows_batches = last in _STATISTICS and path not in self.parameter_groups_.held
        return of_source is not None and not follows_batches

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes() + class_count_mistakes(self.target_class_count)
        if self.kind not in _KINDS:
            near = ", ".join(nearest(str(self.kind), _KINDS))
            mistakes.append(f"kind must be one of {', '.join(_KINDS)}; got {self.kind!r}, nearest: {near}")
        if not is_whole(self.rank, 1):
            mistakes.append(f"rank must be a whole number of at least 1, got {self.rank!r}")
        if not isinstance(self.transfer_layer_name, (str, type(None))):
            mistakes.append(
                f"transfer_layer_name must be the name of a layer, or None, got {self.transfer_layer_name!r}"
            )
        return mistakes + pooling_mistakes(self.pooling)
