"""Saving and loading beside torch.save of large networks and joblib.dump of what small heads learned.

Of a fine-tuned network ours makes the network again by surgery, and of a kept source it fills a copy of a network that
is given; torch.load fills a network that is there in the first case, and one made anew by its class in the second.

Ours syncs to the disk and hashes, which the others do not; so the same is timed without either too. The rivals' files
are pickles.
"""

import argparse
import hashlib
import os
import shutil
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn
from torchvision.models import resnet50

from benchmarks.options import positive
from benchmarks.timing import interleaved, machine, print_table
from repurpose import (
    GpRepurposer,
    LaplaceRepurposer,
    LrRepurposer,
    NeuralNetworkFineTuneRepurposer,
    Repurposer,
    SvmRepurposer,
    load,
)
from repurpose.fitted import fitted_attributes

__all__ = ["main"]


class _NoHash:
    """Stands for a SHA-256 that costs nothing; the same for everything."""

    def __init__(self, data: object = b"") -> None:
        pass

    def update(self, data: object) -> None:
        pass

    def hexdigest(self) -> str:
        return "0" * 64

    def digest(self) -> bytes:
        return bytes(32)


@contextmanager
def without_syncs_and_hashes() -> Iterator[None]:
    """Save and load as without either, inside this block."""
    from model_handler.files import array_files, canonical_json
    from repurpose.persistence.container import generations, manifests
    from repurpose.persistence.network import fingerprint

    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(os, "fsync", return_value=None))
        for module in (array_files, canonical_json, generations, manifests, fingerprint):
            if getattr(module, "sha256", None) is hashlib.sha256:
                patches.enter_context(mock.patch.object(module, "sha256", _NoHash))
        patches.enter_context(mock.patch.object(hashlib, "sha256", _NoHash))
        yield


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files in a directory."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


@dataclass(frozen=True)
class Large:
    """A trained repurposer with a large network, how it is saved, what it is loaded with, and the network alone.

    `fresh` gives the network that a rival's weights are loaded into.
    """

    name: str
    made: Repurposer
    options: dict[str, bool]
    source: nn.Module
    network: nn.Module
    fresh: Callable[[], nn.Module]


def large() -> list[Large]:
    """A fine-tuned network of about 60 MB, and a head whose source, a ResNet-50 of about 100 MB, is kept."""
    torch.manual_seed(0)
    source = nn.Sequential(nn.Linear(64, 3800), nn.ReLU(), nn.Linear(3800, 3800), nn.ReLU(), nn.Linear(3800, 8))
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(24, 64)).astype(np.float32), np.arange(24) % 3
    common: dict[str, Any] = {"random_state": 0, "verbose": False, "device": "cpu"}
    tuned = NeuralNetworkFineTuneRepurposer(source, "3", num_epochs=1, **common).repurpose(X, y)
    images, resnet = torch.rand(12, 3, 64, 64), resnet50().eval()
    head = LrRepurposer(resnet, ["avgpool"], c=1.0, **common).repurpose(images, np.arange(12) % 3)
    return [
        Large("fine-tuned", tuned, {}, source, tuned.target_model_, lambda: tuned.target_model_),
        Large("kept source", head, {"save_source_model": True}, resnet50().eval(), resnet, resnet50),
    ]


def small() -> dict[str, tuple[object, nn.Module]]:
    """Trained heads of a few hundred rows, by name."""
    network = nn.Sequential(nn.Identity())
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 200)).astype(np.float32), np.arange(300) % 3
    kinds = {"lr": LrRepurposer, "svm": SvmRepurposer, "gp": GpRepurposer, "laplace": LaplaceRepurposer}
    common = {"random_state": 0, "verbose": False, "device": "cpu"}
    return {name: (kind(network, ["0"], **common).repurpose(X, y), network) for name, kind in kinds.items()}


def _of_large(folder: Path, given: Large, runs: int) -> list[list[object]]:
    target, file, bare = (folder / f"{given.name}{end}" for end in ("", ".pt", " bare"))

    def ours_save(where: Path) -> None:
        shutil.rmtree(where, ignore_errors=True)
        given.made.save_repurposer(where, **given.options)

    def bare_save() -> None:
        with without_syncs_and_hashes():
            ours_save(bare)

    def bare_load() -> None:
        with without_syncs_and_hashes():
            load(bare, given.source)

    def rival_save() -> None:
        file.unlink(missing_ok=True)
        torch.save(given.network.state_dict(), file)

    def rival_load() -> None:
        given.fresh().load_state_dict(torch.load(file, weights_only=True))

    saves = interleaved({"ours": lambda: ours_save(target), "bare": bare_save, "rival": rival_save}, runs)
    sizes = size_of(target), size_of(file)
    loads = interleaved({"ours": lambda: load(target, given.source), "bare": bare_load, "rival": rival_load}, runs)
    what = f"{given.name}, {sizes[1] / 1e6:.0f} MB"
    return [_row(f"save, {what}", saves, sizes), _row(f"load, {what}", loads, sizes)]


def _of_small(folder: Path, name: str, made: object, network: nn.Module, runs: int) -> list[list[object]]:
    import joblib

    target, file, bare = folder / name, folder / f"{name}.joblib", folder / f"{name}_bare"

    def bare_save() -> None:
        with without_syncs_and_hashes():
            made.save_repurposer(bare)  # type: ignore[attr-defined]

    def bare_load() -> None:
        with without_syncs_and_hashes():
            load(bare, network)

    rival = fitted_attributes(made)
    saves = interleaved(
        {
            "ours": lambda: made.save_repurposer(target),  # type: ignore[attr-defined]
            "bare": bare_save,
            "rival": lambda: joblib.dump(rival, file),
        },
        runs,
    )
    loads = interleaved(
        {"ours": lambda: load(target, network), "bare": bare_load, "rival": lambda: joblib.load(file)}, runs
    )
    shutil.rmtree(target)  # of two generations
    made.save_repurposer(target)  # type: ignore[attr-defined]
    sizes = size_of(target), size_of(file)
    return [_row(f"{what}, {name}", times, sizes) for what, times in (("save", saves), ("load", loads))]


def _row(what: str, times: dict[str, list[float]], sizes: tuple[int, int]) -> list[object]:
    ours, bare, rival = (statistics.median(times[side]) for side in ("ours", "bare", "rival"))
    milliseconds = [f"{1000 * seconds:.1f}" for seconds in (ours, bare, ours - bare, rival)]
    return [what, *milliseconds, f"{bare / rival:.2f}", f"{sizes[0] / sizes[1]:.3f}"]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks saving", description=__doc__)
    parser.add_argument("--runs", type=positive, default=9)
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        rows = [row for each in large() for row in _of_large(Path(name), each, given.runs)]
        for head, (made, network) in small().items():
            rows += _of_small(Path(name), head, made, network, given.runs)
    print(f"{machine()}; milliseconds, medians of {given.runs} interleaved runs")
    header = ["", "ours", "without syncs and hashes", "these", "torch.save or joblib", "ratio without", "size ratio"]
    print_table(header, rows)


if __name__ == "__main__":
    main()
