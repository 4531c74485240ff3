"""Questions: a small task, and all that is asked of a Repurposer that has learned it, before and after saving."""

import json
import re
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

from benchmarks.compare.networks import drawn
from benchmarks.compare.results import Results
from repurpose import load

__all__ = [
    "COMMON",
    "HELD_BACK",
    "NEW",
    "STRANGE",
    "TRAIN",
    "WEIGHTS",
    "ask",
    "ask_and_save",
    "contents",
    "history_text",
    "network",
]

COMMON: dict[str, Any] = {"random_state": 0, "verbose": False, "device": "cpu", "batch_size": 16}
_CLASSES = np.array(["apple", "fig", "pear"])
_METHODS = ("auto", "mixed_mahalanobis", "mahalanobis", "relative_mahalanobis", "knn", "energy", "variance")
_SCORES = ("lac", "aps", "raps")
_SECONDS = re.compile(r'"seconds": [-+.e\d]+')  # which a checksum beside the text is of too
_HASH = re.compile(r"-[0-9a-f]{32}(?=\.)")
_CANNOT = (NotImplementedError, ValueError)


def _rows(n_rows: int, seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Images (n_rows, 3, 12, 12), of each class a pattern under noise, and their labels."""
    patterns = np.random.default_rng(9).normal(size=(len(_CLASSES), 3, 12, 12))
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(n_rows) % len(_CLASSES))
    images = 0.3 * patterns[codes] + rng.normal(size=(n_rows, 3, 12, 12)) + shift
    return images.astype(np.float32), _CLASSES[codes]


TRAIN, NEW, HELD_BACK, STRANGE = _rows(48, 1), _rows(14, 2), _rows(24, 3), _rows(9, 4, shift=1.0)[0]
WEIGHTS = np.random.default_rng(5).integers(0, 4, size=len(TRAIN[1])) / 2
"""Of the rows of `TRAIN`, some 0."""


def network() -> nn.Module:
    """A source with two convolutions, dropout and random statistics; the same each time."""
    torch.manual_seed(0)
    layers: list[tuple[str, nn.Module]] = [
        ("conv1", nn.Conv2d(3, 6, 3)),
        ("bn1", nn.BatchNorm2d(6)),
        ("relu1", nn.ReLU()),
        ("conv2", nn.Conv2d(6, 10, 3, stride=2)),
        ("bn2", nn.BatchNorm2d(10)),
        ("relu2", nn.ReLU()),
        ("pool", nn.AdaptiveAvgPool2d(1)),
        ("flatten", nn.Flatten()),
        ("drop", nn.Dropout(0.2)),
        ("fc", nn.Linear(10, 5)),
    ]
    return drawn(nn.Sequential(OrderedDict(layers)).eval())


def ask(results: Results, repurposer: Any) -> None:
    """All answers for rows that are new; where there is none, the name of the error that says so."""

    def note(name: str, question: Callable[[], Any]) -> None:
        try:
            answer = question()
        except _CANNOT as error:
            answer = type(error).__name__
        results.add(name, answer)

    note("labels", lambda: repurposer.predict_label(NEW[0]))
    note("probabilities", lambda: repurposer.predict_probability(NEW[0]))
    note("labels or none", lambda: repurposer.predict_label(NEW[0], abstain_below=0.6))
    note("uncertainty", lambda: vars(repurposer.predict_uncertainty(NEW[0], n_draws=7)))
    note("draws", lambda: repurposer.predict_samples(NEW[0], 4))
    for score in _SCORES:
        note(f"sets by {score}", lambda score=score: repurposer.predict_set(NEW[0], 0.8, score).members)
    note("sets that may be empty", lambda: repurposer.predict_set(NEW[0], 0.5, allow_empty=True).members)
    for method in _METHODS:
        note(f"unfamiliarity by {method}", lambda method=method: repurposer.unfamiliarity(STRANGE, method))
        note(f"p-values by {method}", lambda method=method: repurposer.unfamiliarity_p_value(STRANGE, method))
    note("evaluation", lambda: repr(repurposer.evaluate(HELD_BACK, STRANGE, n_bootstrap=20)))
    note("measures", lambda: _numbers(vars(repurposer.evaluate(HELD_BACK, STRANGE, method="energy", n_bootstrap=20))))


def ask_and_save(results: Results, repurposer: Any, folder: Path, *, judged_by: Any = None) -> None:
    """As it was trained; calibrated, by its training rows or those given; with rows to judge by; saved and loaded."""
    ask(results.under("trained"), repurposer)
    saved = folder / str(len(results.arrays))  # another each time
    repurposer.calibrate(judged_by)
    ask(results.under("calibrated"), repurposer)
    repurposer.calibrate(*HELD_BACK, method="vector").conformalize(*HELD_BACK)
    ask(results.under("conformalized"), repurposer)
    repurposer.save_repurposer(saved)
    results.add("files", contents(saved))
    loaded = load(saved, source_model=network(), device="cpu")
    ask(results.under("loaded"), loaded)
    given = {name: value for name, value in loaded.get_params().items() if name != "source_model"}
    results.add("parameters", repr(given))


def history_text(history: Any) -> str:
    """Its numbers with all their digits, and how it ended, without times."""
    lines = [repr({name: value for name, value in record.items() if name != "seconds"}) for record in history]
    return "\n".join([*lines, f"best epoch {history.best_epoch}; {history.ending}"])


def _numbers(measures: dict[str, Any]) -> str:
    return repr({name: value for name, value in measures.items() if name != "per_class"})


def contents(folder: Path) -> str:
    """The files of a folder, one after another: texts without times, of arrays checksums, of others the names alone.

    What formats of saved repurposers call differently has the same name here: hashes in names are left out.
    """
    files = {_name(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    named = sorted((name, path) for name, path in files.items() if name not in (".lock", "README.md"))
    return "\n".join(f"{name}: {_content(path)}" for name, path in named)


def _name(path: Path) -> str:
    return _HASH.sub("", str(path)).replace("manifest.json", "repurposer.json")


def _content(path: Path) -> str:
    if path.suffix == ".json":
        plan = json.loads(path.read_text())
        plan = plan.get("content", plan)
        return _SECONDS.sub("", json.dumps({name: plan[name] for name in plan if name != "format"}))
    if path.suffix != ".safetensors":  # skops numbers its parts by where they were in memory
        return ""
    with safe_open(path, framework="numpy") as file:
        notes = {name: _SECONDS.sub("", text) for name, text in (file.metadata() or {}).items() if name != "sha256"}
        arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
    sums = {name: sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
    listed = (f"{name} {array.dtype} {array.shape} {sums[name]}" for name, array in arrays.items())
    return "\n".join([repr(notes), *listed])
