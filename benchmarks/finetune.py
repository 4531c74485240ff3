"""Fine-tuning beside loops written by hand, and what it is worth with few labels."""

from collections.abc import Callable

from benchmarks import frozen, throughput, transfer
from benchmarks.timing import machine

PARTS: dict[str, tuple[Callable[[int], None], int]] = {
    "throughput": (throughput.run, 5),
    "head only": (frozen.head_only, 3),
    "last stage": (frozen.last_stage, 3),
    "transfer": (transfer.run, 5),
}


def run(runs: int | None = None) -> None:
    """Every part, one after the other, each `runs` times or as often as it needs."""
    print(machine(), flush=True)
    for part, usual in PARTS.values():
        part(runs or usual)
