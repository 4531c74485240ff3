"""Collecting: what one checkout computes, written to a file. `benchmarks.compare` runs it in a process of its own."""

import importlib
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.compare.parts import PARTS
from benchmarks.compare.results import Results

__all__ = ["main"]

_COMPARED = ("model_handler", "repurpose")


def main(checkout: str, file: str, *parts: str) -> None:
    """Collect the parts from the packages of `checkout`, and write them to `file`."""
    torch.set_num_threads(1)
    results = Results()
    modules = {part: importlib.import_module(PARTS[part]) for part in parts}  # all, before the first takes its time
    with TemporaryDirectory() as folder:
        for part, module in modules.items():
            torch.manual_seed(0)
            np.random.seed(0)  # noqa: NPY002 (what `random_state=None` draws from)
            module.collect(results.under(part), Path(folder))
    if strangers := strangers_to(Path(checkout)):
        sys.exit(f"these modules are not those of {checkout}: {strangers[:5]}; is it a checkout?")
    results.write(Path(file))


def strangers_to(checkout: Path) -> list[str]:
    """The imported modules of both packages that come from somewhere else."""
    files = {
        name: Path(str(module.__file__)).resolve()
        for name, module in sys.modules.items()
        if name.partition(".")[0] in _COMPARED and getattr(module, "__file__", None)
    }
    return [f"{name} ({file})" for name, file in files.items() if checkout.resolve() not in file.parents]
