"""Both domains are looked through before a network is trained on them: classes, codes of all rows, and what cannot be.

Which labels are missing, and which classes are learned, is judged in `repurpose.domain.reading`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from model_handler.data import Overview
from repurpose.data.inputs import Inputs
from repurpose.data.labelled_data import REQUIRES_LABELS, needed_labels
from repurpose.data.labels import encode_labels
from repurpose.data.padding import MASK
from repurpose.domain.networks.domain_batches import TARGET, CodesOf, DomainStream
from repurpose.domain.reading.source_domains import (
    agreed_classes,
    check_kinds,
    check_same_columns,
    source_domains,
    source_labels,
)
from repurpose.domain.reading.target_labels import LabelCodes, TargetLabels, judge_labels
from repurpose.neural_network.preparation_steps import Reading, read_through
from repurpose.training.checkpoints.configuration import describe_labels

__all__ = ["DomainRows", "TwoDomains", "read_two_domains", "read_two_tasks"]

Sources = Mapping[str, tuple[Any, Overview, np.ndarray]]  # of each domain its data, what was seen and its labels


@dataclass(frozen=True, eq=False)
class DomainRows:
    """Rows of one domain, looked through: `codes` (n_rows,) are places in `classes`, -1 for rows without a class.

    `codes_of` makes codes of the labels that batches of the data bring.
    """

    data: Any
    seen: Overview
    classes: np.ndarray
    codes: np.ndarray
    codes_of: CodesOf

    @property
    def labelled(self) -> np.ndarray:
        """The places of the rows that have a label: (n_labelled,)."""
        return np.flatnonzero(self.codes >= 0)

    def stream(self, chosen: np.ndarray | None, seed: int | None, reading: Reading, **more: Any) -> DomainStream:
        """Make batches of the rows in the places `chosen`, or of all, shuffled by `seed`; None leaves their order."""
        seen = self.seen
        rows = seen.rows if chosen is None else np.asarray(seen.rows)[chosen]
        codes = self.codes if chosen is None else self.codes[chosen]
        return DomainStream(
            self.data,
            self.classes,
            codes_of=self.codes_of,
            rows=rows,
            n_rows=len(codes),
            n_batches=seen.n_batches,
            max_batch_size=min(seen.max_batch_size, len(codes)),
            seed=seed,
            labels=describe_labels(codes, in_order=rows is not None),
            **more,
            **reading,
        )


@dataclass(frozen=True, eq=False)
class TwoDomains:
    """Labelled source domains by name, and the target; `classes` are those of the task that is learned."""

    classes: np.ndarray
    sources: Mapping[str, DomainRows]
    target: DomainRows

    @property
    def codes(self) -> np.ndarray:
        """The codes of all rows that have a label of the task, be they of either domain: (n_labelled,)."""
        domains = (*self.sources.values(), self.target)
        found = np.concatenate([rows.codes for rows in domains if rows.classes is self.classes])
        return found[found >= 0]


def read_two_domains(
    source_data: object, target: Any, labels: np.ndarray | None, reading: Reading, seed: int, class_name: str
) -> TwoDomains:
    """Look through two domains of one task; `target` and `labels` are what `labels_apart` gave.

    Raises ValueError without source data, for domains whose columns, rows, labels or classes do not go together, and
    for one of a single row; TypeError for Features.
    """
    sources, of_target = _look_through(source_data, target, reading, seed, class_name)
    judged = _judged(of_target, labels, np.concatenate([found for _, _, found in sources.values()]))
    agreed = agreed_classes({name: found for name, (_, _, found) in sources.items()}, judged)
    rows = _source_rows(sources, agreed.classes, agreed.codes, agreed.left_out)
    return TwoDomains(agreed.classes, rows, _target_rows(target, of_target, agreed.classes, judged, labels))


def read_two_tasks(
    source_data: object, target: Any, labels: np.ndarray | None, reading: Reading, seed: int, class_name: str
) -> TwoDomains:
    """Look through two domains, each of a task of its own; several source domains are of one task.

    Raises as `read_two_domains`, but for classes that do not meet, and ValueError for a target without labels.
    """
    sources, of_target = _look_through(source_data, target, reading, seed, class_name)
    check_kinds({name: found for name, (_, _, found) in sources.items()})
    pooled = np.concatenate([found for _, _, found in sources.values()])
    judged = _judged(of_target, labels, pooled)
    needed_labels(judged.values if len(judged.values) else None, f"{class_name} {REQUIRES_LABELS}")
    classes = encode_labels(judged.values).classes
    encoded = encode_labels(pooled)
    rows = _source_rows(sources, encoded.classes, encoded.codes)
    return TwoDomains(classes, rows, _target_rows(target, of_target, classes, judged, labels))


def _look_through(
    source_data: object, target: object, reading: Reading, seed: int, class_name: str
) -> tuple[Sources, Overview]:
    """Look through all domains; of each of the source, return its data, what was seen and its labels."""
    sources = source_domains(source_data, class_name)
    check_same_columns(sources, target)
    seen = {name: read_through(data, reading, seed, class_name) for name, data in sources.items()}
    found = {name: (data, seen[name], source_labels(seen[name].labels, name)) for name, data in sources.items()}
    of_target = read_through(target, reading, seed, class_name)
    for name, rows in [*seen.items(), (TARGET, of_target)]:
        _check_several(name, rows.n_rows)
    for name, rows in seen.items():
        _check_alike(rows.example, of_target.example, name)
    return found, of_target


def _judged(seen: Overview, labels: np.ndarray | None, of_sources: np.ndarray) -> TargetLabels:
    found = seen.labels if labels is None or seen.labels is None else labels[seen.labels]
    return judge_labels(found, of_sources, seen.n_rows)


def _source_rows(
    sources: Sources, classes: np.ndarray, codes: np.ndarray, left_out: Collection[object] = ()
) -> dict[str, DomainRows]:
    """Divide `codes`, of the rows of all domains in turn; a domain none of whose rows has a class is left out."""
    ends = np.cumsum([len(labels) for _, _, labels in sources.values()])[:-1]
    read = LabelCodes(classes, left_out).of
    return {
        name: DomainRows(data, seen, classes, own, read)
        for (name, (data, seen, _)), own in zip(sources.items(), np.split(codes, ends))
        if (own >= 0).any()
    }


def _target_rows(
    data: object, seen: Overview, classes: np.ndarray, judged: TargetLabels, labels: np.ndarray | None
) -> DomainRows:
    codes = judged.codes(classes)
    read: CodesOf = LabelCodes(classes, judged.marks).of
    if labels is not None:
        read = partial(np.take, codes)  # labels in the data are numbers of rows
    return DomainRows(data, seen, classes, codes, read)


def _check_several(name: str, n_rows: int) -> None:
    if n_rows < 2:
        raise ValueError(
            f"the domain {name!r} has {n_rows} row: how domains differ cannot be told from it; give two rows or more, "
            "also without labels"
        )


def _check_alike(source: Inputs, target: Inputs, name: str) -> None:
    """Raise ValueError where rows of a source domain are unlike those of the target; texts may have other lengths."""
    given, expected = _kinds(source), _kinds(target)
    if given != expected:
        raise ValueError(
            f"the rows of source_data {name!r} are {given}, those of the target {expected}; one network takes both, so "
            "give rows of one shape and kind, such as by a transform that resizes both"
        )


def _kinds(inputs: Inputs) -> Any:
    """Describe a row of inputs by shapes and dtypes."""
    if isinstance(inputs, Mapping):
        mask = inputs.get(MASK)
        n_tokens = mask.shape[1] if isinstance(mask, Tensor) and mask.ndim == 2 else None
        return {name: _kind(part, n_tokens) for name, part in inputs.items()}
    return [_kind(part, None) for part in inputs] if isinstance(inputs, tuple) else _kind(inputs, None)


def _kind(part: Tensor, n_tokens: int | None) -> str:
    shape = ["tokens" if size == n_tokens and axis == 0 else str(size) for axis, size in enumerate(part.shape[1:])]
    return f"{str(part.dtype).removeprefix('torch.')} of shape ({', '.join(shape)})"
