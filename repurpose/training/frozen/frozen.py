"""The frozen part of a network is split off in training, and computed once where inputs stay the same.

There are three ways, from the best to the plain one: its activations are computed once for all rows and cached
(`caching`), and only the rest is trained on them; it runs for each batch, folded and without autograd, where rows
differ from epoch to epoch or there is no room; the network is trained whole, where nothing can be split off. All
processes of a group go the same way: if one of them objects to the better one, none takes it. Where the line is drawn
is known to `model_handler.frozen_prefix.splitting`, how rows are read again to `row_reader`. The log says which way was
taken, and why.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.data import unmoved_generators
from model_handler.frozen_prefix.frontier import Frontier
from model_handler.frozen_prefix.splitting import split
from model_handler.network.tensors import named_tensors
from repurpose.data.inputs import Inputs
from repurpose.training.data.batches import BatchSource, EpochBatches, TrainingBatch, TrainingBatches
from repurpose.training.data.seeding import drawing_from
from repurpose.training.distributed.process_group import ProcessGroup
from repurpose.training.distributed.single_process import SingleProcess
from repurpose.training.frozen.caching import CachedBatches, cache_activations, of_stream
from repurpose.training.frozen.row_reader import RowReader, why_rows_differ
from repurpose.training.plan.cache_options import CacheOptions

__all__ = ["Feed", "FrozenPart"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Feed:
    """What to train: `module` takes the inputs of the batches that `batches` gives."""

    module: nn.Module
    batches: EpochBatches


class FrozenPart:
    """The frozen part of `module` while it is trained on `batches`, let go of by `close` or the end of a `with` block.

    Parameters
    ----------
    module : nn.Module
    batches, validation : BatchSource
        What this process reads of them.
    options : CacheOptions
    precision : str
        What training computes in.
    num_epochs : int
    changes : collection of int
        The epochs, from 0, in which other parameters begin to learn.
    mixes : bool
        Whether something is done to each batch before the network gets it: its rows are mixed, say.
    own_loss : bool
        Whether the loss may do more with the module and the inputs than call the one with the other: the network is
        then trained whole, unless activations must be kept.
    process_group : ProcessGroup, optional
        The processes that train it together, each of which makes the same calls.

    Attributes
    ----------
    decisions : list of str
        What was decided and why, a sentence for each time.
    """

    def __init__(
        self,
        module: nn.Module,
        batches: BatchSource,
        options: CacheOptions,
        *,
        num_epochs: int,
        precision: str = "float32",
        changes: Collection[int] = (),
        mixes: bool = False,
        own_loss: bool = False,
        validation: BatchSource | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        self._module = module
        self._batches = batches
        self._validation = validation
        self._options = options
        self._num_epochs = num_epochs
        self._precision = precision
        self._changes = changes
        self._mixes = mixes
        self._own_loss = own_loss
        self._process_group = process_group or SingleProcess()
        self.decisions: list[str] = []
        self._learning: tuple[str, ...] | None = None
        self._feed = Feed(module, batches)
        self._frontier: Frontier | None = None
        self._kept: dict[str, CachedBatches] = {}
        self._kept_validation: dict[str, CachedBatches] = {}

    def feed(self, epoch: int) -> Feed:
        """Return what to train on in an epoch, in which `let_learn` has said which parameters learn.

        `module` trains the network, whose parameters it has. All generators are left as they are. Raises ValueError
        where activations must be kept (`when=True`) and cannot be.
        """
        learning = tuple(name for name, parameter in self._module.named_parameters() if parameter.requires_grad)
        if learning != self._learning:
            self.close()
            self._learning = learning
            # the split runs the network, whose dropout must not move the generators of training
            with drawing_from(0):
                self._decide(epoch)
        return self._feed

    def validated(self, evaluated: nn.Module) -> Feed | None:
        """Return what to validate with, if anything: the network, or an average of its weights under the same names."""
        if self._validation is None:
            return None
        if not self._kept_validation or self._frontier is None:
            return Feed(evaluated, self._validation)
        rest = self._frontier.rest
        module = rest if evaluated is self._module else _WithWeights(rest, evaluated)
        return Feed(module, self._validation.with_streams(self._kept_validation))

    def close(self) -> None:
        """Release the activations, and remove what is on disk."""
        for stream in (*self._kept.values(), *self._kept_validation.values()):
            stream.activations.close()
        self._feed = Feed(self._module, self._batches)
        self._frontier = None
        self._kept, self._kept_validation = {}, {}
        self._learning = None

    def __enter__(self) -> "FrozenPart":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _decide(self, epoch: int) -> None:
        if self._options.when is False:
            return self._say("the network is trained whole: cache_frozen=False")
        if all(parameter.requires_grad for parameter in self._module.parameters()):  # known without any row
            return self._say("the network is trained whole: it has no frozen layer with weights", refused=True)
        if self._own_loss and self._options.when is not True:
            return self._say("the network is trained whole: its loss is of its own, and may look into it")
        if not _may_be_cached(self._batches):
            why = "its batches are made of streams in a way of their own"
            return self._say(f"the network is trained whole: {why}", refused=True)
        # one decision for all processes: where one caches and another does not, a collective would never return; and
        # for all streams, as a batch has rows of each
        readers, obstacle = self._process_group.gather_first_objection(lambda: self._numbered_rows(epoch))
        # activations of all rows are one tensor to be cached, so that rows must be of one size
        frontier, reason = self._split(fixed_sizes=not obstacle)
        memory = self._process_group.memory_budget() if self._options.memory is None else self._options.memory
        told = ""
        if not obstacle and frontier is not None:
            self._kept, told = cache_activations(frontier, readers, self._options, memory, self._process_group)
            if not self._kept:
                obstacle = told
                frontier, reason = self._split(fixed_sizes=False)  # rows may be of several sizes all the same
        if frontier is None:
            return self._say(f"the network is trained whole: {reason}", refused=True)
        self._frontier = frontier
        layers = f"{frontier.n_layers} layer{'s' if frontier.n_layers > 1 else ''}"
        part = f"the frozen part, {layers} up to {frontier.last_layer!r},"
        if not self._kept:
            self._feed = Feed(_Prefixed(frontier, self._options.folded), self._batches)
            how = "folded and " if self._options.folded else ""
            return self._say(f"{part} is computed {how}without autograd for each batch: {obstacle}", refused=True)
        self._feed = Feed(frontier.rest, self._batches.with_streams(self._kept))
        if self._validation is not None and _may_be_cached(self._validation):
            taken = sum(stream.activations.n_bytes_in_memory for stream in self._kept.values())
            self._keep_validation(frontier, self._validation, max(0, memory - taken))
        return self._say(f"{part} is computed once: {told}")

    def _numbered_rows(self, epoch: int) -> tuple[dict[str, RowReader], str]:
        """Return the rows of each stream by number, and why their activations are not to be kept, or ""."""
        ends = min([change for change in self._changes if change > epoch], default=self._num_epochs)
        if ends - epoch < 2 and self._options.when is not True:
            return {}, "it is needed for one epoch"
        if self._mixes:
            return {}, "each batch is mixed or answered anew"
        return _open_row_readers(self._batches)

    def _split(self, *, fixed_sizes: bool) -> tuple[Frontier | None, str]:
        """Split the network, by some of the rows, or return None and why not; the same in all processes."""

        def drawn() -> tuple[Frontier | None, str]:
            first = _first_batch(next(iter(self._batches.streams.values())))
            if first is None:
                return None, "there is no batch"
            found = split(self._module, first.inputs, precision=self._precision, fixed_sizes=fixed_sizes)
            if found.frontier and not any(parameter.requires_grad for parameter in found.frontier.rest.parameters()):
                return None, "all layers are frozen: nothing learns"
            return found.frontier, found.reason

        frontier, reason = self._process_group.gather_first_objection(drawn)
        if frontier is None or reason:
            return None, reason
        lines = self._process_group.gather(lambda: frontier.layer_names)
        if any(line != lines[0] for line in lines):
            return None, f"the frozen part ends elsewhere in other processes: {lines}"
        return frontier, ""

    def _keep_validation(self, frontier: Frontier, validation: BatchSource, memory: int) -> None:
        readers, obstacle = self._process_group.gather_first_objection(lambda: _open_row_readers(validation))
        if not obstacle:
            kept, obstacle = cache_activations(frontier, readers, self._options, memory, self._process_group)
            self._kept_validation = kept
        if not self._kept_validation:
            _LOG.info("validation runs the whole network: %s", obstacle)

    def _say(self, decision: str, *, refused: bool = False) -> None:
        if refused and self._options.when is True:
            raise ValueError(f'cache_frozen=True cannot be: {decision}; "auto" takes the best way there is')
        self.decisions.append(decision)
        _LOG.info("%s", decision)


def _may_be_cached(batches: BatchSource) -> bool:
    return batches.rows_are_unchanged and all(stream.rows_are_unchanged for stream in batches.streams.values())


def _open_row_readers(batches: BatchSource) -> tuple[dict[str, RowReader], str]:
    """Return the rows of each stream by number, and why not all may be read again and kept, or ""."""
    readers: dict[str, RowReader] = {}
    for name, stream in batches.streams.items():
        try:
            readers[name] = RowReader(stream)
            reason = why_rows_differ(readers[name], stream)
        except ValueError as error:
            reason = str(error)
        if reason:
            return {}, of_stream(name, reason)
    # the rest of the network, which is one for all streams, may know the sizes of its inputs
    sizes = {name: reader.sizes() for name, reader in readers.items()} if len(readers) > 1 else {}
    return readers, f"rows differ in size: {sizes}" if len(set(map(str, sizes.values()))) > 1 else ""


def _first_batch(batches: TrainingBatches) -> TrainingBatch | None:
    """Read some of the rows, without augmentation; generators of the data are left as they are."""
    first_rows = batches.of(
        batches.data,
        # two: a row beside another shows whether rows depend on each other
        rows=None if batches.rows is None else batches.rows[:2],
        n_rows=batches.n_rows,
        options={name: value for name, value in batches.options.items() if name != "augment"},
    )
    with unmoved_generators(batches.data):
        return next(first_rows.epoch(0), None)


class _Prefixed(nn.Module):
    """Runs the network in two parts: the frozen one without autograd, then the rest."""

    def __init__(self, frontier: Frontier, folded: bool) -> None:
        super().__init__()
        self.rest = frontier.rest
        # no module, so that frozen weights are not among the parameters of what is trained
        self._frontier = frontier
        self._folded = folded

    def forward(self, *inputs: Inputs, **named: Inputs) -> Any:
        """Compute what the network returns for inputs by position or by name."""
        return self.rest(*self._frontier.values(named or inputs, folded=self._folded))


class _WithWeights(nn.Module):
    """Runs a module with the weights that another one has under the same names."""

    def __init__(self, module: nn.Module, weights: nn.Module) -> None:
        super().__init__()
        self.module, self._names = module, {name for name, _ in named_tensors(module)}
        # an average is of the whole network, and only a part of it is run
        self._weights = {name: tensor for name, tensor in named_tensors(weights) if name in self._names}

    def forward(self, *inputs: Tensor) -> Any:
        """Compute what the module returns."""
        return torch.func.functional_call(self.module, self._weights, inputs)
