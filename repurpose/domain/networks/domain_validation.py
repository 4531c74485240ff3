"""Validation on two domains: by labelled rows of the target where there are any, else by rows of the source.

The record of an epoch names the domain.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from repurpose.data.groups import can_be_held_out, check_n_groups
from repurpose.data.inputs import Inputs
from repurpose.domain.networks.domain_batches import TARGET
from repurpose.domain.networks.two_domains import DomainRows, TwoDomains
from repurpose.neural_network.preparation_steps import Reading, check_can_be_split, given_rows
from repurpose.training.data.batches import BatchSource, EpochBatches, TrainingBatch, TrainingBatches, split_rows
from repurpose.training.data.seeding import SeedPurpose, seed_of
from repurpose.training.distributed.process_group import ProcessGroup
from repurpose.training.validation import Validation

__all__ = ["DomainValidation", "HeldOut", "InTurn", "hold_out"]

_SOURCE = "source"
_LOG = logging.getLogger(__name__)


class InTurn(BatchSource):
    """The batches of several streams, one stream after another."""

    rows_are_unchanged = True

    def __init__(self, streams: Mapping[str, TrainingBatches]) -> None:
        super().__init__(streams)
        self.n_rows = sum(stream.n_rows for stream in streams.values())
        self.n_batches = sum(stream.n_batches for stream in streams.values())
        self.max_batch_size = max(stream.max_batch_size for stream in streams.values())

    def epoch(self, number: int) -> Iterator[TrainingBatch]:
        """Give the batches of one epoch of each."""
        for stream in self.streams.values():
            yield from stream.epoch(number)


class DomainValidation(Validation):
    """As `Validation`; what is recorded names the `domain` of the rows, as "validation_domain"."""

    def __init__(self, batches: BatchSource, class_weights: Tensor | None, precision: str, domain: str) -> None:
        super().__init__(batches, class_weights, precision)
        self.domain = domain

    def describe(self) -> dict[str, object]:
        """Name the domain."""
        return {**super().describe(), "validation domain": self.domain}

    def evaluate(
        self, module: nn.Module, batches: EpochBatches, process_group: ProcessGroup | None = None
    ) -> dict[str, Any]:
        """Measure as `Validation`, and name the domain."""
        return {**super().evaluate(module, batches, process_group), "validation_domain": self.domain}


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What is left to train on, places of rows by domain (None: all of them), and what is judged by."""

    left: Mapping[str, np.ndarray | None]
    judged: BatchSource | None
    domain: str


def hold_out(
    domains: TwoDomains,
    validation_data: object,
    fraction: float,
    *,
    reading: Reading,
    seed: int,
    judge: Callable[[Inputs], object],
    with_unlabelled: bool,
    groups: np.ndarray | None = None,
) -> HeldOut:
    """Tell rows to train on from rows to validate by: `validation_data`, labelled rows of the target, or a fraction.

    The fraction is of the labelled rows of the target, and of those of the source where the target has at most one of
    each class. `with_unlabelled` is whether rows of the target without a label are left to train on. Of rows of the
    target in `groups` (n_target,) whole groups are held out, with what of them has no label. Raises ValueError as
    `split_validation`, and where the source, of another task, cannot stand in for the target.
    """
    if groups is not None:
        check_n_groups(groups, len(domains.target.codes))
    left = {name: _labelled(rows) for name, rows in domains.sources.items()}
    left[TARGET] = None if with_unlabelled else _labelled(domains.target)
    if validation_data is not None:
        if fraction:
            raise ValueError("validation_data and validation_fraction are both given; give one of them")
        given = given_rows(validation_data, reading, judge)
        return _told(HeldOut(left, given.batches(domains.classes, None, reading), TARGET))
    if not fraction:
        return HeldOut(left, None, "")
    # a class keeps one row to learn from, so that of single rows none can be held out
    labelled = domains.target.labelled
    of_labelled = None if groups is None else groups[labelled]
    of_target = len(labelled) > 0 and bool(can_be_held_out(domains.target.codes[labelled], of_labelled).any())
    split = {name: rows for name, rows in domains.of_the_task.items() if (name == TARGET) == of_target}
    if not split:
        raise ValueError(
            "validation_fraction needs a class of the target with two labelled rows or more, one of them to learn "
            "from; rows of the source are of another task, and cannot judge this one. Give validation_data, or leave "
            "it out"
        )
    streams = {}
    for place, (name, rows) in enumerate(split.items()):
        check_can_be_split(rows.data, rows.seen)
        own_seed = seed_of(seed, SeedPurpose.VALIDATION_SPLIT, place)
        of_rows = of_labelled if name == TARGET else None
        held = rows.labelled[split_rows(rows.codes[rows.labelled], fraction, own_seed, of_rows)[1]]
        kept = np.arange(len(rows.codes)) if (all_left := left[name]) is None else all_left
        gone = held if groups is None or name != TARGET else np.flatnonzero(np.isin(groups, groups[held]))
        left[name] = np.setdiff1d(kept, gone)
        streams[name] = rows.stream(held, None, reading)
    return _told(HeldOut(left, InTurn(streams), TARGET if of_target else _SOURCE))


def _told(held_out: HeldOut) -> HeldOut:
    n_rows = 0 if held_out.judged is None else held_out.judged.n_rows
    _LOG.info("epochs are judged by %d labelled rows of the %s", n_rows, held_out.domain)
    return held_out


def _labelled(rows: DomainRows) -> np.ndarray | None:
    """Return the places of the rows that have a label, where rows can be chosen and some have none; else None."""
    return None if rows.seen.rows is None or len(rows.labelled) == len(rows.codes) else rows.labelled
