import logging
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from model_handler.errors import ModelError
from repurpose import load
from repurpose.domain import LwfRepurposer
from repurpose.domain.distillation import distilling_repurposer
from repurpose.domain.distillation.lwf_repurposer import forgetting_loss
from repurpose.training.callbacks import Callback
from repurpose.training.frozen import caching
from tests.repurpose.examples import blobs, small_network
from tests.repurpose.neural_network.contract import NetworkContract
from tests.repurpose.neural_network.test_fine_tune_repurposer import conv_network, images
from tests.repurpose.neural_network.test_heads import Encoder, tokens

PLAIN: dict[str, Any] = {
    "optimizer": "SGD",
    "learning_rates": {"*": 0.1},
    "scheduler": None,
    "probe_epochs": 0,
    "random_state": 0,
}


class TestContract(NetworkContract):
    grid = {"temperature": [1.0, 2.0]}  # noqa: RUF012

    def make(self, source_model: Any, **options: Any) -> LwfRepurposer:
        quick = {"num_epochs": 8, "optimizer_params": {"learning_rate": 0.1}, "random_state": 0}
        return LwfRepurposer(source_model, **{**quick, **options})


def lwf(network: nn.Module | None = None, **options: Any) -> LwfRepurposer:
    return LwfRepurposer(small_network() if network is None else network, **{**PLAIN, **options})


def weights_of(repurposer: LwfRepurposer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in repurposer.target_model_.state_dict().items()}


@contextmanager
def each_batch_answered() -> Iterator[None]:
    with mock.patch.object(distilling_repurposer, "why_not_recorded", return_value="asked for"):
        yield


@contextmanager
def everything_kept() -> Iterator[None]:
    with mock.patch.dict(caching._FLOPS_PER_BYTE, {"in memory": 0, "on disk": 0}):  # none is too quick to keep
        yield


def test_the_term_is_t_squared_times_the_divergence() -> None:
    generator = np.random.RandomState(0)
    (now, before), weights = generator.normal(size=(2, 7, 4)) * 3, generator.rand(7)
    expected = 0.0
    for row in range(7):
        p, q = log_softmax(before[row] / 2), log_softmax(now[row] / 2)
        expected += 4 * weights[row] * float(np.sum(np.exp(p) * (p - q))) / weights.sum()
    given = [torch.from_numpy(part) for part in (now, before)]
    assert float(forgetting_loss(*given, 2.0, torch.from_numpy(weights))) == pytest.approx(expected, rel=1e-12)
    divergence = functional.kl_div(
        functional.log_softmax(given[0] / 2, 1), functional.softmax(given[1] / 2, 1), reduction="batchmean"
    )
    torch.testing.assert_close(forgetting_loss(*given, 2.0, torch.ones(7)), 4 * divergence)
    assert float(forgetting_loss(given[1], given[1], 2.0, torch.ones(7))) == 0
    assert float(forgetting_loss(*given, 2.0, torch.zeros(7))) == 0


def with_statistics() -> nn.Module:
    """Convolutions whose normalisation has seen data."""
    network = conv_network()
    for _ in range(20):
        network(torch.from_numpy(images(40)[0]))
    return network.eval()


@pytest.mark.parametrize("network", [small_network, with_statistics], ids=["linear", "normalised"])
def test_the_term_is_0_before_the_first_step(network: Any) -> None:
    """The loss of the first step is the cross-entropy of the new head alone, however much the old one counts."""
    data = blobs() if network is small_network else images(40)
    first = {}
    for weight in (0.0, 1e4):
        losses: list[float] = []
        repurposer = lwf(network(), distillation_weight=weight, callbacks=[Losses(losses)], num_epochs=2)
        repurposer.set_params(batch_size=20, learning_rates={"*": 0.01}).repurpose(*data)
        first[weight] = losses
    assert first[1e4][0] == pytest.approx(first[0.0][0], abs=1e4 * 1e-7)
    assert first[1e4][1] > first[0.0][1] + 1e4 * 1e-6  # one step later it is not


class Losses(Callback):
    def __init__(self, losses: list[float]) -> None:
        self.losses = losses

    def step(self, state: Any, loss: float) -> bool | None:
        self.losses.append(loss)
        return None


def test_a_loop_by_hand_gives_the_same_weights() -> None:
    X, y = blobs()
    options = {"batch_size": 60, "temperature": 3.0, "distillation_weight": 0.7}
    began = lwf(num_epochs=1, learning_rates={"*": 1e-30}, **options).repurpose(X, y).target_model_
    trained = lwf(num_epochs=5, **options).repurpose(X, y)

    module, old = deepcopy(began), small_network()
    inputs, codes = torch.from_numpy(X), torch.from_numpy(y)
    before = functional.softmax(old(inputs).detach() / 3, 1)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(5):
        output = module(inputs)
        now = functional.log_softmax(output["source_logits"] / 3, 1)
        loss = functional.cross_entropy(output["logits"], codes)
        loss = loss + 0.7 * 9 * functional.kl_div(now, before, reduction="batchmean")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, weight in module.state_dict().items():
        torch.testing.assert_close(trained.target_model_.state_dict()[name], weight, rtol=0, atol=1e-5)
    moved = (weights_of(trained)["heads.source.weight"] - old[4].weight).abs().max()
    assert moved > 1e-3


@pytest.mark.parametrize(
    "options",
    [{}, {"class_weight": {0: 3.0, 1: 1.0, 2: 0.5}}, {"learning_rates": {"0": 0, "*": 0.1}, "cache_frozen": True}],
    ids=["plain", "class weights", "frozen part"],
)
def test_recorded_answers_do_what_asking_with_each_batch_does(options: dict[str, Any]) -> None:
    recorded = lwf(num_epochs=3, **options).repurpose(*blobs())
    with each_batch_answered():
        asked = lwf(num_epochs=3, **{**options, "cache_frozen": False}).repurpose(*blobs())
    for name, weight in weights_of(asked).items():
        torch.testing.assert_close(weights_of(recorded)[name], weight, rtol=0, atol=1e-5)
    for first, second in zip(recorded.history_, asked.history_, strict=True):
        assert first["loss"] == pytest.approx(second["loss"], abs=1e-5)
        assert first["accuracy"] == second["accuracy"]


def test_frozen_layers_are_computed_once_and_change_nothing(caplog: Any) -> None:
    rates = {"0": 0, "2": 0, "*": 0.1}
    judged = {"validation_data": blobs(20, seed=4)}
    plain = lwf(num_epochs=4, probe_epochs=2, learning_rates=rates, cache_frozen=False).repurpose(*blobs(), **judged)
    with caplog.at_level(logging.INFO), everything_kept():
        kept = lwf(num_epochs=4, probe_epochs=2, learning_rates=rates).repurpose(*blobs(), **judged)
    decided = [record.message for record in caplog.records if "is computed" in record.message]
    assert [text.partition(" is computed ")[2].partition(":")[0] for text in decided] == ["once", "once"]
    assert "up to 'heads.source'" in decided[0]  # of the warm-up
    for name, weight in weights_of(plain).items():
        torch.testing.assert_close(weights_of(kept)[name], weight, rtol=0, atol=1e-5)
    assert kept.history_.values("validation_loss") == pytest.approx(plain.history_.values("validation_loss"), abs=1e-5)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "answers all 40 rows once"),
        ({"augmentation": lambda row: row + 1}, "answers each batch: augmentation draws anew each epoch"),
        ({"mixup": 0.5}, "answers each batch: rows are mixed anew each epoch"),
        ({"cutmix": 0.5, "class_weight": "balanced"}, "answers each batch: rows are mixed anew each epoch"),
    ],
    ids=["recorded", "augmented", "mixed", "cut"],
)
def test_the_log_says_how_the_old_network_is_asked(caplog: Any, options: dict[str, Any], reason: str) -> None:
    X, y = images()
    with caplog.at_level(logging.INFO):
        repurposer = lwf(conv_network(), num_epochs=2, **options).repurpose(X, y)
    assert f"LwfRepurposer: the frozen network {reason}" in caplog.messages
    assert np.isfinite(repurposer.history_.values("loss")).all()


@pytest.mark.parametrize("cache_frozen", ["auto", False])
def test_a_loader_is_learned_from_too(cache_frozen: Any) -> None:
    X, y = map(torch.from_numpy, blobs())
    given = [DataLoader(TensorDataset(X, y), batch_size=20), (X, y)]
    options = {"learning_rates": {"0": 0, "*": 0.1}, "num_epochs": 2, "cache_frozen": cache_frozen}
    losses = [lwf(batch_size=20, **options).repurpose(data).history_.values("loss")[0] for data in given]
    assert losses[0] == pytest.approx(losses[1], abs=0.05)


def test_augmented_rows_are_answered_as_they_are_learned() -> None:
    """With rows moved far away, answers to the rows themselves would be off from the first step on."""
    losses: list[float] = []
    options = {"augmentation": lambda row: row + 3, "distillation_weight": 1e6, "callbacks": [Losses(losses)]}
    lwf(num_epochs=1, batch_size=60, **options).repurpose(*blobs())
    assert losses[0] < 10


def test_the_new_head_learns_alone_at_first() -> None:
    seen: list[bool] = []

    def look(state: Any, record: Any) -> None:
        seen.append(torch.equal(state.module.get_submodule("heads.source").weight, small_network()[4].weight))

    for n_alone, options in ((2, {"num_epochs": 20, "probe_epochs": None}), (4, {"num_epochs": 5, "probe_epochs": 4})):
        seen.clear()
        repurposer = lwf(callbacks=[look], **options).repurpose(*blobs())
        assert seen == [epoch < n_alone for epoch in range(options["num_epochs"])]
        assert {group.from_epoch for group in repurposer.parameter_groups_} == {0, n_alone}
    one = lwf(num_epochs=1, probe_epochs=None).repurpose(*blobs())
    assert {group.from_epoch for group in one.parameter_groups_} == {0}


def test_more_weight_keeps_more_of_the_old_task() -> None:
    X, y = blobs(n_classes=2, seed=5)
    kept = []
    for weight in (0.0, 10.0):
        repurposer = lwf(num_epochs=20, distillation_weight=weight).repurpose(X, y)
        old = functional.softmax(small_network()(torch.from_numpy(X)), 1).detach().numpy()
        kept.append(np.abs(repurposer.predict_probability(X, task="source") - old).max())
        assert repurposer.score(X, y) > 0.8
    assert kept[1] < 0.3 * kept[0]


def test_a_training_is_gone_on_with_bit_for_bit(tmp_path: Any) -> None:
    class Interruption(Exception):
        pass

    def interrupt(state: Any, record: Any) -> None:
        if record["epoch"] == 2:
            raise Interruption

    options = {"num_epochs": 5, "probe_epochs": 1, "num_members": 2}
    whole = lwf(**options).repurpose(*blobs())
    with pytest.raises(Interruption):
        lwf(checkpoint_dir=tmp_path, callbacks=[interrupt], **options).repurpose(*blobs())
    resumed = lwf(checkpoint_dir=tmp_path, **options).repurpose(*blobs())
    assert all(torch.equal(weight, weights_of(resumed)[name]) for name, weight in weights_of(whole).items())
    with pytest.raises(ValueError, match="temperature"):
        lwf(checkpoint_dir=tmp_path, temperature=3.0, **options).repurpose(*blobs())


def test_early_stopping_goes_by_the_new_task() -> None:
    options = {"validation_fraction": 0.3, "early_stopping": 1, "num_epochs": 40, "learning_rates": {"*": 1.0}}
    history = lwf(**options).repurpose(*blobs()).history_
    assert history.ending == "the validation loss did not fall for 1 epochs"


def test_both_heads_are_in_the_file_and_names_of_classes_too(tmp_path: Any) -> None:
    X, y = blobs()
    classes = np.array(["low", "mid", "high"])
    repurposer = lwf(num_epochs=2, source_classes=classes, target_class_count=5).repurpose(X, y)
    repurposer.save_repurposer(tmp_path / "saved")
    other = small_network(seed=9)  # whose weights, and head, are not those of training
    loaded = load(tmp_path / "saved", source_model=small_network())
    assert loaded.source_classes_.tolist() == ["low", "mid", "high"]
    assert loaded.predict_probability(X).shape == (60, 3)
    assert np.array_equal(
        loaded.predict_probability(X, task="source"), repurposer.predict_probability(X, task="source")
    )
    held = repurposer._learned_for_file()["target_state_"]
    assert {"heads.source.weight", "heads.target.weight", "0.weight"} < held.keys()
    assert not torch.equal(held["heads.source.weight"], other[4].weight)


def test_a_search_for_the_rate_and_a_look_at_groups_leave_all_as_it_was() -> None:
    repurposer = lwf(num_epochs=20, probe_epochs=None, learning_rates={"new": 0.1, "transferred": 0.01})
    table = repurposer.parameter_groups(*blobs())
    assert {group.name: group.from_epoch for group in table} == {"new": 0, "transferred": 2}
    assert len(repurposer.find_learning_rate(*blobs(), n_steps=6, lowest=1e-3, highest=1e-1).rates) == 6
    assert not hasattr(repurposer, "source_classes_")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature must be a positive number, got 0"),
        ({"temperature": np.nan}, "temperature must be a positive number, got nan"),
        ({"distillation_weight": -1}, "distillation_weight must be a finite number of at least 0, got -1"),
        ({"distillation_weight": np.nan}, "distillation_weight must be a finite number of at least 0, got nan"),
        ({"distillation_weight": np.inf}, "distillation_weight must be a finite number of at least 0, got inf"),
        ({"source_classes": ["a", "b"]}, "source_classes has 2 labels, and the last linear layer .* 3 outputs"),
        ({"source_classes": ["a", "b", "a"]}, "source_classes names a label more than once: 'a'"),
        ({"source_classes": "abc"}, "source_classes must be a list of labels, got the text 'abc'"),
        ({"source_classes": [0.5, 1, 2]}, "source_classes must be a list of labels: .*continuous"),
        ({"source_classes": ["a", None, "b"]}, "source_classes must be a list of labels: 1 of 3 labels are missing"),
        ({"probe_epochs": -1}, "probe_epochs must be a whole number of at least 0, got -1"),
        ({"target_class_count": 2}, "target_class_count=2 is too small"),
    ],
)
def test_parameters_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    repurposer = lwf(**{"num_epochs": 2, **options})
    with pytest.raises(ValueError, match=message):
        repurposer.repurpose(*blobs())
    assert not hasattr(repurposer, "classes_")


def test_a_network_without_a_classifier_or_with_nothing_else_is_refused() -> None:
    headless = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for network, data in ((headless, images()), (nn.Linear(4, 3), blobs())):
        with pytest.raises(ModelError, match="has no classifier, a linear layer behind all others"):
            lwf(network).repurpose(*data)


def test_tokens_become_the_row_that_both_heads_read() -> None:
    X, network = np.random.RandomState(0).normal(size=(10, 6, 4)).astype(np.float32), small_network()
    repurposer = lwf(network, num_epochs=1, learning_rates={"*": 1e-30}).repurpose(X, np.arange(10) % 2)
    with torch.no_grad():
        expected = network[4](network[:4](torch.from_numpy(X)).mean(dim=1)).softmax(dim=1)
    np.testing.assert_allclose(repurposer.predict_probability(X, task="source"), expected, atol=1e-6)


@pytest.mark.parametrize("options", [{"precision": "bfloat16"}, {"ema": 0.9, "l2_sp": 0.1, "layer_decay": 0.8}])
def test_other_ways_to_train_go_with_it(options: dict[str, Any]) -> None:
    given = {"num_epochs": 12, "optimizer": "AdamW", "probe_epochs": None, **options}
    history = lwf(**{**given, "learning_rates": {"new": 0.02, "transferred": 0.01}}).repurpose(*blobs()).history_
    assert history.values("loss")[-1] < history.values("loss")[0]


def test_texts_of_which_some_is_padding_are_learned_from() -> None:
    torch.manual_seed(0)
    given, y = tokens(), np.arange(12) % 2
    repurposer = lwf(TextClassifier(), num_epochs=2).repurpose(given, y)
    other = {**given, "ids": torch.where(given["attention_mask"].bool(), given["ids"], 7)}
    for task in ("target", "source"):
        answers = [repurposer.predict_probability(texts, task=task) for texts in (given, other)]
        assert np.array_equal(*answers), task


class TextClassifier(Encoder):
    """The mean of the tokens that are no padding, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 4)

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        counts = attention_mask[..., None]
        return self.fc((super().forward(ids, attention_mask) * counts).sum(1) / counts.sum(1))


def test_rows_of_a_source_are_refused_with_what_serves() -> None:
    for learn in (lwf().repurpose, lwf().fit):
        with pytest.raises(TypeError, match=r"unexpected keyword argument 'source_data': .* use MultiTaskRepurposer"):
            learn(*blobs(), source_data=blobs())
