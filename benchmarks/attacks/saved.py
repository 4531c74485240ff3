"""Saved things that are attacked: one repurposer of each kind, features of a network, and a checkpoint of a training.

Each has what may be changed in it, as a `Target`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from torch import nn

from model_handler import Features
from model_handler.files.array_files import array_digest
from repurpose import (
    BnnRepurposer,
    GpRepurposer,
    LaplaceRepurposer,
    LrRepurposer,
    MetaModelRepurposer,
    NeuralNetworkFineTuneRepurposer,
    NeuralNetworkRandomFreezeRepurposer,
    SvmRepurposer,
    load,
)
from repurpose.persistence.values.codec import Codec
from repurpose.persistence.values.heads import load_estimator

_NOT_THE_SAME_TWICE = ("history_", "member_histories_")  # seconds of epochs, in a training that is resumed


class NeighboursRepurposer(MetaModelRepurposer):
    """A user's head that is an estimator of scikit-learn, so that a skops file is attacked too."""

    def _train_model_from_features(self, features: np.ndarray, labels: np.ndarray, layers: Any) -> Any:
        from sklearn.neighbors import KNeighborsClassifier

        return KNeighborsClassifier(3).fit(features, labels)

    def _predict_probability_from_features(self, features: np.ndarray) -> np.ndarray:
        return self.target_model.predict_proba(features)


@dataclass(frozen=True)
class Answers:
    """The bytes of labels and probabilities, and hashes of all other answers and of all that was learned."""

    said: list[bytes]
    state: list[str]


@dataclass(frozen=True)
class Target:
    """Something saved: where, how it is loaded, how what was loaded is asked, and what that answered.

    `kind` is "directory", "exchanged" (a directory of Offsite-Tuning, which has no earlier format), or of a file
    "features", "checkpoint", "archive" (a zip file) or "sealed" (one that is encrypted): how it is changed and its
    hashes are made right.
    """

    name: str
    kind: str
    path: Path
    load: Callable[[Path], Any]
    ask: Callable[[Any], Answers]
    expected: Answers

    @classmethod
    def of(
        cls, name: str, kind: str, path: Path, load: Callable[[Path], Any], ask: Callable[[Any], Answers]
    ) -> "Target":
        """Ask it once, whole."""
        return cls(name, kind, path, load, ask, ask(load(path)))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


def rows() -> tuple[np.ndarray, np.ndarray]:
    codes = np.arange(24) % 3
    made = np.random.default_rng(0).normal(size=(24, 4)) + 2 * codes[:, None]
    return made.astype(np.float32), np.array(["apple", "fig", "pear"])[codes]


def answers_of_features(features: Features) -> Answers:
    names = [
        repr(None if features.labels is None else features.labels.tolist()),
        repr(features.layer_names),
        repr(features.class_names),
    ]
    return Answers([features.matrix.tobytes(), *(name.encode() for name in names)], [])


def answers(repurposer: Any) -> Answers:
    """Everything that a repurposer says of some rows, and learned."""
    X = rows()[0][:5]
    said = [repurposer.predict_label(X), repurposer.predict_probability(X)]
    uncertainty = repurposer.predict_uncertainty(X, n_draws=4)
    rest = [value for value in vars(uncertainty).values() if value is not None]
    if hasattr(repurposer, "training_features_"):
        rest += [repurposer.unfamiliarity(X), repurposer.unfamiliarity_p_value(X)]
        rest += [repurposer.predict_set(X, 0.8).members, repurposer.predict_set(X, 0.8, "raps").members]
        rest += [repurposer.predict_p_value(X)] if hasattr(repurposer, "predict_p_value") else []
    state = [array_digest(np.ascontiguousarray(array)) for array in rest]
    return Answers([np.ascontiguousarray(array).tobytes() for array in said], [*state, *_learned(repurposer)])


def _learned(repurposer: Any) -> list[str]:
    """Hashes of everything learned: of the JSON, the arrays and the estimators that a file would have."""
    codec = Codec()
    found = {name: value for name, value in repurposer._learned_for_file().items() if name not in _NOT_THE_SAME_TWICE}
    text = json.dumps({name: codec.encode(value, name) for name, value in sorted(found.items())})
    hashes = [sha256(text.encode()).hexdigest(), *(array_digest(array) for array in codec.arrays.values())]
    return [*hashes, *(joblib.hash(load_estimator(data)) for data in codec.estimators.values())]


def _training(folder: Path) -> NeuralNetworkFineTuneRepurposer:
    common: dict[str, Any] = {"random_state": 0, "verbose": False, "device": "cpu"}
    return NeuralNetworkFineTuneRepurposer(network(), "1", num_epochs=2, checkpoint_dir=folder, **common)


def _trained_on(checkpoint: Path) -> Any:
    """Go on with the training from a checkpoint: it is read, and used, on the way."""
    return _training(checkpoint.parent).repurpose(*rows())


def _repurposers() -> dict[str, Any]:
    common: dict[str, Any] = {"random_state": 0, "verbose": False, "device": "cpu"}
    on_layer = {"source_model": network(), "feature_layer_names": ["1"], **common}
    drawn = {"random_state": np.random.RandomState(3), "verbose": False}
    return {
        "lr": LrRepurposer(**on_layer, c=1.0),
        "svm": SvmRepurposer(network(), ["1"], **drawn),
        "gp": GpRepurposer(**on_layer),
        "gp of points": GpRepurposer(network(), ["0", "1"], n_inducing=6, **common),
        "laplace": LaplaceRepurposer(**on_layer, c=1.0),
        "bnn": BnnRepurposer(**on_layer, c=1.0, num_epochs=2, num_samples_mc_prediction=4, n_hidden=3),
        "neighbours": NeighboursRepurposer(**on_layer),
        "fine-tuned": NeuralNetworkFineTuneRepurposer(network(), "1", num_epochs=1, **common),
        "ensemble": NeuralNetworkFineTuneRepurposer(network(), "1", num_epochs=1, num_members=2, **common),
        "frozen": NeuralNetworkRandomFreezeRepurposer(network(), num_epochs=1, fixed_layers=["0"], **common),
    }


def _in_other_containers(folder: Path, repurposer: LrRepurposer) -> list[Target]:
    """The same one with its source in the file, as a zip file, and as one that is encrypted."""
    key = bytes(range(32))
    repurposer.save_repurposer(folder / "kept", save_source_model=True)
    repurposer.save_repurposer(folder / "lr.zip")
    repurposer.save_repurposer(folder / "sealed.zip", encryption_key=key)

    def load_sealed(path: Path) -> Any:
        return load(path, network(), encryption_key=key)

    return [
        Target.of("source kept", "directory", folder / "kept", lambda path: load(path, network()), answers),
        Target.of("zip", "archive", folder / "lr.zip", lambda path: load(path, network()), answers),
        Target.of("encrypted zip", "sealed", folder / "sealed.zip", load_sealed, answers),
    ]


def targets(folder: Path) -> list[Target]:
    """One of each kind, saved."""
    X, y = rows()
    found = []
    for name, repurposer in _repurposers().items():
        repurposer.repurpose(X, y)
        if hasattr(repurposer, "training_features_"):
            repurposer.predict_set(X[:2], 0.8)  # makes the folds, which are saved too
        else:
            repurposer.conformalize((X, y))
        if name in ("lr", "frozen"):
            repurposer.calibrate((X, y))
        path = folder / name.replace(" ", "-")
        repurposer.save_repurposer(path)
        found.append(Target.of(name, "directory", path, lambda path: load(path, network()), answers))
    found += _in_other_containers(folder, LrRepurposer(network(), ["1"], c=1.0, device="cpu").repurpose(X, y))
    Features({"a": X, "b": X[:, :2]}, y).save(folder / "features.safetensors")
    found.append(Target.of("features", "features", folder / "features.safetensors", Features.load, answers_of_features))
    _training(folder / "checkpoints").repurpose(X, y)
    after_one = folder / "checkpoints" / "epoch-00001.safetensors"
    for other in after_one.parent.glob("epoch-*"):
        if other != after_one:
            other.unlink()
    bytes_of_one = after_one.read_bytes()
    found.append(Target.of("checkpoint", "checkpoint", after_one, _trained_on, answers))
    for other in after_one.parent.glob("epoch-*"):  # asking went on with the training
        other.unlink()
    after_one.write_bytes(bytes_of_one)
    return found
