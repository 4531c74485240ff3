"""The fast path is taken where it gives what the plain way gives, and where it is worth its cost."""

import logging

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from model_handler.errors import ModelError
from model_handler.extraction import fast_path
from tests.model_handler.networks import handle, hooked, images, snapshot


def convolutional():
    """Two convolutions with statistics that are not those of the beginning."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
    ).eval()
    for norm in (network[1], network[4]):
        with torch.no_grad():
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return network


CANCELLING = 1e5


def run_wild(network):
    """Let a bias and a mean cancel, so that the plain way loses digits which a fold does not."""
    with torch.no_grad():
        network[3].bias.add_(CANCELLING)
        network[4].running_mean.add_(CANCELLING)


def plainly(network, x, monkeypatch):
    """Features of layer "5" by a handler for which nothing is worth folding."""
    with monkeypatch.context() as patch:
        patch.setattr(fast_path, "_WEIGHTS_PER_ELEMENT", 0)
        return handle(network).extract(x, ["5"]).values["5"]


def takes_fast_path(handler):
    (path,) = handler._engine._ready._paths.values()
    return path._agrees


def are_close(features, wanted):
    return difference(features, wanted) <= 1e-5 * wanted.abs().max()


def are_close_as_far_as_digits_go(features, network, x):
    """Whether features are those of layer "5" but for what cancelling loses, on any processor.

    Every one of the 72 additions of a convolution, and the bias, may be rounded by half an ulp of what cancels; such
    errors add up as a random walk does, and each way of computing takes another one. The norm divides by .7 or more.
    """
    wild = CANCELLING * torch.finfo(torch.float32).eps * 73**0.5 / 0.7
    return difference(features, hooked(network, (x,), ["5"])["5"]) <= wild


def difference(features, wanted):
    return (torch.from_numpy(features).double() - wanted.flatten(1).double()).abs().max()


def test_each_layer_is_that_of_the_network_whether_folded_into_another_or_not():
    network, x = convolutional(), images(40)
    names = [str(number) for number in range(6)]
    wanted = hooked(network, (x,), names)
    for name in names:  # alone, so that all that can be folded is
        assert are_close(handle(network).extract(x, [name]).values[name], wanted[name])
    together = handle(network).extract(x, names)
    assert all(are_close(together.values[name], wanted[name]) for name in names)


def test_a_convolution_asked_for_is_not_folded_and_its_normalisation_is_right():
    network, x = convolutional(), images(40)
    handler = handle(network)
    wanted = hooked(network, (x,), ["3", "4"])
    features = handler.extract(x, ["4", "3"])
    assert takes_fast_path(handler)  # the first one is folded
    assert are_close(features.values["3"], wanted["3"])
    assert are_close(features.values["4"], wanted["4"])


def test_the_users_network_is_left_alone_by_folding():
    network = convolutional()
    before = snapshot(network)
    handler = handle(network)
    handler.extract(images(40), ["5"])
    assert takes_fast_path(handler)
    assert snapshot(network) == before


def test_training_between_two_extractions_is_seen():
    network, x = convolutional(), images(40)
    handler = handle(network)
    handler.extract(x, ["5"])
    network.train()
    network(x).square().sum().backward()
    torch.optim.SGD(network.parameters(), lr=1e-3).step()
    network.eval()
    network[0].weight.data.mul_(-1)
    assert are_close(handler.extract(x, ["5"]).values["5"], hooked(network, (x,), ["5"])["5"])
    assert takes_fast_path(handler)


def test_a_fold_that_loses_digits_is_not_used_and_that_is_logged(caplog, monkeypatch):
    network, x = convolutional(), images(40)
    run_wild(network)
    handler = handle(network)
    with caplog.at_level(logging.INFO, "model_handler.extraction.fast_path"):
        features = handler.extract(x, ["5"])
    assert not takes_fast_path(handler)
    assert "features are computed unfolded: folded they differ by" in caplog.text
    assert np.array_equal(features.values["5"], plainly(network, x, monkeypatch))
    assert are_close_as_far_as_digits_go(features.values["5"], network, x)


def test_statistics_that_turn_wild_are_noticed_and_so_is_their_return(monkeypatch):
    network, x = convolutional(), images(40)
    handler = handle(network)
    handler.extract(x, ["5"])
    tame = {key: value.clone() for key, value in network.state_dict().items()}
    run_wild(network)
    features = handler.extract(x, ["5"]).values["5"]
    assert not takes_fast_path(handler)
    assert np.array_equal(features, plainly(network, x, monkeypatch))
    assert are_close_as_far_as_digits_go(features, network, x)
    network.load_state_dict(tame)
    handler.extract(x, ["5"])
    assert takes_fast_path(handler)


def test_a_few_rows_are_not_worth_folding_for():
    network = nn.Sequential(nn.Conv2d(3, 256, 3), nn.BatchNorm2d(256), nn.Conv2d(256, 64, 3), nn.BatchNorm2d(64)).eval()
    handler = handle(network)
    handler.extract(images(2), ["3"])
    assert not takes_fast_path(handler)
    handler.extract(images(200), ["3"])
    assert takes_fast_path(handler)


def test_data_the_network_cannot_run_on_is_explained_and_does_no_harm():
    network, x = convolutional(), images(40)
    handler = handle(network)
    with pytest.raises(ModelError, match=r"layer '0', Conv2d\(.*\), failed on input of shape \(32, 4, 8, 8\)"):
        handler.extract(images(40, channels=4), ["5"])
    handler.extract(x, ["5"])
    assert takes_fast_path(handler)


def test_values_that_are_not_finite_are_compared_by_their_places():
    inf, nan = float("inf"), float("nan")
    row = torch.tensor([1.0, nan, -inf])
    assert fast_path._difference(row, row.clone()) == 0
    assert fast_path._difference(row, torch.tensor([1.0, 2.0, -inf])) == inf
    assert fast_path._difference(torch.tensor([1.5, nan]), torch.tensor([2.0, nan])) == 0.25
    assert fast_path._difference(torch.zeros(2), torch.zeros(3)) == inf


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "shufflenet_v2_x0_5", "densenet121"])
def test_networks_of_torchvision_keep_their_digits(name):
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None)
    x = images(16, height=64, width=64)
    with torch.no_grad():
        network.train()(x)  # statistics of its own
    network.eval()
    handler = handle(network)
    last = next(path for path, module in reversed(list(network.named_modules())) if isinstance(module, nn.BatchNorm2d))
    wanted = hooked(network, (x,), [last])[last]
    assert are_close(handler.extract(x, [last]).values[last], wanted)
