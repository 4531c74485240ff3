from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from model_handler.errors import ModelError
from repurpose.domain.distillation.answers import AnswersOfEachBatch, RecordedAnswers, why_not_recorded
from repurpose.training import TrainingBatch, TrainingBatches
from tests.repurpose.training.examples import CLASSES, batches, network, rows


class Noisy(Dataset):
    """Rows with noise that is drawn each time."""

    def __len__(self) -> int:
        return 50

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        X, y = rows()
        return torch.from_numpy(X[number]) + torch.randn(4), int(y[number])


def doubled(batch: TrainingBatch) -> TrainingBatch:
    return replace(batch, inputs=2 * batch.inputs, targets=torch.eye(3)[batch.targets])


def loader() -> TrainingBatches:
    X, y = map(torch.from_numpy, rows())
    data = DataLoader(TensorDataset(X, y), batch_size=16)
    return TrainingBatches(
        data, CLASSES, rows=None, n_rows=50, n_batches=4, max_batch_size=16, seed=None, batch_size=16
    )


def test_recorded_answers_are_those_to_each_row_and_the_network_stays_as_it_is() -> None:
    (X, y), frozen = rows(), network(seed=3).train()
    answers = RecordedAnswers(frozen, batches(), "float32")
    answers.record()
    expected = frozen(torch.from_numpy(X)).detach()
    for batch in answers.batches.epoch(1):
        labels, given = answers.of(batch.targets)
        assert np.array_equal(labels, y[batch.rows])
        torch.testing.assert_close(given, expected[torch.from_numpy(np.asarray(batch.rows))])
        assert not given.requires_grad
    assert frozen.training
    assert all(weight.requires_grad and weight.grad is None for weight in frozen.parameters())


def test_rows_that_are_left_for_validation_are_not_asked_about() -> None:
    X, y = rows()
    wild = X.copy()
    wild[[0, 49]] = np.inf
    some = TrainingBatches(
        (wild, y), CLASSES, rows=np.arange(1, 49), n_rows=48, max_batch_size=16, seed=0, batch_size=16
    )
    answers = RecordedAnswers(network(), some, "float32")
    answers.record()
    labels, given = answers.of(torch.tensor([48, 1]))
    assert labels.tolist() == [y[48], y[1]]
    torch.testing.assert_close(given, network()(torch.from_numpy(X[[48, 1]])).detach())


@pytest.mark.parametrize("mixing", [None, doubled])
def test_each_batch_is_answered_as_it_is_after_mixing(mixing: Any) -> None:
    frozen = network(seed=3)
    answers = AnswersOfEachBatch(frozen, batches(), mixing, "float32")
    assert answers.mixing is not None
    for batch in answers.batches.epoch(0):
        plain = batch if mixing is None else mixing(batch)
        answered = answers.mixing(batch)
        assert torch.equal(answered.inputs, plain.inputs)
        for piece in answered.pieces(5):
            labels, given = answers.of(piece.targets)
            torch.testing.assert_close(given, frozen(piece.inputs).detach())
            assert len(labels) == piece.n_rows
        assert torch.equal(answers.of(answered.targets)[0], plain.targets)


def test_answers_are_recorded_where_rows_repeat() -> None:
    noisy = TrainingBatches(Noisy(), CLASSES, rows=np.arange(50), n_rows=50, max_batch_size=16, seed=0, batch_size=16)
    assert why_not_recorded(batches(), None) == ""
    assert why_not_recorded(batches(), doubled) == "rows are mixed anew each epoch"
    assert why_not_recorded(batches(augment=lambda row: row), None) == "augmentation draws anew each epoch"
    assert why_not_recorded(loader(), None) == "its batches come without the numbers of their rows"
    assert "rows are not the same" in why_not_recorded(noisy, None)


def test_recording_leaves_all_generators_alone() -> None:
    frozen = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    RecordedAnswers(frozen, batches(), "float32").record()
    assert torch.equal(torch.rand(3), expected)


def test_answers_that_are_no_numbers_are_refused() -> None:
    X, y = rows()
    X = X.copy()
    X[17] = np.nan
    with pytest.raises(ModelError, match="answers row 17 of the data with NaN or infinity"):
        RecordedAnswers(network(), batches((X, y)), "float32").record()
