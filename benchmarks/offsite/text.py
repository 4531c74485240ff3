"""Text: MiniLM, 6 blocks with real weights, learns of which module of the standard library a docstring is.

The emulator is distilled on docstrings of other modules.
"""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.adapters.cells import Cell
from benchmarks.adapters.text import BATCH_SIZE, GENERIC, LAYER, Texts, docstrings, draw, missing, network
from benchmarks.offsite.sides import KINDS, UNTRAINED, Task
from benchmarks.offsite.sides import examine as examine_task

__all__ = ["HEADS", "NAME", "RATES", "examine", "kinds", "missing"]

NAME = "text"
RATES = (1e-3, 3e-3, 1e-2)
HEADS = UNTRAINED
ADAPTER, EMULATOR, DISTILL_STEPS = (1, 1), 2, 500
N_EPOCHS = 10  # 50 steps


def kinds() -> list[str]:
    """List what is compared."""
    return list(KINDS)


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Train on a draw of few texts and measure on others; by those learning rates are not chosen."""
    return examine_task(cell, _task(), *draw(cell.seed), folder)


def _task() -> Task:
    texts, _ = docstrings(GENERIC)
    rows = Texts(texts, [""] * len(texts))
    options = {"num_epochs": N_EPOCHS, "batch_size": BATCH_SIZE}
    last = LAYER.replace("5", str(sum(ADAPTER) + EMULATOR - 1))  # blocks renumber
    inputs = {name: part[:2] for name, part in rows.parts.items()}
    return Task(NAME, network(), ADAPTER, EMULATOR, inputs, rows.parts, DISTILL_STEPS, (LAYER, last), options)
