import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from model_handler import ModelError
from repurpose import NeuralNetworkFineTuneRepurposer
from repurpose.training.finder import find_learning_rate
from repurpose.training.rate_search import RateSearch
from repurpose.training.steps.objective import DivergedError
from tests.repurpose.examples import blobs, small_network
from tests.repurpose.training.examples import batches, network, plan, rows, task, trained


def network_with_state() -> nn.Module:
    """Dropout draws, normalisation keeps statistics, a layer is frozen and another holds a gradient."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))
    module[0].requires_grad_(False)
    module[4].weight.grad = torch.ones(3, 8)
    module[2].eval()
    return module.train()


def search(module: nn.Module, **options: Any) -> RateSearch:
    given = options.pop("plan", plan())
    return find_learning_rate(task(module, options.pop("data", batches()), given), **options)


def test_the_network_and_all_generators_are_as_before_bit_for_bit() -> None:
    module = network_with_state()
    module[2].eval()
    gradient = module[4].weight.grad
    before = copy.deepcopy(module.state_dict())
    modes = [(part.training, "train" in vars(part)) for part in module.modules()]
    generators = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    search(module)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert [(part.training, "train" in vars(part)) for part in module.modules()] == modes
    assert [parameter.requires_grad for parameter in module.parameters()] == [False, False, True, True, True, True]
    assert module[4].weight.grad is gradient
    assert torch.equal(gradient, torch.ones(3, 8))
    assert torch.equal(torch.random.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    assert np.array_equal(np.random.get_state()[1], generators[2])  # noqa: NPY002


def test_training_afterwards_ends_in_the_same_bits_as_without_a_search() -> None:
    given = plan(optimizer="AdamW", scheduler="warmup_cosine")
    expected = trained(given, network_with_state()).state_dict()
    module = network_with_state()
    search(module, plan=given)
    found = trained(given, module).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_losses_are_those_of_a_loop_by_hand_whose_rate_rises() -> None:
    data = batches()
    found = search(network(), data=data, lowest=1e-4, highest=1e-1, n_steps=8)
    module, expected = network(), []
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    windows = [batch for number in range(2) for batch in data.epoch(number)][:8]
    for batch, rate in zip(windows, np.geomspace(1e-4, 1e-1, 8)):
        optimizer.param_groups[0]["lr"] = float(rate)
        loss = nn.functional.cross_entropy(module(batch.inputs), batch.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(float(loss.detach()))
    np.testing.assert_allclose(found.losses, expected, rtol=1e-6)
    np.testing.assert_allclose(found.rates, np.geomspace(1e-4, 1e-1, 8))


def test_groups_keep_their_distance_and_the_suggestion_is_for_the_fastest() -> None:
    found = search(network(), plan=plan(learning_rates={"head": 0.1, "*": 0.02}))
    assert found.shares == pytest.approx({"head": 1.0, "*": 0.2})
    assert found.learning_rates == pytest.approx({"head": found.suggestion, "*": 0.2 * found.suggestion})


def test_the_suggestion_trains_better_than_rates_a_hundred_times_lower_and_higher() -> None:
    found = search(network(), n_steps=60, highest=100.0)
    losses = []
    for rate in (found.suggestion / 100, found.suggestion, found.suggestion * 100):
        module = network()
        try:
            trained(plan(learning_rates={"*": rate}, num_epochs=2), module)
        except DivergedError:
            losses.append(np.inf)
            continue
        X, y = rows()
        losses.append(float(nn.functional.cross_entropy(module(torch.from_numpy(X)), torch.from_numpy(y))))
    assert losses[1] < losses[0]
    assert losses[1] < losses[2]


def test_a_loss_that_leaves_all_bounds_ends_the_search() -> None:
    found = search(network(), highest=1e6, n_steps=200)
    assert len(found.rates) == len(found.losses) == len(found.smoothed) < 200
    assert found.suggestion is not None


def test_nothing_is_suggested_where_the_loss_never_falls() -> None:
    found = search(network(), lowest=1e-12, highest=1e-11, n_steps=6, data=batches((rows()[0] * 0, rows()[1])))
    flat = RateSearch(found.rates, found.losses, found.smoothed, None, found.shares)
    assert flat.learning_rates == {}
    assert "no rate at which the loss falls" in repr(flat)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lowest": 0}, "0 < lowest < highest"),
        ({"lowest": 1.0, "highest": 0.1}, "got 1.0 and 0.1"),
        ({"n_steps": 2}, "n_steps must be a whole number of at least 5, got 2"),
    ],
)
def test_spans_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        search(network(), **options)


def test_a_pattern_without_a_match_changes_nothing() -> None:
    module = network()
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(ModelError, match="nearest"):
        search(module, plan=plan(learning_rates={"haed": 0.1, "*": 0.1}))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("as_loader", [False, True])
def test_a_repurposer_learns_the_same_after_a_search(as_loader: bool) -> None:
    X, y = blobs()
    pairs = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))

    def make() -> tuple[NeuralNetworkFineTuneRepurposer, Any]:
        rng, generator = np.random.RandomState(3), torch.Generator().manual_seed(2)
        data = DataLoader(pairs, 20, shuffle=True, generator=generator) if as_loader else (X, y)
        seen: list[Any] = []
        given = {"num_epochs": 2, "random_state": rng, "callbacks": [lambda state, record: seen.append(record)]}
        return NeuralNetworkFineTuneRepurposer(small_network(), "2", **given), data

    plain, data = make()
    expected = plain.repurpose(data).predict_probability(X)
    searched, data = make()
    found = searched.find_learning_rate(data)
    assert not hasattr(searched, "classes_")
    assert set(found.shares) == {"new", "transferred"}
    assert np.array_equal(searched.repurpose(data).predict_probability(X), expected)


def test_a_search_is_drawn_with_its_suggestion() -> None:
    pytest.importorskip("matplotlib").use("Agg")
    found = search(network(), n_steps=60, highest=100.0)
    drawn = found.plot()
    assert drawn.get_xscale() == "log"
    assert np.array_equal(drawn.lines[0].get_ydata(), found.losses)
    assert drawn.lines[2].get_xdata()[0] == found.suggestion
