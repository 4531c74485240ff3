"""A batch of one row is a row, whatever a network squeezes; other networks are asked once."""

import warnings

import pytest
import torch
from torch import nn

from model_handler import ModelError
from model_handler.extraction.single_rows import computed_rows, mixes_rows
from tests.model_handler.networks import handle, images


class Squeezing(nn.Module):
    def __init__(self, traceable=True):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.pool, self.fc = nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Linear(4, 2)
        self.traceable = traceable

    def forward(self, x):
        if not self.traceable and x.sum() > 1e9:
            return x
        return self.fc(self.pool(self.conv(x)).squeeze())


@pytest.mark.parametrize("traceable", [True, False])
@pytest.mark.parametrize("n_rows", [1, 3])
def test_the_last_row_alone_has_the_features_it_has_among_others(traceable, n_rows):
    network, x = Squeezing(traceable), images(n_rows)
    with torch.no_grad():
        pooled = network.conv(x).mean((2, 3))
        wanted = network.fc(pooled)
    features = handle(network, batch_size=2).extract(x, ["fc", "conv", "pool"])
    torch.testing.assert_close(torch.tensor(features.values["fc"]), wanted)
    torch.testing.assert_close(torch.tensor(features.values["pool"]), pooled)
    assert features.values["conv"].shape == (n_rows, 4 * 6 * 6)


def test_a_row_that_comes_out_as_one_is_computed_once():
    seen = []

    def compute(x):
        seen.append(len(x))
        return [x * 2]

    assert computed_rows(compute, torch.ones(1, 2), 1)[0].tolist() == [[2, 2]]
    assert computed_rows(compute, torch.ones(3, 2), 3)[0].shape == (3, 2)
    assert seen == [1, 3]


def test_inputs_that_the_network_writes_into_are_still_whole_the_second_time():
    def compute(x):
        return [x["a"].add_(1).squeeze(), (x["a"] * x["b"]).squeeze()]

    first, second = computed_rows(compute, {"a": torch.ones(1, 2), "b": torch.full((1, 2), 3.0)}, 1)
    assert (first.tolist(), second.tolist()) == ([[2, 2]], [[6, 6]])


def test_what_fails_for_two_rows_as_well_raises_what_one_raised():
    def compute(x):
        raise ValueError(f"of {len(x)}")

    with pytest.raises(ValueError, match="of 1"):
        computed_rows(compute, (torch.ones(1, 2),), 1)
    with pytest.raises(ModelError, match="gives 6 rows for 1 inputs"):
        handle(nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (-1, 1)), nn.Linear(1, 1))).extract(torch.ones(1, 6), ["2"])


class Mixed(nn.Module):
    def __init__(self, mix):
        super().__init__()
        self.fc, self.mix = nn.Linear(4, 4), mix

    def forward(self, x):
        return self.mix(self.fc(x))


def centred(x):
    return x - x.mean(0)


def noisy(x):
    return x + torch.rand_like(x)


@pytest.mark.parametrize(
    ("network", "x"),
    [
        (Mixed(centred), torch.randn(3, 4)),
        (Mixed(lambda x: x.softmax(0)), torch.randn(3, 4)),
        (nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8, batch_first=False)), torch.randn(3, 5, 4)),
        (nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)), images(3)),
    ],
)
def test_networks_that_mix_rows_are_told(network, x):
    with pytest.warns(UserWarning, match="depends on the rows beside it.*batch_first=False"):
        handle(network, x)


@pytest.mark.parametrize(
    ("network", "x"),
    [
        (Mixed(torch.relu), torch.randn(3, 4)),
        (Mixed(noisy), torch.randn(3, 4)),
        (Squeezing(), images()),
        (nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)), torch.randn(3, 5, 4)),
        (Mixed(centred), torch.randn(1, 4)),
    ],
)
def test_other_networks_are_not_suspected(network, x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        handle(network, x)


def test_a_row_that_fails_alone_or_differs_by_little_says_nothing():
    def fails(x):
        raise ValueError

    together = [torch.ones(2, 3)]
    assert not mixes_rows(fails, None, together)
    assert not mixes_rows(lambda x: [torch.full((1, 3), 1.001)], None, together)
    assert not mixes_rows(lambda x: [torch.zeros(3)], None, together)
    assert mixes_rows(lambda x: [torch.full((1, 3), 1.1)], None, together)


def test_a_network_that_met_one_row_is_not_run_to_be_compared():
    assert not mixes_rows(pytest.fail, torch.zeros(1, 2), [torch.zeros(1, 3)])
