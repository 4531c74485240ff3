from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from repurpose.domain.distillation.answers import RecordedAnswers
from repurpose.domain.distillation.distillation_objective import DistillationObjective
from repurpose.training import TrainingBatch
from repurpose.training.steps.forward import call
from repurpose.training.steps.losses import cross_entropy
from repurpose.training.steps.objective import ClassificationObjective
from tests.repurpose.training.examples import batches, network, rows

WEIGHTS = torch.tensor([1.0, 3.0, 0.5])


def apart(output: Tensor, answers: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean square of the distance from the answers."""
    return (weights * (output - answers).square().sum(dim=1)).sum() / weights.sum()


def made(weights: Tensor | None = None, looks_inside: bool = False) -> DistillationObjective:
    def of_labels(module: nn.Module, inputs: Any, targets: Tensor) -> Tensor:
        return cross_entropy(call(module, inputs), targets, weights)

    classification = ClassificationObjective(of_labels, 3, weights, looks_inside=looks_inside)
    answers = RecordedAnswers(network(seed=3), batches(), "float32")
    objective = DistillationObjective(classification, answers, apart, {"of": "distance"})
    objective.before_training()
    return objective


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("looks_inside", [False, True])
def test_the_loss_is_the_sum_of_both_and_pieces_add_up_to_it(weights: Tensor | None, looks_inside: bool) -> None:
    objective, module, (X, y) = made(weights, looks_inside), network(), rows()
    inputs, targets = torch.from_numpy(X), torch.arange(50)
    of_rows = torch.ones(50) if weights is None else weights[y]
    logits, answers = module(inputs), network(seed=3)(inputs)
    of_labels = functional.cross_entropy(logits, torch.from_numpy(y), weights)
    expected = of_labels + apart(logits, answers, of_rows)
    torch.testing.assert_close(objective.loss(module, inputs, targets), expected)
    whole = TrainingBatch(inputs, targets, 50)
    assert objective.weight(whole) == pytest.approx(float(of_rows.sum()))
    parts = [
        objective.loss(module, piece.inputs, piece.targets) * objective.weight(piece) for piece in whole.pieces(17)
    ]
    torch.testing.assert_close(torch.stack(parts).sum() / objective.weight(whole), expected)


@pytest.mark.parametrize(("looks_inside", "n_passes"), [(False, 1), (True, 2)])
def test_the_network_runs_once_unless_the_loss_looks_into_it(looks_inside: bool, n_passes: int) -> None:
    module, calls = network(), []
    module.register_forward_hook(lambda *_: calls.append(1))
    objective = made(looks_inside=looks_inside)
    assert objective.looks_inside == looks_inside
    objective.loss(module, torch.from_numpy(rows()[0]), torch.arange(50))
    assert len(calls) == n_passes


def test_rows_that_are_right_are_counted_by_their_labels() -> None:
    X, y = rows()
    output = network()(torch.from_numpy(X))
    right, of = made().count_right(output, torch.arange(50))
    assert (int(right), of) == (int((output.argmax(1).numpy() == y).sum()), 50)


def test_the_term_is_computed_in_all_digits() -> None:
    seen = []

    def term(output: Any, answers: Tensor, weights: Tensor) -> Tensor:
        seen.append((answers @ answers.T).dtype)
        return answers.sum() * 0

    objective = made()
    objective.term = term
    with torch.autocast("cpu", torch.bfloat16):
        objective.loss(network(), torch.from_numpy(rows()[0]), torch.arange(50))
    assert seen == [torch.float32]


def test_what_must_stay_the_same_is_named() -> None:
    described = made(WEIGHTS).describe()
    assert described["answers"] == "RecordedAnswers"
    assert described["of"] == "distance"
    assert np.array_equal(described["class weights"], WEIGHTS.tolist())
