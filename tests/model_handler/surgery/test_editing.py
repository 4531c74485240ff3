"""Editing from outside: every error leaves the handler and the user's module as they were."""

import pytest
import torch
from torch import nn

from model_handler import AmbiguousLayerError, ModelError, ModelHandler, UnknownLayerError
from tests.model_handler.networks import Branching, Regularised, Residual, Shared, TwoInputs, handle, images, snapshot


def test_lazy_layers_find_their_width():
    network, x, lazy = Residual(), images(), nn.LazyLinear(7)
    handler = handle(network, x).drop_layer_top(1).add_layer_top([lazy, nn.LazyBatchNorm1d(), nn.ReLU()])
    assert handler.layer_names[-3:] == ["linear", "batchnorm1d", "relu_2"]
    assert handler.get_module().linear.weight.shape == (7, 4)
    assert isinstance(lazy, nn.LazyLinear)  # the one given waits on
    with pytest.raises(ModelError, match="make the handler with example inputs"):
        handle(Residual()).add_layer_top(nn.LazyLinear(7))


def test_a_size_that_does_not_fit_names_both_shapes():
    network, x = Residual(), images()
    handler = handle(network, x)
    before = snapshot(network)
    with pytest.raises(ModelError, match=r"'linear', Linear\(in_features=9.*\(5, 3\)") as caught:
        handler.add_layer_top(nn.Linear(9, 2))
    assert "nothing was changed" in str(caught.value)
    with pytest.raises(ModelError, match=r"'linear_2'|'linear', Linear\(in_features=9.*\(5, 3\)"):
        handler.add_layer_top([nn.Linear(9, 2), nn.LazyLinear(2)])
    assert snapshot(network) == before
    assert (handler.edits, handler.layer_names[-1]) == ((), "fc")


def portrait(handler, inputs):
    """All that an error must leave as it is: names, edits, shapes, weights, modes and outputs, bit for bit."""
    module = handler.get_module()
    learns = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    modes = {name: part.training for name, part in module.named_modules()}
    state = {key: tensor.numpy().tobytes() for key, tensor in module.state_dict().items()}
    with torch.no_grad():
        output = module.eval()(*(part.clone() for part in inputs))
    outputs = [part.numpy().tobytes() for part in (output if isinstance(output, tuple) else (output,))]
    return handler.layer_names, handler.edits, handler.layers, learns, modes, state, outputs


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(4, 4, bias=False), nn.Linear(4, 4)
        self.decode.weight = self.encode.weight

    def forward(self, x):
        return self.decode(self.encode(x).relu())


def conv(n_in, n_out=4):
    return nn.Conv2d(n_in, n_out, 1)


twice = nn.Linear(3, 2)
INSIDE = r"'block.linear' is inside 'block', which counts as one layer, for it computes something else in training"
BAD = {
    "a layer that does not exist": (
        lambda h: h.truncate("layre1"),
        UnknownLayerError,
        r"'layre1'; nearest: \['layer1'",
    ),
    "another one": (
        lambda h: h.insert_after("flaten", nn.ReLU()),
        UnknownLayerError,
        r"'flaten'; nearest: \['flatten'",
    ),
    "one before": (lambda h: h.insert_before("fcc", nn.ReLU()), UnknownLayerError, r"'fcc'; nearest: \['fc'"),
    "one to replace": (lambda h: h.replace("layer1.2", nn.ReLU()), UnknownLayerError, r"nearest: \['layer1.\d'"),
    "one to rename": (lambda h: h.rename("bn2", "norm"), UnknownLayerError, r"nearest: \['bn1'"),
    "one to freeze": (lambda h: h.freeze(["fc", "conv2"]), UnknownLayerError, r"'conv2'; nearest: \['conv1'"),
    "one to freeze up to": (lambda h: h.freeze(up_to="poolavg"), UnknownLayerError, "'poolavg'"),
    "one to unfreeze": (lambda h: h.unfreeze("nowhere"), UnknownLayerError, "'nowhere'"),
    "one to randomize": (lambda h: h.randomize("layer1.9"), UnknownLayerError, r"'layer1.9'; nearest: \['layer1"),
    "a parameter": (lambda h: h.get_module(fixed_layer_parameters=["fc.w"]), ModelError, r"\['fc.w'\]; nearest"),
    "a layer for its parameters": (lambda h: h.get_module(["fc"]), ModelError, r"\['fc'\]; nearest: \['fc.weight'"),
    "a number for parameters": (lambda h: h.get_module([3]), ModelError, r"no parameters \[3\]; nearest"),
    "no list of parameters": (lambda h: h.get_module(3), TypeError, "by a list of their names, got 3"),
    "a parameter for its layer": (
        lambda h: h.freeze("fc.weight"),
        UnknownLayerError,
        r"'fc.weight'; nearest: \['fc'\]",
    ),
    "a number for a type": (lambda h: h.freeze(types=3), ModelError, "a layer type is a .*, got 3"),
    "no types": (lambda h: h.freeze(types=[]), ModelError, "types is empty"),
    "no layer to drop": (lambda h: h.drop_layer_top(0), ModelError, "n must be from 1 to 13.*got 0"),
    "fewer than none": (lambda h: h.drop_layer_bottom(-1), ModelError, "n must be from 1 to 13.*got -1"),
    "all layers": (lambda h: h.drop_layer_top(14), ModelError, "n must be from 1 to 13.*has 14 layers; got 14"),
    "all from below": (lambda h: h.drop_layer_bottom(14), ModelError, "has 14 layers; got 14"),
    "true layers": (lambda h: h.drop_layer_bottom(True), ModelError, "n must be a whole number of layers, got True"),
    "a drop into a join": (lambda h: h.drop_layer_top(5), AmbiguousLayerError, r"'layer1.1.bn', 'layer1.0.relu'"),
    "one from below": (lambda h: h.drop_layer_bottom(4), AmbiguousLayerError, r"drop_layer_bottom\(3\)"),
    "one module twice": (
        lambda h: h.add_layer_top([twice, nn.ReLU(), twice]),
        ModelError,
        "same Linear is given twice",
    ),
    "one that is there": (
        lambda h: h.add_layer_top(h.kept.fc),
        ModelError,
        "Linear is already in the network.*deepcopy",
    ),
    "one of a block": (
        lambda h: h.insert_after("fc", h.kept.layer1),
        ModelError,
        "Sequential is already in the network",
    ),
    "a name twice": (
        lambda h: h.add_layer_top([("a", nn.ReLU()), ("a", nn.ReLU())]),
        ModelError,
        "name 'a' is given twice",
    ),
    "a name that is taken": (lambda h: h.add_layer_top(("layer1", nn.ReLU())), ModelError, "name 'layer1' is taken"),
    "an operation's": (lambda h: h.add_layer_bottom(("flatten", nn.ReLU())), ModelError, "name 'flatten' is taken"),
    "a name with a dot": (lambda h: h.insert_after("fc", ("a.b", nn.ReLU())), ModelError, r"cannot be named 'a\.b'"),
    "nothing to add": (lambda h: h.add_layer_top([]), ModelError, "empty"),
    "no module": (lambda h: h.add_layer_top([3]), TypeError, "got 3"),
    "another device": (
        lambda h: h.add_layer_top(nn.Linear(3, 2, device="meta")),
        ModelError,
        "on cpu, 'linear' on meta",
    ),
    "one inserted": (lambda h: h.insert_after("fc", nn.Linear(3, 2, device="meta")), ModelError, "on cpu, .* on meta"),
    "one put in place": (
        lambda h: h.replace("fc", nn.Linear(4, 2, device="meta")),
        ModelError,
        "on cpu, 'linear' on meta",
    ),
    "statistics elsewhere": (
        lambda h: h.insert_after("conv1", nn.BatchNorm2d(4, affine=False, device="meta")),
        ModelError,
        "on cpu, 'batchnorm2d' on meta",
    ),
    "a head too wide": (lambda h: h.add_layer_top(nn.Linear(9, 2)), ModelError, r"in_features=9.*\(5, 3\)"),
    "a layer too wide": (lambda h: h.insert_after("conv1", conv(9)), ModelError, r"Conv2d\(9, 4.*\(5, 4, 6, 6\)"),
    "a wrong output": (
        lambda h: h.insert_before("fc", nn.Linear(4, 9)),
        ModelError,
        r"'fc', Linear\(in_features=4.*\(5, 9\)",
    ),
    "a wrong input": (lambda h: h.add_layer_bottom(conv(1, 3)), ModelError, r"'conv2d', Conv2d\(1, 3.*\(5, 3, 8, 8\)"),
    "a wrong replacement": (
        lambda h: h.replace("fc", nn.Linear(9, 2)),
        ModelError,
        r"'fc', Linear\(in_features=9.*\(5, 4\)",
    ),
    "an operation": (lambda h: h.replace("flatten", nn.Flatten()), ModelError, "'flatten' is an operation"),
    "a container": (lambda h: h.replace("layer1.0", nn.ReLU()), ModelError, "'layer1.0' is a container: name the lay"),
    "a class put in place": (lambda h: h.replace("fc", nn.Linear), TypeError, "place of 'fc' must be one torch.nn.Mod"),
    "a number to add": (lambda h: h.insert_after("fc", 3), TypeError, "are torch.nn.Modules or pairs.*got 3"),
    "a number to freeze": (lambda h: h.freeze(3), TypeError, "names must be a name of a layer or a list.*got 3"),
    "what an addition cannot read": (
        lambda h: h.insert_after("layer1.0.bn", conv(4, 2)),
        ModelError,
        r"(?s)\Alayer 'layer1.0.add', add, failed on input of shape \(5, 2, 6, 6\), \(5, 4, 6, 6\): The size[^\n]*\n"
        r"in insert_after of \['conv2d'\] at 'layer1.0.bn'; nothing was changed\Z",
    ),
    "what one put in place gives it": (
        lambda h: h.replace("layer1.0.bn", conv(4, 2)),
        ModelError,
        r"\Alayer 'layer1.0.add', add, failed on input of shape \(5, 2, 6, 6\), \(5, 4, 6, 6\): The size[^\n]*\Z",
    ),
    "a layer before the input": (
        lambda h: h.insert_before("x", nn.ReLU()),
        ModelError,
        r"'x' is an input.*insert_after\('x', ...\)",
    ),
    "an input": (lambda h: h.insert_after("xx", nn.ReLU()), UnknownLayerError, r"'xx'; nearest: \['x'\]"),
    "the end of a path": (lambda h: h.freeze("1.bn"), UnknownLayerError, r"nearest: \['layer1.1.bn'"),
    "several values": (
        lambda h: h.insert_before("layer1.0.add", nn.ReLU()),
        ModelError,
        r"reads \['layer1.0.bn', 'relu'\]",
    ),
    "operations to freeze": (lambda h: h.freeze("flatten"), ModelError, "operations without weights"),
    "nothing to undo": (lambda h: [h.undo() for _ in range(9)], ModelError, "no edit to undo"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("frozen", [False, True])
def test_an_error_leaves_the_handler_and_the_users_module_as_they_were(what, frozen):
    edit, error, message = BAD[what]
    network, x = Residual().train(frozen), images()
    network.bn1.eval()
    network.layer1.requires_grad_(False)
    handler = handle(network, x)
    if frozen and what != "nothing to undo":
        handler.freeze("layer1").unfreeze("layer1.1")
    handler.kept = network
    before, was = snapshot(network), portrait(handler, [x])
    with pytest.raises(error, match=message):
        edit(handler)
    assert portrait(handler, [x]) == was
    assert snapshot(network) == before


@pytest.mark.parametrize(
    ("make", "edit", "message"),
    [
        (
            lambda: Branching([]),
            lambda h: h.drop_layer_top(1),
            r"tuple of \['third', 'side_relu'\].*truncate\(at='third'\)",
        ),
        (lambda: Branching([]), lambda h: h.add_layer_top(nn.ReLU()), r"tuple of \['third', 'side_relu'\]"),
        (
            Regularised,
            lambda h: h.truncate("block.linear"),
            INSIDE,
        ),
        (
            Regularised,
            lambda h: h.replace("block.linear", nn.Linear(4, 6)),
            INSIDE,
        ),
        (
            Regularised,
            lambda h: h.insert_after("block.linear", nn.ReLU()),
            INSIDE,
        ),
        (Regularised, lambda h: h.rename("block.linear", "l"), INSIDE),
        (TwoInputs, lambda h: h.add_layer_bottom(nn.Linear(3, 3)), r"inputs \['a', 'b'\]: choose one by insert_after"),
        (TwoInputs, lambda h: h.drop_layer_bottom(1), r"one input; this one has \['a', 'b'\]"),
        (Tied, lambda h: h.replace("encode", nn.Linear(4, 4)), "'encode.weight' is tied to 'decode.weight'"),
        (Tied, lambda h: h.freeze("decode"), "'encode.weight' is tied to 'decode.weight'|'decode.weight' is tied"),
        (Tied, lambda h: h.randomize("decode"), "is tied to"),
        (Shared, lambda h: h.replace("relu", nn.Tanh()), r"runs 3 times, as \['relu', 'relu@1', 'relu@2'\]"),
    ],
)
def test_networks_of_another_kind_are_left_alone_too(make, edit, message):
    network = make()
    sizes = {Branching: [4], Regularised: [4], TwoInputs: [3, 2], Tied: [4], Shared: [4]}[type(network)]
    given = [torch.randn(3, size) for size in sizes]
    handler = handle(network, tuple(given))
    before, was = snapshot(network), portrait(handler, given)
    with pytest.raises(ModelError, match=message):
        edit(handler)
    assert portrait(handler, given) == was
    assert snapshot(network) == before


def test_a_network_elsewhere_and_a_layer_here_are_both_named():
    network = Residual().to("meta")
    handler = ModelHandler(network, device="meta")
    with pytest.raises(
        ModelError, match=r"the network is on meta, 'linear' on cpu; move it first: module.to\('meta'\)"
    ):
        handler.add_layer_top(nn.Linear(3, 2))
    assert handler.add_layer_top(nn.Linear(3, 2, device="meta")).layer_names[-1] == "linear"


@pytest.mark.parametrize("training", [True, False])
def test_the_users_module_stays_bit_identical_through_edits_and_failures(training):
    network, x = Residual().train(training), images()
    before = snapshot(network)
    handler = handle(network, x)
    handler.drop_layer_top(2).add_layer_top([nn.Flatten(), nn.LazyLinear(3), nn.Dropout()]).freeze(up_to="layer1")
    for fail in (lambda: handler.truncate("nowhere"), lambda: handler.drop_layer_top(99)):
        with pytest.raises(ModelError):
            fail()
    module = handler.get_module()
    assert all(part.training == training for part in (module.dropout, module.avgpool))
    module.train()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, weight_decay=0.1)
    module(x).sum().backward()
    optimiser.step()
    assert snapshot(network) == before


class _SaysWhatLearns(nn.Module):
    def __init__(self, always: bool) -> None:
        super().__init__()
        self.always = always
        self.a, self.b, self.fc = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        self.a.requires_grad_(not self.always and self.training)
        return self.fc(self.b(self.a(x)).relu())


@pytest.mark.parametrize(("always", "learns"), [(True, False), (False, True)])
def test_what_a_forward_says_of_learning_stays_and_leaves_the_users_network_alone(always, learns):
    network, x = _SaysWhatLearns(always), torch.randn(3, 4)
    handler = ModelHandler(network, x)
    handler.extract(x, ["b"])
    edited = handler.truncate("relu").add_layer_top([("head", nn.Linear(4, 3))]).get_module()
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert edited.a.weight.requires_grad is learns
    assert edited.b.weight.requires_grad
    network.train()(x)
    assert network.a.weight.requires_grad is learns
