"""Fine-tuning beside loops written by hand, and what it is worth with few labels."""

import argparse
from collections.abc import Callable, Sequence

from benchmarks import frozen, pretrained, throughput, transfer
from benchmarks.timing import machine

PARTS: dict[str, tuple[Callable[[int], None], int]] = {
    "throughput": (throughput.run, 5),
    "head": (frozen.head_only, 3),
    "stage": (frozen.last_stage, 3),
    "transfer": (transfer.run, 5),
    "pretrained": (pretrained.run, 3),
}


def run(runs: int | None = None, parts: Sequence[str] | None = None) -> None:
    """Every part, or some, one after the other, each `runs` times or as often as it needs."""
    print(machine(), flush=True)
    for name in parts or PARTS:
        part, usual = PARTS[name]
        part(runs or usual)


def main(arguments: Sequence[str]) -> None:
    """`--parts throughput head` takes some of the parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks finetune", description=__doc__)
    parser.add_argument("--runs", type=int, help="how often each side runs, or on how many splits")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="all of them by default")
    run(**vars(parser.parse_args(arguments)))
