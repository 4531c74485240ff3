"""What the heads cost: one evaluation of the GP's evidence beside other ways to compute it, and whole fits.

Data are drawn, since only sizes matter to the time. Whole fits run in a process of their own, so that the peak memory
is that of the fit. A head is added by a function in `PARTS`.
"""

import multiprocessing
import re
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from benchmarks.gp_rivals import problem, sides
from benchmarks.timing import interleaved, machine, median_ratio, print_table

LIKELIHOODS = ((100, 10), (300, 10), (1000, 10), (300, 100))
FITS = ((300, 10), (1000, 10), (5000, 10), (10_000, 100))
N_FEATURES = 1280


def run(runs: int = 5) -> None:
    """Every part, one after the other."""
    print(machine())
    for part in PARTS:
        part(runs)


def gp_likelihood(runs: int, sizes: Sequence[tuple[int, int]] = LIKELIHOODS) -> None:
    """One evaluation of the evidence and its gradient: milliseconds, and how many times faster ours is."""
    rows = []
    for n_samples, n_classes in sizes:
        seconds = interleaved(sides(problem(n_samples, n_classes)), runs)
        own = seconds.pop("ours")
        others = [
            f"{1e3 * statistics.median(theirs):.1f} ({median_ratio(theirs, own):.1f}x)" for theirs in seconds.values()
        ]
        rows.append([n_samples, n_classes, f"{1e3 * statistics.median(own):.1f}", *others])
    print(f"\nGP: one evaluation of evidence and gradient, ms, medians of {runs} interleaved runs")
    print_table(["N", "C", "ours", *seconds], rows)


def gp_fits(runs: int, sizes: Sequence[tuple[int, int]] = FITS) -> None:
    """Whole fits and predictions of 1,000 rows, features given: seconds, and the peak memory of the process."""
    rows = []
    for n_samples, n_classes in sizes:
        measured = [_alone(_fit_gp, n_samples, n_classes) for _ in range(1 if n_samples > 2000 else runs)]
        fit, predict, megabytes, evaluations = np.median(measured, axis=0)
        rows.append(
            [n_samples, n_classes, f"{fit:.2f}", f"{evaluations:.0f}", f"{predict:.2f}", f"{megabytes / 1024:.2f}"]
        )
    print(f"\nGP: whole fits on {N_FEATURES} features, medians of {runs} runs (one beyond 2,000 examples)")
    print_table(["N", "C", "fit, s", "evaluations", "predict 1,000, s", "peak memory, GB"], rows)


PARTS: tuple[Callable[[int], None], ...] = (gp_likelihood, gp_fits)


def _fit_gp(n_samples: int, n_classes: int) -> tuple[float, float, float, float]:
    from model_handler import Features
    from repurpose import GpRepurposer

    rng = np.random.default_rng(0)
    centers = rng.normal(size=(n_classes, N_FEATURES)).astype(np.float32)

    def draw(n_rows: int) -> Features:
        codes = np.arange(n_rows) % n_classes
        return Features({"0": centers[codes] + 3 * rng.normal(size=(n_rows, N_FEATURES)).astype(np.float32)}, codes)

    train, test = draw(n_samples), draw(1000)
    start = time.perf_counter()
    repurposer = GpRepurposer(nn.Sequential(nn.Identity()), ["0"], random_state=0).repurpose(train)
    fitted = time.perf_counter()
    repurposer.predict_probability(test)
    end = time.perf_counter()
    return fitted - start, end - fitted, _peak_megabytes(), float(repurposer.n_function_evaluations_)


def _peak_megabytes() -> float:
    """The largest resident size of this process; Linux hands `ru_maxrss` down from the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _alone(function: Callable, *arguments: object) -> tuple[float, ...]:
    """The result of a function that runs in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)
