"""Makes a folder beside this file: a saved repurposer of each kind, features and checkpoints, as this version writes.

Run once for each version, and before what is written changes between two, from the root of the repository, as
``python -m tests.saved.make NAME``, and add what it wrote:

    source.safetensors      the weights of the source network, so that no generator has to give them again
    rows.npy, labels.npy    what was learned
    new_rows.npy            what was predicted
    features.safetensors    a `Features`
    checkpoints/            of the training of `whole_network`, stopped after the first of two epochs
    NAME/saved              a saved repurposer, of some NAME/saved.zip
    NAME/answers            what it said of the new rows, an array a question

`tests/test_saved.py` asks the files of each folder the same questions again. A folder that is there is never made anew.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from model_handler import Features, Source
from repurpose import (
    AdapterRepurposer,
    BnnRepurposer,
    GpRepurposer,
    LaplaceRepurposer,
    LrRepurposer,
    NeuralNetworkFineTuneRepurposer,
    NeuralNetworkRandomFreezeRepurposer,
    SvmRepurposer,
)
from tests.repurpose.examples import blobs
from tests.saved.users import NeighboursRepurposer, WholeNetworkRepurposer

HERE = Path(__file__).parent
N_ROWS, N_NEW = 24, 6
NAMES = np.array(["apple", "fig", "pear"])


class Stop(Exception):
    """Ends a training before its time."""


def source(folder: Path) -> nn.Module:
    """The network of that version, 4 -> 6 -> 5 -> 3, in evaluation mode."""
    network = empty_source()
    network.load_state_dict(load_file(folder / "source.safetensors"))
    return network


def empty_source() -> nn.Module:
    layers = (nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    return nn.Sequential(*layers).eval()


def gpytorch_kernel() -> Any:
    """Given to one of the Gaussian processes, and to be given again when it is loaded."""
    from gpytorch.kernels import RBFKernel, ScaleKernel

    return ScaleKernel(RBFKernel())


# How some are saved, and with what they are loaded, by the name of the repurposer.
KEY, SIGNING_KEY = bytes(range(32)), bytes(range(1, 33))
SAVED_BY: dict[str, dict[str, Any]] = {
    "lr_source_kept": {"save_source_model": True},
    "lr_encrypted": {"encryption_key": KEY},
    "lr_signed_zip": {"signing_key": SIGNING_KEY},
}

# What a file cannot hold, by the name of the repurposer.
ASKED_FOR: dict[str, Callable[[], dict[str, Any]]] = {
    "gp_kernel": lambda: {"kernel": gpytorch_kernel()},
    "lr_encrypted": lambda: {"encryption_key": KEY},
    "lr_signed_zip": lambda: {"verify_key": verify_key()},
}


def verify_key() -> bytes:
    """The key that belongs to `SIGNING_KEY`."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(SIGNING_KEY).public_key().public_bytes_raw()


def repurposers(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """One of each kind by name, not yet trained."""
    common: dict[str, Any] = {"random_state": 0, "verbose": False, "device": "cpu"}
    on_layer: dict[str, Any] = {"source_model": network, "feature_layer_names": ["2"], **common}
    yield "lr", LrRepurposer(**on_layer)
    yield "lr_layers_chosen", LrRepurposer(network, "auto", **common)
    yield "lr_named", LrRepurposer("efficientnet-lite0", ["_conv_stem"], c=1.0, **common)
    yield "lr_of_source", LrRepurposer(Source(network, name="timm/mine"), ["2"], c=1.0, **common)
    yield "lr_calibrated", LrRepurposer(**on_layer, c=1.0)
    yield "lr_conformalized", LrRepurposer(**on_layer, c=1.0)
    for name in SAVED_BY:
        yield name, LrRepurposer(**on_layer, c=1.0)
    yield "svm", SvmRepurposer(**on_layer)
    yield "svm_rbf", SvmRepurposer(**on_layer, kernel="rbf")
    yield "laplace", LaplaceRepurposer(**on_layer, c=1.0)
    yield "laplace_kronecker", LaplaceRepurposer(**on_layer, c=1.0)
    yield "gp", GpRepurposer(network, ["2", "4"], **common)
    yield "gp_inducing", GpRepurposer(**on_layer, n_inducing=8)
    yield "gp_svgp", GpRepurposer(**on_layer, n_inducing=8, svgp=True)
    yield "gp_kernel", GpRepurposer(**on_layer, kernel=gpytorch_kernel())
    yield "bnn", BnnRepurposer(**on_layer, n_hidden=4, num_samples_mc_prediction=8)
    yield "neighbours", NeighboursRepurposer(**on_layer, n_neighbors=5)
    yield "fine_tune", NeuralNetworkFineTuneRepurposer(network, "2", num_epochs=2, **common)
    yield "ensemble", NeuralNetworkFineTuneRepurposer(network, "2", num_epochs=1, num_members=2, **common)
    yield (
        "random_freeze",
        NeuralNetworkRandomFreezeRepurposer(network, None, ["0"], ["3"], 1, num_epochs=2, **common),
    )
    yield "adapter", AdapterRepurposer(network, layers=["0", "3"], rank=2, num_epochs=2, **common)
    yield "whole_network", whole_network(network)


def whole_network(network: nn.Module, **options: Any) -> WholeNetworkRepurposer:
    """Trained for two epochs, of two steps each."""
    training = {"num_epochs": 2, "learning_rates": {"5": 0.1, "3": 0.01, "*": 0}, "batch_size": 16}
    return WholeNetworkRepurposer(network, **training, device="cpu", random_state=0, verbose=False, **options)


def inputs(name: str, rows: np.ndarray) -> np.ndarray:
    """What that repurposer takes: rows (n, 4), or images (n, 3, 16, 16) of four bands each."""
    return np.repeat(rows, 192, axis=1).reshape(-1, 3, 16, 16) if name == "lr_named" else rows


def answers(repurposer: Any, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What a repurposer says of rows by question, without draws."""
    said = {"labels": repurposer.predict_label(rows), "probabilities": repurposer.predict_probability(rows)}
    if hasattr(repurposer, "conformal_features_"):
        said["sets"] = repurposer.predict_set(rows, 0.8).members
        said["p_values"] = repurposer.unfamiliarity_p_value(rows)
    if repurposer._defines("_predict_variance_from_features"):
        said["variance"] = repurposer.unfamiliarity(rows, "variance")
    if hasattr(repurposer, "training_features_"):
        said["unfamiliarity"] = repurposer.unfamiliarity(rows)
    return said


def main() -> None:
    (name,) = sys.argv[1:]
    folder = HERE / name
    folder.mkdir()  # fails where it is there already
    rows, labels = blobs(N_ROWS + N_NEW, seed=3)
    rows, new_rows, names = rows[:N_ROWS], rows[N_ROWS:], NAMES[labels[:N_ROWS]]
    for name, array in {"rows": rows, "labels": names, "new_rows": new_rows}.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    torch.manual_seed(0)
    save_file(empty_source().state_dict(), folder / "source.safetensors")
    Features({"2": rows, "4": rows[:, :2]}, names).save(folder / "features.safetensors")
    for name, repurposer in repurposers(source(folder)):
        place = folder / name / ("saved.zip" if name.endswith("zip") else "saved")
        learned(name, repurposer, inputs(name, rows), names).save_repurposer(place, **SAVED_BY.get(name, {}))
        write_arrays(folder / name / "answers", answers(repurposer, inputs(name, new_rows)))
    with suppress(Stop):
        interrupted = whole_network(source(folder), checkpoint_dir=folder / "checkpoints", callbacks=[stop_late])
        interrupted.repurpose(rows, names)


def learned(name: str, repurposer: Any, rows: np.ndarray, labels: np.ndarray) -> Any:
    """The repurposer after training, and after what its name says."""
    if name == "lr_conformalized":
        return repurposer.repurpose(rows[::2], labels[::2]).conformalize(rows[1::2], labels[1::2])
    most = 0 if name == "laplace_kronecker" else 1000
    with patch("repurpose.meta_model.laplace._MAX_PARAMETERS", most):  # so that few numbers are too many
        repurposer.repurpose(rows, labels)
    return repurposer.calibrate() if name == "lr_calibrated" else repurposer


def write_arrays(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def stop_late(state: Any, record: dict[str, Any]) -> None:
    """Stop in the second epoch, before it is written down."""
    if record["epoch"] == 1:
        raise Stop


if __name__ == "__main__":
    main()
