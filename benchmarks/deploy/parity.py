"""Files of ONNX beside the library that wrote them: heads x (images, text), sizes, and rows a second in onnxruntime.

Each head is trained on few rows of a class, with rows for `conformalize` or without, written with `export_onnx`, and
compared on rows that it has not seen. Both sides then answer the same rows again, in turns, with one thread.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.adapters.cells import Cell
from benchmarks.adapters.findings import Findings
from benchmarks.parts.verdicts import judged
from benchmarks.quality.findings import Estimate
from benchmarks.sources.corpus import corpus
from benchmarks.tasks import few_per_class, task_images
from benchmarks.timing import table_lines
from model_handler import load_source

__all__ = ["NAME", "N_SEEDS", "aims", "examine", "kinds", "missing", "section"]

NAME, N_SEEDS = "parity", 1
N_CHECKED = 1_000
_N_TRAINED, _N_CALIBRATION, _N_TIMED, _N_TURNS = 20, 10, 128, 3
_IMAGES, _TEXT = "images", "text"
_FOLDS, _ROWS = "five folds", "conformalize"
_HEAD, _END, _FEATURES = "head", "end to end", "features"
_LABELS, _SETS, _P_VALUES, _CLOSE = "other labels", "other sets", "other p-values", "close"
_MEGABYTES, _SPEED, _OURS = "MB", "rows a second", "rows a second, library"
_MOST_HEAD, _MOST_END = 1e-6, 1e-4
_SOURCES = {_IMAGES: "efficientnet-lite0", _TEXT: "minilm"}
_TRANSFER_LAYERS = {"efficientnet-lite0": "_avg_pooling", "minilm": "normalize"}


def missing() -> str:
    """What is not installed, as part of a sentence."""
    from importlib.util import find_spec

    absent = [name for name in ("onnx", "onnxscript", "onnxruntime", "mlxtend", "transformers") if not find_spec(name)]
    return f"{', '.join(absent)} must be installed" if absent else ""


def kinds() -> list[tuple[str, str]]:
    """Every head on images and on text, judged by folds and by rows of its own; trained networks have no folds."""
    heads = [(f"{NAME}, {kind}, {by}", title) for kind in _SOURCES for by in (_FOLDS, _ROWS) for title in _heads()]
    return [*heads, *((f"{NAME}, {kind}, {_ROWS}", title) for kind in _SOURCES for title in _networks())]


def examine(cell: Cell, folder: Path) -> dict[str, float]:
    """Train, export and compare; then let both sides answer the same rows in turns."""
    _, kind, by = cell.part.split(", ")
    inputs, labels = _rows(kind)
    train, rest = few_per_class(labels, _N_TRAINED + (_N_CALIBRATION if by == _ROWS else 0), cell.seed)
    few, _ = few_per_class(labels[train], _N_TRAINED, cell.seed)
    calibration = np.setdiff1d(np.arange(len(train)), few)
    repurposer = {**_heads(), **_networks()}[cell.kind](_SOURCES[kind])
    repurposer.repurpose((inputs(train[few]), labels[train[few]]))
    if "calibrated" in cell.kind:
        repurposer.calibrate()
    if by == _ROWS:
        repurposer.conformalize((inputs(train[calibration]), labels[train[calibration]]))
    with TemporaryDirectory() as directory:
        path = Path(directory) / "model.onnx"
        report = repurposer.export_onnx(path, check_data=inputs(rest[:N_CHECKED]))
        seconds, ours = _in_turns(_runner(path, kind, inputs(rest[:_N_TIMED])), repurposer, inputs(rest[:_N_TIMED]))
    return {
        _HEAD: report.head_difference,
        _END: report.difference,
        _FEATURES: report.feature_difference,
        _LABELS: len(report.other_labels),
        _SETS: len(report.other_sets),
        _P_VALUES: len(report.other_p_values),
        _CLOSE: report.n_close,
        _MEGABYTES: report.n_bytes / 1e6,
        _SPEED: _N_TIMED / seconds,
        _OURS: _N_TIMED / ours,
    }


def section(findings: Findings) -> Iterator[str]:
    """Tell differences, sizes and speeds."""
    lines = [
        f"A file is compared on {N_CHECKED:,} rows that were not trained on: handwritten digits (MNIST) through",
        f"EfficientNet-Lite0, paragraphs of docstrings through MiniLM. {_N_TRAINED} rows of a class are trained on.",
        f'"{_HEAD}" is the largest difference of a probability on equal features, "{_END}" on equal inputs,',
        f'"{_FEATURES}" that of features in units of the largest. Rows with another label, set or p-value are counted;',
        "all of them lie within 1e-5 of a reference score (labels: probabilities within 1e-4), as so many rows do",
        f'("{_CLOSE}"). Speeds are medians of {_N_TURNS} turns with one thread, of {_N_TIMED} rows in batches of 32:',
        "the file by onnxruntime with all four answers, on bytes of the network's size and on tokens made before, the",
        "library by one call of its predictor, which also reads images and texts, and sorts texts by length.",
    ]
    yield from ["", "## Files beside the library", "", *lines, ""]
    header = [NAME, "", _HEAD, _END, _FEATURES, _LABELS, _SETS, _P_VALUES, _CLOSE, _MEGABYTES, _SPEED, "library"]
    rows = []
    for part, kind in kinds():
        if findings.estimate(part, kind, _HEAD) is None:
            continue
        found = {name: findings.estimate(part, kind, name).mean for name in (*header[2:-1], _OURS)}
        rows.append(
            [
                part.removeprefix(f"{NAME}, "),
                kind,
                *(f"{found[name]:.1e}" for name in (_HEAD, _END, _FEATURES)),
                *(f"{found[name]:.0f}" for name in (_LABELS, _SETS, _P_VALUES, _CLOSE)),
                f"{found[_MEGABYTES]:.1f}",
                *(f"{found[name]:.0f}" for name in (_SPEED, _OURS)),
            ]
        )
    yield from table_lines(["rows, judged by", "head", *header[2:]], rows)


def aims(findings: Findings) -> Iterator[list[str]]:
    """Judge the largest differences over all heads."""
    for name, most, unit in ((_HEAD, _MOST_HEAD, "1e-6"), (_END, _MOST_END, "1e-4")):
        found = [findings.estimate(part, kind, name) for part, kind in kinds()]
        largest = max((each for each in found if each is not None), key=lambda each: each.mean, default=None)
        scaled = None if largest is None else Estimate(largest.mean / most, 0.0, largest.largest / most)
        yield judged(f"parity: {name} within {unit}, in units of it, the worst of all heads", scaled, most=1.0)


def _heads() -> dict[str, Callable[[str], Any]]:
    from repurpose import BnnRepurposer, GpRepurposer, LaplaceRepurposer, LrRepurposer, SvmRepurposer

    heads = {"LR": LrRepurposer, "SVM": SvmRepurposer, "Laplace": LaplaceRepurposer, "GP": GpRepurposer}
    made = {title: partial(head, random_state=0) for title, head in {**heads, "BNN": BnnRepurposer}.items()}
    return {**made, "LR, calibrated": made["LR"]}


def _networks() -> dict[str, Callable[[str], Any]]:
    from repurpose import NeuralNetworkFineTuneRepurposer

    def fine_tuned(source: str) -> Any:
        return NeuralNetworkFineTuneRepurposer(source, _TRANSFER_LAYERS[source], num_epochs=1, random_state=0)

    return {"fine-tuned": fine_tuned}


def _rows(kind: str) -> tuple[Callable[[np.ndarray], list[Any]], np.ndarray]:
    """Return what gives rows by number, and the labels: images of the network's size, or texts."""
    if kind == _TEXT:
        found = corpus().docstring_texts()
        return lambda numbers: [found.texts[number] for number in numbers], np.asarray(found.labels)
    pixels, labels = task_images("mnist", 1_600)
    return lambda numbers: [Image.fromarray(pixels[number]).resize((224, 224)) for number in numbers], labels


def _runner(path: Path, kind: str, rows: list[Any]) -> Callable[[], None]:
    """Return what answers the rows with the file, in batches."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = {entry.name for entry in session.get_inputs()}
    batches = [_fed(kind, rows[start : start + 32]) for start in range(0, len(rows), 32)]
    batches = [{name: values for name, values in batch.items() if name in names} for batch in batches]

    def run() -> None:
        for batch in batches:
            session.run(None, batch)

    return run


def _fed(kind: str, rows: list[Any]) -> dict[str, np.ndarray]:
    """Return what a file takes for these rows: bytes of images, or tokens."""
    if kind == _IMAGES:
        return {"images": np.stack([np.asarray(image) for image in rows])}
    return {name: values.numpy() for name, values in load_source(_SOURCES[_TEXT]).transform(rows).items()}


def _in_turns(run: Callable[[], None], repurposer: Any, rows: list[Any]) -> tuple[float, float]:
    """Return the median seconds of the file and of the library, each warmed up by one turn."""
    predictor = repurposer.predictor()
    seconds: dict[str, list[float]] = {"file": [], "library": []}
    for turn in range(_N_TURNS + 1):
        for side, answer in (("file", run), ("library", lambda: predictor({"rows": rows}))):
            start = time.perf_counter()
            answer()
            if turn:
                seconds[side].append(time.perf_counter() - start)
    return median(seconds["file"]), median(seconds["library"])
