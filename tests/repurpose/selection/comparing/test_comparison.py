"""Methods beside each other where it is known which is best, beside folds done by hand, and within a budget."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from model_handler import Features
from repurpose import GpRepurposer, LrRepurposer, NeuralNetworkFineTuneRepurposer
from repurpose.selection import compare_methods
from repurpose.selection.comparing.methods import METHODS
from repurpose.selection.results.paired import selection_folds

HEADS = METHODS[:4]
QUICK = {"num_epochs": 15, "learning_rates": {"*": 0.05}}


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs + torch.tanh(self.inner(inputs))


def blind_network() -> nn.Module:
    """See the second of two inputs alone, until it learns to see the first."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), Residual(8), Residual(8), nn.Linear(8, 3))
    with torch.no_grad():
        network[0].weight[:, 0] = 0
    return network


def rows_of(n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows whose class is the sign of the first input, and of which the second tells nothing."""
    X = np.random.default_rng(0).standard_normal((n, 2)).astype(np.float32)
    return X, np.where(X[:, 0] > 0, "up", "down")


def by_name(table: object) -> dict[str, dict]:
    return {row["method"]: row for row in table.to_dict("records")}


def test_fine_tuning_is_first_where_frozen_features_tell_nothing() -> None:
    table = compare_methods(rows_of(), blind_network(), budget_seconds=60, training=QUICK, random_state=0)
    found = by_name(table)
    assert next(iter(found)) == "fine-tuning"
    assert set(found) == {*METHODS}
    assert found["fine-tuning"]["log_loss"] < 0.3
    for name in HEADS:
        assert found[name]["log_loss"] > 0.6  # log 2 is to know nothing
        assert found[name]["difference"] > 5 * found[name]["difference_error"] > 0
    assert found["adapter"]["note"] == ""


def test_frozen_features_are_first_where_they_tell_all_and_training_is_short() -> None:
    X, y = rows_of()
    network = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 3))
    with torch.no_grad():
        network[0].weight[:] = torch.tensor([[0.5, 0.0]]).expand(4, 2)
    table = compare_methods((X, y), network, budget_seconds=60, training={"num_epochs": 1}, random_state=0)
    found = by_name(table)
    assert next(iter(found)) in HEADS
    assert all(found[name]["log_loss"] < 0.35 for name in HEADS)
    assert found["fine-tuning"]["log_loss"] > 0.5
    assert found["adapter"]["note"].startswith("NoBlocksError: ")
    assert np.isnan(found["adapter"]["log_loss"])


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("lr, last layer", lambda network, seed: LrRepurposer(network, ["3"], random_state=seed)),
        ("gp, chosen layers", lambda network, seed: GpRepurposer(network, "auto", random_state=seed)),
        (
            "fine-tuning",
            lambda network, seed: NeuralNetworkFineTuneRepurposer(network, "3", random_state=seed, num_epochs=3),
        ),
    ],
)
def test_losses_are_those_of_five_trainings_by_hand(name: str, make: object) -> None:
    X, y = rows_of(30)
    network = blind_network()
    options = {"methods": [name], "training": {"num_epochs": 3}, "budget_seconds": 60}
    (row,) = compare_methods(X, network, y, random_state=7, **options).to_dict("records")
    rng = np.random.RandomState(7)
    folds = selection_folds(np.unique(y, return_inverse=True)[1], rng)
    seed, probabilities = int(rng.randint(2**31 - 1)), np.zeros((30, 2))
    for fold in range(5):
        repurposer = make(network, seed).repurpose((X[folds != fold], y[folds != fold]))
        probabilities[folds == fold] = repurposer.predict_probability(X[folds == fold])
    expected = log_loss(y, probabilities / probabilities.sum(axis=1, keepdims=True))
    assert row["log_loss"] == pytest.approx(expected, rel=1e-4)
    assert row["accuracy"] == pytest.approx(np.mean(np.array(["down", "up"])[probabilities.argmax(1)] == y))
    assert row["difference"] == row["difference_error"] == 0
    assert row["train_seconds"] > 0 < row["predict_seconds"]


def test_what_does_not_fit_is_a_row_that_says_how_long_it_needs() -> None:
    options = {"methods": ["gp, last layer", "fine-tuning"], "training": {"num_epochs": 100_000}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = by_name(compare_methods(rows_of(30), blind_network(), budget_seconds=30, random_state=0, **options))
    assert [*found] == ["gp, last layer", "fine-tuning"]
    assert found["gp, last layer"]["note"] == ""
    words = found["fine-tuning"]["note"].split()
    assert words[:4] == ["not", "run:", "needs", "about"]
    assert float(words[4].replace(",", "")) > 60


def test_a_budget_for_nothing_says_what_the_cheapest_needs() -> None:
    with pytest.warns(UserWarning, match=r"too little for any of the methods: the cheapest needs about [\d.e-]+ s"):
        table = compare_methods(rows_of(30), blind_network(), budget_seconds=1e-6)
    assert [row["method"] for row in table.to_dict("records")] == list(METHODS)
    assert all(row["note"].startswith("not run: needs about") for row in table.to_dict("records"))


def test_a_network_without_a_last_linear_layer_has_layers_to_choose_from() -> None:
    network = nn.Sequential(nn.Linear(2, 8), nn.Tanh())
    methods = ["lr, last layer", "gp, chosen layers", "fine-tuning"]
    found = by_name(compare_methods(rows_of(), network, budget_seconds=60, methods=methods, random_state=0))
    assert found["gp, chosen layers"]["log_loss"] < 0.5
    for name in ("lr, last layer", "fine-tuning"):
        assert found[name]["note"].startswith("ValueError: Sequential does not end in a linear layer")
    with pytest.raises(ValueError, match="does not end in a linear layer"):
        compare_methods(rows_of(), network, budget_seconds=60, methods=["fine-tuning"])


def test_groups_are_on_one_side_of_each_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = rows_of(24)
    X[:, 1] = np.arange(24) // 2  # the group, as the network sees it
    seen = []

    def judged(self: LrRepurposer, data: Features) -> np.ndarray:
        seen.append((set(self.training_features_[:, 0]), set(data.matrix[:, 0])))
        return np.full((len(data), 2), 0.5)

    monkeypatch.setattr(LrRepurposer, "predict_probability", judged)
    network = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 3))
    with torch.no_grad():
        network[0].weight[:] = torch.tensor([[0.0, 1.0]])
    compare_methods((X, y), network, groups=np.arange(24) // 2, budget_seconds=60, methods=["lr, last layer"])
    assert len(seen) == 5
    assert not [learned & held_out for learned, held_out in seen if learned & held_out]


def test_every_kind_of_data_with_numbered_rows_gives_the_same() -> None:
    X, y = rows_of(30)
    codes = (y == "up").astype(int)
    options = {"budget_seconds": 60, "methods": ["lr, last layer", "fine-tuning"], "random_state": 0}
    options["training"] = {"num_epochs": 2}
    kinds = [(X, codes), (torch.from_numpy(X), codes.tolist()), TensorDataset(torch.from_numpy(X), torch.tensor(codes))]
    losses = [list(compare_methods(data, blind_network(), **options)["log_loss"]) for data in kinds]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


def test_mistakes_are_told_before_anything_runs() -> None:
    X, y = rows_of(30)
    network = blind_network()
    with pytest.raises(ValueError, match=r"no method 'fine tuning'.*'fine-tuning'"):
        compare_methods((X, y), network, budget_seconds=1, methods=["fine tuning"])
    for seconds in (0, -1, float("nan"), "1"):
        with pytest.raises(ValueError, match="budget_seconds must be a positive number"):
            compare_methods((X, y), network, budget_seconds=seconds)
    with pytest.raises(TypeError, match="take inputs and not the Features"):
        compare_methods(Features({"0": X}, y), network, budget_seconds=1)
    with pytest.raises(TypeError, match="a DataLoader has an order of its own"):
        compare_methods(DataLoader(TensorDataset(torch.from_numpy(X), torch.arange(30) % 2)), network, budget_seconds=1)
    with pytest.raises(ValueError, match="needs one label a row"):
        compare_methods(X, network, budget_seconds=1)
    with pytest.raises(TypeError, match="batchsize"):
        compare_methods((X, y), network, budget_seconds=1, batchsize=3)
