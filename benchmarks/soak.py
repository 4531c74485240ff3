"""A soak: threads predict, save and load for long beside a saving child that is killed: nothing is lost, memory flat.

Resident memory is told at the start (after a minute, or a tenth of the time, to warm up), at each quarter, and as the
slope of a line through all its samples.
"""

import argparse
import multiprocessing
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.readers import NETWORK, X, answers, models, verdict
from repurpose import load

__all__ = ["main"]

N_PREDICTING = 2
SECONDS_BETWEEN = 0.5  # samples of memory


def resident_megabytes() -> float:
    """The resident memory of this process."""
    import psutil

    return psutil.Process().memory_info().rss / 2**20


def _save_on(folder: Path) -> None:
    model = models()[1]
    while True:
        model.save_repurposer(folder)


class Soak:
    """What goes on at one directory, and what came of it, counted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts: Counter[str] = Counter()
        self.ends = threading.Event()
        self._models = models()
        self._known = [answers(model) for model in self._models]
        self._models[0].save_repurposer(folder)

    def predict(self) -> None:
        """Predict by a model that other threads use too."""
        is_same = self._models[0].predict_probability(X[:20]).tobytes() == self._known[0][2]
        self.counts["predictions" if is_same else "other predictions"] += 1

    def save(self) -> None:
        """Save where the child saves too."""
        self._models[0].save_repurposer(self.folder)
        self.counts["saves"] += 1

    def load(self) -> None:
        """Load what is there."""
        self.counts[f"loads: {verdict(lambda: load(self.folder, NETWORK), self._known)}"] += 1

    def kill(self) -> None:
        """Kill a child that saves, at a random moment."""
        child = multiprocessing.get_context("spawn").Process(target=_save_on, args=(self.folder,), daemon=True)
        child.start()
        self.ends.wait(random.uniform(3, 6))  # it takes seconds to begin
        child.kill()
        child.join()
        child.close()
        self.counts["kills"] += 1

    def run(self, seconds: float) -> list[tuple[float, float]]:
        """Do all of it for so long; the seconds and megabytes of each sample of memory."""
        threads = [threading.Thread(target=self._until_the_end, args=(work,)) for work in self._works()]
        begin, samples = time.monotonic(), []
        for thread in threads:
            thread.start()
        while (passed := time.monotonic() - begin) < seconds:
            samples.append((passed, resident_megabytes()))
            time.sleep(SECONDS_BETWEEN)
        self.ends.set()
        for thread in threads:
            thread.join()
        return samples

    def _works(self) -> list[Callable[[], None]]:
        return [self.predict] * N_PREDICTING + [self.save, self.load, self.kill]

    def _until_the_end(self, work: Callable[[], None]) -> None:
        while not self.ends.is_set():
            try:
                work()
            except Exception as error:
                self.counts[f"error: {type(error).__name__}: {error}"] += 1


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        soak = Soak(Path(name) / "saved")
        samples = soak.run(60 * given.minutes)
        last = verdict(lambda: load(soak.folder, NETWORK), [answers(model) for model in models()])
    warm = [sample for sample in samples if sample[0] >= min(60.0, 6 * given.minutes)]
    seconds, megabytes = np.array(warm).T
    slope = np.polyfit(seconds / 60, megabytes, 1)[0]
    places = np.linspace(0, len(warm) - 1, 5).astype(int)
    print("| begin | 1/4 | 1/2 | 3/4 | end | MB a minute |\n|---|---|---|---|---|---|")
    print(f"| {' | '.join(f'{megabytes[place]:.1f}' for place in places)} | {slope:.3f} |")
    for what, count in sorted(soak.counts.items()):
        print(f"{what}: {count:,}")
    print(f"what is there in the end: {last}")


if __name__ == "__main__":
    main()
