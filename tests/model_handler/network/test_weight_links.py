"""Weight links: tensors exchanged in the source, or in what was added, are those of the edited network too."""

import copy

import pytest
import torch
from torch import nn

from tests.model_handler.networks import Residual, handle, images, output_of

EDITS = [
    (lambda handler: handler.truncate("layer1"), 3),
    (lambda handler: handler.drop_layer_top(1).insert_after("conv1", nn.Identity()), 3),
    (lambda handler: handler.rename("conv1", "stem").drop_layer_bottom(1), 4),
]


@pytest.mark.parametrize(("edit", "given"), EDITS)
def test_a_source_in_another_precision_takes_the_edited_network_with_it(edit, given):
    network, x = Residual(), images()
    network(x)
    handler = edit(handle(network, x))
    wanted = {key: tensor.clone() for key, tensor in handler.get_module().state_dict().items()}
    network.double()
    module = handler.get_module()
    assert {tensor.dtype for tensor in module.state_dict().values()} <= {torch.float64, torch.int64}
    assert all(torch.equal(tensor, wanted[key].to(tensor.dtype)) for key, tensor in module.state_dict().items())
    assert handler.extract(images(channels=given), handler.layer_names[-1:]).shape[0] == 5
    assert handler.add_layer_top(nn.Flatten().double()).undo().edits == handler.edits


def test_loaded_and_exchanged_tensors_are_followed_by_every_state():
    network, x = Residual(), images()
    handler = handle(network, x).truncate("layer1").truncate("bn1")
    other = copy.deepcopy(network)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.add_(1)
    network.load_state_dict(other.state_dict(), assign=True)
    other.eval()
    with torch.no_grad():
        torch.testing.assert_close(output_of(handler, x), other.bn1(other.conv1(x)))
        wanted = other.layer1(other.bn1(other.conv1(x)).relu())
        torch.testing.assert_close(torch.tensor(handler.undo().extract(x, ["layer1"]).matrix), wanted.flatten(1))
        torch.testing.assert_close(output_of(handler, x), wanted)


def test_recurrent_layers_and_added_modules_are_followed():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.fc = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 2)

        def forward(self, x):
            return self.fc(self.lstm(x)[0][:, -1])

    network, x, norm = Recurrent(), torch.randn(2, 5, 4), nn.BatchNorm1d(2)
    handler = handle(network, x).add_layer_top(("norm", norm))
    network.load_state_dict({key: torch.rand_like(value) for key, value in network.state_dict().items()}, assign=True)
    norm.running_mean = torch.full((2,), 3.0)
    norm.eval()
    torch.testing.assert_close(output_of(handler, x), norm(network(x)).detach())
    torch.testing.assert_close(torch.tensor(handler.extract(x, ["norm"]).matrix), norm(network(x)).detach())


def test_reinitialised_layers_do_not_follow():
    network = Residual()
    handler = handle(network, images()).randomize("fc", random_state=0)
    fresh = handler.get_module().fc.weight.clone()
    network.load_state_dict({key: value + 1 for key, value in network.state_dict().items()}, assign=True)
    module = handler.get_module()
    assert torch.equal(module.fc.weight, fresh)
    assert torch.equal(module.conv1.weight, network.conv1.weight)
