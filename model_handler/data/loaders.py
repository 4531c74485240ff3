"""Batches come out of torch's `DataLoader` and `Dataset` here, with what can be known of their order and length."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    default_collate,
)

from model_handler.data.arrays import as_array, refuse_masked
from model_handler.data.batch import ALL, Batch, Batches, Share, floating_dtype, make_batch
from model_handler.data.images import NO_TRANSFORM, Augmented, is_pil, looks_like_pixels, transformed
from model_handler.data.labels import LABEL_KEY
from model_handler.data.loader_errors import data_name, dataset_name, explaining_rows, refuse_early_end
from model_handler.data.process_shards import NOTHING, read_share
from model_handler.data.reading import Reading
from model_handler.data.text.text_transform import TextTransform
from model_handler.data.text_batches import make_text_batch, tokenized

__all__ = [
    "augmented",
    "check_order",
    "dataset_batches",
    "has_numbered_rows",
    "loader_batches",
    "refuse_dropped_rows",
    "shuffling_sampler",
    "split_labels",
]

_END: Any = object()
_PAD = (
    "pad them in the dataset, or give DataLoader(dataset, collate_fn=...) with one that pads, such as "
    "torch.nn.utils.rnn.pad_sequence or transformers' DataCollatorWithPadding for text"
)
SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


def check_order(data: object) -> None:
    """Judge whether predictions for `data` can be matched with its rows; only a `DataLoader` can be at fault.

    Warns (UserWarning) if it shuffles. Raises ValueError if it drops the last rows.
    """
    refuse_dropped_rows(data)
    if (sampler := shuffling_sampler(data)) is not None:
        warnings.warn(
            f"the DataLoader shuffles ({type(sampler).__name__}): predictions follow its order, not the dataset's; "
            "set shuffle=False to match them with the rows",
            UserWarning,
            stacklevel=3,
        )


def shuffling_sampler(data: object) -> Any:
    """Return the sampler by which a `DataLoader` shuffles; None where none does, and for other data."""
    if not isinstance(data, DataLoader):
        return None
    samplers = (data.sampler, getattr(data.batch_sampler, "sampler", None))
    return next((sampler for sampler in samplers if isinstance(sampler, SHUFFLING)), None)


def refuse_dropped_rows(data: object) -> None:
    """Raise ValueError for a `DataLoader` that drops its last rows."""
    if isinstance(data, DataLoader) and (data.drop_last or getattr(data.batch_sampler, "drop_last", False)):
        raise ValueError(
            "the DataLoader has drop_last=True, so rows without a prediction are lost; set drop_last=False"
        )


def has_numbered_rows(data: object) -> bool:
    """Return whether the rows of data can be asked for by number: not those of a loader or a stream."""
    return not isinstance(data, (DataLoader, IterableDataset))


def augmented(inputs: object, augment: Callable[[Any], Any] | None) -> Any:
    """Return a batch of inputs, one tensor, each row augmented. Raises TypeError for inputs of several parts."""
    if augment is None:
        return inputs
    if not isinstance(inputs, Tensor):
        raise TypeError("augmentation works on one row of one tensor; inputs of several parts have none such")
    rows = [augment(row) for row in inputs]
    if other_shapes := {tuple(getattr(row, "shape", ())) for row in rows} - {tuple(inputs.shape[1:])}:
        raise ValueError(
            f"augmentation must keep the shape {tuple(inputs.shape[1:])} of a row, and gave {other_shapes}"
        )
    return torch.stack(rows)


def loader_batches(loader: DataLoader, reading: Reading, text: TextTransform | None = None) -> Batches:
    """Return the loader's own batches, in its own order and size, of tokens where they are `text` of strings.

    Raises ValueError if it has none.
    """
    n_rows = _rows_of_loader(loader)
    if n_rows == 0 and loader.drop_last:
        raise ValueError(
            f"the DataLoader is empty: drop_last=True leaves nothing of its {_length(loader.sampler)} rows at "
            f"batch_size={loader.batch_size}; set drop_last=False"
        )
    name = data_name(loader)

    def start(share: Share) -> Iterator[Batch]:
        if text is not None:
            yield from _text_of_share(loader, name, share, text, reading)
            return
        for batch in _batches_of_share(loader, name, share):
            yield replace(batch, inputs=augmented(batch.inputs, reading.augment)) if batch.n_rows else batch

    return Batches(start, n_rows, name)


def dataset_batches(
    dataset: Dataset,
    transform: Callable[[Any], Any] | None,
    reading: Reading,
) -> Batches:
    """Batch the rows of a dataset, in its order or that asked for; images and texts go through the transform."""
    name = dataset_name(dataset)
    text = transform if isinstance(transform, TextTransform) else None
    n_rows = _length(dataset)
    if n_rows == 0:
        raise ValueError(f"the dataset {name} is empty: there is no row to work on")
    numbers = None if n_rows is None or not has_numbered_rows(dataset) else reading.numbers(n_rows)
    loader: DataLoader = DataLoader(
        dataset,
        sampler=None if numbers is None else numbers.tolist(),
        collate_fn=_Collate(None if text else transform, name, reading.augment),
        **reading.loader_options(),
    )

    def start(share: Share) -> Iterator[Batch]:
        numbered = _numbered(_batches_of_share(loader, name, share, text), numbers, share, reading.batch_size)
        return numbered if text is None else _tokenized_in_order(numbered, share, text, reading)

    return Batches(start, n_rows if numbers is None else len(numbers), f"the dataset {name}")


def _numbered(batches: Iterator[Batch], numbers: np.ndarray | None, share: Share, batch_size: int) -> Iterator[Batch]:
    """Yield the batches of a share with the numbers of their rows, where rows have such."""
    for number, batch in enumerate(batches):
        first = (number * share.of + share.index) * batch_size
        yield batch if numbers is None else replace(batch, rows=numbers[first : first + batch.n_rows])


def split_labels(batch: object, name: str) -> tuple[Any, Any]:
    """Return inputs and labels (None where there are none) of a batch or of whole data.

    Raises ValueError for a tuple of three or more, and where labels are given twice.
    """
    if isinstance(batch, Mapping):
        return {key: value for key, value in batch.items() if key != LABEL_KEY}, batch.get(LABEL_KEY)
    if not isinstance(batch, (tuple, list)):
        return batch, None
    if len(batch) == 1:
        return split_labels(batch[0], name) if isinstance(batch[0], Mapping) else (batch[0], None)
    if len(batch) != 2:
        raise ValueError(
            f"{name} is a tuple of {len(batch)}, which leaves open what is the label: write ((a, b), label) for inputs "
            "of several parts with a label, ((a, b),) for inputs alone"
        )
    inputs, labels = batch
    if isinstance(inputs, Mapping) and LABEL_KEY in inputs:
        raise ValueError(
            f"{name} has labels twice: under the key {LABEL_KEY!r} and as the second of the pair; give one of them"
        )
    return inputs, labels


def _rows_of_loader(loader: DataLoader) -> int | None:
    """Return how many rows the loader gives, where its parts tell."""
    sampler = loader.batch_sampler
    if isinstance(loader.dataset, IterableDataset):
        n_rows = _length(loader.dataset) if loader.batch_size is not None else None
        if loader.drop_last and n_rows is not None:
            return None if loader.num_workers > 1 else n_rows - n_rows % (loader.batch_size or 1)
        return n_rows
    if isinstance(sampler, (list, tuple)):
        return sum(len(rows) for rows in sampler)
    if type(sampler) is not BatchSampler:  # no batching by the loader, or by a rule of the user's own
        return 0 if sampler is not None and _length(sampler) == 0 else None
    n_rows = _length(sampler.sampler)
    return n_rows - n_rows % sampler.batch_size if sampler.drop_last and n_rows is not None else n_rows


def _length(sized: Any) -> int | None:
    try:
        return len(sized)
    except (TypeError, NotImplementedError):
        return None


def _text_of_share(
    loader: DataLoader, name: str, share: Share, text: TextTransform, reading: Reading
) -> Iterator[Batch]:
    """Yield a share of a loader's batches for a text network, each string augmented first."""
    augment = reading.augment
    batches = _batches_of_share(loader, name, share, text)
    if augment is not None:
        batches = (
            replace(batch, inputs=[augment(row) for row in batch.inputs]) if isinstance(batch.inputs, list) else batch
            for batch in batches
        )
    yield from _tokenized_in_order(batches, share, text, reading)


def _tokenized_in_order(
    batches: Iterator[Batch], share: Share, text: TextTransform, reading: Reading
) -> Iterator[Batch]:
    """Yield batches of strings as such of tokens; only one process alone knows their places, and sorts them.

    They are not read ahead: a dataset may hold what belongs to one thread.
    """
    if reading.by_length and share == ALL:
        batches = _placed(batches)
    return tokenized(batches, text, reading, ahead=False)


def _placed(batches: Iterator[Batch]) -> Iterator[Batch]:
    n_rows = 0
    for batch in batches:
        yield replace(batch, places=np.arange(n_rows, n_rows + batch.n_rows))
        n_rows += batch.n_rows


def _batches_of_share(
    loader: DataLoader, name: str, share: Share, text: TextTransform | None = None
) -> Iterator[Batch]:
    """Yield a share of the loader's batches; those for a text network may be strings.

    Raises RowError where the loader cannot give one, naming rows.
    """
    n_rows = 0
    with closing(read_share(loader, share)) as read:  # workers end now, and not when an error is forgotten
        for number in count():
            with explaining_rows(loader, name, number if share == ALL else None, n_rows):
                batch, order = next(read, (_END, 0))
            if batch is _END:
                if share == ALL:
                    refuse_early_end(loader, name, number, n_rows)
                return
            if isinstance(batch, Exception):
                raise batch
            if batch is NOTHING:
                yield Batch(None, None, 0, order=order)
                continue
            inputs, labels = split_labels(batch, f"a batch of {name}")
            if loader.batch_sampler is None:
                _refuse_single_row(inputs, labels, name)
            made = make_batch(inputs, labels, name) if text is None else make_text_batch(inputs, labels, name, n_rows)
            n_rows += made.n_rows
            yield replace(made, order=order)


def _refuse_single_row(inputs: Any, labels: Any, name: str) -> None:
    """Raise ValueError where a loader that makes no batches gives what is clearly a row, and no batch."""
    is_vector = labels is None and isinstance(inputs, Tensor) and inputs.is_floating_point() and inputs.ndim == 1
    if is_vector or (labels is not None and np.ndim(labels) == 0):
        raise ValueError(
            f"{name} has batch_size=None and its dataset gives single rows, not batches: give it a batch_size, such as "
            "DataLoader(dataset, batch_size=32), or the dataset itself in the place of the loader"
        )


class _Collate:
    """Makes a batch of items inside a worker; an error comes back as the batch, to be raised in the main process."""

    def __init__(
        self, transform: Callable[[Any], Any] | None, name: str, augment: Callable[[Any], Any] | None = None
    ) -> None:
        self.transform = None if transform is None else Augmented(augment, transform)
        self.augment = augment
        self.name = name

    def __call__(self, items: list[Any]) -> Any:
        try:
            ready = [self._item(item) for item in items]
            self._check_shapes(ready)
        except (TypeError, ValueError) as error:
            return type(error)(f"the dataset {self.name}: {error}")
        return default_collate(ready)

    def _item(self, item: object) -> Any:
        if isinstance(item, (tuple, list)) and item:
            return (self._parts_of_inputs(item[0]), *item[1:])
        return self._parts_of_inputs(item)

    def _parts_of_inputs(self, inputs: object) -> Any:
        if isinstance(inputs, (tuple, list)):
            return tuple(self._one_part(part) for part in inputs)
        if isinstance(inputs, Mapping):
            return {key: self._one_part(part) for key, part in inputs.items()}
        if self.transform is not None and looks_like_pixels(inputs):
            return transformed(inputs, self.transform)
        return self._one_part(inputs)

    def _one_part(self, part: object) -> Any:
        if is_pil(part):
            if self.transform is None:
                raise ValueError(f"its items are PIL images; {NO_TRANSFORM}")
            return transformed(part, self.transform)
        refuse_masked([part], "an item")
        if hasattr(part, "toarray"):
            as_array(part, "an item")  # sparse, which is refused
        if isinstance(part, np.ndarray) and part.dtype.kind == "f":
            part = torch.from_numpy(np.array(part, floating_dtype()))
        return self.augment(part) if self.augment is not None and isinstance(part, (Tensor, str)) else part

    def _check_shapes(self, items: list[Any]) -> None:
        inputs = [item[0] if isinstance(item, tuple) else item for item in items]
        for position, tensor in enumerate(inputs):
            if isinstance(tensor, Tensor) and isinstance(inputs[0], Tensor) and tensor.shape != inputs[0].shape:
                fix = _PAD if tensor.ndim < 3 else "put a resize to a fixed height and width into the transform"
                raise ValueError(
                    f"items 0 and {position} of one batch have the shapes {tuple(inputs[0].shape)} and "
                    f"{tuple(tensor.shape)}; {fix}"
                )
