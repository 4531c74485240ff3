"""Texts become batches of tokens here, by the `TextTransform` of a network, and sorted by length where that is asked.

A batch is padded to its longest text, so that most of what a network computes of unsorted texts is padding. Those of a
list are sorted by their characters, and by their tokens once these are known, a few batches at a time.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from model_handler.data.batch import Batch, Batches, Share, as_labels, make_batch, numbered, of_reading
from model_handler.data.labels import LABEL_KEY, near_keys
from model_handler.data.prefetching import prefetched
from model_handler.data.reading import Reading
from model_handler.data.text.paths import has_image_suffix
from model_handler.data.text.refusals import quoted_beginning, refuse_images
from model_handler.data.text.strings import texts_in
from model_handler.data.text.text_transform import IDS, TextTransform, refuse_what_is_no_text
from model_handler.user_warnings import warn_user

__all__ = ["make_text_batch", "text_batches", "tokenized"]

_told: WeakKeyDictionary[TextTransform, set[int]] = WeakKeyDictionary()  # hashes of texts that were told of
_WINDOW = 16  # batches whose texts are tokenized together, and sorted by how many tokens they have


def text_batches(texts: list[Any], labels: np.ndarray | None, transform: TextTransform, reading: Reading) -> Batches:
    """Return batches of the tokens of texts. Raises as `refuse_what_is_no_text`, and for another number of labels.

    Warns where all of them are named as images are, which a text network does not open.
    """
    refuse_what_is_no_text(texts)
    if texts and all(map(has_image_suffix, texts)):
        warn_user(
            f"all {len(texts)} texts end as names of image files do, such as {quoted_beginning(texts[0])}, and this "
            "network reads the names, not the files; images need a network of images, such as 'efficientnet-lite0'"
        )
    if labels is not None and len(labels) != len(texts):
        raise ValueError(f"there are {len(texts)} texts and {len(labels)} labels; every text needs one label")

    def start(share: Share, reading: Reading) -> Iterator[Batch]:
        numbers = reading.numbers(len(texts))
        order = np.arange(len(numbers))
        if reading.by_length:
            order = np.argsort([-len(texts[number]) for number in numbers], kind="stable")
        given = (
            _batch_of(texts, labels, numbers[places], places if reading.by_length else None, reading)
            for first in share.take(range(0, len(order), reading.batch_size))
            for places in (order[first : first + reading.batch_size],)
        )
        return tokenized(given, transform, reading)

    return numbered(of_reading(start, len(texts), "the texts"), reading)


def tokenized(
    batches: Iterator[Batch], transform: TextTransform, reading: Reading, *, ahead: bool = True
) -> Iterator[Batch]:
    """Yield batches of strings as batches of tokens, the next made `ahead` during work on one; others as they are.

    With `by_length` rows are sorted within a few batches, where these say their `places`. Says once how many texts were
    truncated.
    """
    seen = _Lengths(transform)
    made = _tokenized(batches, seen, _WINDOW if reading.by_length else 1)
    yield from prefetched(made) if ahead else made
    seen.tell()


def make_text_batch(inputs: Any, labels: object, name: str, first_row: int) -> Batch:
    """Make a batch of what a loader gives a text network: strings, or what a tokenizer made of them.

    Raises TypeError for images, and for a dict with more than a text and labels; else as `refuse_what_is_no_text`.
    """
    if isinstance(inputs, Mapping) and any(texts_in(part) is not None for part in inputs.values()):
        inputs = _only_text_in(inputs, name)
    texts = texts_in(inputs)
    if texts is None or not texts:
        refuse_images(inputs, f"a batch of {name}")
        return make_batch(inputs, labels, name)
    refuse_what_is_no_text(texts, first_row)
    coded = None if labels is None else as_labels(labels)
    if coded is not None and len(coded) != len(texts):
        raise ValueError(f"a batch of {name} has {len(texts)} texts and {len(coded)} labels")
    return Batch(texts, coded, len(texts))


def _batch_of(
    texts: list[str], labels: np.ndarray | None, rows: np.ndarray, places: np.ndarray | None, reading: Reading
) -> Batch:
    own = [texts[row] for row in rows]
    if reading.augment is not None:
        own = [reading.augment(text) for text in own]
    return Batch(own, None if labels is None else labels[rows], len(rows), rows=rows, places=places)


def _only_text_in(inputs: Mapping[str, Any], name: str) -> Any:
    """Return the one text of a dict. Raises TypeError where there is more in it."""
    if len(inputs) == 1:
        return next(iter(inputs.values()))
    near = near_keys(inputs)
    told = f"rename {near[0]!r} to {LABEL_KEY!r} and leave the others out" if near else "leave the others out"
    raise TypeError(
        f"a batch of {name} has {sorted(inputs)}, and a text network takes one text a row, with its label under the "
        f"key {LABEL_KEY!r}: {told}, or give TableData(dataset, input=..., label=...), which names the columns"
    )


def _tokenized(batches: Iterator[Batch], seen: "_Lengths", n_batches: int) -> Iterator[Batch]:
    while window := list(islice(batches, n_batches)):
        if all(isinstance(batch.inputs, list) and batch.places is not None for batch in window):
            yield from _sorted(window, seen)
            continue
        for batch in window:
            is_raw = isinstance(batch.inputs, list)
            yield replace(batch, inputs=seen.transform.padded(seen.tokens(batch.inputs))) if is_raw else batch


def _sorted(window: list[Batch], seen: "_Lengths") -> Iterator[Batch]:
    """Yield the texts of some batches in as many batches of the same sizes, the longest first."""
    tokens = seen.tokens([text for batch in window for text in batch.inputs])
    order = np.argsort([-len(row[IDS]) for row in tokens], kind="stable")
    labels, rows, places = (_joined(getattr(batch, name) for batch in window) for name in ("labels", "rows", "places"))
    first = 0
    for batch in window:
        own = order[first : first + batch.n_rows]
        first += batch.n_rows
        yield replace(
            batch,
            inputs=seen.transform.padded([tokens[row] for row in own]),
            labels=None if labels is None else labels[own],
            rows=None if rows is None else rows[own],
            places=None if places is None else places[own],
        )


def _joined(parts: Iterable[np.ndarray | None]) -> np.ndarray | None:
    given = [part for part in parts if part is not None]
    return np.concatenate(given) if given else None


class _Lengths:
    """Tokenizes texts, and counts those that are longer than the network takes."""

    def __init__(self, transform: TextTransform) -> None:
        self.transform = transform
        self.n_rows = self.n_truncated = self.longest = 0
        self.truncated: set[int] = set()  # hashes, not to hold on to the texts of a stream

    def tokens(self, texts: list[str]) -> list[Any]:
        """Return the tokens of each text, truncated."""
        made, limit = self.transform.tokens(texts), self.transform.max_length
        self.n_rows += len(texts)
        if limit is not None:
            full = [text for text, row in zip(texts, made) if len(row[IDS]) >= limit]
            longer = {text: n for text, n in zip(full, self.transform.n_tokens(full)) if n > limit}
            self.n_truncated += sum(text in longer for text in full)
            self.longest = max([self.longest, *longer.values()])
            self.truncated |= set(map(hash, longer))
        return made

    def tell(self) -> None:
        """Warn of texts that were truncated, unless the same were told of before."""
        told = _told.setdefault(self.transform, set())
        if self.truncated <= told:
            return
        told |= self.truncated
        warn_user(
            f"{self.n_truncated} of {self.n_rows} texts are longer than the {self.transform.max_length} tokens that "
            f"the network takes, the longest has {self.longest}: what lies behind is cut off; split long texts, or "
            "give their beginnings"
        )
