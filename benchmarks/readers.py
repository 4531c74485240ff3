"""Two writers and four readers at one directory: what is loaded is one of the two models, whole, at any moment.

The models differ in classes, weights and answers. Every reader judges each load by the answers that its model gave
before it was saved, bit for bit.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from repurpose import LrRepurposer, load

__all__ = ["main", "models", "verdict"]

N_WRITERS, N_READERS = 2, 4
NETWORK = nn.Sequential(nn.Identity())
X = np.random.default_rng(0).normal(size=(300, 200)).astype(np.float32)


def models() -> list[LrRepurposer]:
    """Two trained models of other classes, which nothing that belongs to both could be taken for."""
    names = (["a", "b", "c"], ["d", "e", "f", "g"])
    found = []
    for number, classes in enumerate(names):
        labels = np.array(classes)[(np.arange(len(X)) + number) % len(classes)]
        found.append(LrRepurposer(NETWORK, ["0"], c=1.0, verbose=False).repurpose(X, labels))
    return found


def answers(model: LrRepurposer) -> tuple[list[Any], bytes, bytes]:
    """The classes, the weights and the probabilities of a model."""
    return model.classes_.tolist(), model.target_model_.coef_.tobytes(), model.predict_probability(X[:20]).tobytes()


def verdict(read: Callable[[], LrRepurposer], known: list[tuple[list[Any], bytes, bytes]]) -> str:
    """What a load gave: a model that is known, one of parts of several, or an error."""
    try:
        found = answers(read())
    except Exception as error:  # whatever it is, a reader beside writers should not have met it
        return f"error: {type(error).__name__}: {error}"
    return "whole" if found in known else "mixed"


def _write(folder: Path, number: int, begins: Any, ends: Any, counted: Any) -> None:
    model, found = models()[number], Counter[str]()
    begins.wait()
    while not ends.is_set():
        try:
            model.save_repurposer(folder)
            found["saved"] += 1
        except Exception as error:
            found[f"error: {type(error).__name__}: {error}"] += 1
    counted.put(found)


def _read(folder: Path, begins: Any, ends: Any, counted: Any) -> None:
    known, found = [answers(model) for model in models()], Counter[str]()
    begins.wait()
    while not ends.is_set():
        found[verdict(lambda: load(folder, NETWORK), known)] += 1
    counted.put(found)


def beside_writers(seconds: float) -> Counter[str]:
    """Count what became of each load and each saving in so many seconds."""
    context, found = multiprocessing.get_context("spawn"), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        folder, begins, ends = Path(name) / "saved", context.Barrier(N_WRITERS + N_READERS + 1), context.Event()
        counted = context.Queue()
        models()[0].save_repurposer(folder)
        writers = [
            context.Process(target=_write, args=(folder, number, begins, ends, counted)) for number in range(N_WRITERS)
        ]
        readers = [context.Process(target=_read, args=(folder, begins, ends, counted)) for _ in range(N_READERS)]
        for process in writers + readers:
            process.start()
        begins.wait()  # importing takes longer than a short measurement
        time.sleep(seconds)
        ends.set()
        for _ in writers + readers:
            found += counted.get()
        for process in writers + readers:
            process.join()
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks readers", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    given = parser.parse_args(arguments)
    found = beside_writers(60 * given.minutes)
    errors = {said: count for said, count in found.items() if said.startswith("error")}
    loads = found["whole"] + found["mixed"]
    print("| minutes | saved | loads | mixed | errors |\n|---|---|---|---|---|")
    print(f"| {given.minutes:g} | {found['saved']:,} | {loads:,} | {found['mixed']} | {sum(errors.values())} |")
    for said, count in errors.items():
        print(f"{count} times {said}")


if __name__ == "__main__":
    main()
