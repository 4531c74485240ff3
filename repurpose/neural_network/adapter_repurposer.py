"""`AdapterRepurposer`: a frozen network, a few parameters beside its weights that learn, and a new head."""

from collections.abc import Collection, Sequence
from typing import Any

from torch import nn

from model_handler import ModelHandler, Source
from model_handler.adapters.choosing import check_where
from model_handler.adapters.kinds import Sizes, kind_named
from model_handler.adapters.prompting import check_prompts
from model_handler.extraction.pooling import Pooling
from repurpose.data.inputs import Inputs
from repurpose.neural_network.classifier import up_to
from repurpose.neural_network.ensemble import as_one_network, members_of
from repurpose.neural_network.heads import add_head, class_count_mistakes, end_mistakes, width_of_head
from repurpose.neural_network.neural_network_repurposer import NeuralNetworkRepurposer
from repurpose.parameters import mistakes_found

__all__ = ["AdapterRepurposer"]


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
        The rank of what LoRA adds to each weight.
    transfer_layer_name : str, optional
        The layer whose output the new linear layer reads; by default what the last linear layer of the network reads.
    target_class_count : int, optional
        The width of the new layer; by default the number of classes seen in training.
    alpha : float, optional
        LoRA's product is scaled by alpha / rank; by default by 1.
    parts : str, optional
        Which projections "attention" means, of the letters q, k, v and o (the output), as in "qkvo": "qv" by default.
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
        parts: str | None = None,
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
        self.parts = parts
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
        options = {"device": self.device, "batch_size": self.batch_size}
        handler, end = up_to(self.transfer_layer_name, self._handler_for(example_inputs), example_inputs, **options)
        if self.kind == "prompt":  # prompts run through the forwards of blocks, which an edit would replace
            self._add_adapters(handler)
        if end is not None:
            handler.truncate(end)
        if self.kind != "prompt":  # only layers that are left get an adapter
            self._add_adapters(handler)
        return add_head(handler, width_of_head(self.target_class_count, self.classes_), self.pooling)

    def _add_adapters(self, handler: ModelHandler) -> None:
        handler.add_adapters(
            self.layers, self.kind, self.rank, self.alpha, parts=self.parts, n_tokens=self.n_tokens, deep=self.deep
        )

    def _names_made_again(self, names: Collection[str]) -> set[str]:
        # not all that the source has: a new layer may have a name of it, and a forward may have changed any buffer
        frozen = set(self.parameter_groups_.frozen)
        return {name for name, _ in self._source_network().named_parameters()} & frozen & set(names)

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes() + class_count_mistakes(self.target_class_count)
        if self.kind == "prompt":
            mistakes += mistakes_found(lambda: check_prompts(self.n_tokens, self.deep))
        else:
            mistakes += mistakes_found(
                lambda: kind_named(self.kind, Sizes(self.rank, self.alpha)),
                lambda: check_where(self.layers, self.parts),
            )
        return mistakes + end_mistakes(self.transfer_layer_name, self.pooling, may_be_left_out=True)
