"""Engines that call a predictor: rows a second of Ray Data, `datasets` and frames beside a plain loop, and the answers.

Each reads the same image files as bytes, in batches of 32, with one process and one thread for the network. What it
costs to start is told apart: every engine answers a short table and a long one, and the difference gives the rate.
"""

import os
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.adapters.cells import Cell
from benchmarks.adapters.findings import Findings
from benchmarks.parts.verdicts import judged
from benchmarks.tasks import few_per_class, task_images
from benchmarks.timing import table_lines

__all__ = ["NAME", "N_SEEDS", "aims", "examine", "kinds", "missing", "section"]

NAME, N_SEEDS = "engines", 3
_N_SHORT, _N_LONG, _BATCH = 64, 320, 32
_PLAIN, _FRAMES, _DATASETS, _RAY = "plain loop", "iterator of frames", "datasets.map", "Ray Data"
_RATE, _START, _DIFFERENCE, _LABELS = "rows a second", "seconds to start", "difference", "other labels"

Files = list[bytes]
Answers = dict[str, Any]


def missing() -> str:
    """What is not installed, as part of a sentence."""
    from importlib.util import find_spec

    absent = [name for name in ("ray", "datasets", "pandas", "mlxtend") if not find_spec(name)]
    return f"{', '.join(absent)} must be installed" if absent else ""


def kinds() -> list[tuple[str, str]]:
    """The plain loop and the engines."""
    return [(NAME, kind) for kind in _ENGINES]


def examine(cell: Cell, folder: Path) -> dict[str, float]:
    """Train a head, and let an engine answer a short and a long table of files."""
    from repurpose import LrRepurposer

    pixels, labels = task_images("mnist", 1_600)
    few, rest = few_per_class(labels, 20, cell.seed)
    repurposer = LrRepurposer("efficientnet-lite0", random_state=0).repurpose((list(pixels[few]), labels[few]))
    predictor = repurposer.predictor(input="image", columns={"probabilities": "probabilities"})
    files = [_file(pixels[row]) for row in rest[:_N_LONG]]
    seconds = {}
    for n_rows in (_N_SHORT, _N_LONG):
        start = time.perf_counter()
        answered = _ENGINES[cell.kind](predictor, files[:n_rows])
        seconds[n_rows] = time.perf_counter() - start
    rate = (_N_LONG - _N_SHORT) / (seconds[_N_LONG] - seconds[_N_SHORT])
    expected = repurposer.predict_probability(list(pixels[rest[:_N_LONG]]))
    found = np.stack([np.asarray(row) for row in answered["probabilities"]])
    return {
        _RATE: rate,
        _START: seconds[_N_SHORT] - _N_SHORT / rate,
        _DIFFERENCE: float(np.abs(found - expected).max()),
        _LABELS: float((np.asarray(answered["label"]) != repurposer.classes_[expected.argmax(axis=1)]).sum()),
    }


def section(findings: Findings) -> Iterator[str]:
    """Tell the rates of engines, what they cost to start, and whether answers are those of the library."""
    lines = [
        f"Files of handwritten digits (PNG) through EfficientNet-Lite0 and a logistic regression, batches of {_BATCH},",
        f"{_N_LONG} rows; the rate is that of all rows but the first {_N_SHORT}. To start, a process is begun where",
        "the engine has one of its own, and the model is loaded and its reference rows are scored.",
        '"difference" is the largest of any probability beside `predict_probability`.',
    ]
    yield from ["", "## Engines", "", *lines, ""]
    rows = []
    for part, kind in kinds():
        found = [findings.estimate(part, kind, name) for name in (_RATE, _START, _DIFFERENCE, _LABELS)]
        if all(each is not None for each in found):
            rate, start, difference, labels = found
            rows.append([kind, str(rate), str(start), f"{difference.largest:.1e}", f"{labels.mean:.0f}"])  # type: ignore[union-attr]
    yield from table_lines(["", _RATE, _START, _DIFFERENCE, _LABELS], rows)


def aims(findings: Findings) -> Iterator[list[str]]:
    """Judge what engines cost beside the plain loop."""
    for kind in (_FRAMES, _DATASETS, _RAY):
        ratio = findings.ratio(NAME, kind, _PLAIN, _RATE)
        yield judged(f"engines: {kind}, rate beside a plain loop", ratio, least=0.8)


def _file(pixels: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _by_loop(predictor: Any, files: Files) -> Answers:
    batches = [predictor({"image": files[start : start + _BATCH]}) for start in range(0, len(files), _BATCH)]
    return {name: [row for batch in batches for row in batch[name]] for name in ("label", "probabilities")}


def _by_frames(predictor: Any, files: Files) -> Answers:
    import pandas as pd

    frames = (pd.DataFrame({"image": files[start : start + _BATCH]}) for start in range(0, len(files), _BATCH))
    return pd.concat(predictor(frames)).to_dict("list")


def _by_datasets(predictor: Any, files: Files) -> Answers:
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    with TemporaryDirectory() as directory:
        rows = Dataset.from_dict({"image": files})
        cache = str(Path(directory) / "answers.arrow")
        return rows.map(predictor, batched=True, batch_size=_BATCH, cache_file_name=cache).to_dict()


def _by_ray(predictor: Any, files: Files) -> Answers:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray import data

    if not ray.is_initialized():
        ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    listed = [{"number": number, "image": contents} for number, contents in enumerate(files)]
    rows = data.from_items(listed, override_num_blocks=2)
    answered = rows.map_batches(predictor, batch_size=_BATCH, concurrency=1).to_pandas()
    return answered.sort_values("number").to_dict("list")


_ENGINES: dict[str, Callable[[Any, Files], Answers]] = {
    _PLAIN: _by_loop,
    _FRAMES: _by_frames,
    _DATASETS: _by_datasets,
    _RAY: _by_ray,
}
