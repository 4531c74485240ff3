"""Everything that a Repurposer says of rows, and a process of its own that loads what is saved and asks it.

As ``python -m tests.repurpose.persistence.answering FOLDER``, where each sub-folder is a saved repurposer: writes what
each said beside it, as ``NAME.npz``.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from repurpose import load
from tests.repurpose.examples import blobs
from tests.saved import make

__all__ = ["answers", "new_rows"]

METHODS = ("auto", "mahalanobis", "relative_mahalanobis", "knn", "energy", "variance")


def new_rows() -> np.ndarray:
    """Rows (6, 4) that no Repurposer learned from."""
    return blobs(30, seed=9)[0][24:]


def answers(repurposer: Any, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Every answer that there is, by question."""
    questions: dict[str, Callable[[], Any]] = {
        "labels": lambda: repurposer.predict_label(rows),
        "probabilities": lambda: repurposer.predict_probability(rows),
        "samples": lambda: repurposer.predict_samples(rows, 5),
        "sets": lambda: repurposer.predict_set(rows, 0.8).members,
        "sets by ranks": lambda: repurposer.predict_set(rows, 0.8, "raps").members,
        "abstaining": lambda: repurposer.predict_label(rows, abstain_below=0.6).astype(str),
    }
    for method in METHODS:
        questions[f"unfamiliarity {method}"] = lambda method=method: repurposer.unfamiliarity(rows, method)
        questions[f"p-value {method}"] = lambda method=method: repurposer.unfamiliarity_p_value(rows, method)
    found = {}
    for name, question in questions.items():
        try:
            found[name] = question()
        except (ValueError, NotImplementedError) as error:  # a question that this one has no answer to
            found[name] = np.array(type(error).__name__)
    said = vars(repurposer.predict_uncertainty(rows))
    return {**found, **{f"uncertainty {name}": value for name, value in said.items() if value is not None}}


def main() -> None:
    for saved in sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir()):
        loaded = load(saved, make.empty_source(), **make.ASKED_FOR.get(saved.name, dict)())
        np.savez(saved.with_suffix(".npz"), **answers(loaded, new_rows()))


if __name__ == "__main__":
    main()
