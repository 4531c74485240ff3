"""`ToastPretuning`: feedback that was trained on generic data, for any number of tasks to begin with.

Shi et al. (2023) found feedback that has to be learned from few rows alone weaker. A pre-tuning belongs to
one network, which its fingerprint names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model_handler import CorruptFileError
from model_handler.files.array_files import array_digest, read_arrays, write_arrays
from repurpose.persistence.fingerprint import fingerprint

__all__ = ["ToastPretuning", "is_kept_by_lite", "opened_pretuning"]

_KIND, _FORMAT = "toast pre-tuning", 1


@dataclass(frozen=True, eq=False)
class ToastPretuning:
    """What `ToastRepurposer.pretune` learned, to be given as its `pretuned`.

    Attributes
    ----------
    arrays : dict of str to ndarray
        xi, P, and the A and B of each block, float32, by their names in the trained network.
    network : str
        The class of the source network.
    source_fingerprint : str
        The SHA-256 of its names and weights.

    Examples
    --------
    >>> from repurpose import ToastPretuning
    >>> import numpy as np
    >>> arrays = {"selection.xi": np.zeros(4, dtype=np.float32)}
    >>> ToastPretuning(arrays, network="VisionTransformer", source_fingerprint="0" * 64).save("generic.safetensors")
    >>> ToastPretuning.load("generic.safetensors").network
    'VisionTransformer'
    """

    arrays: Mapping[str, np.ndarray]
    network: str
    source_fingerprint: str

    @classmethod
    def of(cls, module: nn.Module, source: nn.Module) -> "ToastPretuning":
        """Take what a steered network of `source` learned, without its head."""
        arrays = {name: tensor.detach().cpu().float().numpy().copy() for name, tensor in _steering(module).items()}
        return cls(arrays, type(source).__name__, fingerprint(source))

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the names and values of what was learned, in hexadecimal."""
        digest = sha256()
        for name in sorted(self.arrays):
            digest.update(f"{name}:{array_digest(self.arrays[name])};".encode())
        return digest.hexdigest()

    @property
    def width(self) -> int:
        """The number of channels behind the last block of the network."""
        return len(self.arrays["selection.xi"])

    def save(self, path: str | PathLike) -> None:
        """Write it to a safetensors file, with a hash of every array; a file that is there is replaced.

        Raises OSError where it cannot be written.
        """
        content = {"kind": _KIND, "format": _FORMAT, "network": self.network, "source": self.source_fingerprint}
        write_arrays(path, self.arrays, content)

    @classmethod
    def load(cls, path: str | PathLike, *, most_bytes: int | None = None) -> "ToastPretuning":
        """Read what `save` wrote, where the file has no more than `most_bytes`.

        Raises FileNotFoundError, and CorruptFileError or UnsafeFileError for what is damaged or no pre-tuning.
        """
        found = read_arrays(path, most_bytes=most_bytes)
        content = found.content
        texts = [content.get(name) for name in ("kind", "network", "source")] if isinstance(content, dict) else []
        if not texts or texts[0] != _KIND or not all(isinstance(text, str) for text in texts):
            raise CorruptFileError(f"{path} is no pre-tuning of TOAST; `ToastPretuning.save` writes one")
        if (written := content.get("format")) != _FORMAT:
            raise CorruptFileError(f"{path} is of format {written}, and this version reads format {_FORMAT}")
        if any(array.dtype != np.float32 for array in found.arrays.values()) or "selection.xi" not in found.arrays:
            raise CorruptFileError(f"{path} is damaged: it does not hold the numbers of a pre-tuning")
        return cls(found.arrays, str(texts[1]), str(texts[2]))

    def check(self, module: nn.Module, source: nn.Module) -> None:
        """Raise ValueError, naming both, unless it was made for `source` and fits a steered network of it."""
        shapes = {name: tuple(array.shape) for name, array in self.arrays.items()}
        wanted = {name: tuple(tensor.shape) for name, tensor in _steering(module).items()}
        if shapes != wanted:
            raise ValueError(
                f"pretuned was made for a {self.network} of {_n_blocks(shapes)} blocks and {self.width} channels, and "
                f"this {type(source).__name__} has {_n_blocks(wanted)} and {wanted['selection.xi'][0]}: call "
                "pretune(...) with this one"
            )
        if self.source_fingerprint != (now := fingerprint(source)):
            raise ValueError(
                f"pretuned was made for another network: a {self.network} of the fingerprint "
                f"{self.source_fingerprint[:12]}, and this {type(source).__name__} has {now[:12]}: call pretune(...) "
                "with this one, or give the network of then as source_model"
            )

    def copy_to(self, module: nn.Module, chosen: Callable[[str], bool] = lambda name: True) -> None:
        """Set what was learned in a steered network that fits it, in place, under the names that are `chosen`."""
        with torch.no_grad():
            for name, tensor in _steering(module).items():
                if chosen(name):
                    tensor.copy_(torch.from_numpy(self.arrays[name]))

    def __repr__(self) -> str:
        return f"ToastPretuning({self.network}, {self.width} channels, fingerprint {self.fingerprint[:12]})"


def opened_pretuning(pretuned: Any, most_bytes: int | None = None) -> ToastPretuning | None:
    """Return a pre-tuning that is given as such or by its path; None where there is none.

    Raises what `ToastPretuning.load` does, CorruptFileError too for a file of more than `most_bytes`.
    """
    if pretuned is None or isinstance(pretuned, ToastPretuning):
        return pretuned
    return ToastPretuning.load(pretuned, most_bytes=most_bytes)


def is_kept_by_lite(name: str) -> bool:
    """Tell whether a name is that of a map that TOAST-Lite leaves as it was pre-tuned."""
    return name.startswith("feedback.") and name.endswith(".weight")


def _steering(module: nn.Module) -> dict[str, Tensor]:
    """Return xi, P, A and B of a network by name, without what TOAST-Lite adds to A and B."""
    named = dict(module.named_parameters())
    return {name: tensor for name, tensor in named.items() if is_kept_by_lite(name) or name.startswith("selection.")}


def _n_blocks(names: Mapping[str, object]) -> int:
    return sum(name.startswith("feedback.A.") for name in names)
