import numpy as np
import torch
from torch import nn

from repurpose.training.statistics import statistics_that_follow
from tests.repurpose.training.examples import batches, plan, rows, trained


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
