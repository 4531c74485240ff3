from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from model_handler import ModelError, UnknownLayerError
from repurpose import load
from tests.repurpose.domain.networks.examples import (
    AdversaryRepurposer,
    MeansRepurposer,
    quick,
    small_network,
    two_domains,
)
from tests.repurpose.examples import blobs
from tests.repurpose.neural_network.contract import NetworkContract

FAST = {"num_epochs": 8, "optimizer_params": {"learning_rate": 0.1}, "random_state": 0}


class MeansWithSource(MeansRepurposer):
    """Brings source data along, so that it learns as any Repurposer does."""

    def repurpose(self, data: object, y: object = None, **options: Any) -> Any:
        return super().repurpose(data, y, **{"source_data": self._source(data, y), **options})

    def fit(self, X: object, y: object = None) -> Any:
        return self.repurpose(X, y)

    def parameter_groups(self, data: object = None, y: object = None) -> Any:
        return super().parameter_groups(data, y, source_data=self._source(data, y))

    def _source(self, data: object, y: object) -> Any:
        X, codes = (part[60:] for part in blobs(120))  # of the same clouds
        labels = y if y is not None else data[1] if isinstance(data, tuple) else codes
        is_text = np.asarray(labels).dtype.kind in "UO"
        return X, np.array(["pear", "apple", "fig"])[codes] if is_text else codes


class TestNetworkContract(NetworkContract):
    grid = {"num_epochs": [1, 2]}  # noqa: RUF012

    def make(self, source_model: Any, **options: Any) -> MeansWithSource:
        return MeansWithSource(source_model, "2", **{**FAST, **options})


def test_the_loss_is_that_of_a_plain_loop_with_the_ramp_of_the_paper() -> None:
    source, (X, _) = two_domains()
    task = quick(MeansRepurposer, num_epochs=3)._prepare_task(X, source_data=source, seed=1)
    module, n_seen = task.module, 0
    for epoch in range(3):
        for place, batch in enumerate(task.batches.epoch(epoch)):
            module.train()
            loss = task.objective.loss(module, batch.inputs, batch.targets)
            n_seen += 1
            done = (epoch + place / 5) / 3
            rows = nn.Sequential(*list(module.network.children())[:-2])(batch.inputs)
            of_source = batch.targets["is_source"]
            logits, codes = module.network.head(rows)[of_source], batch.targets["codes"][of_source]
            entropy = nn.functional.cross_entropy(logits, codes)
            apart = sum((a - b) ** 2 for a, b in zip(rows[of_source].mean(0), rows[~of_source].mean(0)))
            expected = entropy + (2 / (1 + np.exp(-10 * done)) - 1) * apart
            assert torch.allclose(loss, expected, rtol=1e-5)
    assert n_seen == 15


def test_reversed_gradients_are_minus_lambda_times_the_plain_ones() -> None:
    source, (X, _) = two_domains()
    repurposer = quick(AdversaryRepurposer, adaptation_weight=0.7, num_epochs=1, adaptation_layer_names=["6"])
    task = repurposer._prepare_task(X, source_data=source, seed=1)
    batch = list(task.batches.epoch(0))[3]
    module = task.module.train()
    strength = 0.7 * (2 / (1 + np.exp(-10 * 3 / 5)) - 1)
    own, classifier = module.network.get_submodule("5").weight, module.domain[0][1].weight
    whole = torch.autograd.grad(task.objective.loss(module, batch.inputs, batch.targets), [own, classifier])
    unlabelled = {**batch.targets, "codes": torch.full_like(batch.targets["codes"], -1)}
    adversary = torch.autograd.grad(task.objective.loss(module, batch.inputs, unlabelled), [own, classifier])
    for part in module.modules():  # the same without a reversal
        if hasattr(part, "strength"):
            part.strength = -1.0
    layers = module(batch.inputs)["layers"]["6"]
    of_source = batch.targets["is_source"]
    plain = torch.autograd.grad(repurposer._domain_loss(layers[of_source], layers[~of_source]), [own, classifier])
    assert torch.allclose(adversary[0], -strength * plain[0], atol=1e-6)
    assert torch.allclose(adversary[1], plain[1], atol=1e-6)
    assert not torch.allclose(whole[0], adversary[0])


@pytest.mark.parametrize("cls", [MeansRepurposer, AdversaryRepurposer])
def test_a_frozen_part_is_computed_once_and_changes_nothing(cls: Any, caplog: Any) -> None:
    source, (X, _) = two_domains()
    rates = {"0": 0, "1": 0, "*": 0.05}
    options = {"learning_rates": rates, "num_epochs": 3, "adaptation_layer_names": ["5", "head"]}
    with caplog.at_level("INFO"):
        cached = quick(cls, **options).repurpose(X, source_data=source)
    assert "is computed once: target: 40 rows" in caplog.text
    whole = quick(cls, cache_frozen=False, **options).repurpose(X, source_data=source)
    assert np.abs(cached.predict_probability(X) - whole.predict_probability(X)).max() < 1e-5


def test_a_layer_in_which_nothing_learns_is_refused_and_a_later_one_is_not() -> None:
    source, (X, _) = two_domains()
    frozen = {"*": 0, "new": 0.01}
    with pytest.raises(ValueError, match=r"nothing learns up to 'what the head reads'.*later layer in"):
        quick(MeansRepurposer, learning_rates=frozen).repurpose(X, source_data=source)
    several = quick(MeansRepurposer, learning_rates=frozen, adaptation_layer_names=["0", "5", "head"])
    with pytest.raises(ValueError, match="nothing learns up to '0' and '5'"):
        several.repurpose(X, source_data=source)
    quick(MeansRepurposer, learning_rates=frozen, adaptation_layer_names=["head"]).repurpose(X, source_data=source)


def test_a_trunk_that_is_frozen_at_first_is_adapted_later() -> None:
    source, (X, _) = two_domains()
    probed = quick(MeansRepurposer, probe_epochs=1, learning_rates={"*": 0.05}).repurpose(X, source_data=source)
    assert probed.predict_label(X).shape == (40,)
    assert not torch.equal(probed.target_model_.state_dict()["5.weight"], small_network()[5].weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adaptation_weight": -1}, "adaptation_weight must be a finite number of at least 0, got -1"),
        ({"adaptation_weight": float("nan")}, "of at least 0, got nan"),
        ({"adaptation_weight": float("inf")}, "of at least 0, got inf"),
        ({"adaptation_weight": True}, "of at least 0, got True"),
        ({"adaptation_layer_names": "5"}, "must be a list of names of layers, or None, got '5'"),
        ({"adaptation_layer_names": []}, "must name at least one layer, and each once"),
        ({"adaptation_layer_names": ["5", "5"]}, "must name at least one layer, and each once"),
        ({"batch_size": 1}, r"compares the domains by the rows of a batch, and those of 'target' have one"),
    ],
)
def test_wrong_parameters_are_refused(options: dict[str, Any], message: str) -> None:
    source, (X, _) = two_domains()
    with pytest.raises(ValueError, match=message):
        quick(MeansRepurposer, **options).repurpose(X, source_data=source)


@pytest.mark.parametrize("given", [0.0, torch.ones(2)])
def test_what_a_method_returns_must_be_one_number(given: Any) -> None:
    class Wrong(MeansRepurposer):
        def _domain_loss(self, source_rows: torch.Tensor, target_rows: torch.Tensor) -> Any:
            return given

    source, (X, _) = two_domains()
    with pytest.raises(ModelError, match=r"Wrong._domain_loss must return one number, a tensor, got"):
        quick(Wrong).repurpose(X, source_data=source)


def test_a_network_whose_own_weights_are_frozen_has_nothing_to_adapt() -> None:
    source, (X, _) = two_domains()
    frozen = small_network().requires_grad_(False)
    with pytest.raises(ValueError, match="nothing learns up to 'what the head reads'"):
        MeansRepurposer(frozen, num_epochs=1).repurpose(X, source_data=source)


def test_an_unknown_layer_is_named_with_the_nearest() -> None:
    source, (X, _) = two_domains()
    with pytest.raises(UnknownLayerError, match=r"heed.*head"):
        quick(MeansRepurposer, adaptation_layer_names=["heed"]).repurpose(X, source_data=source)


def test_adaptation_brings_the_domains_together() -> None:
    source, (X, _) = two_domains()

    def distance(weight: float) -> float:
        options = {"adaptation_weight": weight, "num_epochs": 8, "learning_rates": {"*": 0.03}}
        module = quick(MeansRepurposer, **options).repurpose(X, source_data=source).target_model_
        features = nn.Sequential(*list(module.network.children())[:-2])
        return (features(source[0]).mean(0) - features(X).mean(0)).norm().item()

    assert distance(3.0) < 0.5 * distance(0.0)


def test_a_method_of_a_user_is_saved_and_its_classifier_with_it(tmp_path: Any) -> None:
    source, (X, _) = two_domains()
    repurposer = quick(AdversaryRepurposer).repurpose(X, source_data=source)
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=small_network())
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
    own, other = (each.target_model_.state_dict() for each in (repurposer, loaded))
    assert torch.equal(own["domain.0.1.weight"], other["domain.0.1.weight"])
