import logging
import math
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import StepLR

from model_handler import ModelError
from repurpose.training.callbacks import Callback
from repurpose.training.distributed.single_process import SingleProcess
from repurpose.training.loop import Training, _is_better
from repurpose.training.plan.schedulers import warmup_cosine
from repurpose.training.steps.objective import ClassificationObjective, DivergedError
from tests.repurpose.training.examples import (
    assert_same,
    batches,
    by_hand,
    network,
    objective,
    plan,
    rows,
    task,
    train,
    trained,
)


def test_plain_training_gives_the_weights_of_a_hand_written_loop_bit_for_bit() -> None:
    expected = by_hand(lambda module: SGD(module.parameters(), lr=0.1), batches())
    assert_same(trained(plan()), expected)


def test_groups_get_their_rates_and_decay_as_in_an_optimiser_made_by_hand() -> None:
    def grouped(module: nn.Module) -> torch.optim.Optimizer:
        body, norm, head = module.body, module.norm, module.head
        spared = [body.bias, norm.weight, norm.bias]
        return AdamW(
            [
                {"params": [body.weight], "lr": 1e-3, "weight_decay": 0.1},
                {"params": spared, "lr": 1e-3, "weight_decay": 0.0},
                {"params": [head.weight], "lr": 1e-2, "weight_decay": 0.1},
                {"params": [head.bias], "lr": 1e-2, "weight_decay": 0.0},
            ]
        )

    rates = {"new": 1e-2, "*": 1e-3}
    given = plan(optimizer="adamw", learning_rates=rates, optimizer_params={"weight_decay": 0.1})
    assert_same(trained(given, new={"head.weight", "head.bias"}), by_hand(grouped, batches()))


def test_dropout_draws_the_same_with_the_same_seed_and_leaves_the_users_generators_alone() -> None:
    def dropping() -> nn.Module:
        return nn.Sequential(*network()[:2], nn.Dropout(0.5), *network()[2:])

    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = trained(plan(), dropping())
    torch.manual_seed(5)
    second = trained(plan(), dropping())
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert_same(first, second)
    assert not torch.equal(first[-1].weight, trained(plan(seed=1), dropping())[-1].weight)


def test_accumulation_equals_one_large_batch_also_for_a_partial_window() -> None:
    small = trained(plan(accumulation=3), data=batches(batch_size=8))  # windows of 8+8+8, 8+8+8 and 2 rows
    large = trained(plan(), data=batches(batch_size=24))
    assert_same(small, large, 1e-6)


def test_accumulation_equals_one_large_batch_with_class_weights() -> None:
    weights = torch.tensor([0.2, 1.0, 3.0])
    small = trained(plan(accumulation=3), data=batches(batch_size=8), objective=objective(weights))
    large = trained(plan(), data=batches(batch_size=24), objective=objective(weights))
    assert_same(small, large, 1e-6)


def test_gradients_are_clipped_to_a_norm() -> None:
    expected = by_hand(
        lambda module: SGD(module.parameters(), lr=0.1),
        batches(),
        before_step=lambda module: nn.utils.clip_grad_norm_(module.parameters(), 0.01),
    )
    assert_same(trained(plan(clip_norm=0.01)), expected)


def test_a_scheduler_of_torch_steps_after_each_epoch() -> None:
    history = train(network(), batches(), plan(scheduler="StepLR", scheduler_params={"step_size": 1}), objective())
    assert [record["learning_rates"]["*"] for record in history] == pytest.approx([0.1, 0.01, 0.001])


def test_a_function_may_make_the_scheduler() -> None:
    history = train(network(), batches(), plan(scheduler=lambda optimizer: StepLR(optimizer, 1, 0.5)), objective())
    assert [record["learning_rates"]["*"] for record in history] == pytest.approx([0.1, 0.05, 0.025])


def test_the_average_of_weights_is_that_of_the_formula() -> None:
    average: dict[str, torch.Tensor] = {}
    count = 0

    def follow(module: nn.Module) -> None:
        nonlocal count
        keep = min(0.9, (1 + count) / (10 + count)) if count else 0.0
        count += 1
        for name, value in module.state_dict().items():
            average[name] = value.clone() if not keep else keep * average[name] + (1 - keep) * value

    by_hand(lambda module: SGD(module.parameters(), lr=0.1), batches(), after_step=follow)
    for name, value in trained(plan(ema=0.9)).state_dict().items():
        torch.testing.assert_close(value, average[name], rtol=1e-5, atol=1e-6)


def test_layers_that_begin_later_stand_still_until_their_epoch() -> None:
    seen: list[torch.Tensor] = []
    given = plan(unfreeze={"body": 2}, callbacks=(lambda state, record: seen.append(state.module.body.weight.clone()),))
    start = network().body.weight
    trained(given)
    assert torch.equal(seen[0], start)
    assert torch.equal(seen[1], start)
    assert not torch.equal(seen[2], start)


def test_a_linear_probe_first_leaves_what_was_there_alone_for_its_epochs() -> None:
    seen: list[torch.Tensor] = []
    note = (lambda state, record: seen.append(state.module.body.weight.clone()),)
    start = network().body.weight
    trained(plan(probe_epochs=2, callbacks=note), new={"head.weight", "head.bias"})
    assert [torch.equal(weights, start) for weights in seen] == [True, True, False]


def test_normalisation_of_a_frozen_part_keeps_its_statistics_and_moves_once_it_learns() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    seen: list[torch.Tensor] = []
    note = (lambda state, record: seen.append(state.module[1].running_mean.clone()),)
    trained(plan(unfreeze={"0": 1, "1": 1}, callbacks=note), module)
    assert torch.equal(seen[0], torch.zeros(6))
    assert not torch.equal(seen[1], torch.zeros(6))


def test_a_rate_of_zero_freezes_weights_and_statistics() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trained(plan(learning_rates={"3": 0.1, "*": 0}), module)
    changed = [name for name, value in module.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["3.weight", "3.bias"]


def test_early_stopping_restores_the_best_weights_and_says_why_it_ended() -> None:
    losses: list[float] = []
    states: list[dict[str, torch.Tensor]] = []

    def note(state: Any, record: dict[str, Any]) -> None:
        losses.append(record["validation_loss"])
        states.append({name: value.clone() for name, value in state.module.state_dict().items()})

    module = network()
    given = plan(learning_rates={"*": 2.0}, num_epochs=40, early_stopping=2, callbacks=(note,))
    history = train(module, batches(), given, objective(), validation=batches(rows(30, seed=1), seed=None))
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < 40
    assert history.best_epoch == best
    assert "did not fall for 2 epochs" in history.ending
    assert all(torch.equal(value, states[best][name]) for name, value in module.state_dict().items())


def test_validation_gives_loss_and_accuracy_of_the_network_in_evaluation_mode() -> None:
    data = rows(30, seed=1)
    module = network()
    history = train(module, batches(), plan(), objective(), validation=batches(data, seed=None, batch_size=7))
    logits = module(torch.from_numpy(data[0])).detach()
    truth = torch.from_numpy(data[1])
    assert history[-1]["validation_loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, truth)), abs=1e-6)
    assert history[-1]["validation_accuracy"] == float((logits.argmax(1) == truth).double().mean())


def test_a_loss_that_diverges_later_keeps_the_weights_of_the_last_good_epoch() -> None:
    states: list[dict[str, torch.Tensor]] = []

    def spoil(state: Any, record: dict[str, Any]) -> None:
        states.append({name: value.clone() for name, value in state.module.state_dict().items()})
        if record["epoch"] == 1:
            state.optimizer.param_groups[0]["lr"] = 1e38

    module = network()
    with pytest.warns(UserWarning, match=r"epoch 2, batch \d.*group '\*' moved furthest, at the learning rate 1e\+38"):
        history = train(module, batches(), plan(num_epochs=5, callbacks=(spoil,)), objective())
    assert len(history) == 2
    assert "NaN" in history.ending
    assert all(torch.equal(value, states[1][name]) for name, value in module.state_dict().items())


def test_inputs_that_are_no_numbers_are_blamed_themselves() -> None:
    X, y = rows()
    X[:] = np.nan
    with pytest.raises(DivergedError, match=r"epoch 0, batch 0.*the inputs of this batch hold NaN"):
        train(network(), batches((X, y)), plan(), objective())


def test_callbacks_see_each_step_and_may_end_the_training() -> None:
    class Noting(Callback):
        def __init__(self) -> None:
            self.calls: list[str] = []

        def begin(self, state: Any) -> None:
            self.calls.append("begin")

        def step(self, state: Any, loss: float) -> bool | None:
            self.calls.append("step")
            return None

        def __call__(self, state: Any, record: dict[str, Any]) -> bool | None:
            self.calls.append("epoch")
            return np.bool_(record["epoch"] == 1)  # as a comparison of numpy gives

        def end(self, state: Any) -> None:
            self.calls.append("end")

    noting = Noting()
    history = train(network(), batches(), plan(num_epochs=5, callbacks=(noting,)), objective())
    assert noting.calls == ["begin", *(["step"] * 4 + ["epoch"]) * 2, "end"]
    assert len(history) == 2
    assert history.ending == "a callback ended it"


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 5.0, 0.5])])
def test_callbacks_get_the_mean_loss_of_all_rows_of_a_step(weights: torch.Tensor | None) -> None:
    class Noting(Callback):
        def __init__(self) -> None:
            self.losses: list[float] = []

        def step(self, state: Any, loss: float) -> bool | None:
            self.losses.append(loss)
            return None

    X, y = rows(40)
    first = np.concatenate([batch.targets.numpy() for batch in batches((X, y)).epoch(0)])[:32]
    inputs = torch.cat([batch.inputs for batch in batches((X, y)).epoch(0)])[:32]
    noting = Noting()
    train(network(), batches((X, y)), plan(num_epochs=1, accumulation=2, callbacks=(noting,)), objective(weights))
    wanted = nn.functional.cross_entropy(network()(inputs), torch.from_numpy(first), weight=weights)
    assert len(noting.losses) == 2
    assert noting.losses[0] == pytest.approx(wanted.item(), rel=1e-5)


def test_batches_of_classes_that_weigh_nothing_teach_nothing() -> None:
    X, y = rows(48)[0], np.repeat([0, 1, 2], 16)  # a batch a class
    weights = torch.tensor([1.0, 0.0, 1.0])
    weighing = np.r_[0:16, 32:48]
    got = trained(plan(), data=batches((X, y), seed=None), objective=objective(weights))
    kept = batches((X[weighing], y[weighing]), seed=None)
    assert_same(got, trained(plan(), data=kept, objective=objective(weights)))


def test_the_history_has_mean_loss_and_accuracy_of_the_batches_as_they_were_seen() -> None:
    module = network()
    losses, hits = [], 0
    steps = SGD(module.parameters(), lr=0.1)
    for batch in batches().epoch(0):
        steps.zero_grad()
        logits = module(batch.inputs)
        loss = nn.functional.cross_entropy(logits, batch.targets)
        loss.backward()
        steps.step()
        losses.append(float(loss.detach()) * batch.n_rows)
        hits += int((logits.argmax(1) == batch.targets).sum())
    history = train(network(), batches(), plan(num_epochs=1), objective())
    assert history[0]["loss"] == pytest.approx(sum(losses) / 50)
    assert history[0]["accuracy"] == hits / 50


def test_bfloat16_computes_in_it_and_keeps_float32_weights() -> None:
    module = trained(plan(precision="bfloat16"))
    assert module.head.weight.dtype == torch.float32
    difference = (module.head.weight - trained(plan()).head.weight).abs().max()
    assert 0 < difference < 0.1


def test_the_state_read_after_an_epoch_and_set_in_a_new_training_ends_in_the_same_bits() -> None:
    given = plan(optimizer="AdamW", scheduler="warmup_cosine", ema=0.9, num_epochs=4)
    whole = network()
    train(whole, batches(), given, objective())

    class Stop(Callback):
        def __call__(self, state: Any, record: dict[str, Any]) -> bool:
            self.state = dict(state.state_dict())
            self.state["module"] = {name: value.clone() for name, value in self.state["module"].items()}
            return np.bool_(record["epoch"] == 1)  # as a comparison of numpy gives

    stop = Stop()
    half = network()
    train(half, batches(), plan(**{**_options(given), "callbacks": (stop,)}), objective())
    again = network(seed=9)
    training = Training(task(again, batches(), given))
    training.state.load_state_dict(stop.state)
    training.run()
    assert_same(again, whole)


def test_no_batch_at_all_is_an_error() -> None:
    empty = batches()
    empty.epoch = lambda number: iter(())  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="the data gave no batch"):
        train(network(), empty, plan(), objective())


def test_every_row_is_seen_once_an_epoch() -> None:
    given = batches()
    for epoch in range(2):
        seen = np.concatenate([batch.rows for batch in given.epoch(epoch)])
        assert sorted(seen.tolist()) == list(range(50))
    assert math.ceil(50 / 16) == given.n_batches


def _options(given: Any) -> dict[str, Any]:
    return {name: getattr(given, name) for name in given.__dataclass_fields__}


@pytest.mark.parametrize(
    ("score", "best", "better"),
    [(1.0, None, True), (1.0, 2.0, True), (2.0, 1.0, False), (1.0, 1.0, False), (math.nan, 1.0, False)]
    + [(1.0, math.nan, True), (None, 1.0, False), (math.inf, math.nan, False)],
)
def test_a_lower_validation_loss_is_better_and_none_that_is_no_number(
    score: float | None, best: float | None, better: bool
) -> None:
    assert _is_better(score, best) is better


class Masked(nn.Module):
    """A network whose mask is infinite, as those of attention are."""

    def __init__(self) -> None:
        super().__init__()
        self.body = network()
        self.register_buffer("mask", torch.full((3, 3), -math.inf).triu(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_buffer_that_is_infinite_from_the_beginning_is_no_divergence(ema: float | None) -> None:
    module = trained(plan(ema=ema), Masked())
    assert torch.equal(module.mask, Masked().mask)
    assert_same(module.body, trained(plan(ema=ema)))


def test_statistics_of_the_batch_in_which_an_epoch_diverges_are_not_kept() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    states: list[dict[str, torch.Tensor]] = []
    given = batches()
    epoch = given.epoch

    def spoilt(number: int) -> Any:
        for batch in epoch(number):
            yield replace(batch, inputs=batch.inputs * np.nan) if number == 1 else batch

    note = (
        lambda state, record: states.append({name: value.clone() for name, value in state.module.state_dict().items()}),
    )
    with (
        mock.patch.object(given, "epoch", spoilt),
        pytest.warns(UserWarning, match="epoch 1, batch 0.*the weights after epoch 0"),
    ):
        train(module, given, plan(callbacks=note), objective())
    assert all(torch.equal(value, states[0][name]) for name, value in module.state_dict().items())


def test_ended_within_the_first_epoch_the_average_of_the_weights_is_kept() -> None:
    class Two(Callback):
        def step(self, state: Any, loss: float) -> bool:
            self.average = {name: value.clone() for name, value in state.average.module.state_dict().items()}
            return bool(state.step == 2)

    two = Two()
    module = trained(plan(ema=0.9, callbacks=(two,)))
    assert all(torch.equal(value, two.average[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(("n_rows", "batch_size"), [(33, 16), (12, 1), (40, 16)])
def test_the_schedule_ends_with_the_last_step(n_rows: int, batch_size: int) -> None:
    factors: list[float] = []

    class Noting(Callback):
        def step(self, state: Any, loss: float) -> None:
            factors.append(state.scheduler.get_last_lr()[0])

    given = plan(scheduler="warmup_cosine", scheduler_params={"warmup": 0.0}, callbacks=(Noting(),))
    train(network(), batches(rows(n_rows), batch_size=batch_size), given, objective())
    assert factors[-1] == pytest.approx(0.0, abs=1e-9)
    assert factors[-2] > 1e-6


def test_the_history_has_the_rates_of_the_last_step() -> None:
    options = {"scheduler": "warmup_cosine", "num_epochs": 2}
    history = train(network(), batches(), plan(**options), objective())
    factor = warmup_cosine(2 * 4)
    assert history.values("learning_rates") == [{"*": pytest.approx(0.1 * factor(step))} for step in (3, 7)]


@pytest.mark.parametrize("loss", [lambda value: value.detach(), lambda value: 1.0, lambda value: value.repeat(2)])
def test_a_loss_that_is_no_number_with_a_gradient_is_refused(loss: Any) -> None:
    plain = objective()
    own = ClassificationObjective(lambda *given: loss(plain.training_loss(*given)), 3)
    with pytest.raises(ModelError, match="the training loss must be one number with a gradient"):
        train(network(), batches(), plan(), own)


@pytest.mark.parametrize("judged", [False, True])
def test_the_time_of_a_long_training_is_told_in_its_first_epoch_by_one_process(
    judged: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = mock.Mock(monotonic=mock.Mock(return_value=0.0))
    monkeypatch.setattr("model_handler.progress.time", clock)
    told: list[list[str]] = []

    def slow(module: nn.Module, inputs: Any, targets: torch.Tensor) -> torch.Tensor:
        clock.monotonic.return_value += 20.0
        return torch.nn.functional.cross_entropy(module(inputs), targets)

    class Follower(SingleProcess):
        is_main_process = False

    given = plan(callbacks=(lambda state, record: told.append(list(caplog.messages)),), cache_frozen=False)
    options = {"validation": batches()} if judged else {}
    with caplog.at_level(logging.INFO, "model_handler"):
        trained(given, objective=ClassificationObjective(slow, 3), **options)
        beside = " (validation not counted)" if judged else ""
        assert told[0] == [f"Training: about 3 minutes for 3 epochs{beside} on this machine"]  # 150 rows, 16 in 20 s
        assert told[-1] == told[0]
        caplog.clear()
        trained(given, objective=ClassificationObjective(slow, 3), process_group=Follower(), **options)
    assert len(caplog.messages) == 1
    assert "about" not in caplog.text
