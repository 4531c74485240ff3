"""A `TextTransform` is the preprocessing of a text network: a tokenizer, the longest text, and padding on the right."""

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model_handler.errors import first_few
from model_handler.missing_values import is_missing

__all__ = ["IDS", "MASK", "TextTransform", "Tokens", "reads_text", "refuse_what_is_no_text"]

Tokens = Mapping[str, list[int]]  # of one text: `input_ids`, and beside each id what else the network takes
IDS, MASK = "input_ids", "attention_mask"
_TOKENIZING = Lock()  # a fast tokenizer cannot be told where to truncate while another thread uses it
_UNLIMITED = 10**9  # above it, a tokenizer's own limit says that it knows none


class TextTransform:
    """Make of texts the tensors that a text network takes; given as the `transform` of a `Source`.

    Parameters
    ----------
    tokenizer : a tokenizer of Hugging Face transformers, or what is called alike
        ``tokenizer(texts, truncation=..., max_length=...)`` returns a mapping whose `input_ids` has one list of ids a
        text; `pad_token_id` is what rows are padded with (0 where there is none: the mask tells padding from text).
    max_length : int, optional
        The most tokens of a text, special ones included; what lies behind them is cut off. By default the limit that
        the tokenizer states, if it states one.

    Raises
    ------
    TypeError
        If the tokenizer cannot be called.
    ValueError
        If `max_length` is no positive whole number.

    Examples
    --------
    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> from transformers import PreTrainedTokenizerFast
    >>> from model_handler import TextTransform
    >>> words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "good": 2, "film": 3}, unk_token="[UNK]"))
    >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
    >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
    >>> TextTransform(tokenizer, max_length=8)(["good film", "bad"])["input_ids"]
    tensor([[2, 3],
            [1, 0]])
    """

    def __init__(self, tokenizer: Any, *, max_length: int | None = None) -> None:
        if not callable(tokenizer):
            raise TypeError(
                f"tokenizer must be one of Hugging Face transformers or called alike, got {type(tokenizer).__name__}; "
                "one of the package tokenizers becomes such by PreTrainedTokenizerFast(tokenizer_object=tokenizer)"
            )
        if max_length is not None and (
            isinstance(max_length, bool) or not isinstance(max_length, (int, np.integer)) or max_length < 1
        ):
            raise ValueError(f"max_length must be a whole number of at least 1, or None, got {max_length!r}")
        self.tokenizer = tokenizer
        stated = getattr(tokenizer, "model_max_length", None)
        known = stated if isinstance(stated, int) and 0 < stated < _UNLIMITED else None
        self.max_length = known if max_length is None else int(max_length)

    def __repr__(self) -> str:
        limit = "" if self.max_length is None else f", max_length={self.max_length}"
        return f"TextTransform({type(self.tokenizer).__name__}{limit})"

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return what the network takes: tensors of int64, shape (n_texts, n_tokens), padded on the right.

        `attention_mask` is 1 where a token is no padding. Raises TypeError and ValueError as `tokens`.
        """
        return self.padded(self.tokens(texts))

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the tokens of each text, truncated, as a mapping of equally long lists.

        Raises ValueError for missing texts and those with broken characters, TypeError for what is no string; each
        names rows.
        """
        refuse_what_is_no_text(texts)
        if not len(texts):
            return []
        options: dict[str, Any] = {"truncation": False} if self.max_length is None else self._truncation
        return self._tokenized(texts, options)

    def n_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has before it is truncated, special ones included. Raises as `tokens`."""
        refuse_what_is_no_text(texts)
        return [len(row[IDS]) for row in self._tokenized(texts, {"truncation": False})] if len(texts) else []

    def padded(self, rows: Sequence[Tokens]) -> dict[str, Tensor]:
        """Return rows of tokens as tensors of int64, padded on the right to the longest, at least to one token."""
        width = max((len(row[IDS]) for row in rows), default=0) or 1
        names = list(rows[0]) if rows else [IDS, MASK]
        made = {name: np.full((len(rows), width), self._padding(name), dtype=np.int64) for name in names}
        for number, row in enumerate(rows):
            for name in names:
                made[name][number, : len(row[name])] = row[name]
        return {name: torch.from_numpy(part) for name, part in made.items()}

    @property
    def _truncation(self) -> dict[str, Any]:
        return {"truncation": True, "max_length": self.max_length}

    def _tokenized(self, texts: Sequence[str], options: Mapping[str, Any]) -> list[Tokens]:
        # Without `verbose=False` a tokenizer warns of each text that is longer than the network takes.
        with _TOKENIZING:
            made = self.tokenizer(list(texts), verbose=False, **options)
        names = [name for name in made if name in _PARTS]
        ids = made[IDS]
        if MASK not in names:
            return [{**{name: made[name][n] for name in names}, MASK: [1] * len(row)} for n, row in enumerate(ids)]
        return [{name: made[name][n] for name in names} for n in range(len(ids))]

    def _padding(self, name: str) -> int:
        stated = getattr(self.tokenizer, {IDS: "pad_token_id", "token_type_ids": "pad_token_type_id"}.get(name, ""), 0)
        return stated if isinstance(stated, int) else 0


_PARTS = (IDS, MASK, "token_type_ids")


def reads_text(transform: object) -> bool:
    """Return whether a network's preprocessing is for text: strings are then data, and nothing is a path."""
    return isinstance(transform, TextTransform)


def refuse_what_is_no_text(texts: Sequence[Any], first_row: int = 0) -> None:
    """Raise ValueError for what among texts is missing or broken, TypeError for what is no string; each names rows.

    The first text is row `first_row`.
    """
    if isinstance(texts, (str, bytes)):
        raise TypeError(f"texts must be a list of strings, got a single {type(texts).__name__}; give [text]")
    others = [row for row, text in enumerate(texts) if not isinstance(text, str)]
    if missing := [row for row in others if is_missing(texts[row])]:
        raise ValueError(
            f"{len(missing)} of {len(texts)} texts are missing (None or NaN), in rows {_numbers(missing, first_row)}; "
            'leave these rows out, or give them the empty string ""'
        )
    if others:
        row = others[0]
        fix = "; decode bytes by their encoding, such as text.decode('utf-8')" if _is_bytes(texts[row]) else ""
        raise TypeError(f"texts must be strings, and row {first_row + row} is {type(texts[row]).__name__}{fix}")
    if broken := [row for row, text in enumerate(texts) if not _is_whole(text)]:
        raise ValueError(
            f"{len(broken)} of {len(texts)} texts have characters that no encoding has (lone surrogates), in rows "
            f"{_numbers(broken, first_row)}: they were read in another encoding than they were written in; read them "
            "by theirs, such as open(path, encoding='latin-1')"
        )


def _is_whole(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_bytes(value: object) -> bool:
    return isinstance(value, (bytes, bytearray))


def _numbers(rows: Sequence[int], first_row: int) -> str:
    return first_few([str(first_row + row) for row in rows], 5)
