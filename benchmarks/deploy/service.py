"""The service under load: requests a second, waiting times, answers and memory, with 1, 8 and 50 clients at once.

`repurpose serve` runs in a process of its own, as a user starts it; clients keep their connections and ask again as
soon as they have an answer.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
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

NAME, N_SEEDS = "service", 3
_SECONDS, _N_FILES = 10.0, 16
_CLIENTS = {"1 client": 1, "8 clients": 8, "50 clients": 50}
_ALONE = "library alone"
_RATE, _MEDIAN, _SLOWEST = "requests a second", "median ms", "slowest in 20, ms"
_FAILED, _OTHER, _GROWTH = "failed", "other answers", "MB grown"


def missing() -> str:
    """What is not installed, as part of a sentence."""
    from importlib.util import find_spec

    absent = [name for name in ("fastapi", "uvicorn", "multipart", "httpx", "mlxtend") if not find_spec(name)]
    return f"{', '.join(absent)} must be installed" if absent else ""


def kinds() -> list[tuple[str, str]]:
    """How many clients ask at once, and the library by itself, one image after the other."""
    return [(NAME, kind) for kind in (_ALONE, *_CLIENTS)]


def examine(cell: Cell, folder: Path) -> dict[str, float]:
    """Train a head, save it, and ask for one image a request."""
    from repurpose import LrRepurposer

    pixels, labels = task_images("mnist", 1_600)
    few, rest = few_per_class(labels, 20, cell.seed)
    repurposer = LrRepurposer("efficientnet-lite0", random_state=0).repurpose((list(pixels[few]), labels[few]))
    images = list(pixels[rest[:_N_FILES]])
    if cell.kind == _ALONE:
        return {_RATE: _rate_alone(repurposer, images)}
    repurposer.predict_set(images[:1])  # the heads of the folds are part of what is saved
    expected = [repurposer.predict_probability([image])[0].tolist() for image in images]
    with TemporaryDirectory() as directory:
        repurposer.save_repurposer(Path(directory) / "saved")
        with _service(Path(directory) / "saved") as (url, process):
            return asyncio.run(_load(url, process, [_file(image) for image in images], expected, _CLIENTS[cell.kind]))


def section(findings: Findings) -> Iterator[str]:
    """Tell rates, waiting times, failures and memory."""
    lines = [
        "`repurpose serve` with EfficientNet-Lite0 and a logistic regression: one image (PNG) a request, answered with",
        f"probabilities, set, p-value and verdict, for {_SECONDS:g} seconds. Clients run on the same machine.",
        '"library alone" is `predictor()` called in a loop for one image at a time. Answers are "other" where a',
        "probability is not bit for bit that of `predict_probability` for this image.",
    ]
    yield from ["", "## The service", "", *lines, ""]
    rows = []
    for part, kind in kinds():
        found = [findings.estimate(part, kind, name) for name in (_RATE, _MEDIAN, _SLOWEST, _FAILED, _OTHER, _GROWTH)]
        if found[0] is not None:
            rows.append([kind, *("" if each is None else str(each) for each in found)])
    yield from table_lines(["", _RATE, _MEDIAN, _SLOWEST, _FAILED, _OTHER, _GROWTH], rows)


def aims(findings: Findings) -> Iterator[list[str]]:
    """Judge the answers to fifty clients, and what the service costs beside the library."""
    fifty = "50 clients"
    yield judged("service: requests of 50 clients that fail", findings.estimate(NAME, fifty, _FAILED), most=0)
    yield judged("service: answers to 50 clients that are others", findings.estimate(NAME, fifty, _OTHER), most=0)
    yield judged("service: MB that 50 clients make it grow", findings.estimate(NAME, fifty, _GROWTH), most=20)
    yield judged("service: rate beside the library alone", findings.ratio(NAME, fifty, _ALONE, _RATE), least=0.5)


def _rate_alone(repurposer: Any, images: list[np.ndarray]) -> float:
    predictor, files, n_answered = repurposer.predictor(), [_file(image) for image in images], 0
    predictor({"image": files[:1]})
    start = time.perf_counter()
    while (passed := time.perf_counter() - start) < _SECONDS:
        predictor({"image": [files[n_answered % len(files)]]})
        n_answered += 1
    return n_answered / passed


def _file(pixels: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def _service(saved: Path) -> Iterator[tuple[str, int]]:
    """Start the service in a process of its own; give its address and the number of the process."""
    import httpx

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-m", "repurpose", "serve", str(saved), "--port", str(port)])
    try:
        for _ in range(1200):
            try:
                httpx.get(f"{url}/health", timeout=10)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


async def _load(
    url: str, process: int, files: list[bytes], expected: list[list[float]], n_clients: int
) -> dict[str, float]:
    import httpx

    waited: list[float] = []
    failed = other = 0
    headers = {"Content-Type": "image/png"}

    async def client(number: int, end: float) -> None:
        nonlocal failed, other
        async with httpx.AsyncClient(base_url=url, timeout=60, verify=False) as asking:
            while time.perf_counter() < end:
                number = (number + 1) % len(files)
                start = time.perf_counter()
                try:
                    answer = await asking.post("/predict", content=files[number], headers=headers)
                except httpx.TransportError:
                    failed += 1
                    continue
                waited.append(time.perf_counter() - start)
                failed += answer.status_code != 200
                other += answer.status_code == 200 and answer.json()["rows"][0]["probabilities"] != expected[number]

    async def clients(seconds: float) -> float:
        start = time.perf_counter()
        await asyncio.gather(*(client(number, start + seconds) for number in range(n_clients)))
        return time.perf_counter() - start

    await clients(_SECONDS / 5)  # what is kept for good is there after this
    before = _megabytes(process)
    waited.clear()
    passed = await clients(_SECONDS)
    return {
        _RATE: len(waited) / passed,
        _MEDIAN: float(np.median(waited)) * 1e3,
        _SLOWEST: float(np.quantile(waited, 0.95)) * 1e3,
        _FAILED: float(failed),
        _OTHER: float(other),
        _GROWTH: _megabytes(process) - before,
    }


def _megabytes(process: int) -> float:
    """Return the resident memory of a process, as Linux tells it."""
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6
