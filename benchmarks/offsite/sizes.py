"""Sizes: bytes of package and adapter, and what tuning costs the data owner beside tuning the whole network; a ViT-Ti.

The network has random weights and the emulator is not distilled, as only sizes matter here. An epoch is one of
`repurpose`, in a process of its own, with all that the library does beside the steps.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.adapters import cost
from benchmarks.adapters.cells import Cell
from benchmarks.adapters.methods import FULL, LORA
from benchmarks.offsite.sides import ADAPTER, NETWORK, PACKAGE, size_of
from repurpose.offsite import OffsiteOwner, OffsiteRepurposer

__all__ = ["EMULATOR", "ENDS", "KINDS", "NAME", "WHOLE", "examine"]

NAME = "sizes"
WHOLE = "whole network"
ENDS, EMULATOR, RATE = (2, 2), 4, 1e-3
_WHOLE = {WHOLE: FULL, "whole network, LoRA": LORA}
_OFFSITE = {"adapter and emulator": "full", "adapter and emulator, LoRA": "lora"}
KINDS = (*_WHOLE, *_OFFSITE)


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Measure an epoch and the peak memory of a kind, and the files of one that has any."""
    if cell.kind in _WHOLE:
        return {**cost.measure_method(partial(cost.method_of, _WHOLE[cell.kind])), NETWORK: size_of(cost.network())}
    package = _package(folder)
    found = cost.measure_method(partial(_offsite, package, _OFFSITE[cell.kind]))
    with TemporaryDirectory() as directory:
        adapter = Path(directory, "adapter.zip")
        OffsiteRepurposer(package).save_adapter(adapter)
        sizes = {PACKAGE: float(package.stat().st_size), ADAPTER: float(adapter.stat().st_size)}
    return {**found, **sizes}


def _package(folder: Path) -> Path:
    file = folder / f"{NAME}.zip"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        inputs, _ = cost.data_of(2)
        OffsiteOwner(cost.network(), ENDS, EMULATOR, example_inputs=inputs).export(file, head="none")
    return file


def _offsite(package: Path, kind: str, **options: object) -> OffsiteRepurposer:
    rates = {"new": RATE, "transferred": RATE / 10}
    return OffsiteRepurposer(
        package, cost.N_CLASSES, kind, learning_rates=rates, random_state=0, verbose=False, **options
    )
