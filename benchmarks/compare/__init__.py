"""Compare: all that two checkouts compute, bit for bit, for changes after which nothing may be different.

    python -m benchmarks compare ../other-checkout

Each side runs in a process of its own with one thread, which takes `model_handler` and `repurpose` from its checkout,
and what is asked of them from this one (`collecting`): features of twenty networks (`networks`), edits (`surgery`),
heads (`heads`) and trained networks (`training`), by public names alone. `results` holds and compares what was found.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.compare.results import differences, read_results
from benchmarks.options import checkout

__all__ = ["main"]

ROOT = Path(__file__).parents[2]

# Both packages come from the checkout given first, and what asks them, which it may not have, from this one.
_PROGRAM = """
import sys
checkout, here, *arguments = sys.argv[1:]
sys.path.insert(0, checkout)
import model_handler, repurpose
sys.path.insert(0, here)
from benchmarks.compare.collecting import main
main(checkout, *arguments)
"""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_SURROUNDINGS = {**_ONE_THREAD, "PYTHONHASHSEED": "0", "CUDA_VISIBLE_DEVICES": ""}


def main(arguments: Sequence[str]) -> None:
    """Collect from both checkouts, print each difference and how many there are; exit status 1 if there is one."""
    from benchmarks.compare.parts import PARTS

    parser = argparse.ArgumentParser(prog="python -m benchmarks compare", description=__doc__.partition("\n")[0])
    parser.add_argument("other", type=checkout, help="the checkout to compare this one with")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="only these")
    options = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        files = [Path(folder, f"{side}.npz") for side in ("this", "other")]
        for root, file in zip((ROOT, options.other), files):
            start = time.perf_counter()
            collect(root, file, options.parts)
            print(f"{root}: {time.perf_counter() - start:.0f} s", flush=True)
        ours, theirs = map(read_results, files)
    found = differences(ours, theirs)
    for difference in found:
        print(difference)
    print(f"{len(ours.keys() | theirs.keys())} results, {len(found)} difference{'' if len(found) == 1 else 's'}")
    sys.exit(1 if found else 0)


def collect(root: Path, file: Path, parts: Sequence[str]) -> None:
    """Write to `file` what the checkout at `root` computes, in a process of its own."""
    command = [sys.executable, "-P", "-W", "ignore", "-c", _PROGRAM, str(root), str(ROOT), str(file), *parts]
    ended = subprocess.run(command, env={**os.environ, **_SURROUNDINGS, "PYTHONPATH": ""}, cwd=file.parent)
    if ended.returncode:
        sys.exit(f"{root} gave no results: its process ended with status {ended.returncode}")
