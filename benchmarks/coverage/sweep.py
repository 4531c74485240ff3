"""The sweep: one process a network, so that a crash, a hang or a lack of memory ends that network alone.

Results are lines of JSON, written as each network ends; what is in the file is not tried again.
"""

import json
import multiprocessing
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from benchmarks.coverage.networks import EXCLUDED, build, networks_of

__all__ = ["Result", "answer_of", "read_results", "sweep"]

_PRELOADED = [
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "benchmarks.coverage.sweep",
    "benchmarks.coverage.conformance",
]
_PACKAGE = {"torchvision": "torchvision", "timm": "timm", "huggingface": "transformers"}


@dataclass(frozen=True)
class Result:
    """One network: `status` is "passed", "failed" or "excluded", `reasons` say why not, by promise."""

    library: str
    name: str
    status: str
    reasons: dict[str, str]
    backend: str = ""
    untraceable: str = ""
    n_layers: int = 0
    n_compared: int = 0
    cut: str = ""
    n_parameters: int = 0
    seconds: float = 0.0
    version: str = ""


def sweep(library: str, file: Path, *, only: Sequence[str] | None, again: bool, seconds: float) -> None:
    """Try the networks of a library and add what is found to `file`."""
    names = [name for name in networks_of(library) if only is None or name in only]
    known = set() if again or only else {r.name for r in read_results(file) if r.library == library}
    file.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name in known:
            continue
        result = _tried(library, name, seconds)
        with file.open("a") as lines:
            lines.write(json.dumps(asdict(result)) + "\n")
        reasons = "; ".join(f"{promise}: {reason}" for promise, reason in result.reasons.items())
        print(f"{library}/{name}: {result.status} {result.backend} {result.seconds:.0f} s {reasons}", flush=True)


def read_results(file: Path) -> list[Result]:
    """The last result of each network, in the order of the libraries' lists."""
    if not file.exists():
        return []
    found = (Result(**json.loads(line)) for line in file.read_text().splitlines())
    return list({(result.library, result.name): result for result in found}.values())


def _tried(library: str, name: str, seconds: float) -> Result:
    if reason := EXCLUDED[library].get(name):
        return Result(library, name, "excluded", {"excluded": reason}, version=version(_PACKAGE[library]))
    start = time.perf_counter()
    found = answer_of(_examine, library, name, seconds, _PRELOADED)
    took = round(time.perf_counter() - start, 1)
    return Result(library, name, **found, seconds=took, version=version(_PACKAGE[library]))


def answer_of(
    examine: Callable[[str, str, Connection], None], library: str, name: str, seconds: float, preloaded: Sequence[str]
) -> dict[str, Any]:
    """Return what `examine` sends about a network from a process of its own, or why it sends nothing in time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preloaded))
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=examine, args=(library, name, sender), daemon=True)
    process.start()
    sender.close()
    found: dict[str, Any] | None = None
    is_in_time = receiver.poll(seconds)  # also where the process ends without a word
    if is_in_time:
        with suppress(EOFError):
            found = receiver.recv()
    else:
        process.kill()
    process.join()
    if found is None:
        reason = f"the process died with code {process.exitcode}" if is_in_time else f"took more than {seconds:.0f} s"
        found = {"status": "failed", "reasons": {"process": reason}}
    return found


def _examine(library: str, name: str, sender: Connection) -> None:
    """In a process of its own: make a network, check it, and send what was found."""
    from benchmarks.coverage.conformance import check, settle

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    try:
        network, inputs, other_inputs = build(library, name)
        verdict = check(settle(network), inputs, other_inputs)
        found = {
            "status": "passed" if verdict.passed else "failed",
            "reasons": verdict.broken,
            "backend": verdict.backend,
            "untraceable": verdict.untraceable,
            "n_layers": verdict.n_layers,
            "n_compared": len(verdict.compared),
            "cut": verdict.cut,
            "n_parameters": sum(parameter.numel() for parameter in network.parameters()),
        }
    except Exception as error:
        last = traceback.format_exception(error)[-2].strip().splitlines()[0]
        found = {"status": "failed", "reasons": {"building": f"{type(error).__name__}: {error} ({last})"[:400]}}
    sender.send(found)
    sender.close()
