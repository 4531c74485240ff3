import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from repurpose.domain.networks.domain_objective import AdaptationObjective, DomainObjective, ramp
from repurpose.training import TrainingBatch


class Logits(nn.Module):
    """Gives its inputs as logits."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits


def batch_of(codes: list[int], weights: list[float] | None = None) -> TrainingBatch:
    n_rows = len(codes)
    generator = torch.Generator().manual_seed(0)
    targets = {
        "codes": torch.tensor(codes),
        "is_source": torch.arange(n_rows) % 2 == 0,
        "weights": torch.tensor(weights or [1.0] * n_rows),
        "progress": torch.full((n_rows,), 0.5),
    }
    return TrainingBatch(torch.randn(n_rows, 3, generator=generator, requires_grad=True), targets, n_rows)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("class_weights", [None, torch.tensor([1.0, 0.5, 3.0])])
def test_the_loss_is_the_cross_entropy_of_the_rows_that_have_a_label(class_weights: Any, smoothing: float) -> None:
    batch = batch_of([0, -1, 2, 1, -1, 1])
    objective = DomainObjective(class_weights, smoothing)
    known = batch.targets["codes"] >= 0
    options = {"weight": class_weights, "label_smoothing": smoothing}
    expected = cross_entropy(batch.inputs[known], batch.targets["codes"][known], **options)
    assert torch.allclose(objective.loss(Logits(), batch.inputs, batch.targets), expected)


def test_pieces_of_a_batch_add_up_to_its_mean() -> None:
    batch = batch_of([0, -1, 2, 1, -1, 1, -1], [1, 2, 0.5, 1, 1, 3, 1])
    objective = DomainObjective(torch.tensor([1.0, 0.5, 3.0]))
    whole, total = objective.loss(Logits(), batch.inputs, batch.targets), objective.weight(batch)
    pieces = batch.pieces(2)
    parts = [objective.loss(Logits(), piece.inputs, piece.targets) * objective.weight(piece) for piece in pieces]
    assert torch.allclose(sum(parts), whole * total)
    assert sum(objective.weight(piece) for piece in pieces) == pytest.approx(total)


def test_without_a_label_the_loss_is_0_and_has_a_gradient() -> None:
    batch = batch_of([-1, -1])
    loss = DomainObjective().loss(Logits(), batch.inputs, batch.targets)
    loss.backward()
    assert loss.item() == 0
    assert not batch.inputs.grad.any()
    assert DomainObjective().weight(batch) == 0


def test_rows_without_a_label_are_neither_right_nor_wrong() -> None:
    batch = batch_of([0, -1, 2])
    logits = torch.tensor([[9.0, 0, 0], [9, 0, 0], [9, 0, 0]])
    n_right, n_judged = DomainObjective().count_right({"logits": logits}, batch.targets)
    assert (int(n_right), n_judged) == (1, 2)


def test_the_ramp_is_that_of_the_paper() -> None:
    for done in (0.0, 0.25, 1.0):
        assert float(ramp(torch.tensor(done))) == pytest.approx(2 / (1 + math.exp(-10 * done)) - 1, abs=1e-6)


class Layers(nn.Module):
    """Gives its inputs as logits and as the rows of two layers."""

    def forward(self, rows: torch.Tensor) -> dict[str, Any]:
        return {"logits": rows, "layers": {"a": rows, "b": 2 * rows}}


def between(source_rows: torch.Tensor, target_rows: torch.Tensor) -> torch.Tensor:
    return (source_rows.mean() - target_rows.mean()) ** 2


def test_layers_add_up_and_a_domain_of_one_row_is_not_compared() -> None:
    batch = batch_of([0, 1, 2, -1])
    objective = AdaptationObjective(between, 3.0, 2, {})
    plain = DomainObjective().loss(Logits(), batch.inputs, batch.targets)
    apart = (batch.inputs[::2].mean() - batch.inputs[1::2].mean()) ** 2
    expected = plain + 3 * (2 / (1 + math.exp(-10 * 0.25)) - 1) * (apart + 4 * apart)
    assert torch.allclose(objective.loss(Layers(), batch.inputs, batch.targets), expected)
    (piece, _) = batch.pieces(3)
    alone = objective.loss(Layers(), piece.inputs[:1], {name: part[:1] for name, part in piece.targets.items()})
    assert torch.allclose(alone, cross_entropy(piece.inputs[:1], piece.targets["codes"][:1]))
