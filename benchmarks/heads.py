"""What the heads cost: one evaluation of the GP's evidence and the Laplace posterior beside other ways, and whole fits.

Data are drawn, since only sizes matter to the time. Whole fits run in a process of their own, so that the peak memory
is that of the fit. Every line is printed when it is measured; a part is added by a function in `PARTS`.
"""

import argparse
import multiprocessing
import re
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from benchmarks import laplace_rival
from benchmarks.gp_rivals import problem, sides
from benchmarks.options import positive
from benchmarks.timing import Table, interleaved, machine, median_ratio

LIKELIHOODS = ((100, 10), (300, 10), (1000, 10), (300, 100))
FITS = ((300, 10), (1000, 10), (5000, 10), (10_000, 100))
GROWTH = (100, 200, 500, 1000, 2000, 4000)
PATIENCE = 60.0  # seconds of a fit; where a head takes longer, larger sizes are left out
N_FEATURES = 1280
Growth = dict[str, dict[int, float]]  # of each side or head, seconds by number of examples


def run(runs: int = 5, plot: str | None = None, parts: Sequence[str] | None = None) -> None:
    """The parts by name, all of them unless some are named, one after the other."""
    print(machine(), flush=True)
    found: dict[str, Growth] = {}
    for name in parts or PARTS:
        found[name] = PARTS[name](runs) or {}
    if plot is not None:
        _draw({name: growth for name, growth in found.items() if name in ("evidence", "growth")}, Path(plot))


def main(arguments: Sequence[str]) -> None:
    """`--plot FILE` draws the growth over N; `--parts evidence fits` takes some of the parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks heads", description=__doc__)
    parser.add_argument("--runs", type=positive, default=5, help="how often each side runs")
    parser.add_argument("--plot", help="an image file for the growth over the number of examples")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="all of them by default")
    run(**vars(parser.parse_args(arguments)))


def gp_evidence(runs: int, sizes: Sequence[tuple[int, int]] = LIKELIHOODS) -> Growth:
    """One evaluation of the evidence and its gradient: milliseconds, and how many times faster ours is."""
    print(f"\nGP: one evaluation of evidence and gradient, ms, medians of {runs} interleaved runs")
    print("Aims: 6x batched torch at N >= 300, C = 10; 2x LAPACK at N = 1,000; 10x gpytorch")
    table, growth = Table(["N", "C", "ours", "batched torch", "LAPACK, class by class", "gpytorch"]), {}
    for n_samples, n_classes in sizes:
        seconds = interleaved(sides(problem(n_samples, n_classes)), runs)
        table.row([n_samples, n_classes, *_beside_ours(seconds)])
        if n_classes == 10:
            for name, values in seconds.items():
                growth.setdefault(name, {})[n_samples] = statistics.median(values)
    return growth


def gp_fits(runs: int, sizes: Sequence[tuple[int, int]] = FITS) -> None:
    """Whole fits and predictions of 1,000 rows, features given: seconds, and the peak memory of the process."""
    print(f"\nGP: whole fits on {N_FEATURES} features, medians of {runs} runs (one beyond 2,000 examples)")
    print("Aims: 2 s at N = 300, 12 s at 1,000, 180 s and 4 GB at N = 10,000, C = 100")
    table = Table(["N", "C", "fit, s", "evaluations", "predict 1,000, s", "peak memory, GB"])
    for n_samples, n_classes in sizes:
        measured = [
            _alone(_fit_and_predict, "GP", n_samples, n_classes) for _ in range(1 if n_samples > 2000 else runs)
        ]
        fit, predict, megabytes, evaluations = np.median(measured, axis=0)
        table.row(
            [n_samples, n_classes, f"{fit:.2f}", f"{evaluations:.0f}", f"{predict:.2f}", f"{megabytes / 1024:.2f}"]
        )


def laplace(runs: int, sizes: Sequence[tuple[int, int]] = ((100, 10), (300, 10), (1000, 10))) -> None:
    """What comes after the logistic fit: the posterior alone, and with new rows' variances beside laplace-torch's."""
    print(f"\nLaplace after the logistic fit on {N_FEATURES} features, s, medians of {runs} interleaved runs")
    print(
        f"Both sides: posterior, and the variance of {laplace_rival.N_NEW} rows. Aims: posterior 0.2 s at N = 300; 5x"
    )
    table = Table(["N", "C", "posterior", "posterior, variances", "laplace-torch, Kronecker"])
    for n_samples, n_classes in sizes:
        (features, codes), (new, _) = drawn(n_samples, n_classes), drawn(laplace_rival.N_NEW, n_classes, seed=1)
        posterior = laplace_rival.posterior_of(laplace_rival.fitted(features, codes), features, codes)
        alone = statistics.median(interleaved({"ours": posterior}, runs)["ours"])
        seconds = interleaved(laplace_rival.sides(features, codes, new), runs)
        table.row([n_samples, n_classes, f"{alone:.3f}", *_beside_ours(seconds, unit=1.0, digits=3)])


def bnn(runs: int, n_samples: int = 300, n_classes: int = 10) -> None:
    """A whole fit with the defaults, and the cross-validation that chooses C for its start by itself."""
    print(f"\nBNN: whole fit on {N_FEATURES} features, medians of {runs} runs. Aim: 5 s at N = 300")
    if "BNN" not in heads():
        print("BnnRepurposer is not there yet")
        return
    table = Table(["N", "C", "fit, s", "of LR with chosen C alone, s", "predict 1,000, s"])
    measured = [_alone(_fit_and_predict, "BNN", n_samples, n_classes) for _ in range(runs)]
    logistic = [_alone(_fit_and_predict, "LR", n_samples, n_classes)[0] for _ in range(runs)]
    fit, predict, *_ = np.median(measured, axis=0)
    table.row([n_samples, n_classes, f"{fit:.2f}", f"{statistics.median(logistic):.2f}", f"{predict:.2f}"])


def growth(runs: int, sizes: Sequence[int] = GROWTH) -> Growth:
    """Whole fits of every head over the number of examples, ten classes, one run each."""
    print(f"\nWhole fits on {N_FEATURES} features and 10 classes, s, one run; '-' after one of over {PATIENCE:.0f} s")
    table, found = Table(["N", *heads()]), {name: {} for name in heads()}
    for n_samples in sizes:
        cells = []
        for name, seconds in found.items():
            if max(seconds.values(), default=0) <= PATIENCE and len(seconds) == sizes.index(n_samples):
                seconds[n_samples] = _alone(_fit_and_predict, name, n_samples, 10)[0]
            cells.append(f"{seconds[n_samples]:.2f}" if n_samples in seconds else "-")
        table.row([n_samples, *cells])
    return found


PARTS: Mapping[str, Callable[[int], Growth | None]] = {
    "evidence": gp_evidence,
    "fits": gp_fits,
    "laplace": laplace,
    "bnn": bnn,
    "growth": growth,
}


def heads() -> dict[str, Any]:
    """Every head with its defaults, by the name that tables have for it."""
    import repurpose

    classes = {"LR": "Lr", "SVM": "Svm", "GP": "Gp", "Laplace": "Laplace", "BNN": "Bnn"}
    return {
        name: getattr(repurpose, f"{kind}Repurposer")
        for name, kind in classes.items()
        if hasattr(repurpose, f"{kind}Repurposer")
    }


def _fit_and_predict(name: str, n_samples: int, n_classes: int) -> tuple[float, float, float, float]:
    """Seconds to fit and to predict, the peak memory in MB, and the evaluations of the evidence (NaN without)."""
    (X, y), (new, _) = drawn(n_samples, n_classes), drawn(1000, n_classes, seed=1)
    start = time.perf_counter()
    repurposer = heads()[name](nn.Sequential(nn.Identity()), ["0"], random_state=0).repurpose(X, y)
    fitted = time.perf_counter()
    repurposer.predict_probability(new)
    end = time.perf_counter()
    evaluations = getattr(repurposer, "n_function_evaluations_", np.nan)
    return fitted - start, end - fitted, _peak_megabytes(), float(evaluations)


def drawn(n_rows: int, n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows about the centre of each class, and their classes."""
    centers = np.random.default_rng(0).normal(size=(n_classes, N_FEATURES)).astype(np.float32)
    codes = np.arange(n_rows) % n_classes
    noise = np.random.default_rng([seed, 1]).normal(size=(n_rows, N_FEATURES)).astype(np.float32)
    return centers[codes] + 3 * noise, codes


def _beside_ours(seconds: dict[str, list[float]], unit: float = 1e3, digits: int = 1) -> Iterator[str]:
    """The median of ours, and of each other side with how many times longer it took."""
    own = seconds.pop("ours")
    yield f"{unit * statistics.median(own):.{digits}f}"
    for theirs in seconds.values():
        yield f"{unit * statistics.median(theirs):.{digits}f} ({median_ratio(theirs, own):.1f}x)"
    seconds["ours"] = own


def _draw(found: Mapping[str, Growth], file: Path) -> None:
    """Seconds over the number of examples, one panel for each part that measured them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "heads"  # the same file from the same numbers
    titles = {"evidence": "GP: one evaluation of evidence and gradient", "growth": "Whole fits"}
    figure, panels = plt.subplots(1, len(found), figsize=(5 * len(found), 4), squeeze=False, layout="constrained")
    for axes, (part, curves) in zip(panels[0], found.items()):
        for name, seconds in curves.items():
            axes.loglog(list(seconds), list(seconds.values()), marker="o", label=name)
        axes.set(title=f"{titles[part]}, 10 classes", xlabel="examples", ylabel="seconds")
        axes.grid(alpha=0.3)
        axes.legend()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
    print(f"\n{file} drawn", flush=True)


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
