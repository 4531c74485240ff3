"""Canonical JSON: each value has one text, so that a hash of the text is one of the value.

Names keep their order, nothing is between them, numbers are finite, and the text is ASCII, so that any text can be in
it. Another text of the same value is refused when it is read, and so are names that come twice, of which readers would
take one or the other.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NoReturn

from model_handler.errors import CorruptFileError

__all__ = ["JsonValue", "canonical", "parse_canonical", "parse_json", "parse_with_own_hash", "with_own_hash"]

_HASH = "sha256"
JsonValue = Any  # None, bool, int, float, str, lists of such and dicts of such by str


def canonical(value: JsonValue) -> str:
    """Return the text of a value. Raises ValueError for NaN and infinity, TypeError for what JSON has no word for."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def parse_canonical(text: str, what: str) -> JsonValue:
    """Parse a text that `canonical` made; `what` names the file. Raises CorruptFileError for any other text."""
    value = parse_json(text, what)
    try:
        again = canonical(value)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{what} is damaged: {error}") from error
    if again != text:
        raise CorruptFileError(f"{what} is damaged: its text is not in the form in which it was written")
    return value


def with_own_hash(whole: Mapping[str, JsonValue]) -> str:
    """Return the text of an object with one entry more, the last: "sha256", of its text without that."""
    return canonical({**whole, _HASH: sha256(canonical(whole).encode()).hexdigest()})


def parse_with_own_hash(data: bytes | bytearray | memoryview, what: str) -> dict[str, JsonValue]:
    """Parse a text that `with_own_hash` made: the object without its hash; `what` names the file.

    Raises CorruptFileError for any other text.
    """
    try:
        whole = parse_canonical(str(data, "utf-8"), what)
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{what} is damaged: {error}") from error
    if not isinstance(whole, dict) or [*whole][-1:] != [_HASH]:
        raise CorruptFileError(f"{what} is damaged: it does not end with a hash of itself")
    digest = whole.pop(_HASH)
    if sha256(canonical(whole).encode()).hexdigest() != digest:
        raise CorruptFileError(f"{what} is damaged: it is not what was written")
    return whole


def parse_json(text: str, what: str) -> JsonValue:
    """Parse any JSON text without names that come twice, NaN or infinity; `what` names the file.

    Raises CorruptFileError otherwise, also for a text nested too deeply to be read.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_refuse_constant)
    except RecursionError:
        raise CorruptFileError(f"{what} is damaged: it is nested too deeply") from None
    except ValueError as error:  # json's own too; a number of thousands of digits is one
        raise CorruptFileError(f"{what} is damaged: {error}") from error


def _without_doubles(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:40]!r} comes twice")
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")
