"""Patterns such as ``photos-{000..012}.tar`` stand for many names, as in a shell and in WebDataset."""

import re
from itertools import product

__all__ = ["expanded"]

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST = 1_000_000


def expanded(pattern: str) -> list[str]:
    """Return the names that a pattern stands for: ``{000..012}`` numbers of as many digits, ``{a,b}`` one of these.

    Raises ValueError for a range that runs backwards, or more than a million names.
    """
    pieces = _BRACES.split(pattern)
    choices = [_choices(piece, pattern) if number % 2 else [piece] for number, piece in enumerate(pieces)]
    n_names = 1
    for each in choices:
        n_names *= len(each)
    if n_names > _MOST:
        raise ValueError(f"{pattern!r} stands for {n_names:,} names, more than {_MOST:,}")
    return ["".join(parts) for parts in product(*choices)]


def _choices(inside: str, pattern: str) -> list[str]:
    match = _RANGE.fullmatch(inside)
    if match is None:
        return inside.split(",") if "," in inside else [f"{{{inside}}}"]
    first, last = int(match[1]), int(match[2])
    if last < first:
        raise ValueError(f"{pattern!r} counts from {match[1]} to {match[2]}: write the smaller number first")
    if last - first >= _MOST:
        raise ValueError(f"{pattern!r} stands for more than {_MOST:,} names")
    width = len(match[1]) if match[1].startswith("0") or len(match[1]) == len(match[2]) else 0
    return [str(number).zfill(width) for number in range(first, last + 1)]
