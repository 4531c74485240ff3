"""Sides: what owner and data owner do in each task, through files alone, and the networks that they are compared with.

All that trains has the same steps and the same rates to choose from; a rate is that of the head, and of blocks a tenth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from benchmarks.adapters.cells import Cell
from benchmarks.adapters.methods import FULL, make_method
from model_handler.network.copying import deep_copy
from repurpose import LrRepurposer, NeuralNetworkRepurposer
from repurpose.data.inputs import Inputs
from repurpose.offsite import OffsiteOwner, OffsitePackage, OffsiteRepurposer

__all__ = [
    *("ADAPTER", "AS_IS", "EMULATOR", "KINDS", "NETWORK", "PACKAGE", "PLUGGED", "PLUGGED_IN"),
    *("TUNED", "UNTRAINED", "VERBATIM", "WHOLE"),
    *("Task", "examine", "size_of"),
]

AS_IS, WHOLE = "full network as it is", "fine-tuned whole"
EMULATOR, TUNED, PLUGGED = "emulator as it is", "tuned with the emulator", "plugged in"
VERBATIM = ", not distilled"  # behind the title of what has such an emulator
UNTRAINED = (AS_IS, EMULATOR, EMULATOR + VERBATIM)
KINDS = (*UNTRAINED, TUNED, TUNED + VERBATIM, WHOLE)
PLUGGED_IN = "accuracy, plugged in"
NETWORK, PACKAGE, ADAPTER = "network, bytes", "package, bytes", "adapter, bytes"


@dataclass(frozen=True, eq=False)
class Task:
    """A network, how it is split, and what its emulator is distilled on.

    `layers` are what a head reads in the network and in the emulator network, where the owner's head stays behind;
    None where the owner's classes are those of the task. `options` are those of every training.
    """

    name: str
    network: nn.Module | str
    adapter: tuple[int, int]
    emulator: int
    example_inputs: Inputs
    distill_data: object
    min_steps: int
    layers: tuple[str, str] | None
    options: Mapping[str, Any]

    def owner(self) -> OffsiteOwner:
        """Make the owner's side."""
        inputs = self.example_inputs
        return OffsiteOwner(self.network, self.adapter, self.emulator, example_inputs=inputs, random_state=0)

    def package(self, folder: Path, *, is_distilled: bool) -> Path:
        """Return the file of the package, and export it before if it is not there."""
        file = folder / f"{self.name}{'' if is_distilled else '_not_distilled'}.zip"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            data, head = self.distill_data if is_distilled else None, "none" if self.layers else "owner"
            self.owner().export(file, data, head, min_steps=self.min_steps)
        return file


def examine(cell: Cell, task: Task, train: Any, test: Any, folder: Path) -> Mapping[str, float]:
    """Measure the accuracy of a kind on `test`, where it learns after it has learned from `train`."""
    package = task.package(folder, is_distilled=not cell.kind.endswith(VERBATIM))
    if cell.kind.startswith(TUNED):
        return _exchanged(cell, task, package, train, test)
    if cell.kind == WHOLE:
        return {"accuracy": float(_whole(cell, task, package).repurpose(train).score(test))}
    return {"accuracy": _untrained(cell, task, package, train, test)}


def size_of(network: nn.Module) -> float:
    """Count the bytes of the parameters of a network."""
    return float(sum(weight.numel() * weight.element_size() for weight in network.parameters()))


def _exchanged(cell: Cell, task: Task, package: Path, train: Any, test: Any) -> Mapping[str, float]:
    """Tune an adapter, send it back and plug it in."""
    rates = {"new": cell.rate, "transferred": cell.rate / 10}
    tuned = OffsiteRepurposer(package, learning_rates=rates, random_state=cell.seed, verbose=False, **task.options)
    found = {"accuracy": float(tuned.repurpose(train).score(test)), PACKAGE: float(package.stat().st_size)}
    owner = task.owner()
    with TemporaryDirectory() as directory:
        adapter = Path(directory, "adapter.zip")
        tuned.save_adapter(adapter)
        found |= {ADAPTER: float(adapter.stat().st_size), NETWORK: size_of(owner.network)}
        return {**found, PLUGGED_IN: float(owner.plug_in(adapter, package).score(test))}


def _untrained(cell: Cell, task: Task, package: Path, train: Any, test: Any) -> float:
    """Measure the network or the emulator with the owner's head, or with logistic regression on what is frozen."""
    if task.layers:
        network = task.network if cell.kind == AS_IS else OffsitePackage(package).network()
        layer = task.layers[cell.kind != AS_IS]
        return float(LrRepurposer(network, [layer], random_state=cell.seed, verbose=False).repurpose(train).score(test))
    if cell.kind != AS_IS:
        return float(OffsitePackage(package).audit(test).accuracy)
    with TemporaryDirectory() as directory:
        adapter = Path(directory, "adapter.zip")
        OffsiteRepurposer(package).save_adapter(adapter)  # untouched
        return float(task.owner().plug_in(adapter, package).score(test))


def _whole(cell: Cell, task: Task, package: Path) -> NeuralNetworkRepurposer:
    options = {"random_state": cell.seed, "verbose": False, **task.options}
    if task.layers:
        return make_method(FULL, task.network, task.layers[0], cell.rate, lambda: None, options)
    rates = {str(OffsitePackage(package).contents.classifier): cell.rate, "*": cell.rate / 10}
    return _WithItsHead(task.network, learning_rates=rates, **options)


class _WithItsHead(NeuralNetworkRepurposer):
    """Trains a network as it is, from the head that it has."""

    def _create_target_module(self, example_inputs: Inputs) -> nn.Module:
        return deep_copy(self._source_network())
