from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from model_handler import Features
from repurpose import NeuralNetworkFineTuneRepurposer, load
from repurpose.neural_network.dropout import DroppingNetwork, drops, with_dropout
from repurpose.seeding import draw_seed
from repurpose.training.data.seeding import SeedPurpose, drawing_from, seed_of
from tests.repurpose.examples import blobs, small_network


def dropping_network(p: float = 0.5) -> nn.Module:
    """Normalisation beside dropout: in training mode as a whole, a row would depend on its neighbours."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(p), nn.Linear(16, 3))


def repurposer(network: nn.Module | None = None, **options: Any) -> NeuralNetworkFineTuneRepurposer:
    given = {"num_epochs": 20, "optimizer_params": {"learning_rate": 0.05}, "random_state": 0}
    return NeuralNetworkFineTuneRepurposer(network or dropping_network(), "3", **{**given, **options})


def test_draws_have_the_mean_and_variance_of_masks_counted_by_hand() -> None:
    """Logits of one row are linear in a mask of 16 bits: the mean probability over masks is computed by sampling."""
    X, y = blobs()
    learned = repurposer().repurpose(X, y)
    row = X[:1]
    layers = dict(learned.target_model_.named_children())
    body, head = nn.Sequential(*(layers[name] for name in "012")), layers["head"]
    with torch.no_grad():
        hidden = body(torch.from_numpy(row))
        masks = torch.from_numpy(np.random.RandomState(1).rand(20000, 16) < 0.5)
        expected = head(hidden * masks * 2).softmax(dim=1)
    draws = learned.predict_samples(row, 4000)[:, 0]
    np.testing.assert_allclose(draws.mean(axis=0), expected.mean(dim=0), atol=0.03)
    np.testing.assert_allclose(draws.std(axis=0), expected.std(dim=0), atol=0.03)


def test_uncertainty_is_decomposed_from_the_draws_and_the_same_seed_gives_the_same() -> None:
    X, y = blobs()
    learned = repurposer().repurpose(X, y)
    uncertainty, again = learned.predict_uncertainty(X, n_draws=20), learned.predict_uncertainty(X, n_draws=20)
    draws = learned.predict_samples(X, 20).astype(np.float64)
    total = -(draws.mean(axis=0) * np.log(np.maximum(draws.mean(axis=0), 1e-300))).sum(axis=1)
    np.testing.assert_allclose(uncertainty.total, total, atol=1e-6)
    np.testing.assert_allclose(uncertainty.total, uncertainty.aleatoric + uncertainty.epistemic)
    assert np.array_equal(uncertainty.epistemic, again.epistemic)
    assert (uncertainty.epistemic > 0).all()
    assert learned.set_params(random_state=1).predict_uncertainty(X, n_draws=20).total[0] != uncertainty.total[0]


def test_only_dropout_acts_and_the_network_and_all_chance_stay_as_they_were() -> None:
    X, y = blobs()
    learned = repurposer().repurpose(X, y)
    before = {name: tensor.clone() for name, tensor in learned.target_model_.state_dict().items()}
    expected, state = learned.predict_probability(X), torch.random.get_rng_state()
    learned.predict_samples(X, 3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in learned.target_model_.state_dict().items())
    assert not any(module.training for module in learned.target_model_.modules())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.array_equal(learned.predict_probability(X), expected)
    acting = {type(module).__name__ for module in with_dropout(learned.target_model_).modules() if module.training}
    assert acting == {"Dropout"}


class Counting(nn.Linear):
    """Counts how often it computes."""

    n_calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Counting.n_calls += 1
        return super().forward(x)


def test_what_comes_before_dropout_is_computed_once_and_the_draws_are_those_of_whole_passes() -> None:
    X, y = blobs()
    torch.manual_seed(0)
    body = nn.Sequential(Counting(4, 16), nn.BatchNorm1d(16), nn.ReLU())
    network = nn.Sequential(body, nn.Dropout(0.5), nn.Linear(16, 8), nn.Dropout(0.2), nn.ReLU())
    learned = repurposer(network).set_params(transfer_layer_name="4").repurpose(X, y)
    Counting.n_calls = 0
    draws = learned.predict_samples(X, 50)
    assert 0 < Counting.n_calls < 20
    whole, seed = with_dropout(learned.target_model_), draw_seed(0)
    assert len(X) > learned.batch_size
    for number, rows in enumerate(torch.from_numpy(X).split(learned.batch_size)):
        with drawing_from(seed_of(seed, SeedPurpose.DROPOUT_DRAWS, number)), torch.no_grad():
            expected = torch.stack([whole(rows).softmax(dim=1) for _ in range(50)])
        first = number * learned.batch_size
        np.testing.assert_allclose(draws[:, first : first + len(rows)], expected, rtol=0, atol=1e-6)


def test_dropout_inside_a_part_with_a_train_of_its_own_acts() -> None:
    class Own(nn.Sequential):
        def train(self, mode: bool = True) -> nn.Module:
            return super().train(mode)

    network = nn.Sequential(Own(nn.Linear(4, 8), nn.Dropout(0.5)), nn.Linear(8, 8), nn.Dropout(1e-9), nn.Linear(8, 3))
    asked, rows = DroppingNetwork(network.eval(), torch.ones(2, 4), "float32"), torch.ones(2, 4)
    before = asked.before(rows)
    draws = [asked.rest(*before) if isinstance(before, tuple) else asked.rest(before) for _ in range(8)]
    assert torch.stack(draws).std(dim=0).min() > 0


def test_dropout_inside_an_encoder_layer_that_evaluation_computes_in_one_operation_acts() -> None:
    X, y = blobs()
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.5, batch_first=True)
    network = nn.Sequential(nn.Unflatten(1, (1, 4)), encoder, nn.Flatten(), nn.Linear(4, 4))
    learned = repurposer(network).set_params(num_epochs=2).repurpose(X, y)
    assert learned.predict_samples(X, 8).std(axis=0).min() > 0


@pytest.mark.parametrize("untraceable", [False, True])
def test_a_network_that_cannot_be_split_draws_all_the_same(untraceable: bool) -> None:
    class Early(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.drop, self.body = nn.Dropout(0.5), nn.Linear(4, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if untraceable and x.sum() > 1e9:  # what no trace can follow
                return self.body(x)
            return self.body(self.drop(x))

    X, y = blobs()
    learned = repurposer(Early()).set_params(transfer_layer_name="body").repurpose(X, y)
    assert learned.predict_samples(X, 8).std(axis=0).min() > 0


def test_dropout_that_was_frozen_in_training_does_not_act_after_loading_either(tmp_path: Path) -> None:
    X, y = blobs()
    rates = {"new": 0.05, "*": 0.0}
    network = nn.Sequential(nn.Linear(4, 16), nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.5)), nn.ReLU(), nn.ReLU())
    learned = repurposer(network, optimizer_params=None, learning_rates=rates, num_epochs=2).repurpose(X, y)
    learned.save_repurposer(tmp_path / "saved")
    for each in (learned, load(tmp_path / "saved", source_model=network)):
        assert not drops(each.target_model_)
        assert each.predict_uncertainty(X).epistemic is None
        with pytest.raises(NotImplementedError, match="no dropout layer that acted in training"):
            each.predict_samples(X)


def test_draws_survive_saving_bit_for_bit(tmp_path: Path) -> None:
    X, y = blobs()
    network = dropping_network()
    learned = repurposer(network).repurpose(X, y)
    learned.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=network)
    assert np.array_equal(loaded.predict_samples(X, 5), learned.predict_samples(X, 5))


def test_without_dropout_the_total_alone_is_known_and_draws_are_refused_with_the_fix() -> None:
    X, y = blobs()
    learned = NeuralNetworkFineTuneRepurposer(small_network(), "2", num_epochs=2).repurpose(X, y)
    uncertainty = learned.predict_uncertainty(X)
    assert uncertainty.total.shape == (60,)
    assert uncertainty.aleatoric is None
    assert uncertainty.epistemic is None
    with pytest.raises(NotImplementedError, match="num_members=5"):
        learned.predict_samples(X)


def test_a_probability_of_zero_is_no_dropout() -> None:
    assert not drops(dropping_network(0.0))


def test_logits_alone_cannot_be_asked_again() -> None:
    X, y = blobs()
    learned = repurposer().repurpose(X, y)
    logits = learned._features_for_head(X)
    assert isinstance(logits, Features)
    assert learned.predict_uncertainty(logits).epistemic is None
    with pytest.raises(NotImplementedError, match="give the data themselves"):
        learned.predict_samples(logits)


def test_draws_are_calibrated_as_probabilities_are() -> None:
    X, y = blobs()
    learned = repurposer().repurpose(X, y)
    before = learned.predict_samples(X, 3)
    learned.calibrate(blobs(200))
    scaled = np.log(before.astype(np.float64)) / learned.calibration_.temperature
    expected = np.exp(scaled) / np.exp(scaled).sum(axis=2, keepdims=True)
    np.testing.assert_allclose(learned.predict_samples(X, 3), expected, atol=1e-6)
