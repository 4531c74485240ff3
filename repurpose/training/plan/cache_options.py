"""The options of `cache_frozen` say whether and how the frozen part of a network is computed once (`frozen`)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from model_handler.errors import nearest

__all__ = ["CacheOptions", "cache_mistakes", "cache_options"]

_DTYPES = {"float32": None, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class CacheOptions:
    """The options that say whether and how to compute the frozen part once.

    Attributes
    ----------
    when : "auto", True or False
        True raises where it cannot be, False trains the network whole.
    dtype : "float32" or "bfloat16"
        What activations are kept as: bfloat16 takes half the room and has two to three digits.
    folded : bool
        Whether BatchNorm is folded into convolutions, faster and within 1e-5 of the largest value.
    memory : int or None
        How many bytes each process may keep in memory; beyond, they are on disk. A quarter of the memory where None,
        shared by the processes on a machine.
    directory : str or None
        Where the temporary directory on disk is made.
    """

    when: object = "auto"  # as it was given, until `cache_mistakes` has judged it
    dtype: str = "float32"
    folded: bool = True
    memory: int | None = None
    directory: str | None = None

    @property
    def kept_dtype(self) -> torch.dtype | None:
        """The dtype in which floating numbers are kept, None for their own."""
        return _DTYPES[self.dtype]


def cache_options(value: object) -> CacheOptions:
    """Return the options that `cache_frozen` means: "auto", True, False, or a dict of options."""
    given = _given(value)
    return replace(given, when=bool(given.when)) if isinstance(given.when, (int, np.bool_)) else given


def cache_mistakes(value: object) -> list[str]:
    """Write a sentence for each mistake in `cache_frozen`."""
    known = [field.name for field in fields(CacheOptions)]
    unknown = [name for name in value if name not in known] if isinstance(value, Mapping) else []
    if unknown:
        return [f"cache_frozen has no option {name!r}; nearest: {nearest(str(name), known)}" for name in unknown]
    given = _given(value)
    mistakes = []
    if given.when not in ("auto", True, False) or isinstance(given.when, float):
        mistakes.append(f'cache_frozen must be "auto", True, False or a dict of options, got {given.when!r}')
    if given.dtype not in tuple(_DTYPES):
        mistakes.append(f"cache_frozen['dtype'] must be one of {list(_DTYPES)}, got {given.dtype!r}")
    if given.folded not in (True, False):
        mistakes.append(f"cache_frozen['folded'] must be True or False, got {given.folded!r}")
    if given.memory is not None and (not isinstance(given.memory, int) or given.memory < 0):
        mistakes.append(f"cache_frozen['memory'] must be a number of bytes or None, got {given.memory!r}")
    return mistakes


def _given(value: object) -> CacheOptions:
    return CacheOptions(**value) if isinstance(value, Mapping) else CacheOptions(value)
