"""Saving and loading beside torch.save of a large network and joblib.dump of what small heads learned.

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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import nn

from benchmarks.options import positive
from benchmarks.timing import interleaved, machine, print_table
from repurpose import (
    GpRepurposer,
    LaplaceRepurposer,
    LrRepurposer,
    NeuralNetworkFineTuneRepurposer,
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


def large() -> tuple[NeuralNetworkFineTuneRepurposer, nn.Module]:
    """A trained network of about 60 MB, and the source that it came from."""
    torch.manual_seed(0)
    source = nn.Sequential(nn.Linear(64, 3800), nn.ReLU(), nn.Linear(3800, 3800), nn.ReLU(), nn.Linear(3800, 8))
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(24, 64)).astype(np.float32), np.arange(24) % 3
    made = NeuralNetworkFineTuneRepurposer(source, "3", num_epochs=1, random_state=0, verbose=False, device="cpu")
    return made.repurpose(X, y), source


def small() -> dict[str, tuple[object, nn.Module]]:
    """Trained heads of a few hundred rows, by name."""
    network = nn.Sequential(nn.Identity())
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 200)).astype(np.float32), np.arange(300) % 3
    kinds = {"lr": LrRepurposer, "svm": SvmRepurposer, "gp": GpRepurposer, "laplace": LaplaceRepurposer}
    common = {"random_state": 0, "verbose": False, "device": "cpu"}
    return {name: (kind(network, ["0"], **common).repurpose(X, y), network) for name, kind in kinds.items()}


def _of_large(folder: Path, runs: int) -> list[list[object]]:
    made, source = large()
    target, file, bare = folder / "ours", folder / "torch.pt", folder / "bare"

    def torch_load() -> None:
        network = made.target_model_
        network.load_state_dict(torch.load(file, weights_only=True))

    def bare_save() -> None:
        with without_syncs_and_hashes():
            shutil.rmtree(bare, ignore_errors=True)
            made.save_repurposer(bare)

    def bare_load() -> None:
        with without_syncs_and_hashes():
            load(bare, source)

    def ours_save() -> None:
        shutil.rmtree(target, ignore_errors=True)
        made.save_repurposer(target)

    def rival_save() -> None:
        file.unlink(missing_ok=True)
        torch.save(made.target_model_.state_dict(), file)

    saves = interleaved({"ours": ours_save, "bare": bare_save, "rival": rival_save}, runs)
    sizes = size_of(target), size_of(file)
    loads = interleaved({"ours": lambda: load(target, source), "bare": bare_load, "rival": torch_load}, runs)
    return [
        _row(f"{what}, {sizes[1] / 1e6:.0f} MB", times, sizes) for what, times in (("save", saves), ("load", loads))
    ]


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
        rows = _of_large(Path(name), given.runs)
        for head, (made, network) in small().items():
            rows += _of_small(Path(name), head, made, network, given.runs)
    print(f"{machine()}; milliseconds, medians of {given.runs} interleaved runs")
    header = ["", "ours", "without syncs and hashes", "these", "torch.save or joblib", "ratio without", "size ratio"]
    print_table(header, rows)


if __name__ == "__main__":
    main()
