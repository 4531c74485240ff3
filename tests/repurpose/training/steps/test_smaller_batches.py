from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from model_handler import ModelError
from repurpose.training import TrainingBatches
from repurpose.training.steps.objective import ClassificationObjective, Objective
from tests.repurpose.training.examples import CLASSES, assert_same, batches, network, objective, plan, rows, train


def failing_above(n_rows: int, seen: list[int]) -> Objective:
    whole = objective()

    def loss(module: nn.Module, inputs: Any, targets: Tensor) -> Tensor:
        seen.append(len(targets))
        if len(targets) > n_rows:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return whole.training_loss(module, inputs, targets)

    return ClassificationObjective(loss, 3)


def test_a_batch_that_does_not_fit_is_computed_in_halves_with_the_same_result() -> None:
    expected, halved, seen = network(), network(), []
    train(expected, batches(), plan(), objective())
    with pytest.warns(UserWarning, match="out of memory with 16 rows at once: training begins again with 8") as caught:
        train(halved, batches(), plan(), failing_above(4, seen))
    assert sum("out of memory" in str(warning.message) for warning in caught) == 2
    assert seen[:3] == [16, 8, 4]
    assert_same(halved, expected, 1e-6)


def test_it_begins_again_from_the_first_weights() -> None:
    """The failure comes in the second epoch, when weights have moved."""
    calls: list[int] = []
    whole = objective()

    def loss(module: nn.Module, inputs: Any, targets: Tensor) -> Tensor:
        calls.append(len(targets))
        if len(calls) == 6:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried")
        return whole.training_loss(module, inputs, targets)

    expected, again = network(), network()
    train(expected, batches(), plan(), objective())
    with pytest.warns(UserWarning, match="out of memory"):
        train(again, batches(), plan(), ClassificationObjective(loss, 3))
    assert_same(again, expected, 1e-6)


@pytest.mark.filterwarnings("ignore:out of memory")
def test_a_single_row_too_much_is_an_error_with_the_fix() -> None:
    with pytest.raises(ModelError, match="a single row at once: freeze more layers"):
        train(network(), batches(), plan(), failing_above(0, []))


def test_other_errors_pass() -> None:
    def loss(module: nn.Module, inputs: Any, targets: Tensor) -> Tensor:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        train(network(), batches(), plan(), ClassificationObjective(loss, 3))


def test_the_generator_of_a_loader_begins_again_too() -> None:
    calls: list[int] = []
    whole = objective()

    def loss(module: nn.Module, inputs: Any, targets: Tensor) -> Tensor:
        calls.append(len(targets))
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried")
        return whole.training_loss(module, inputs, targets)

    def loader() -> TrainingBatches:
        X, y = rows(48)
        data = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
        shuffled = DataLoader(data, 16, shuffle=True, generator=torch.Generator().manual_seed(2))
        return TrainingBatches(
            shuffled, CLASSES, rows=None, n_rows=48, n_batches=3, max_batch_size=16, seed=0, batch_size=16
        )

    expected, again = network(), network()
    train(expected, loader(), plan(), objective())
    with pytest.warns(UserWarning, match="out of memory"):
        train(again, loader(), plan(), ClassificationObjective(loss, 3))
    assert_same(again, expected, 1e-6)
