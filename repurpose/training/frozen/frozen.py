"""The frozen part of a network in training: split off at its frontier, and computed once where inputs stay the same.

Three ways, from the best to the plain one: its activations are computed once for all rows and kept (`activations`), and
only the rest is trained on them; it runs anew for each batch, folded and without autograd, where rows differ from epoch
to epoch or there is no room; the network is trained whole, where nothing can be split off. Several processes go the
same way: what one of them has against the better one, all have. Where the line is drawn is known to
`model_handler.frozen_prefix.splitting`, how rows are asked for again to `rereading`, how they are computed and kept to
`keeping`. The log says which way was taken, and why.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.data import unmoved_generators
from model_handler.frozen_prefix.splitting import Frontier, split
from model_handler.network.tensors import named_tensors
from repurpose.training.data.batches import EpochBatches, TrainingBatch, TrainingBatches
from repurpose.training.data.seeding import drawing_from
from repurpose.training.distributed.single_process import Alone
from repurpose.training.frozen.caching import KeptBatches, keep
from repurpose.training.frozen.row_reader import Rereading, why_not_the_same
from repurpose.training.plan.cache_options import CacheOptions

__all__ = ["Feed", "FrozenPart"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Feed:
    """What to call and with what: `module` takes the inputs of the batches that `batches` gives."""

    module: nn.Module
    batches: EpochBatches


class FrozenPart:
    """The frozen part of `module` while it is trained on `batches`, let go of by `close` or the end of a `with` block.

    Parameters
    ----------
    module : nn.Module
    batches, validation : TrainingBatches
        What this process reads of them.
    options : CacheOptions
    precision : str
        What training computes in.
    num_epochs : int
    changes : collection of int
        The epochs, from 0, in which other parameters begin to learn.
    mixes : bool
        Whether inputs are mixed with each other before the network gets them.
    own_loss : bool
        Whether the loss may do more with the module and the inputs than call the one with the other: the network is
        then trained whole, unless activations must be kept.
    crew : Crew, optional
        The processes that train it together, each of which makes the same calls.

    Attributes
    ----------
    decisions : list of str
        What was decided and why, a sentence for each time.
    """

    def __init__(
        self,
        module: nn.Module,
        batches: TrainingBatches,
        options: CacheOptions,
        *,
        num_epochs: int,
        precision: str = "float32",
        changes: Collection[int] = (),
        mixes: bool = False,
        own_loss: bool = False,
        validation: TrainingBatches | None = None,
        crew: Alone | None = None,
    ) -> None:
        self._module, self._batches, self._validation, self._options = module, batches, validation, options
        self._num_epochs, self._precision, self._changes, self._mixes = num_epochs, precision, changes, mixes
        self._own_loss, self._crew = own_loss, crew or Alone()
        self.decisions: list[str] = []
        self._learning: tuple[str, ...] | None = None
        self._feed = Feed(module, batches)
        self._frontier: Frontier | None = None
        self._kept: KeptBatches | None = None
        self._kept_validation: KeptBatches | None = None

    def feed(self, epoch: int) -> Feed:
        """What to train on in an epoch, once it is settled which parameters learn in it.

        `module` trains the network, whose parameters it has. All generators are left as they are. Raises ValueError
        where activations must be kept (`when=True`) and cannot be.
        """
        learning = tuple(name for name, parameter in self._module.named_parameters() if parameter.requires_grad)
        if learning != self._learning:
            self.close()
            self._learning = learning
            with drawing_from(0):
                self._decide(epoch)
        return self._feed

    def validated(self, evaluated: nn.Module) -> Feed | None:
        """What to validate with, if anything: the network, or an average of its weights under the same names."""
        if self._validation is None:
            return None
        if self._kept_validation is None or self._frontier is None:
            return Feed(evaluated, self._validation)
        rest = self._frontier.rest
        module = rest if evaluated is self._module else _WithWeights(rest, evaluated)
        return Feed(module, self._kept_validation)

    def close(self) -> None:
        """Let go of the activations, and remove what is on disk."""
        for kept in (self._kept, self._kept_validation):
            if kept is not None:
                kept.activations.close()
        self._feed = Feed(self._module, self._batches)
        self._frontier = self._kept = self._kept_validation = self._learning = None

    def __enter__(self) -> "FrozenPart":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _decide(self, epoch: int) -> None:
        if self._options.when is False:
            return self._say("the network is trained whole: cache_frozen=False")
        if all(one.requires_grad for one in self._module.parameters()):  # known without any row
            return self._say("the network is trained whole: it has no frozen layer with weights", refused=True)
        if self._own_loss and self._options.when is not True:
            return self._say("the network is trained whole: its loss is of its own, and may look into it")
        rereading, obstacle = self._crew.agreed(lambda: self._rereading(epoch))
        frontier, reason = self._split(fixed_sizes=not obstacle)
        memory = self._crew.memory() if self._options.memory is None else self._options.memory
        if rereading is not None and not obstacle and frontier is not None:
            self._kept, obstacle = keep(frontier, rereading, self._options, memory, self._crew)
            if obstacle:
                frontier, reason = self._split(fixed_sizes=False)  # rows may be of several sizes all the same
        if frontier is None:
            return self._say(f"the network is trained whole: {reason}", refused=True)
        self._frontier = frontier
        layers = f"{frontier.n_layers} layer{'s' if frontier.n_layers > 1 else ''}"
        part = f"the frozen part, {layers} up to {frontier.last_layer!r},"
        if self._kept is None:
            self._feed = Feed(_Prefixed(frontier, self._options.folded), self._batches)
            how = "folded and " if self._options.folded else ""
            return self._say(f"{part} is computed {how}without autograd for each batch: {obstacle}", refused=True)
        self._feed = Feed(frontier.rest, self._kept)
        if self._validation is not None:
            left = max(0, memory - self._kept.activations.n_bytes_in_memory)
            self._keep_validation(frontier, self._validation, left)
        return self._say(f"{part} is computed once: {self._kept.description}")

    def _rereading(self, epoch: int) -> tuple[Rereading | None, str]:
        """The rows by number, and why their activations are not to be kept, or ""."""
        ends = min([one for one in self._changes if one > epoch], default=self._num_epochs)
        if ends - epoch < 2 and self._options.when is not True:
            return None, "it is needed for one epoch"
        if self._mixes:
            return None, "inputs are mixed anew each epoch"
        return _reread(self._batches)

    def _split(self, *, fixed_sizes: bool) -> tuple[Frontier | None, str]:
        """Where the network is split, by some of the rows, or None and why it is not; the same in all processes."""

        def drawn() -> tuple[Frontier | None, str]:
            first = self._first_batch()
            if first is None:
                return None, "there is no batch"
            found = split(self._module, first.inputs, precision=self._precision, fixed_sizes=fixed_sizes)
            if found.frontier and not any(one.requires_grad for one in found.frontier.rest.parameters()):
                return None, "all layers are frozen: nothing learns"
            return found.frontier, found.reason

        frontier, reason = self._crew.agreed(drawn)
        if frontier is None or reason:
            return None, reason
        lines = self._crew.answers(lambda: frontier.layer_names)
        if any(line != lines[0] for line in lines):
            return None, f"the frozen part ends elsewhere in other processes: {lines}"
        return frontier, ""

    def _first_batch(self) -> TrainingBatch | None:
        """Some of the rows, which are not augmented; generators of the data are left as they are."""
        data, rows = self._batches.data, self._batches.rows
        some = self._batches.of(
            data,
            classes=self._batches.classes,
            rows=None if rows is None else rows[:2],
            n_rows=self._batches.n_rows,
            options={name: value for name, value in self._batches.options.items() if name != "augment"},
        )
        with unmoved_generators(data):
            return next(some.epoch(0), None)

    def _keep_validation(self, frontier: Frontier, validation: TrainingBatches, memory: int) -> None:
        rereading, obstacle = self._crew.agreed(lambda: _reread(validation))
        if rereading is not None and not obstacle:
            self._kept_validation, obstacle = keep(frontier, rereading, self._options, memory, self._crew)
        if obstacle:
            _LOG.info("validation runs the whole network: %s", obstacle)

    def _say(self, decision: str, *, refused: bool = False) -> None:
        if refused and self._options.when is True:
            raise ValueError(f'cache_frozen=True cannot be: {decision}; "auto" takes the best way there is')
        self.decisions.append(decision)
        _LOG.info("%s", decision)


def _reread(batches: TrainingBatches) -> tuple[Rereading | None, str]:
    """The rows by number, and why they may not be read again, or ""."""
    try:
        rereading = Rereading(batches)
        return rereading, why_not_the_same(rereading, batches)
    except ValueError as error:
        return None, str(error)


class _Prefixed(nn.Module):
    """The network in two parts: the frozen one without autograd, then the rest."""

    def __init__(self, frontier: Frontier, folded: bool) -> None:
        super().__init__()
        self.rest, self._frontier, self._folded = frontier.rest, frontier, folded

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the network returns for inputs by position or by name."""
        return self.rest(*self._frontier.values(named or inputs, folded=self._folded))


class _WithWeights(nn.Module):
    """A module run with the weights that another one has under the same names."""

    def __init__(self, module: nn.Module, weights: nn.Module) -> None:
        super().__init__()
        self.module, self._names = module, {name for name, _ in named_tensors(module)}
        self._weights = {name: tensor for name, tensor in named_tensors(weights) if name in self._names}

    def forward(self, *inputs: Tensor) -> Any:
        """What the module returns."""
        return torch.func.functional_call(self.module, self._weights, inputs)
