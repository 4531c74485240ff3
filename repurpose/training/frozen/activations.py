"""Activations are what the frozen part of a network gave for each row, kept in memory or, past a budget, on disk."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from model_handler.errors import ModelError
from model_handler.files.write_errors import writing

__all__ = ["Activations", "size_text"]

_PIECE = 2**24  # bytes that are handed over at a time, as far as whole rows allow


class Activations:
    """Rows of several tensors, written once and read by number in any order.

    On disk they are files in a temporary directory, removed by `close` and the end of a `with` block. Where the system
    allows it they lose their names at once, so that nothing stays behind even of a process that is killed.

    Parameters
    ----------
    n_rows : int
    shapes, dtypes : sequences, an entry a tensor
        The shape and dtype of one row, as it is given and handed out.
    dtype : torch.dtype, optional
        The dtype in which floating numbers are kept.
    on_disk : bool
    directory : str or path, optional
        The directory in which to make the temporary one.

    Raises
    ------
    OSError
        If there is not room enough on disk.
    """

    def __init__(
        self,
        n_rows: int,
        shapes: Sequence[tuple[int, ...]],
        dtypes: Sequence[torch.dtype],
        *,
        dtype: torch.dtype | None = None,
        on_disk: bool = False,
        directory: str | os.PathLike[str] | None = None,
    ) -> None:
        self.n_rows = n_rows
        self.shapes = tuple(shapes)
        self.dtypes = tuple(dtypes)
        kept = [dtype if dtype is not None and given.is_floating_point else given for given in dtypes]
        self._folder = TemporaryDirectory(prefix="frozen_part_", dir=directory) if on_disk else None
        self._tensors: list[Tensor] = []
        try:
            self._tensors = [self._room((n_rows, *shape), kind, n) for n, (shape, kind) in enumerate(zip(shapes, kept))]
        # also on Ctrl-C: a part of the files would stay on disk
        except BaseException:
            self.close()
            raise
        if self._folder is not None and os.name == "posix":  # mapped files outlive their names there
            self._folder.cleanup()

    @staticmethod
    def n_bytes(
        n_rows: int,
        shapes: Sequence[tuple[int, ...]],
        dtypes: Sequence[torch.dtype],
        dtype: torch.dtype | None = None,
    ) -> int:
        """Compute how many bytes these take."""
        sizes = [(dtype if dtype is not None and kind.is_floating_point else kind).itemsize for kind in dtypes]
        return n_rows * sum(torch.Size(shape).numel() * size for shape, size in zip(shapes, sizes))

    @property
    def n_bytes_in_memory(self) -> int:
        """How many bytes of memory they take."""
        return 0 if self._folder else sum(tensor.numel() * tensor.itemsize for tensor in self._tensors)

    def write(self, start: int, values: Sequence[Tensor]) -> None:
        """Keep rows from number `start` on. Raises ModelError if they are of another shape or too many."""
        for tensor, value, shape in zip(self._tensors, values, self.shapes, strict=True):
            if tuple(value.shape[1:]) != shape:
                raise ModelError(f"rows differ in size: the frozen part gives {tuple(value.shape[1:])} after {shape}")
            if start + len(value) > self.n_rows:
                raise ModelError(f"there are more rows than the {self.n_rows} announced")
            tensor[start : start + len(value)].copy_(value)

    def read(self, numbers: Tensor) -> tuple[Tensor, ...]:
        """Copy the rows of these numbers, an int64 tensor (n,), in their order and the dtypes they came in."""
        found = (tensor.index_select(0, numbers) for tensor in self._tensors)
        return tuple(value.to(dtype) for value, dtype in zip(found, self.dtypes))

    def pieces(self, first: int, last: int) -> Iterator[Tensor]:
        """Give what is kept of rows `first` to `last` - 1: flat uint8 tensors to read, and to write in place.

        They are of at most 16 MB, or of one row.
        """
        for tensor in self._tensors:
            size = max(1, _PIECE // max(1, tensor[:1].nbytes))
            for start in range(first, last, size):
                # bytes, as collectives do not know every dtype
                yield tensor[start : min(start + size, last)].view(-1).view(torch.uint8)

    def close(self) -> None:
        """Release all rows, and remove what is on disk."""
        self._tensors = []
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _room(self, shape: tuple[int, ...], dtype: torch.dtype, number: int) -> Tensor:
        if self._folder is None:
            return torch.empty(shape, dtype=dtype)
        file, n_elements = Path(self._folder.name) / f"{number}.bin", torch.Size(shape).numel()
        n_bytes = n_elements * dtype.itemsize
        with writing(file, lambda: n_bytes), file.open("wb") as opened:
            _reserve(opened.fileno(), n_bytes)
        # mapped, so that the system keeps in memory what it has room for
        return torch.from_file(str(file), shared=True, size=n_elements, dtype=dtype).view(shape)


def size_text(n_bytes: float) -> str:
    """Write a size as people do."""
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = min(int(np.log10(max(n_bytes, 1))) // 3, len(units) - 1)
    return f"{n_bytes / 1000**power:.3g} {units[power]}"


def _reserve(file: int, n_bytes: int) -> None:
    """Take room on disk now: a mapped file for which there is none ends the process when it is written."""
    if n_bytes and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, n_bytes)
    else:
        os.truncate(file, n_bytes)
