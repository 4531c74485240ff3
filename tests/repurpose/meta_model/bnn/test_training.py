import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from torch import Tensor

from repurpose import threads
from repurpose.meta_model.bnn import training
from repurpose.meta_model.bnn.program import BayesianNetwork
from repurpose.meta_model.bnn.training import Schedule, bound, train

PLAIN = Schedule(n_epochs=40, batch_size=30, n_particles=1, learning_rate=0.05, start=0, end=10, kl_weight=0.5)


def network(prior: float = 1.0) -> BayesianNetwork:
    shapes = [(2, 2), (3, 4), (4, 2)]
    rng = torch.Generator().manual_seed(0)
    means = [0.1 * torch.randn(shape, generator=rng) for shape in shapes]
    logs = [torch.full(shape, math.log(0.1)) for shape in shapes]
    return BayesianNetwork(means, logs, torch.zeros(2), [prior] * 3, rng)


def examples() -> tuple[Tensor, Tensor, Tensor]:
    rows = torch.randn(30, 2, generator=torch.Generator().manual_seed(1))
    return rows, (rows[:, 0] > 0).long(), torch.ones(30)


def test_the_weight_of_the_divergence_rises_evenly_between_its_epochs() -> None:
    weights = [replace(PLAIN, start=2, end=6, kl_weight=0.4).kl_weight_of(epoch) for epoch in range(9)]
    assert np.allclose(weights, [0, 0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4])
    assert [replace(PLAIN, start=3, end=3).kl_weight_of(epoch) for epoch in (2, 3)] == [0, 0.5]


def test_the_history_tells_of_every_epoch() -> None:
    history = train(network(), *examples(), PLAIN)
    assert history.keys() == {"loss", "accuracy", "kl_weight"}
    assert all(values.shape == (40,) for values in history.values())
    assert np.array_equal(history["kl_weight"], [PLAIN.kl_weight_of(epoch) for epoch in range(40)])
    assert history["loss"][-10:].mean() < history["loss"][10:15].mean()
    assert history["accuracy"][-10:].mean() > 0.8


def test_training_learns_the_same_from_the_same_seed_in_batches_too() -> None:
    first, second = network(), network()
    histories = [train(each, *examples(), replace(PLAIN, batch_size=7, n_epochs=5)) for each in (first, second)]
    assert all(torch.equal(a, b) for a, b in zip(first.learned, second.learned))
    assert np.array_equal(histories[0]["loss"], histories[1]["loss"])
    assert not first.means[0].requires_grad


def test_a_row_of_weight_zero_is_as_good_as_absent() -> None:
    rows, codes, weights = examples()
    some, others = network(), network()
    weights[20:] = 0
    train(some, rows, codes, weights, PLAIN)
    train(others, rows[:20], codes[:20], weights[:20], PLAIN)
    assert all(torch.equal(a, b) for a, b in zip(some.learned, others.learned))


@pytest.mark.parametrize(("batch_size", "has_one"), [(10, True), (11, False)])
def test_small_batches_have_one_thread_however_many_rows_there_are(
    batch_size: int, has_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def noting(*arguments: Any) -> Any:
        found.append(threads._here.has_few)
        return bound(*arguments)

    monkeypatch.setattr(threads, "_FEW", 10)
    monkeypatch.setattr(training, "bound", noting)
    train(network(), *examples(), replace(PLAIN, batch_size=batch_size, n_epochs=1))
    assert found == [has_one] * 3


def test_no_global_state_is_touched() -> None:
    pyro.get_param_store()["of the user"] = torch.ones(2)
    before, known = torch.get_rng_state(), pyro.get_param_store()["of the user"]
    with torch.no_grad(), pyro.poutine.trace() as trace:
        train(network(), *examples(), replace(PLAIN, n_epochs=2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(pyro.get_param_store()["of the user"], known)
    assert list(pyro.get_param_store()) == ["of the user"]
    assert not trace.trace.nodes
    del pyro.get_param_store()["of the user"]


def test_a_row_that_counts_several_times_is_as_good_as_repeated() -> None:
    """Of a network that hardly doubts its weights: each repeat draws its outputs for itself."""
    some, others = network(), network()
    for each in (some, others):
        for logs in each.log_deviations:
            logs.fill_(-18.0)
    rows, codes, _ = examples()
    repeats = torch.arange(30) % 3 + 1
    schedule = replace(PLAIN, batch_size=100, n_epochs=15, kl_weight=0.0)
    found = train(some, rows, codes, repeats.float(), schedule, repeats.float())
    again = [tensor.repeat_interleave(repeats, dim=0) for tensor in (rows, codes)]
    expected = train(others, *again, torch.ones(int(repeats.sum())), schedule)
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4)
    for ours, theirs in zip(some.means, others.means):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
