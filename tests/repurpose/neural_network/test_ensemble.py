from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.base import clone
from torch import nn

from repurpose import NeuralNetworkFineTuneRepurposer, load
from repurpose.neural_network.ensemble import Ensemble, member_probabilities
from tests.repurpose.examples import blobs, small_network
from tests.repurpose.neural_network.contract import NetworkContract


def ensemble(**options: Any) -> NeuralNetworkFineTuneRepurposer:
    given = {"num_members": 3, "num_epochs": 5, "optimizer_params": {"learning_rate": 0.05}, "random_state": 0}
    return NeuralNetworkFineTuneRepurposer(small_network(), "2", **{**given, **options})


class TestContract(NetworkContract):
    grid = {"num_members": [1, 2]}  # noqa: RUF012

    def make(self, source_model: Any, **options: Any) -> NeuralNetworkFineTuneRepurposer:
        quick = {"num_epochs": 8, "optimizer_params": {"learning_rate": 0.1}, "num_members": 2, "random_state": 0}
        return NeuralNetworkFineTuneRepurposer(source_model, "2", **{**quick, **options})


def test_probabilities_are_the_mean_of_the_members_softmaxes() -> None:
    X, y = blobs()
    repurposer = ensemble().repurpose(X, y)
    with torch.no_grad():
        logits = [member(torch.from_numpy(X)).numpy() for member in repurposer.target_model_.members]
    expected = np.mean([softmax(each, axis=1) for each in logits], axis=0)
    np.testing.assert_allclose(repurposer.predict_probability(X), expected, atol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(repurposer.target_model_(torch.from_numpy(X)).exp(), expected, atol=1e-6)


def test_the_first_member_is_the_network_that_would_be_trained_alone_and_the_others_differ() -> None:
    X, y = blobs()
    alone, several = ensemble(num_members=1).repurpose(X, y), ensemble().repurpose(X, y)
    first, second, third = (dict(member.state_dict()) for member in several.target_model_.members)
    assert all(torch.equal(tensor, first[name]) for name, tensor in alone.target_model_.state_dict().items())
    assert all(not torch.equal(first[name], other[name]) for other in (second, third) for name in first)
    assert not torch.equal(second["head.weight"], third["head.weight"])


def test_members_are_judged_by_the_same_rows() -> None:
    X, y = blobs(90)
    seen: list[Any] = []
    repurposer = ensemble(validation_fraction=0.3, early_stopping=2, callbacks=[lambda state, _: seen.append(state)])
    repurposer.repurpose(X, y)
    assert [len(history) for history in repurposer.member_histories_] == [5, 5, 5] or len(seen) >= 9
    assert repurposer.history_ is repurposer.member_histories_[0]


def test_disagreement_is_epistemic_and_no_more_than_the_members_is_asked() -> None:
    X, y = blobs()
    repurposer = ensemble().repurpose(X, y)
    draws = repurposer.predict_samples(X, 3).astype(np.float64)
    total = -(draws.mean(axis=0) * np.log(draws.mean(axis=0))).sum(axis=1)
    aleatoric = -(draws * np.log(draws)).sum(axis=2).mean(axis=0)
    uncertainty = repurposer.predict_uncertainty(X)
    np.testing.assert_allclose(uncertainty.total, total, rtol=1e-6)
    np.testing.assert_allclose(uncertainty.epistemic, total - aleatoric, atol=1e-7)
    assert (uncertainty.epistemic > 0).all()
    assert np.array_equal(repurposer.predict_samples(X, 7), draws[[0, 1, 2, 0, 1, 2, 0]].astype(np.float32))


def test_members_that_saw_more_rows_disagree_less() -> None:
    fresh, _ = blobs(200, seed=0)
    found = [
        ensemble(num_members=5, num_epochs=n_epochs).repurpose(*blobs(n_rows)).predict_uncertainty(fresh).epistemic
        for n_rows, n_epochs in ((6, 100), (300, 10))
    ]
    assert found[1].mean() < found[0].mean()


def test_an_ensemble_is_saved_loaded_and_cloned_whole(tmp_path: Path) -> None:
    X, y = blobs()
    repurposer = ensemble().repurpose(X, y)
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=small_network())
    assert isinstance(loaded.target_model_, Ensemble)
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
    assert np.array_equal(loaded.predict_uncertainty(X).epistemic, repurposer.predict_uncertainty(X).epistemic)
    assert len(loaded.member_histories_) == 3
    cloned = clone(repurposer)
    assert cloned.num_members == 3
    assert np.array_equal(cloned.repurpose(X, y).predict_probability(X), repurposer.predict_probability(X))


def test_what_was_trained_is_saved_although_the_parameter_was_changed_since(tmp_path: Path) -> None:
    X, y = blobs()
    repurposer = ensemble().repurpose(X, y).set_params(num_members=2)
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=small_network())
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
    assert not hasattr(repurposer.set_params(num_members=1).repurpose(X, y), "member_histories_")


def test_a_temperature_is_that_of_least_log_loss_for_the_mean_of_the_members() -> None:
    X, y = blobs()
    fresh, truth = blobs(400, seed=0)
    repurposer = ensemble().repurpose(X, y)
    before = np.log(repurposer.predict_probability(fresh).astype(np.float64))

    def penalised(temperature: float) -> float:
        logits = before / temperature
        log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return -log_probabilities[np.arange(len(truth)), truth].sum() + np.log(temperature) ** 2 / (2 * 0.2**2)

    temperatures = np.exp(np.linspace(-2, 2, 4001))
    best = temperatures[np.argmin([penalised(temperature) for temperature in temperatures])]
    assert repurposer.calibrate(fresh, truth).calibration_.temperature == pytest.approx(best, rel=2e-3)
    logits = before / repurposer.calibration_.temperature
    np.testing.assert_allclose(repurposer.predict_probability(fresh), softmax(logits, axis=1), atol=1e-6)


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True, "5"])
def test_a_number_of_members_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="num_members must be a whole number of at least 1"):
        ensemble(num_members=wrong).repurpose(*blobs())


def test_probabilities_by_member_are_those_of_their_columns() -> None:
    logits = np.random.RandomState(0).randn(4, 6).astype(np.float32)
    found = member_probabilities(logits, 3)
    assert found.shape == (2, 4, 3)
    np.testing.assert_allclose(found[1], softmax(logits[:, 3:], axis=1), rtol=1e-6)


def test_an_ensemble_as_a_network_gives_logits_of_its_mean() -> None:
    torch.manual_seed(0)
    members = [nn.Linear(2, 3) for _ in range(4)]
    X = torch.randn(5, 2)
    expected = torch.stack([member(X).softmax(dim=1) for member in members]).mean(dim=0)
    torch.testing.assert_close(Ensemble(members)(X).softmax(dim=1), expected)
