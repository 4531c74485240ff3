import numpy as np
import torch
from torch import nn

from repurpose.training.plan.norm_statistics import learned_statistics, statistics_that_follow
from tests.repurpose.training.examples import assert_same, batches, plan, rows, trained


def normalised(momentum: float | None) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm1d(4, momentum=momentum), nn.Linear(4, 3))


def test_statistics_of_a_slow_layer_are_those_of_the_data_after_a_short_training() -> None:
    X, y = rows()
    module = trained(plan(num_epochs=12), normalised(0.001), data=batches((X + 100, y)))
    np.testing.assert_allclose(module[0].running_mean, X.mean(axis=0) + 100, atol=2.0)
    assert module[0].momentum == 0.001


def test_layers_that_move_as_fast_as_usual_or_by_plain_means_keep_their_momentum() -> None:
    for momentum in (0.1, 0.5, None):
        module = normalised(momentum)
        with statistics_that_follow(module):
            assert module[0].momentum == momentum
        assert module[0].momentum == momentum


def moved(layer: nn.Module) -> nn.Module:
    layer.running_mean.fill_(0.5)
    return layer


def test_statistics_were_learned_where_they_are_no_longer_0_and_1_and_the_layer_is_not_reinitialised() -> None:
    layers = {
        "fresh": nn.BatchNorm1d(2),
        "learned": moved(nn.BatchNorm1d(2)),
        "spread": nn.BatchNorm2d(2),
        "plain": moved(nn.BatchNorm1d(2, affine=False)),
        "of_the_batch": nn.BatchNorm1d(2, track_running_stats=False),
        "instance": nn.InstanceNorm2d(2),
        "reinitialised": moved(nn.BatchNorm1d(2)),
    }
    layers["spread"].running_var[1] = 2.0
    assert learned_statistics(nn.ModuleDict(layers), {"reinitialised.weight"}) == ("learned", "spread", "plain")
    assert learned_statistics(moved(nn.BatchNorm1d(2)), ()) == ("",)


def test_statistics_of_the_source_stay_and_normalise_in_training_while_weights_learn() -> None:
    def start() -> nn.Module:
        module = normalised(0.1)
        with torch.no_grad():
            module[0].running_mean += torch.arange(4)
            module[0].running_var *= 3
        return module

    expected = start()
    steps = torch.optim.SGD(expected.parameters(), lr=0.1)
    for epoch in range(3):
        expected.train()
        expected[0].eval()
        for batch in batches().epoch(epoch):
            steps.zero_grad()
            nn.functional.cross_entropy(expected(batch.inputs), batch.targets).backward()
            steps.step()
    got = trained(plan(norm_statistics="source"), start())
    assert_same(got, expected)
    assert torch.equal(got[0].running_mean, start()[0].running_mean)
    assert not torch.equal(got[0].weight, start()[0].weight)
    followed = trained(plan(norm_statistics="batch"), start())
    assert not torch.equal(followed[0].running_mean, start()[0].running_mean)


def test_normalisation_known_by_two_names_keeps_its_statistics() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.norm = moved(nn.BatchNorm1d(4))
            self.body = nn.Sequential(self.norm, nn.Linear(4, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x)

    module = trained(plan(norm_statistics="source"), Twice())
    assert torch.equal(module.norm.running_mean, torch.full((4,), 0.5))
