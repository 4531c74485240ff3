import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim import SGD

from model_handler import ModelError
from repurpose.training.data.batches import TrainingBatch
from repurpose.training.steps.losses import cross_entropy, make_mixing, weight_of
from tests.repurpose.training.examples import assert_same, batches, by_hand, network, objective, plan, trained

NEW = {"head.weight", "head.bias"}


def test_l2_sp_is_the_penalty_of_the_paper_as_part_of_the_loss() -> None:
    start = network().state_dict()

    def add_penalty(module: nn.Module) -> None:
        moved = sum(((value - start[name]) ** 2).sum() for name, value in module.named_parameters() if name not in NEW)
        (0.3 / 2 * moved + 0.2 / 2 * (module.head.weight**2).sum()).backward()

    expected = by_hand(lambda module: SGD(module.parameters(), lr=0.1), batches(), before_step=add_penalty)
    assert_same(trained(plan(l2_sp=(0.3, 0.2)), new=NEW), expected, 1e-6)


def test_a_strong_l2_sp_penalty_holds_the_network_near_its_source() -> None:
    start = network().body.weight
    free, held = trained(plan(), new=NEW), trained(plan(l2_sp=(5.0, 0.0)), new=NEW)
    assert (held.body.weight - start).norm() < 0.5 * (free.body.weight - start).norm()


def test_class_weights_and_smoothing_are_those_of_torch() -> None:
    weights = torch.tensor([1.0, 2.0, 4.0])
    loss = nn.CrossEntropyLoss(weight=weights, label_smoothing=0.1)
    expected = by_hand(lambda module: SGD(module.parameters(), lr=0.1), batches(), loss=loss)
    assert_same(trained(plan(), objective=objective(weights, 0.1)), expected)


def test_parts_of_a_batch_weigh_as_much_as_their_rows() -> None:
    targets, weights = torch.tensor([0, 0, 2]), torch.tensor([1.0, 1.0, 3.0])
    assert weight_of(targets, None) == 3
    assert weight_of(targets, weights) == 5
    assert weight_of(functional.one_hot(targets).float(), weights) == 3


def images(n_rows: int = 6) -> TrainingBatch:
    generator = torch.Generator().manual_seed(0)
    return TrainingBatch(torch.rand(n_rows, 1, 8, 8, generator=generator), torch.arange(n_rows) % 3, n_rows)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixed_targets_are_shares_and_inputs_those_of_two_rows(kind: str) -> None:
    batch = images()
    mix = make_mixing(plan(**{kind: 1.0}), 3)
    torch.manual_seed(0)
    mixed = mix(batch)
    assert mixed.targets.shape == (6, 3)
    assert torch.allclose(mixed.targets.sum(1), torch.ones(6))
    share = float(mixed.targets[1, 1])
    other = batch.inputs.roll(1, 0)
    if kind == "mixup":
        expected = share * batch.inputs + (1 - share) * other
        torch.testing.assert_close(mixed.inputs, expected)
    else:
        own = (mixed.inputs == batch.inputs).float().mean()
        assert float(own) == pytest.approx(share)
        assert ((mixed.inputs == batch.inputs) | (mixed.inputs == other)).all()
    assert float(cross_entropy(torch.zeros(6, 3), mixed.targets)) == pytest.approx(np.log(3))


def test_without_mixing_there_is_none_and_both_may_be_asked_for() -> None:
    assert make_mixing(plan(), 3) is None
    torch.manual_seed(0)
    mix = make_mixing(plan(mixup=0.5, cutmix=0.5), 3)
    assert {tuple(mix(images()).targets.shape) for _ in range(4)} == {(6, 3)}


def test_only_images_are_mixed() -> None:
    with pytest.raises(ModelError, match=r"mixup and cutmix mix images.*got \(6, 4\)"):
        make_mixing(plan(mixup=1.0), 3)(TrainingBatch(torch.zeros(6, 4), torch.arange(6) % 3, 6))


def test_rows_whose_classes_weigh_nothing_cost_nothing_also_where_a_class_is_masked() -> None:
    logits = torch.tensor([[0.5, -torch.inf, 1.0]], requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([0]), torch.tensor([0.0, 1.0, 1.0]))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros(1, 3))
