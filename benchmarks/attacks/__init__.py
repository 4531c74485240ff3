"""Attacks on saved files: damaged, exchanged and hostile ones, each loaded and asked as a user would.

Three runs: files as the attack leaves them; with every size and hash made right again, as an attacker can; and in the
format of versions before there were hashes. What happened is counted:

- `executed`: code of the file's choice ran
- `hang`: longer than 20 seconds
- `memory`: 200 MB more than the honest file
- `bare`: an error that does not name the file, or is none of ours
- `silent`: other labels or probabilities, or rows refused that the honest one takes
- `silent state`: the same ones, and other sets, p-values, uncertainty or anything else that was learned
- `same`: all the same
- `clear`: an error of ours, naming the file

The first four are to be 0 in all runs, the next two in the first: without hashes that the attacker cannot compute, a
weight that is another finite number looks like any other.

`saved` and `offsite` have what is attacked, `opened` makes it ready to be changed, `changes` and `hostile` are the
attacks, `forging` has hashes made right, `outcomes` what became of them, `fuzzing` the parsers alone (--fuzz MINUTES).
"""

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from benchmarks.attacks.changes import attack
from benchmarks.attacks.fuzzing import fuzz
from benchmarks.attacks.offsite import offsite_targets
from benchmarks.attacks.opened import RUNS
from benchmarks.attacks.outcomes import outcome
from benchmarks.attacks.saved import Target, targets

OUTCOMES = ("executed", "hang", "memory", "bare", "silent", "silent state", "same", "clear")


def all_targets(folder: Path) -> list[Target]:
    """One of each kind, saved."""
    return [*targets(folder), *offsite_targets(folder)]


def attempts(found: list[Target], n: int, seed: int) -> Iterator[tuple[str, str, str, str, str]]:
    """The run, the target, the kind of attack, the outcome and what was said of each attempt."""
    for number in range(n):
        rng = random.Random(f"{seed} {number}")
        run, target = RUNS[number % len(RUNS)], found[(number // len(RUNS)) % len(found)]
        if target.kind in ("checkpoint", "archive", "exchanged") and run == "without hashes":  # there never were any
            run = "hashes made right"
        if target.kind == "sealed":  # nobody without the key can make them right
            run = "as it is"
        with tempfile.TemporaryDirectory() as folder:
            kind, path = attack(target, run, rng, Path(folder))
            yield run, target.name, kind, *outcome(target, path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks attacks", description=__doc__)
    parser.add_argument("--attempts", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="TEXT", default="", help="attack only what has this in its name: offsite")
    parser.add_argument("--show", action="store_true", help="print every attempt that is to be 0")
    parser.add_argument("--fuzz", type=float, metavar="MINUTES", help="fuzz the parsers for so long instead")
    given = parser.parse_args(arguments)
    if given.fuzz is not None:
        print(fuzz(60 * given.fuzz, given.seed))
        return
    counts: dict[str, Counter[str]] = {run: Counter() for run in RUNS}
    by_kind: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder, suppress(KeyboardInterrupt):  # which ends it with what there is
        found = [target for target in all_targets(Path(folder)) if given.only in target.name]
        for run, name, kind, result, said in attempts(found, given.attempts, given.seed):
            counts[run][result] += 1
            by_kind.setdefault(kind, Counter())[result] += 1
            is_bad = result in OUTCOMES[:4] or (result.startswith("silent") and run == "as it is")
            if given.show and is_bad:
                print(f"{result}: {run}, {name}, {kind}: {said[:300]}", flush=True)
    for title, table in (("run", counts), ("attack", by_kind)):
        print(f"\n| {title} | " + " | ".join(OUTCOMES) + " |\n|---|" + "---|" * len(OUTCOMES))
        for row, counted in table.items():
            print(f"| {row} | " + " | ".join(str(counted[each]) for each in OUTCOMES) + " |")
