"""An owner who exported a package, and adapters for it, without any training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from repurpose.offsite import OffsiteOwner, OffsitePackage
from repurpose.offsite.adapter_files import AdapterContents, write_adapter

__all__ = ["Exported", "exported", "outputs"]


@dataclass(frozen=True, eq=False)
class Exported:
    """An owner, the folder in which its last package is, and that package."""

    owner: OffsiteOwner
    folder: Path
    package: OffsitePackage

    @property
    def untouched(self) -> dict[str, Tensor]:
        """The weights of the adapter, as they were sent."""
        contents = self.package.contents
        inside = tuple(f"{block}." for block in contents.first + contents.last)
        names = [name for name, _ in self.package.network(self.owner.network).named_parameters()]
        return {name: contents.state[name] for name in names if name.startswith(inside)}

    def adapter(
        self,
        blocks: Mapping[str, Tensor] | None = None,
        head: Mapping[str, Tensor] | None = None,
        classes: Sequence[str | int] | None = None,
        package_id: str | None = None,
    ) -> Path:
        """Write an adapter of these weights, by default the untouched ones, and return where it is."""
        own = self.untouched if blocks is None else blocks
        names = None if classes is None else tuple(classes)
        path = self.folder / "adapter"
        write_adapter(path, AdapterContents(package_id or self.package.id, own, head or {}, names))
        return path


def exported(
    folder: Path, network: nn.Module, inputs: Any, adapter: tuple[int, int] = (1, 1), **options: Any
) -> Exported:
    """Export a package, of weights alone and without distillation."""
    of_owner = {name: options.pop(name) for name in ("emulator", "class_names") if name in options}
    owner = OffsiteOwner(network, adapter, example_inputs=inputs, random_state=0, **of_owner)
    with pytest.warns(UserWarning, match="verbatim"):
        owner.export(folder / "package", architecture="given", **options)
    return Exported(owner, folder, OffsitePackage(folder / "package", encryption_key=options.get("encryption_key")))


def outputs(network: nn.Module, inputs: Any) -> Tensor:
    """The logits of a network, or its last hidden states."""
    with torch.no_grad():
        found = network(**inputs) if isinstance(inputs, dict) else network(inputs)
    return found if isinstance(found, Tensor) else found[0]
