"""Data of every kind, good and bad, given to every Repurposer: the right answer, or an error that says what to do.

What is right for heads on odd features is in `meta_model/test_hard_data`.
"""

import warnings
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from repurpose import (
    BnnRepurposer,
    GpRepurposer,
    LaplaceRepurposer,
    LrRepurposer,
    NeuralNetworkFineTuneRepurposer,
    NeuralNetworkRandomFreezeRepurposer,
    SvmRepurposer,
)

N_ROWS = 12
CODES = np.arange(N_ROWS) % 3
NAMES = np.array(["a", "b", "c"])[CODES]
X = (np.random.default_rng(0).normal(size=(N_ROWS, 4)) + 2 * CODES[:, None]).astype(np.float32)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


COMMON: dict[str, Any] = {"random_state": 0, "verbose": False, "device": "cpu"}
QUICK_BNN = {"c": 1.0, "num_epochs": 3, "num_samples_mc": 2, "num_samples_mc_prediction": 4, "n_hidden": 3}
MAKERS: dict[str, Callable[[], Any]] = {
    "lr": lambda: LrRepurposer(network(), ["1"], c=1.0, **COMMON),
    "svm": lambda: SvmRepurposer(network(), ["1"], **COMMON),
    "gp": lambda: GpRepurposer(network(), ["1"], **COMMON),
    "laplace": lambda: LaplaceRepurposer(network(), ["1"], c=1.0, **COMMON),
    "bnn": lambda: BnnRepurposer(network(), ["1"], **QUICK_BNN, **COMMON),
    "fine_tune": lambda: NeuralNetworkFineTuneRepurposer(network(), "1", num_epochs=1, **COMMON),
    "random_freeze": lambda: NeuralNetworkRandomFreezeRepurposer(network(), num_epochs=1, **COMMON),
}


class Broken(Dataset):
    """Cannot give its row 5."""

    def __len__(self) -> int:
        return N_ROWS

    def __getitem__(self, row: int) -> tuple[np.ndarray, int]:
        if row == 5:
            raise RuntimeError("no such file on the server")
        return X[row], int(CODES[row])


class Dies(Broken):
    """Ends the worker that reads its row 5."""

    def __getitem__(self, row: int) -> tuple[np.ndarray, int]:
        if row == 5 and torch.utils.data.get_worker_info() is not None:
            import os

            os._exit(3)
        return X[row], int(CODES[row])


class Endless(IterableDataset):
    """Gives its rows again and again."""

    def __iter__(self) -> Iterator[tuple[np.ndarray, int]]:
        while True:
            yield from zip(X, CODES)


class EndlessWithLength(Endless):
    """Says how many rows it has, and gives more."""

    def __len__(self) -> int:
        return N_ROWS


_NO_END = "states no length and has given .* rows, so it is taken to have no end: give its dataset a __len__"


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_handler.data.batch.MOST_ROWS", 100)


def with_value(value: float) -> np.ndarray:
    changed = X.copy()
    changed[1, 2] = value
    return changed


def rows() -> TensorDataset:
    return TensorDataset(torch.from_numpy(X), torch.from_numpy(CODES))


# What is as good as X with NAMES: the same probabilities come out.
ALIKE: dict[str, Callable[[], tuple[Any, ...]]] = {
    "numbers as objects": lambda: (X.astype(object), NAMES),
    "float64": lambda: (X.astype(np.float64), NAMES),
    "big-endian": lambda: (X.astype(">f4"), NAMES),
    "lists": lambda: (X.tolist(), NAMES.tolist()),
    "the other order of memory": lambda: (np.asfortranarray(X), NAMES),
    "read-only": lambda: (np.frombuffer(X.tobytes(), np.float32).reshape(X.shape), NAMES),
    "a loader": lambda: (DataLoader(rows(), batch_size=N_ROWS),),
    "labels as a column": lambda: (X, NAMES[:, None]),
    "labels as bytes": lambda: (X, NAMES.astype(bytes)),
    "labels as objects": lambda: (X, NAMES.astype(object)),
    "labels as whole floats": lambda: (X, CODES.astype(float)),
    "labels of 2^62": lambda: (X, np.array([0, 1, 2**62])[CODES]),
    "labels of uint64": lambda: (X, np.array([0, 1, 2**63], np.uint64)[CODES]),
    "labels as dates": lambda: (X, np.array([f"2020-01-0{code + 1}" for code in CODES], "M8[D]")),
}
# What is learned all the same: probabilities of all classes come out, and the labels are those given.
LEARNED: dict[str, Callable[[], tuple[Any, ...]]] = {
    "a number of 1e30": lambda: (with_value(1e30), NAMES),
    "numbers of 1e-30": lambda: (X * np.float32(1e-30), NAMES),
    "all the same": lambda: (np.ones_like(X), NAMES),
    "the same rows with other labels": lambda: (np.repeat(X[:6], 2, axis=0), NAMES),
    "one row of a class": lambda: (X, np.array(["a"] * 6 + ["b"] * 5 + ["c"])),
    "float16": lambda: (X.astype(np.float16), NAMES),
    "labels that are true or false": lambda: (X, CODES > 0),
    "a loader that shuffles": lambda: (DataLoader(rows(), batch_size=5, shuffle=True),),
    "a loader that drops the last batch": lambda: (DataLoader(rows(), batch_size=5, drop_last=True),),
}
# What is refused, and what the error says, for whom it is another behind a colon.
REFUSED: dict[str, tuple[Callable[[], tuple[Any, ...]], str]] = {
    "NaN": (lambda: (with_value(np.nan), NAMES), r"NaN in 1 of 12 rows \(row 1\)|inputs of this batch hold NaN"),
    "no rows": (lambda: (X[:0], NAMES[:0]), "0 classes|X is empty"),
    "no lists": (lambda: ([], []), "0 classes|X is empty"),
    "one row": (lambda: (X[:1], NAMES[:1]), "the labels hold 1 class: 'a'; a classifier needs"),
    "one class": (lambda: (X, ["a"] * N_ROWS), "the labels hold 1 class: 'a'; a classifier needs"),
    "fractions as labels": (lambda: (X, CODES + 0.5), r"Unknown label type: continuous.*got 0\.5"),
    "labels that are None": (lambda: (X, [None, "b", "c"] * 4), "4 of 12 labels are missing"),
    "labels that are NaN": (lambda: (X, [np.nan, 1, 2] * 4), "4 of 12 labels are missing"),
    "mixed labels": (lambda: (X, [0, "b", 2] * 4), "labels must be all (numbers or all text|text or all numbers)"),
    "labels of any class": (lambda: (X, [object() for _ in X]), "labels must be .*numbers"),
    "complex labels": (lambda: (X, CODES * 1j), "Complex data not supported: labels must be whole numbers"),
    "one-hot labels": (lambda: (X, np.eye(3)[CODES]), r"y should be a 1d array.*argmax\(axis=1\)"),
    "a label too few": (lambda: (X, NAMES[:-1]), "12 rows and y has 11 labels"),
    "no labels": (lambda: (X,), "requires y to be passed.*give"),
    "text": (lambda: (X.astype(str), NAMES), "X must hold numbers, and holds strings"),
    "complex numbers": (lambda: (X * 1j, NAMES), "Complex data not supported: X has dtype complex64"),
    "truth values": (lambda: (X > 1, NAMES), "inputs are bool, and the network computes with floating numbers: give"),
    "whole numbers": (lambda: (CODES[:, None] * [1, 2, 3, 4], NAMES), "inputs are int64, and the network computes"),
    "masked values": (lambda: (np.ma.masked_array(X, X > 2), NAMES), r"X has \d+ masked values in .* rows.*fill it"),
    "None": (lambda: (None, NAMES), "cannot read data of type NoneType; give a DataLoader"),
    "dates": (lambda: ([[datetime(2020, 1, 1)] * 4] * N_ROWS, NAMES), "X must hold numbers|X has dtype|X holds"),
    "channels last": (
        lambda: (np.zeros((N_ROWS, 8, 8, 3), np.float32), NAMES),
        r"layer '0', Linear.*failed on input of shape \(\d+, 8, 8, 3\)",
    ),
    "rows of several lengths": (
        lambda: ([row[: 2 + i % 2] for i, row in enumerate(X)], NAMES),
        "the rows of X differ in shape, so they are no array; pad",
    ),
    "another width": (lambda: (X[:, :3], NAMES), r"layer '0', Linear.*failed on input of shape \(\d+, 3\)"),
    "one axis": (lambda: (X[:, 0], NAMES), r"X has one axis of 12 numbers.*X\.reshape"),
    "a generator": (lambda: (row for row in zip(X, CODES)), "type generator, which gives its rows only once"),
    "a loader that ends later than it says": (
        lambda: (DataLoader(EndlessWithLength(), batch_size=4),),
        "gives more rows than the 12 of its length",
    ),
    "a loader that never ends": (lambda: (DataLoader(Endless(), batch_size=4),), _NO_END),
    "a dataset that raises": (
        lambda: (DataLoader(Broken(), batch_size=4),),
        "row 5 of the DataLoader of Broken cannot be read: RuntimeError: no such file on the server",
    ),
    "a worker that raises": (
        lambda: (DataLoader(Broken(), batch_size=4, num_workers=1),),
        "row 5 of the DataLoader of Broken cannot be read: RuntimeError: no such file on the server",
    ),
    "a worker that dies": (lambda: (DataLoader(Dies(), batch_size=4, num_workers=1),), "worker.*(died|exited|ended)"),
    "a path that is not there": (lambda: ("/no/such/folder",), "there is no file or folder '/no/such/folder'"),
}


@cache
def clean(kind: str) -> np.ndarray:
    """The probabilities of the rows after training on them."""
    return np.asarray(MAKERS[kind]().repurpose(X, NAMES).predict_probability(X))


@pytest.fixture(params=MAKERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("given", ALIKE)
def test_data_that_mean_the_same_give_the_same(kind: str, given: str) -> None:
    repurposer = MAKERS[kind]().repurpose(*ALIKE[given]())
    assert np.array_equal(repurposer.predict_probability(X), clean(kind))


@pytest.mark.filterwarnings("ignore")  # what is warned of is tested where it is
@pytest.mark.parametrize("given", LEARNED)
def test_odd_data_are_learned(kind: str, given: str) -> None:
    data = LEARNED[given]()
    repurposer = MAKERS[kind]().repurpose(*data)
    probabilities = repurposer.predict_probability(X)
    labels = data[1] if len(data) > 1 else CODES
    assert repurposer.classes_.tolist() == sorted(set(np.asarray(labels).tolist()))
    assert probabilities.shape == (N_ROWS, len(repurposer.classes_))
    assert np.isfinite(probabilities).all()
    assert np.abs(probabilities.sum(axis=1) - 1).max() <= 1e-6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_thousand_classes_of_two_rows_are_learned(kind: str) -> None:
    labels = np.repeat(np.arange(1000), 2)
    rows = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32).repeat(2, axis=0)
    repurposer = MAKERS[kind]()
    if "c" in repurposer.get_params():
        repurposer.set_params(c=0.01)  # with 1.0 the solver of scikit-learn takes minutes
    probabilities = repurposer.repurpose(rows, labels).predict_probability(rows[:10])
    assert repurposer.classes_.tolist() == list(range(1000))
    assert probabilities.shape == (10, 1000)
    assert np.isfinite(probabilities).all()
    assert np.abs(probabilities.sum(axis=1) - 1).max() <= 1e-5


@pytest.mark.parametrize("given", REFUSED)
def test_bad_data_are_refused_with_what_to_do_and_nothing_is_learned(kind: str, given: str) -> None:
    make, said = REFUSED[given]
    repurposer = MAKERS[kind]()
    data = (make(),) if given == "a generator" else make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((ValueError, TypeError, RuntimeError, FileNotFoundError), match=f"(?s){said}"):
            repurposer.repurpose(*data)
    assert not hasattr(repurposer, "target_model_")


BAD_ROWS: dict[str, tuple[Any, str]] = {
    "NaN": (with_value(np.nan), "NaN"),
    "another width": (X[:, :3], r"has 3 features|rows of shape \(3,\)|failed on input"),
    "one axis": (X[:, 0], "one axis"),
    "text": (X.astype(str), "X must hold numbers"),
    "complex numbers": (X * 1j, "Complex data not supported"),
    "None": (None, "cannot read data of type NoneType"),
    "a loader that never ends": (DataLoader(Endless(), batch_size=4), _NO_END),
}


@pytest.mark.parametrize("given", BAD_ROWS)
def test_bad_rows_are_refused_at_prediction(kind: str, given: str) -> None:
    bad, said = BAD_ROWS[given]
    repurposer = _trained(kind)
    with pytest.raises((ValueError, TypeError), match=said):
        repurposer.predict_probability(bad)


def test_labels_never_seen_are_refused_where_they_are_compared(kind: str) -> None:
    with pytest.raises(ValueError, match="'z'"):
        _trained(kind).evaluate((X, np.where(CODES == 0, "z", NAMES)))


_trained = cache(lambda kind: MAKERS[kind]().repurpose(X, NAMES))
