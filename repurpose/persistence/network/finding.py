"""Finding the source of a saved repurposer: by its name, from the weights in the file, or as it is given again.

Whichever it is, it must be the network of training with its preprocessing; what differs is said.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from model_handler import Source, load_source
from model_handler.errors import CorruptFileError, with_fix
from model_handler.network.copying import deep_copy
from model_handler.sources import EMBEDDED, WITH_BICUBIC_RESIZE, UnknownSourceError
from repurpose.advice import IN_PYTHON
from repurpose.persistence.network.fingerprint import layers_of
from repurpose.persistence.network.identity import SavedSource
from repurpose.persistence.network.kept import fill
from repurpose.persistence.network.preprocessing import describe_transform, transform_differences
from repurpose.source import check_source, open_source, refuse_fetching

__all__ = ["Finding", "SourceModel"]

SourceModel = nn.Module | Source | str
_OF_OTHER_MACHINES = ("//", "\\\\")  # beginnings of directories that are shared over a network
_DRAWS = frozenset({Tensor.normal_, Tensor.uniform_})
_MAKERS = frozenset({torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full})
_SPARE_NUMBERS = 25_000_000  # 100 MB


@dataclass(frozen=True, eq=False)
class Finding:
    """How the source of a saved repurposer is found.

    Attributes
    ----------
    saved : SavedSource
        What the file says of it.
    folder : Path
        What is loaded, for messages.
    kept : mapping of str to ndarray, optional
        The weights in the file, where it has them.
    download : bool
        Whether weights may be fetched.
    had_bicubic : bool
        Whether the name of the embedded source meant another resize when the file was written.
    has_own_transform : bool
        Whether the repurposer has a `transform`, which counts in place of the source's.
    """

    saved: SavedSource
    folder: Path
    kept: Mapping[str, np.ndarray] | None
    download: bool
    had_bicubic: bool
    has_own_transform: bool

    def source(self, given: SourceModel | None) -> SourceModel:
        """Return the source to use, as it is given or without that.

        Raises ValueError where it is not that of training, or must be given, SourceUnavailableError for weights that
        may not be fetched, CorruptFileError for damaged ones in the file.
        """
        if given is not None:
            check_source(given)
        if self.kept is not None:
            filled = self._filled(given, self.kept)
            self._check_preprocessing(filled)
            return filled
        if (wanted := self.saved.name if given is None else given) is None:
            raise self._must_be_given("which is not in the file", "the same network")
        chosen = self._resized_as_then(wanted)
        if isinstance(chosen, str) and not self.download:
            refuse_fetching(chosen)
        opened = self._opened(chosen, is_given=given is not None)
        if differ := self.saved.weights_differ(opened.network if isinstance(opened, Source) else opened):
            name = "source_model" if given is not None else f"what {chosen!r} stands for"
            raise ValueError(f"{name} is not the network that {self.folder} was trained with ({self._hint}): {differ}")
        self._check_preprocessing(opened)
        return chosen

    def _opened(self, chosen: SourceModel, *, is_given: bool) -> nn.Module | Source:
        """Open the source; a name out of the file for files of this machine that are not here is told as such."""
        if is_given or not isinstance(chosen, str):
            return open_source(chosen)
        self._refuse_other_machines(chosen)
        try:
            return open_source(chosen)
        except UnknownSourceError as error:
            raise self._not_here(chosen, str(error)) from error

    def _refuse_other_machines(self, name: str) -> None:
        """Raise ValueError for a name out of the file that would make this machine ask another one for a directory."""
        if any(part.startswith(_OF_OTHER_MACHINES) for part in (name, name.partition("=")[2])):
            raise self._not_here(name, "it leads to another machine")

    def _not_here(self, name: str, why: str) -> ValueError:
        return with_fix(
            ValueError,
            f"{self.folder} was trained with the source {name!r}, which cannot be found again: {why}",
            python="load(path, source_model=...) with the same network",
            shell=IN_PYTHON,
            between=": ",
        )

    def _filled(self, given: SourceModel | None, kept: Mapping[str, np.ndarray]) -> nn.Module | Source:
        """Return the source with the weights in the file: built by its name, or a copy of what is given."""
        if isinstance(given, nn.Module):
            source: nn.Module | Source = deep_copy(given)
        elif isinstance(given, Source):
            source = replace(given, network=deep_copy(given.network))
        else:
            source = self._built(given or self.saved.architecture)
        network = source.network if isinstance(source, Source) else source
        try:
            table, what = self.saved.tensors or {}, str(self.folder)
            fill(network, kept, table, self.saved.tied, what, channels_last={*self.saved.channels_last})
            if self.saved.layers not in (None, layers_of(network)):
                raise ValueError("its layers are of other classes")
        except CorruptFileError:
            raise
        except ValueError as error:
            raise self._unfit(given is None, str(error)) from error
        return source

    def _unfit(self, is_by_name: bool, differ: str) -> ValueError:
        if is_by_name:
            return self._must_be_given(f"whose weights are in the file; the network of that name is another: {differ}")
        return ValueError(f"the weights in {self.folder} do not fit into source_model ({self._hint}): {differ}")

    def _built(self, name: str | None) -> Source:
        """Build the architecture of that name, with weights that do not matter."""
        if name is None:
            raise self._must_be_given("whose weights alone are in the file")
        self._refuse_other_machines(name)
        try:
            with torch.random.fork_rng(devices=[]), _Sparing(n_numbers=self._n_numbers):
                return load_source(name, pretrained=False, download=self.download)
        except UnknownSourceError as error:
            raise self._must_be_given(f"whose weights alone are in the file ({error})") from error
        except _TooLargeError as error:
            raise self._unfit(True, "it is larger") from error

    @property
    def _n_numbers(self) -> int:
        """How many numbers the weights in the file are."""
        return sum(array.size for array in (self.kept or {}).values())

    def _must_be_given(self, why: str, what: str = "a network of any weights") -> ValueError:
        return with_fix(
            ValueError,
            f"{self.folder} was trained with a network given as a module, {why}",
            python=f"load(path, source_model=...) with {what}, {self._hint}",
            shell=IN_PYTHON,
            between=": ",
        )

    def _check_preprocessing(self, source: nn.Module | Source) -> None:
        """Raise ValueError where the preprocessing is another one than in training, and counts."""
        if self.saved.preprocessing is None or self.has_own_transform:
            return
        now = describe_transform(source.transform if isinstance(source, Source) else None)
        if found := transform_differences(self.saved.preprocessing, now):
            raise ValueError(
                f"the preprocessing is not the one that {self.folder} was trained with: {'; '.join(found)}. Give "
                "load(path, source_model=Source(network, transform)) with the same one, or load(path, transform=...)"
            )

    @property
    def _hint(self) -> str:
        """What the network was, in words."""
        if self.saved.name is not None:
            return repr(self.saved.name)
        loaded_as = self._resized_as_then(self.saved.loaded_as) if self.saved.loaded_as else None
        return f"a {str(self.saved.network)[:80]}" + (f", loaded as {loaded_as!r}" if loaded_as else "")

    def _resized_as_then(self, source: SourceModel) -> SourceModel:
        """Return the source, or where it is the embedded one and had a bicubic resize, the one that has it still."""
        name = source.name if isinstance(source, Source) else source
        return WITH_BICUBIC_RESIZE if self.had_bicubic and isinstance(name, str) and name == EMBEDDED else source


class _TooLargeError(ValueError):
    """A network has far more weights than there are for it."""


class _Sparing(TorchFunctionMode):
    """A mode to build a network whose weights are to be replaced, of so many numbers: nothing is drawn for it.

    Drawing takes most of the time. Raises _TooLargeError once tensors have many more numbers, as a file may lie.
    """

    def __init__(self, n_numbers: int) -> None:
        super().__init__()
        self.n_left = _SPARE_NUMBERS + 4 * n_numbers

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _DRAWS:
            return args[0]
        made = function(*args, **(kwargs or {}))
        if function in _MAKERS:
            self.n_left -= made.numel()
            if self.n_left < 0:
                raise _TooLargeError
        return made
