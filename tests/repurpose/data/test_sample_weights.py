import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from model_handler import Features
from repurpose import GpRepurposer, LaplaceRepurposer, NeuralNetworkFineTuneRepurposer, SvmRepurposer
from repurpose.data.sample_weights import checked_counts, checked_weights, present_rows
from tests.repurpose.examples import KnnRepurposer, blobs, identity_network, lr

WRONG = [
    ([1.0, -2.0, 1.0, -0.5], "got -2 at row 1 (2 such rows); a weight of 0 leaves a row out"),
    ([1.0, 1.0, np.nan, 1.0], "got nan at row 2; "),
    ([1.0, 1.0, 1.0, np.inf], "got inf at row 3; "),
    ([1.0, 1.0, 1.0], "got 3; give one for each row, those of weight 0 too"),
    (np.ones((4, 1)), "got an array of shape (4, 1); give one number for each row"),
    (2.0, "got an array of shape (); give one number for each row"),
    (np.zeros(4), "got zero for every row; "),
    (["1", "2", "1", "1"], "got '1' at row 0; give numbers, such as weights.astype(float)"),
    ([1, "2", 1, 1], "got '1' at row 0; "),
    (np.array([1, "2", 1, 1], dtype=object), "got '2' at row 1; "),
    ([1, None, 1, 1], "got None at row 1; "),
    (pd.Series([1.0, None, 1.0, 1.0], dtype="Float64"), "got nan at row 1; "),
    (np.ma.masked_array([1.0, 5.0, 1.0, 1.0], mask=[0, 1, 0, 0]), "got None at row 1; "),
    (np.array([1, 1j, 1, 1]), "got (1+0j) at row 0; "),
    ([[1], [1, 2], [1], [1]], "got [1] at row 0; "),
    (np.full(4, 1e308), "got numbers whose sum is infinite; divide them, as by weights.mean()"),
]


@pytest.mark.parametrize(("weights", "message"), WRONG)
def test_weights_that_cannot_be_are_refused_with_the_first_of_them(weights: Any, message: str) -> None:
    whole = (
        "sample_weight must hold 4 finite numbers of at least 0, not all 0, one for each row in the order of the data; "
    )
    with pytest.raises(ValueError, match="^" + re.escape(whole + message)):
        checked_weights(weights, 4)


@pytest.mark.parametrize(
    "weights",
    [
        [0, 1, 2, 3],
        np.arange(4, dtype=np.uint8),
        torch.arange(4, dtype=torch.bfloat16),
        torch.arange(4.0, requires_grad=True),
        pd.Series([0.0, 1.0, 2.0, 3.0], index=list("abcd")),
        np.array([0, 1, 2, 3.0], dtype=object),
        np.ma.masked_array([0.0, 1.0, 2.0, 3.0]),
    ],
)
def test_numbers_of_any_kind_become_float64(weights: Any) -> None:
    checked = checked_weights(weights, 4)
    assert checked is not None
    assert checked.dtype == np.float64
    assert checked.tolist() == [0, 1, 2, 3]


def test_training_counts_what_double_precision_can_tell() -> None:
    assert checked_counts([0.0, 1e-300, 5e-324, 0.5]).tolist() == [0, 1e-12, 1e-12, 0.5]  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=re.escape("got a sum of 2e+12, above 1e+12; divide them, as by")):
        checked_counts([1e12, 1e12])
    X, y = blobs()
    for weights in (np.full(60, 1e-300), 10.0 ** np.linspace(-300, 9, 60)):
        for cls in (LaplaceRepurposer, SvmRepurposer, GpRepurposer):
            trained = cls(identity_network(), ["0"], random_state=0).fit(X, y, sample_weight=weights)
            assert np.isfinite(trained.predict_proba(X)).all()


def test_a_mask_is_weights_of_0_and_1() -> None:
    assert checked_weights(np.array([True, False]), 2).tolist() == [1, 0]  # type: ignore[union-attr]
    assert checked_weights(None, 2) is None


@pytest.mark.parametrize("weights", [wrong for wrong, _ in WRONG[:8]])
def test_nothing_changes_and_no_network_runs_where_weights_are_wrong(weights: Any) -> None:
    X, y = blobs(n_samples=4, n_classes=2)
    repurposer = lr()
    with pytest.raises(ValueError, match="sample_weight must hold"):
        repurposer.fit(X, y, sample_weight=weights)
    assert "_cached_handler" not in vars(repurposer)
    trained = lr().fit(X, y)
    before = dict(vars(trained))
    for data in (Features({"0": X}, y), DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(y)))):
        with pytest.raises(ValueError, match="sample_weight must hold"):
            trained.repurpose(data, sample_weight=weights)
    assert vars(trained) == before
    with pytest.raises(ValueError, match="sample_weight must hold"):
        trained.score(X, y, sample_weight=weights)


def test_absent_rows_are_taken_out_of_arrays_lists_and_features_and_left_in_other_data() -> None:
    X, y = blobs(n_samples=6)
    weights = np.array([1.0, 0.0, 2.0, 3.0, 0.0, 4.0])
    y[[1, 4]] = y[0]
    (rows, labels), left = present_rows((X, y), weights)
    assert np.array_equal(rows, X[[0, 2, 3, 5]])
    assert np.array_equal(labels, y[[0, 2, 3, 5]])
    assert left.tolist() == [1, 2, 3, 4]
    assert torch.equal(present_rows((torch.from_numpy(X), torch.from_numpy(y)), weights)[0][0], torch.from_numpy(rows))
    assert np.array_equal(present_rows((list(X), y.tolist()), weights)[0][0], rows)
    features, left = present_rows(Features({"0": X}, y), weights)
    assert np.array_equal(features.matrix, rows)
    assert np.array_equal(features.labels, labels)
    loader = DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(y)))
    assert present_rows(loader, weights) == (loader, weights)


def test_a_loader_that_shuffles_cannot_be_weighed() -> None:
    X, y = blobs()
    loader = DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(y)), shuffle=True)
    trained = lr().fit(X, y)
    for call in (trained.repurpose, trained.score):
        with pytest.raises(ValueError, match=r"the DataLoader shuffles, so sample_weight .* set shuffle=False"):
            call(loader, sample_weight=np.ones(60))


def test_a_class_without_weight_is_absent_with_a_warning_and_one_class_alone_is_refused() -> None:
    X, y = blobs()
    names = np.array(["fig", "kiwi", "pear"])[y]
    with pytest.warns(
        UserWarning, match="every row of 'kiwi' a weight of zero: not among classes_, and never predicted"
    ):
        repurposer = lr().fit(X, names, sample_weight=(y != 1) * 2.0)
    assert repurposer.classes_.tolist() == ["fig", "pear"]
    pairs = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    for data in ((X, y), (list(X), y), Features({"0": X}, y), pairs):
        with pytest.raises(
            ValueError, match=r"every row of .*1.* a weight of zero, which leaves rows of 1 class; a class"
        ):
            lr().repurpose(data, sample_weight=(y == 0) * 2.0)


def test_classes_that_take_no_weights_say_what_to_do() -> None:
    X, y = blobs()
    network = NeuralNetworkFineTuneRepurposer(nn.Sequential(nn.Linear(4, 3)), "0")
    for repurposer in (KnnRepurposer(identity_network(), ["0"]), network):
        for method in (repurposer.fit, repurposer.repurpose):
            name = f"{type(repurposer).__name__}.{method.__name__}"
            message = re.escape(f"{name}() got an unexpected keyword argument 'sample_weight': it cannot weigh rows. ")
            with pytest.raises(TypeError, match=message + r"Repeat rows.*once its _train_model_from_features has"):
                method(X, y, sample_weight=np.ones(60))
