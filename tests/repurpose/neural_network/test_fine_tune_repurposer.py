from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import Function

from model_handler import UnknownLayerError
from repurpose import NeuralNetworkFineTuneRepurposer
from tests.repurpose.examples import blobs, small_network
from tests.repurpose.neural_network.contract import NetworkContract


class TestContract(NetworkContract):
    grid = {"optimizer_params": [{"learning_rate": 0.01}, {"learning_rate": 0.05}]}  # noqa: RUF012

    def make(self, source_model: Any, **options: Any) -> NeuralNetworkFineTuneRepurposer:
        quick = {"num_epochs": 8, "optimizer_params": {"learning_rate": 0.1}, "random_state": 0}
        return NeuralNetworkFineTuneRepurposer(source_model, "2", **{**quick, **options})


def conv_network(seed: int = 0) -> nn.Module:
    """Two convolutions, "stage1" and "stage2", on images of one channel, pooled, and five outputs."""
    torch.manual_seed(seed)
    parts = {
        "stage1": nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        "stage2": nn.Sequential(nn.Conv2d(6, 7, 3, padding=1, stride=2), nn.BatchNorm2d(7), nn.ReLU()),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(),
        "fc": nn.Linear(7, 5),
    }
    network = nn.Sequential()
    for name, part in parts.items():
        network.add_module(name, part)
    return network


def images(n_rows: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Bright squares on the left or on the right, with noise: (n_rows, 1, 8, 8)."""
    rng = np.random.RandomState(0)
    y = np.arange(n_rows) % 2
    X = rng.normal(0, 0.3, (n_rows, 1, 8, 8)).astype(np.float32)
    X[y == 0, :, :, :4] += 1
    X[y == 1, :, :, 4:] -= 1
    return X, y


def fine_tuned(layer: str = "stage2", **options: Any) -> NeuralNetworkFineTuneRepurposer:
    quick = {"num_epochs": 4, "optimizer_params": {"learning_rate": 0.02}, "random_state": 0, "batch_size": 8}
    return NeuralNetworkFineTuneRepurposer(conv_network(), layer, **{**quick, **options})


def test_maps_are_pooled_and_the_head_sizes_itself() -> None:
    X, y = images()
    repurposer = fine_tuned().fit(X, y)
    assert repurposer.target_model_.head.weight.shape == (2, 7)
    assert repurposer.score(X, y) > 0.9
    with torch.no_grad():
        module = repurposer.target_model_
        maps = module.stage2(module.stage1(torch.from_numpy(X)))
        expected = module.head(maps.mean((2, 3))).softmax(1).numpy()
    assert np.abs(repurposer.predict_probability(X) - expected).max() < 1e-6


def test_flatten_is_xfers_way() -> None:
    repurposer = fine_tuned(pooling="flatten").fit(*images())
    assert repurposer.target_model_.head.weight.shape == (2, 7 * 4 * 4)


def test_vectors_are_not_pooled() -> None:
    module = fine_tuned("flat").fit(*images()).target_model_
    assert module.head.weight.shape == (2, 7)
    assert not hasattr(module, "pooled")


def test_tokens_are_averaged_over_positions() -> None:
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(8, 4, 2, 2, 12, 24, num_classes=4)
    X = np.random.RandomState(0).normal(size=(12, 3, 8, 8)).astype(np.float32)
    repurposer = NeuralNetworkFineTuneRepurposer(network, "encoder", num_epochs=1, random_state=0)
    repurposer.fit(X, np.arange(12) % 2)
    assert repurposer.target_model_.head.weight.shape == (2, 12)
    with torch.no_grad():
        body = repurposer.target_model_
        tokens = []
        handle = body.pooled.register_forward_pre_hook(lambda module, inputs: tokens.append(inputs[0]))
        logits = body(torch.from_numpy(X))
        handle.remove()
        torch.testing.assert_close(logits, body.head(tokens[0].mean(1)))


def test_a_network_without_a_graph_is_fine_tuned_too() -> None:
    class Winding(nn.Module):
        """Its course depends on the data, which no graph can follow."""

        def __init__(self) -> None:
            super().__init__()
            self.body, self.extra, self.fc = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = self.body(x).relu()
            return self.fc(self.extra(hidden) if hidden.sum() > -1 else hidden)

    torch.manual_seed(0)
    X, y = blobs()
    repurposer = NeuralNetworkFineTuneRepurposer(
        Winding(), "extra", num_epochs=10, optimizer_params={"learning_rate": 0.05}, random_state=0
    ).fit(X, y)
    assert repurposer.score(X, y) > 0.5
    assert {group.name for group in repurposer.parameter_groups()} == {"new", "transferred"}


def test_a_count_above_the_classes_gives_no_further_columns() -> None:
    X, y = images()
    repurposer = fine_tuned(target_class_count=3).fit(X, y)
    assert repurposer.target_model_.head.weight.shape[0] == 3
    assert repurposer.predict_probability(X).shape == (40, 2)
    assert np.allclose(repurposer.predict_probability(X).sum(1), 1)


def test_a_count_below_the_classes_is_refused_with_the_classes() -> None:
    X, y = blobs()
    with pytest.raises(ValueError, match=r"target_class_count=2 is too small: the labels hold 3 classes \(0, 1, 2\)"):
        NeuralNetworkFineTuneRepurposer(small_network(), "2", 2).fit(X, y)


def test_an_unknown_layer_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownLayerError, match=r"no layer is named 'stag2'; nearest: .*stage2"):
        fine_tuned("stag2").fit(*images())


def test_wrong_parameters_are_listed_together() -> None:
    wrong = {"num_epochs": 0, "pooling": "middle", "augmentation": 3, "validation_fraction": 1.0, "device": "gpu"}
    with pytest.raises(ValueError, match=r"(?s)device must.*num_epochs must.*validation_f.*augmentation.*pooling must"):
        fine_tuned(**wrong).fit(*images())
    with pytest.raises(ValueError, match="target_class_count must be a whole number of at least 2"):
        fine_tuned(target_class_count=1).fit(*images())


def test_a_rate_beside_rates_is_refused() -> None:
    with pytest.raises(ValueError, match="both say how fast to learn"):
        fine_tuned(learning_rates={"*": 0.1}).fit(*images())


def test_statistics_that_the_source_learned_stay_unless_those_of_batches_are_wanted() -> None:
    X, y = images()
    source = conv_network()
    source.stage1[1].running_mean += 0.5
    kept = fine_tuned().set_params(source_model=source).fit(X, y).target_model_
    assert torch.equal(kept.stage1[1].running_mean, source.stage1[1].running_mean)
    assert not torch.equal(kept.stage1[1].weight, source.stage1[1].weight)
    assert not torch.equal(kept.stage2[1].running_mean, source.stage2[1].running_mean)  # it came untrained
    moved = fine_tuned(norm_statistics="batch").set_params(source_model=source).fit(X, y).target_model_
    assert not torch.equal(moved.stage1[1].running_mean, source.stage1[1].running_mean)


class Reversed(Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -g


class Governed(nn.Module):
    """Three layers, one of them without gradients and one before a reversal: 4 -> 8 -> 3."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.quiet, self.turned, self.plain = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(4, 8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        with torch.no_grad():
            hidden = self.quiet(x)
        return self.fc((hidden + Reversed.apply(self.turned(x)) + self.plain(x)).relu())


def test_what_governs_gradients_in_the_source_governs_them_in_training():
    X, y = blobs(24)
    options = {"optimizer": "SGD", "scheduler": None, "learning_rates": {"new": 0, "*": 0.1}, "random_state": 0}
    tuned = NeuralNetworkFineTuneRepurposer(Governed(), "relu", num_epochs=3, batch_size=24, **options)
    with pytest.warns(UserWarning, match=r"no gradient reached quiet\.weight, quiet\.bias"):
        got = tuned.repurpose(X, y).target_model_
    wanted = Governed()
    wanted.fc = got.head  # at its rate of 0 it is what it began as
    steps = torch.optim.SGD([*wanted.turned.parameters(), *wanted.plain.parameters()], lr=0.1)
    for _ in range(3):
        steps.zero_grad()
        nn.functional.cross_entropy(wanted(torch.from_numpy(X)), torch.from_numpy(y)).backward()
        steps.step()
    weights = dict(got.named_parameters())
    for name in ("quiet.weight", "turned.weight", "plain.weight"):
        torch.testing.assert_close(weights[name], wanted.get_parameter(name))
    assert torch.equal(weights["quiet.weight"], Governed().quiet.weight)
    assert not torch.equal(weights["turned.weight"], Governed().turned.weight)
