"""Adapting: the methods of `ModelHandler` that put adapters on layers, merge them and take them off.

Which layers are meant is found in `choosing`, what cannot be adapted in `refusing`; how adapters act is in
`network.adapted_layer`, and the kinds of them in `kinds`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from torch import nn

from model_handler.adapters.choosing import Chooser, Where
from model_handler.adapters.kinds import Sizes, kind_named
from model_handler.adapters.merging import (
    adapted_or_refused,
    merged,
    plain,
    prompted_blocks,
    prompts_in_graph,
    refuse_unmergeable,
)
from model_handler.adapters.one_call import OneCall, count_calls_in
from model_handler.adapters.prompting import check_prompts, place_of_prompts, put_prompts
from model_handler.adapters.prompts import PROMPTS
from model_handler.adapters.refusing import refuse_misfits
from model_handler.blocks.finding import BlocksMixin
from model_handler.blocks.records import Block
from model_handler.errors import ModelError, NoBlocksError
from model_handler.extraction.backends import TracedBackend
from model_handler.extraction.engine import NETWORK_LOCK
from model_handler.extraction.recording import record_calls
from model_handler.network.adapted_layer import adapt, adapted_layers
from model_handler.network.ambient_modes import undisturbed
from model_handler.network.replica import share_weights
from model_handler.surgery.freezing import Freezing, select_modules
from model_handler.surgery.randomizing import check_seed, seeded

__all__ = ["AdapterInfo", "AdaptersMixin"]


@dataclass(frozen=True)
class AdapterInfo:
    """What `ModelHandler.adapters` tells of one adapter: its layer, its kind, and its parameters by name.

    `layer` is a path, with "@1" behind it for an adapter of the second call alone.

    >>> from torch import nn
    >>> from model_handler import ModelHandler
    >>> ModelHandler(nn.Sequential(nn.Linear(8, 4))).add_adapters("0", rank=2).adapters
    (AdapterInfo(layer='0', kind='lora', parameter_names=('0.lora_A', '0.lora_B'), n_parameters=24),)
    """

    layer: str
    kind: str
    parameter_names: tuple[str, ...]
    n_parameters: int


class AdaptersMixin(BlocksMixin):
    """Puts a few parameters beside frozen weights, merges them into these and takes them off."""

    @property
    def adapters(self) -> tuple[AdapterInfo, ...]:
        """The adapters in the network, those that it came with included, in order of registration.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> module = ModelHandler(nn.Sequential(nn.Linear(8, 4))).add_adapters("0", "bias").get_module()
        >>> [adapter.kind for adapter in ModelHandler(module).adapters]
        ['bias']
        """
        network = self._engine.network
        found = [(path, layer._adapter) for path, layer in adapted_layers(network).items()]
        kinds = {path: (adapter.called(path), adapter.kind, adapter.parameter_names) for path, adapter in found}
        kinds.update({path: (path, "prompt", (PROMPTS,)) for path in prompts_in_graph(network)})
        return tuple(
            AdapterInfo(
                layer,
                kind,
                tuple(f"{path}.{name}".lstrip(".") for name in names),
                sum(network.get_submodule(path).get_parameter(name).numel() for name in names),
            )
            for path, (layer, kind, names) in kinds.items()
            if names
        )

    @undisturbed()
    def add_adapters(
        self,
        where: Where,
        kind: str = "lora",
        rank: int = 4,
        alpha: float | None = None,
        *,
        parts: str | None = None,
        n_tokens: int = 10,
        deep: bool = False,
        random_state: int | None = None,
    ) -> Self:
        """Put adapters on layers and freeze all else: what learns is a few parameters beside weights that stay.

        The network begins as it was, bit for bit. Its weights keep their names, and the adapters' parameters come
        beside them ("fc.lora_A" beside "fc.weight"). No graph is needed. Of a module that runs several times all calls
        change, or the one that is named ("fc@1").

        Parameters
        ----------
        where : str, class or sequence of these
            "attention", the query and value projections of the blocks; "pointwise", linear layers and ungrouped 1x1
            convolutions in the blocks; "all", linear layers, convolutions and normalisations; "auto", for LoRA
            attention, or pointwise where there is none, and for the other kinds all that they fit. Otherwise names of
            layers, of containers with all inside, and types, as in `get_layer_names_matching_type`; a list means these
            alone, also for layers named as one of the words.
        kind : "lora", "bias", "norm", "scale_shift" or "prompt"
            "lora" adds to the weight of a linear layer or a convolution a product B A of low rank (Hu et al. 2021,
            arXiv:2106.09685). "bias" learns biases alone (BitFit, Zaken et al. 2022, arXiv:2106.10199), "norm" weights
            and biases of normalisations, both as numbers added to those of the source. "scale_shift" multiplies and
            shifts what a layer returns, each output by itself; without a bias it multiplies alone (SSF, Lian et al.
            2022, arXiv:2210.08823). "prompt" lets tokens that learn run through the blocks (VPT, Jia et al. 2022,
            arXiv:2203.12119); `where` is "auto", and the network then does not begin as it was.
        rank : int
            Of LoRA's product: A is (rank, n_inputs), Kaiming-uniform, B is (n_outputs, rank), zero; n_inputs counts the
            channels of one group times the kernel.
        alpha : float, optional
            The product is scaled by alpha / rank; by default by 1.
        parts : str, optional
            Which projections "attention" means, of the letters q, k, v and o (the output): "qv" by default. Of a fused
            layer the rows of each part get a product of their own.
        n_tokens : int
            The number of prompts, which stand behind the class token; behind the last block they are taken out.
        deep : bool
            Whether each block has prompts of its own, in place of those of the block before.
        random_state : int, optional
            Gives the same A, or prompts, each time, and leaves torch's own generator alone.

        Raises
        ------
        UnknownLayerError
            For a name that is no layer, type or word, with the nearest ones.
        NoBlocksError
            Where the network has no chain of blocks to find attention in.
        ModelError
            If a layer has an adapter already, is of no type that the kind fits, computes its weight of others, or is
            tied to another; if a rank is above the lesser of n_outputs and n_inputs; if the network has no attention;
            for values that are none; for prompts where blocks do not run on tokens, or positions enter their attention
            (a relative bias, rotary positions, windows). Every layer that misfits is listed.

        Examples
        --------
        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> handler = ModelHandler(nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)))
        >>> module = handler.add_adapters("all", rank=2).get_module()
        >>> [name for name, parameter in module.named_parameters() if parameter.requires_grad]
        ['0.lora_A', '0.lora_B', '2.lora_A', '2.lora_B']
        """
        if kind == "prompt":
            if alpha is not None or parts is not None:
                raise ModelError(f"prompts have neither alpha nor parts, got alpha={alpha!r}, parts={parts!r}")
            return self._add_prompts(where, n_tokens, deep, random_state)
        sizes = Sizes(rank, alpha)
        made_as = kind_named(kind, sizes)
        check_seed(random_state)
        self._prepare()
        chooser = Chooser(self._engine, made_as, lambda: self.blocks, self.attention)
        chosen, calls = chooser.choose(where, parts), chooser.calls(where, self._ran)
        network = share_weights(self._engine.source)
        refuse_misfits(network, chosen, kind, sizes)
        learning: list[str] = []
        with seeded(random_state):
            for path, pieces in chosen.items():
                layer = network.get_submodule(path)
                adapter, parameters = made_as.make(layer, pieces, sizes)
                adapt(layer, OneCall(adapter, *calls[path]) if path in calls else adapter, parameters)
                learning.extend(f"{path}.{name}".lstrip(".") for name in parameters)
        options = {
            "rank": rank if kind == "lora" else None,
            "alpha": alpha,
            "parts": parts,
            "random_state": random_state,
        }
        return self._exchange(_as_written(where, kind, options), network, self._frozen_beside(network, learning))

    @undisturbed()
    def merge_adapters(self) -> Self:
        """Compute the adapters into the weights that they change: the network then is of the source's own layers.

        It returns what it did with adapters, but for rounding (1e-5 of the largest value), under the source's keys, and
        costs no more than the source. What was frozen beside the adapters stays so; `unfreeze` lets it learn. Raises
        ModelError where there is no adapter, or one that has no weights to go into.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> handler = ModelHandler(nn.Sequential(nn.Linear(8, 4))).add_adapters("0").merge_adapters()
        >>> list(handler.get_module().state_dict()), handler.adapters
        (['0.weight', '0.bias'], ())
        """
        self._prepare()
        adapted_or_refused(self._engine.network, "merge_adapters")
        refuse_unmergeable(self._engine.network)
        return self._exchange("merge_adapters()", merged(self._engine.source), self._freezing_without_adapters())

    @undisturbed()
    def remove_adapters(self) -> Self:
        """Take all adapters off, with what they learned: the network computes what the source does.

        What was frozen beside them stays so; `unfreeze` lets it learn. Raises ModelError where there is no adapter.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> ModelHandler(nn.Sequential(nn.Linear(8, 4))).add_adapters("0").remove_adapters().get_layer_parameters("0")
        ['0.weight', '0.bias']
        """
        self._prepare()
        adapted_or_refused(self._engine.network, "remove_adapters")
        network, freezing = plain(self._engine.source), self._freezing_without_adapters()
        had_prompts = bool(prompted_blocks(self._engine.network))
        return self._exchange("remove_adapters()", network, freezing, changes_calls=had_prompts)

    def _blocks_for_prompts(self) -> tuple[Block, ...]:
        try:
            return self.blocks
        except NoBlocksError as error:
            raise NoBlocksError(f"{error}; prompts run through blocks: use another kind, such as 'lora'") from error

    def _add_prompts(self, where: Where, n_tokens: int, deep: bool, random_state: int | None) -> Self:
        check_prompts(n_tokens, deep)
        check_seed(random_state)
        if where != "auto":
            raise ModelError(
                f"prompts stand before the first block, or before each if deep, which is 'auto'; got {where!r}"
            )
        self._prepare()
        with NETWORK_LOCK:
            blocks = self._blocks_for_prompts()
            place = self._engine.observe_numbers(
                self._inputs_to_follow("adding prompts"),
                lambda module, inputs: place_of_prompts(module, inputs, blocks, deep=deep),
            )
        network = share_weights(self._engine.source)
        with seeded(random_state):
            learning = put_prompts(network, blocks, n_tokens, place, deep=deep)
        options = {"n_tokens": n_tokens, "deep": deep or None, "random_state": random_state}
        freezing = self._frozen_beside(network, learning)
        return self._exchange(_as_written(where, "prompt", options), network, freezing, changes_calls=True)

    def _ran(self) -> tuple[str, ...]:
        """Return the paths of all calls of modules in one forward."""
        with NETWORK_LOCK:
            inputs = self._inputs_to_follow("adapting one call of a layer")
            return self._engine.observe(inputs, lambda module, row, count: record_calls(module, row, count).calls)

    def _frozen_beside(self, network: nn.Module, learning: Sequence[str]) -> Freezing:
        """Freeze all of a network but parameters that are to learn, and adapters that learn already."""
        names = [name for adapter in self.adapters for name in adapter.parameter_names]
        learning = [*learning, *(name for name in names if self._learns(name, network.get_parameter(name)))]
        frozen = self._state.freezing.frozen(select_modules(network, [""]), network, norm_stats=True)
        # the root's own operations follow its mode, as after `freeze` of all layers
        held = {path: stays for path, stays in frozen.held.items() if path}
        return Freezing({**frozen.learns, **dict.fromkeys(learning, True)}, held)

    def _freezing_without_adapters(self) -> Freezing:
        gone: Collection[str] = {name for adapter in self.adapters for name in adapter.parameter_names}
        freezing = self._state.freezing
        return Freezing({name: learns for name, learns in freezing.learns.items() if name not in gone}, freezing.held)

    def _exchange(self, edit: str, network: nn.Module, freezing: Freezing, *, changes_calls: bool = False) -> Self:
        """Take a network of the same layers, run on the example inputs first, where there are some.

        Where it calls them otherwise it is traced again.
        """
        before, backend = self._state, self._engine.backend
        changes_calls = count_calls_in(network) or changes_calls
        trace = backend.trace if isinstance(backend, TracedBackend) and not changes_calls else None
        with NETWORK_LOCK:
            origins = (self._states[0].engine.source, *before.added)
            engine = self._engine.edited(network, trace, origins, retrace=changes_calls)
            shapes = {} if before.example_inputs is None else engine.shapes(before.example_inputs)
        return self._push(
            replace(before, engine=engine, shapes=shapes, freezing=freezing, edit=edit, keeps_layers=True)
        )


def _as_written(where: Where, kind: str, options: Mapping[str, object]) -> str:
    given = [f"{name}={value!r}" for name, value in options.items() if value is not None]
    return f"add_adapters({', '.join([repr(where), repr(kind), *given])})"
