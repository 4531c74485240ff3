"""What a network's own forward does in training alone: chosen at run time, refused, or gone, but never baked in."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model_handler import UntraceableModelError
from model_handler.graph.modes import UNLIKE_TRAINING
from model_handler.graph.tracing import trace
from tests.model_handler.networks import handle, output_of, saved_and_loaded


class Rooted(nn.Module):
    """One step in the network's own forward between two layers."""

    def __init__(self, step):
        super().__init__()
        self.first, self.second, self.step = nn.Linear(4, 30), nn.Linear(30, 2), step

    def forward(self, x):
        return self.second(self.step(self, F.relu(self.first(x))))


def dropped_by_keyword(network, x):
    return F.dropout(x, 0.5, training=network.training)


def dropped_by_position(network, x):
    return F.dropout(x, 0.5, network.training)


def dropped_by_rate(network, x):
    return F.dropout(x, 0.5 if network.training else 0.0, True)


@pytest.mark.parametrize("step", [dropped_by_keyword, dropped_by_position, dropped_by_rate])
def test_an_argument_that_follows_the_mode_follows_that_of_the_edited_network(step):
    network, x = Rooted(step), torch.randn(3, 4)
    handler = handle(network, x).add_layer_top(("head", nn.Linear(2, 2)))
    module = handler.insert_after("first", nn.Linear(30, 30)).undo().get_module()
    for variant in (module, saved_and_loaded(module), handle(module, x).drop_layer_top(1).get_module()):
        variant.train()
        assert not torch.equal(variant(x), variant(x))
        variant.eval()
        assert torch.equal(variant(x), variant(x))
    torch.manual_seed(0)
    wanted = module.head(network.train()(x))
    torch.manual_seed(0)
    torch.testing.assert_close(module.train()(x), wanted)
    network.eval()
    torch.testing.assert_close(output_of(handler, x), module.head(network(x)).detach())
    exported = torch.export.export(module.eval(), (x,)).module()
    torch.testing.assert_close(exported(x), module(x))
    compiled = torch.compile(module.train(), backend="eager", fullgraph=True)
    assert not torch.equal(compiled(x), compiled(x))


def noisy(network, x):
    return x + torch.ones(30) if network.training else x


def scaled(network, x):
    return x if network.training else x * 0.5


def written(network, x):
    if network.training:
        x.view(-1).mul_(2)
    return x


def otherwise(network, x):
    return x.tanh() if network.training else x.sigmoid()


@pytest.mark.parametrize("step", [noisy, scaled, written, otherwise])
def test_what_cannot_follow_the_mode_is_refused_by_name_and_cut_off_before_it(step):
    network, x = Rooted(step), torch.randn(3, 4)
    handler = handle(network, x)
    for edit in (
        lambda: handler.add_layer_top(nn.Linear(2, 2)),
        lambda: handler.truncate("second"),
        lambda: handler.replace("first", nn.Linear(4, 30)),
        lambda: handler.rename("second", "fc"),
    ):
        with pytest.raises(UntraceableModelError, match=r"own forward does something else there. Truncate before"):
            edit()
    assert handler.edits == ()
    assert handler.extract(x, ["second"]).shape == (3, 2)
    with torch.no_grad():
        torch.testing.assert_close(output_of(handler.truncate("relu"), x), network.first(x).relu())
    assert handler.add_layer_top(nn.LazyLinear(5)).layers[-1].output_shape == (3, 5)


def test_an_output_that_only_training_changes_is_no_output_of_an_edited_network():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            x = self.fc(x)
            if self.training:
                x.mul_(2)
            return x

    with pytest.raises(UntraceableModelError, match="compute 'fc' in training as it does in evaluation"):
        handle(Last(), torch.randn(3, 4)).add_layer_top(nn.Linear(2, 2))


def test_outputs_for_training_alone_leave_the_others_as_they_are():
    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.aux, self.fc = (
                nn.Linear(4, 4),
                nn.Sequential(nn.Linear(4, 4), nn.ReLU(True)),
                nn.Linear(4, 2),
            )

        def forward(self, x):
            x = self.body(x)
            aux = self.aux(x) if self.training else None
            x = self.fc(x)
            return (x, aux) if self.training else x

    network, x = Auxiliary(), torch.randn(3, 4)
    traced = trace(network, ["x"])
    assert not any(UNLIKE_TRAINING in node.meta for node in traced.graph.nodes)
    handler = handle(network, x).add_layer_top(("head", nn.Linear(2, 2)))
    module = handler.get_module().train()
    torch.testing.assert_close(module(x), module.head(network.fc(network.body(x))))
    assert set(network.state_dict()) < set(module.state_dict())


def test_a_forward_that_cannot_be_followed_in_training_is_not_edited_as_if_it_were_the_same():
    class Deciding(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            if self.training and x.sum() > 0:
                x = x * 2
            return self.fc(x)

    handler = handle(Deciding(), torch.randn(3, 4))
    assert handler.layer_names == ["fc"]
    with pytest.raises(UntraceableModelError, match="in training as it does in evaluation"):
        handler.add_layer_top(nn.Linear(2, 2))
