"""Errors of a `DataLoader` that cannot give its next batch name the row that is missing, and what to do.

torch says neither. The rows of a batch are found in the frames of its fetcher where it runs in this process, and by
reading them once more where a worker failed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from traceback import clear_frames, walk_tb
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler

__all__ = ["RowError", "data_name", "dataset_name", "explaining_rows", "refuse_early_end", "watching_workers"]

_NO_NONE = (
    ". An item holds None, of which torch makes no batch: where that is a label, give items without one if no row has "
    "any, and NaN, beside floats, if only some rows have none"
)
_UNEQUAL = ("equal size", "storage that is not resizable")  # how torch says that rows differ in shape
_SPEAKERS = ("DataLoader", "Pin memory thread")
_BROKEN = (ConnectionError, EOFError)
_COUNTABLE = (SequentialSampler, RandomSampler, list)  # samplers that give as many rows as their length
_LOST = ("exited unexpectedly", "killed by signal")


class RowError(ValueError):
    """Rows of the data that cannot be had: a worker was lost, or rows make no batch; the cause is what was raised."""


@contextmanager
def explaining_rows(loader: DataLoader, name: str, n_batches: int | None, n_rows: int) -> Iterator[None]:
    """Name the rows where the loader fails to give a batch; `n_batches` and `n_rows` came before it.

    What a dataset raises comes as an error of the same type, where that can be made of a text; all else as RowError.
    `n_batches` is None where batches of this loader are left out. What is raised for want of memory passes.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        lost = _error_of_lost_worker(error, name, n_rows, of_workers=loader.num_workers > 0)
        explained = lost or _error_naming_rows(loader, name, error, n_batches, n_rows)
        if loader.num_workers:
            _empty_frames(error)
        if explained is None:
            raise
        raise explained from error


def refuse_early_end(loader: DataLoader, name: str, n_batches: int, n_rows: int) -> None:
    """Raise RowError where a loader whose batches are known ended after `n_batches` of them, with `n_rows` rows.

    torch takes a StopIteration of the dataset for the end of its rows. A loader with an iteration of its own may leave
    batches out.
    """
    sampler: Any = loader.batch_sampler
    is_sure = type(sampler) is BatchSampler and isinstance(sampler.sampler, _COUNTABLE)
    is_sure = is_sure and type(loader).__iter__ is DataLoader.__iter__
    if isinstance(loader.dataset, IterableDataset) or not is_sure or n_batches >= len(sampler):
        return
    raise RowError(
        f"{name} ended after {n_rows} rows, {n_batches} of its {len(sampler)} batches, so row {n_rows} of its order "
        "and those behind it are missing: its dataset raised StopIteration, as next() does of what has ended; see its "
        "__getitem__ and __len__"
    )


@contextmanager
def watching_workers(name: str, n_given: Callable[[], int | None] = lambda: None) -> Iterator[None]:
    """Work on data inside this block: RowError where a worker that reads them is lost meanwhile.

    `n_given` tells how many rows came before, where that is known.
    """
    try:
        yield
    except RuntimeError as error:
        if (lost := _error_of_lost_worker(error, name, n_given())) is None:
            raise
        raise lost from error


def dataset_name(dataset: object) -> str:
    """Return what a dataset is called in messages: as its `described` says, where that is a text, or by its class."""
    described = getattr(dataset, "described", None)  # of rows around what a user gave
    return described if isinstance(described, str) else type(dataset).__name__


def data_name(data: object) -> str:
    """Return what some data are called in messages."""
    name = type(data.dataset).__name__ if isinstance(data, DataLoader) else type(data).__name__
    return f"the DataLoader of {name}" if isinstance(data, DataLoader) else f"the {name}"


def _error_of_lost_worker(
    error: Exception, name: str, n_rows: int | None, *, of_workers: bool = False
) -> RowError | None:
    """Return what to raise for torch's error that a worker of the data was lost; None for any other error.

    torch raises it wherever the main process happens to be; where batches are fetched `of_workers`, a connection to one
    may break before torch knows. `n_rows` came before, where that is known.
    """
    message = str(error).partition("\n")[0]
    is_broken = of_workers and isinstance(error, _BROKEN) and "in DataLoader worker process" not in message
    if not is_broken and not (isinstance(error, RuntimeError) and message.startswith(_SPEAKERS)):
        return None
    missing = "rows are missing" if n_rows is None else f"row {n_rows} of its order and those behind it are missing"
    if is_broken or any(sign in message for sign in _LOST):
        return RowError(
            f"a worker process of {name} died, so {missing} ({message}). It crashed, or there was no memory for it: "
            "num_workers=0 shows an error of the dataset itself; fewer workers or smaller batches take less memory"
        )
    if "timed out" in message:
        return RowError(
            f"{name} gave no batch in time, so {missing} ({message}): raise its timeout, or see what it waits for with "
            "num_workers=0"
        )
    return None


def _empty_frames(error: BaseException | None) -> None:
    """Empty the frames of torch's own code, which hold on to the workers: these end now, and not at some later time.

    As long as it holds a lost worker, torch raises its error again whenever any other process ends.
    """
    while error is not None:
        clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _error_naming_rows(
    loader: DataLoader, name: str, error: Exception, n_batches: int | None, n_rows: int
) -> Exception | None:
    """Return what to raise for an error of the dataset, or of what makes a batch of its rows; None for any other."""
    found = _rows_in_frames(error, n_rows) or _rows_in_worker(loader, error, n_batches)
    if found is None:
        return None
    is_reading, rows = found
    said = _type_and_message(error)
    if not is_reading and any(sign in str(error) for sign in _UNEQUAL):
        return RowError(
            f"{_row_range(rows, n_rows)} of {name} differ in shape, so they make no batch ({said}); pad or resize them "
            "in the dataset, or give a DataLoader a collate_fn that does, such as torch.nn.utils.rnn.pad_sequence or "
            "transformers' DataCollatorWithPadding for text"
        )
    if not is_reading:
        advice = _NO_NONE if "NoneType" in str(error) else ""
        return _with_message(error, f"{_row_range(rows, n_rows)} of {name} make no batch: {said}{advice}")
    failing = rows if len(rows) < 2 or isinstance(loader.dataset, IterableDataset) else _read_again(loader, rows, error)
    return _with_message(error, f"{_row_range(failing, n_rows)} of {name} cannot be read: {said}")


def _with_message(error: Exception, message: str) -> Exception:
    """Return an error of the same type with another message; RowError where the type takes no message alone."""
    try:
        made = type(error)(_Text(message))
    except Exception:
        return RowError(message)
    is_usable = message in str(made) and not isinstance(made, StopIteration)  # which a generator cannot raise
    return made if is_usable else RowError(message)


class _Text(str):
    """Text that errors which show a key, as KeyError does, show as it is."""

    __slots__ = ()
    __repr__ = str.__str__


def _rows_in_frames(error: Exception, n_rows: int) -> tuple[bool, list[Any]] | None:
    """Tell whether rows were being read, and which, by torch's fetcher in this process; None where it did not fail."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    places = [place for place, frame in enumerate(frames) if _is_fetcher(frame)]
    if not places:
        return None
    place = places[-1]
    known = frames[place].f_locals
    wanted, data = known.get("possibly_batched_index"), known.get("data")
    rows = list(wanted) if isinstance(wanted, (list, tuple)) else [wanted]
    fetcher: Any = known.get("self")
    if hasattr(fetcher, "dataset_iter"):  # a stream, whose rows count
        n_read = len(data) if isinstance(data, list) else 0
        is_reading = n_read < len(rows) and not fetcher.ended
        return is_reading, [n_rows + n_read] if is_reading else list(range(n_rows, n_rows + n_read))
    following = frames[place + 1] if place + 1 < len(frames) else None
    is_loop = following is not None and following.f_code.co_name == "<listcomp>"  # a frame of its own up to Python 3.11
    idx = (following.f_locals if is_loop and following else known).get("idx")
    return data is None, rows if data is not None or idx is None else [idx]


def _is_fetcher(frame: Any) -> bool:
    return frame.f_code.co_name == "fetch" and frame.f_globals.get("__name__") == "torch.utils.data._utils.fetch"


def _rows_in_worker(loader: DataLoader, error: Exception, n_batches: int | None) -> tuple[bool, list[Any]] | None:
    """Tell the same of an error that a worker wrote down; no rows where it is not known which these were."""
    if "in DataLoader worker process" not in str(error) or "in fetch" not in str(error):
        return None
    is_reading = "self.collate_fn(data)" not in str(error)
    sampler: Any = loader.batch_sampler
    in_order = type(sampler) is BatchSampler and isinstance(sampler.sampler, (SequentialSampler, Sequence))
    if n_batches is None or isinstance(loader.dataset, IterableDataset) or not in_order:
        return is_reading, []
    return is_reading, next(islice(sampler, n_batches, None), [])


def _read_again(loader: DataLoader, rows: list[Any], error: Exception) -> list[Any]:
    """Return the first of some rows that fails again as it did, or all where none does."""
    for row in rows:
        try:
            loader.dataset[row]
        except type(error):
            return [row]
        except Exception:
            continue
    return rows


def _row_range(rows: list[Any], n_rows: int) -> str:
    if not rows:
        return f"a row from number {n_rows} on"
    return f"row {rows[0]}" if len(rows) == 1 else f"rows {rows[0]} to {rows[-1]}"


def _type_and_message(error: Exception) -> str:
    """Return the type and message of an error; of one that a worker wrote down with its traceback, the last line."""
    if "Original Traceback" in str(error):
        return str(error).strip().splitlines()[-1]
    return f"{type(error).__name__}: {error}"
