"""Training on what the frozen part gave once ends where training the whole network does."""

import copy
import logging
import os
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from model_handler import ModelHandler
from repurpose.training.data.batches import TrainingBatches
from repurpose.training.data.seeding import drawing_from
from repurpose.training.frozen.frozen import FrozenPart
from repurpose.training.plan.cache_options import CacheOptions, cache_mistakes, cache_options
from repurpose.training.steps.forward import call, on_device

N_ROWS, BATCH = 22, 5
EXACT = {"folded": False}


class Small(nn.Module):
    """A residual network with BatchNorm and dropout in what is trained."""

    def __init__(self):
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.layer1, self.layer2 = Residual(), Residual()
        self.drop, self.fc = nn.Dropout(0.3), nn.Linear(8, 3)

    def forward(self, x):
        x = F.relu(self.bn(self.stem(x)))
        return self.fc(self.drop(self.layer2(self.layer1(x)).mean((2, 3))))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.bn(self.conv(x))
        y += x
        return self.relu(y)


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(16, 3)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(4 * n), nn.ReLU(), nn.Conv2d(4 * n, 4, 3, padding=1)) for n in (1, 2, 3)
        )

    def forward(self, x):
        found = [self.stem(x)]
        for layer in self.layers:
            found.append(layer(torch.cat(found, 1)))
        return self.head(torch.cat(found, 1).mean((2, 3)))


class TwoParts(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.bn = nn.Linear(6, 8), nn.Linear(4, 8), nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, a, b):
        return self.head(self.bn(torch.tanh(self.left(a)) * self.right(b)))


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(X[row], int(Y[row])) for row in range(N_ROWS)])


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


ALL = np.arange(N_ROWS)
X, Y = drawn(N_ROWS, 3, 8, 8), np.arange(N_ROWS) % 3


def batches(data=(X, Y), rows=ALL, **options):
    given = {"seed": 3, "batch_size": BATCH, "n_rows": N_ROWS, "n_batches": 5, "max_batch_size": BATCH, **options}
    return TrainingBatches(data, np.arange(3), rows=rows, **given)


def made(network, up_to):
    torch.manual_seed(0)
    return ModelHandler(network(), device="cpu").freeze(up_to=up_to).get_module()


def trained_plainly(network, data, epochs=3):
    """What anyone would write: the whole network, frozen parameters without a gradient, SGD."""
    network = copy.deepcopy(network)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    for epoch in range(epochs):
        with drawing_from(epoch):
            network.train()
            for batch in data.epoch(epoch):
                inputs = batch.inputs if isinstance(batch.inputs, tuple) else (batch.inputs,)
                loss = F.cross_entropy(network(*inputs), batch.targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return network


def trained(network, data, options=EXACT, epochs=3, **more):
    """The same with the frozen part split off; also what was decided."""
    network = copy.deepcopy(network)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    with FrozenPart(network, data, cache_options(options), num_epochs=epochs, **more) as part:
        for epoch in range(epochs):
            feed = part.feed(epoch)
            with drawing_from(epoch):
                network.train()
                feed.module.train()
                for batch in feed.batches.epoch(epoch):
                    inputs = on_device(batch.inputs, torch.device("cpu"), torch.float32)
                    loss = F.cross_entropy(call(feed.module, inputs), batch.targets)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
    return network, part.decisions


def assert_equal(got, wanted, tolerance=1e-4):
    expected_state = wanted.state_dict()
    for name, tensor in got.state_dict().items():
        difference = (tensor - expected_state[name]).double().norm()
        assert difference <= tolerance * expected_state[name].double().norm(), name


@pytest.mark.parametrize(
    ("network", "up_to"),
    [(Small, "bn"), (Small, "layer1.conv"), (Small, "layer1"), (Small, "layer2"), (Dense, "layers.0")],
)
def test_weights_and_statistics_end_where_the_plain_way_does(network, up_to):
    start = made(network, up_to)
    got, decisions = trained(start, batches())
    assert_equal(got, trained_plainly(start, batches()))
    assert len(decisions) == 1
    assert f"is computed once: {N_ROWS} rows" in decisions[0]
    assert "in memory" in decisions[0]


def test_a_torchvision_network_ends_where_the_plain_way_does():
    from torchvision.models import resnet18

    start = made(lambda: resnet18(num_classes=3), "layer3")
    images = (drawn(10, 3, 32, 32), Y[:10])
    rows = {"rows": np.arange(10), "n_rows": 10, "n_batches": 2}
    got, decisions = trained(start, batches(images, **rows), epochs=2)
    wanted = trained_plainly(start, batches(images, **rows), epochs=2)
    assert_equal(got, wanted)
    assert "the frozen part, 50 layers up to 'layer3.1.relu@1', is computed once" in decisions[0]
    before, after = start.state_dict(), got.state_dict()
    moved = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"layer4", "fc"}  # frozen statistics stay
    assert not torch.equal(before["layer4.0.bn1.running_mean"], after["layer4.0.bn1.running_mean"])


def test_inputs_of_several_parts():
    torch.manual_seed(0)
    start = ModelHandler(TwoParts(), device="cpu").freeze("left").get_module()
    data = ((drawn(N_ROWS, 6), drawn(N_ROWS, 4)), Y)
    got, decisions = trained(start, batches(data), {"when": True, **EXACT})
    assert_equal(got, trained_plainly(start, batches(data)))
    assert "the frozen part, 2 layers up to 'left', is computed once" in decisions[0]


@pytest.mark.parametrize("generator", [False, True])
def test_a_loader_keeps_its_order(generator):
    def loader():
        rng = torch.Generator().manual_seed(9) if generator else None
        return DataLoader(TensorDataset(X, torch.tensor(Y)), batch_size=BATCH, shuffle=True, generator=rng)

    start = made(Small, "layer1")
    got, decisions = trained(start, batches(loader(), None))
    assert_equal(got, trained_plainly(start, batches(loader(), None)))
    assert "is computed once" in decisions[0]


def test_past_the_budget_activations_are_on_disk_and_removed(tmp_path):
    start = made(Small, "layer1")
    got, decisions = trained(start, batches(), {"when": True, "memory": 1000, "directory": str(tmp_path), **EXACT})
    assert_equal(got, trained_plainly(start, batches()))
    assert "on disk" in decisions[0]
    assert os.listdir(tmp_path) == []


def test_nothing_stays_on_disk_after_an_error(tmp_path):
    class Broken(TensorDataset):
        def __getitem__(self, row):
            if row == 17:
                raise OSError("row 17 is gone")
            return super().__getitem__(row)

    data = batches(Broken(X, torch.tensor(Y)))
    options = {"when": True, "memory": 0, "directory": str(tmp_path)}
    with pytest.raises(OSError, match="row 17 is gone"):
        trained(made(Small, "layer1"), data, options)
    assert os.listdir(tmp_path) == []


def test_folded_activations_lead_close_by():
    start = made(Small, "layer1")
    assert_equal(trained(start, batches(), "auto")[0], trained_plainly(start, batches()), tolerance=1e-3)


def test_bfloat16_is_kept_only_on_request():
    start = made(Small, "layer2")
    got, decisions = trained(start, batches(), {"dtype": "bfloat16", **EXACT})
    plain = trained_plainly(start, batches())
    assert_equal(got, plain, tolerance=0.1)
    assert not torch.equal(got.fc.weight, plain.fc.weight)
    assert decisions[0].endswith(f"{N_ROWS} rows, 352 bytes in memory")


@pytest.mark.parametrize(
    ("data", "more", "reason"),
    [
        (lambda: batches(augment=lambda row: row + torch.rand(())), {}, "augmentation draws anew each epoch"),
        (lambda: batches(DataLoader(Stream(), batch_size=BATCH), None), {}, "an IterableDataset, whose rows have no"),
        (lambda: batches(), {"mixes": True}, "each batch is mixed or answered anew"),
        (lambda: batches(), {"epochs": 1}, "it is needed for one epoch"),
    ],
)
def test_rows_that_differ_from_epoch_to_epoch_run_through_the_frozen_part_each_time(data, more, reason):
    start = made(Small, "layer1")
    got, decisions = trained(start, data(), **more)
    assert_equal(got, trained_plainly(start, data(), epochs=more.get("epochs", 3)))
    assert "is computed without autograd for each batch: " in decisions[0]
    assert reason in decisions[0]


def test_folded_for_each_batch():
    start = made(Small, "layer1")
    got, decisions = trained(start, batches(augment=lambda row: row * 1), "auto")
    assert_equal(got, trained_plainly(start, batches(augment=lambda row: row * 1)), tolerance=1e-3)
    assert "is computed folded and without autograd for each batch" in decisions[0]


def test_a_map_that_is_larger_than_its_input_and_soon_computed_is_not_read_from_disk():
    start = made(Dense, "stem")
    assert "1.02 kB a row (on disk) would take longer" in trained(start, batches(), {"memory": 0})[1][0]
    assert "the frozen part, 1 layer up to 'stem', is computed once" in trained(start, batches())[1][0]


@pytest.mark.parametrize(
    ("options", "network", "more", "reason"),
    [
        (False, "layer1", {}, "cache_frozen=False"),
        ("auto", "layer1", {"own_loss": True}, "its loss is of its own, and may look into it"),
    ],
)
def test_the_network_may_be_trained_whole(options, network, more, reason):
    start = made(Small, network)
    got, decisions = trained(start, batches(), options, **more)
    assert_equal(got, trained_plainly(start, batches()), tolerance=0)
    assert decisions == [f"the network is trained whole: {reason}"]


def test_nothing_frozen_is_trained_whole():
    torch.manual_seed(0)
    _, decisions = trained(Small(), batches())
    assert decisions == ["the network is trained whole: it has no frozen layer with weights"]


def test_true_refuses_what_cannot_be():
    with pytest.raises(ValueError, match=r"cache_frozen=True cannot be: .* augmentation draws anew each epoch"):
        trained(made(Small, "layer1"), batches(augment=lambda row: row), True)
    with pytest.raises(ValueError, match="cannot be: the network is trained whole: it has no frozen layer"):
        trained(Small(), batches(), True)


def test_unfreezing_in_the_middle_draws_the_line_anew(tmp_path):
    network, options = made(Small, "layer2"), {"memory": 0, "when": True, "directory": str(tmp_path), **EXACT}
    with FrozenPart(network, batches(), cache_options(options), num_epochs=4, changes={0, 2}) as part:
        first = part.feed(0)
        assert part.feed(1) is first
        for parameter in network.layer2.parameters():
            parameter.requires_grad_(True)
        second = part.feed(2)
        assert second is not first
        assert "layer2.conv.weight" in dict(second.module.named_parameters())
        assert tuple(next(second.batches.epoch(2)).inputs.shape[1:]) == (8, 4, 4)
    assert [decision.split("'")[1] for decision in part.decisions] == ["layer2.relu", "layer1.relu"]


def test_validation_is_kept_too_and_sees_the_average_of_the_weights():
    network = made(Small, "layer1")
    validation = batches(seed=None)
    with FrozenPart(network, batches(), CacheOptions(folded=False), num_epochs=3, validation=validation) as part:
        part.feed(0)
        averaged = copy.deepcopy(network)
        with torch.no_grad():
            for parameter in averaged.fc.parameters():
                parameter.mul_(2)
        for evaluated in (network, averaged):
            judged = part.validated(evaluated)
            judged.module.eval(), evaluated.eval()
            for ours, plain in zip(judged.batches.epoch(0), validation.epoch(0), strict=True):
                with torch.no_grad():
                    torch.testing.assert_close(call(judged.module, ours.inputs), evaluated(plain.inputs))
                assert torch.equal(ours.targets, plain.targets)
    with FrozenPart(network, batches(), CacheOptions(), num_epochs=3) as part:
        assert part.validated(network) is None


def test_the_log_says_what_was_decided(caplog):
    with caplog.at_level(logging.INFO, "repurpose"):
        _, decisions = trained(made(Small, "layer2"), batches())
    assert decisions[0] in caplog.messages
    assert "activations of 22 rows take 704 bytes in memory" in caplog.messages


def test_chance_is_left_alone():
    network = made(Small, "layer1")
    before = torch.get_rng_state()
    with FrozenPart(network, batches(), CacheOptions(), num_epochs=3) as part:
        part.feed(0)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_mistake_in_the_options_is_told():
    assert cache_mistakes("auto") == cache_mistakes(True) == cache_mistakes({"memory": 5}) == []
    assert cache_mistakes({"memori": 5}) == ["cache_frozen has no option 'memori'; nearest: ['memory']"]
    found = cache_mistakes({"when": "never", "dtype": "float16", "memory": -1})
    assert [mistake.partition(" must")[0] for mistake in found] == [
        "cache_frozen",
        "cache_frozen['dtype']",
        "cache_frozen['memory']",
    ]


@pytest.mark.parametrize(
    "more",
    [
        {"learning_rates": {"new": 0.1, "*": 0}},
        {"learning_rates": {"new": 0.1, "layer2": 0.01, "*": 0}, "validation_fraction": 0.3, "ema": 0.9},
        {"learning_rates": {"new": 0.1, "layer2": 0.01, "*": 0}, "unfreeze": {"layer2": 2}},
        {"probe_epochs": 2, "accumulation": 2, "clip_norm": 0.5, "l2_sp": 0.01},
    ],
)
def test_a_repurposer_learns_the_same_with_it_and_without(more):
    from repurpose import NeuralNetworkFineTuneRepurposer

    torch.manual_seed(0)
    source, found = Small(), []
    for cache in (False, EXACT):
        repurposer = NeuralNetworkFineTuneRepurposer(
            source, "layer2", optimizer="SGD", num_epochs=4, batch_size=5, random_state=0, cache_frozen=cache, **more
        )
        found.append(repurposer.repurpose((X, Y)))
    assert_equal(found[1].target_model_, found[0].target_model_)
    for name in ("loss", "accuracy", "validation_loss", "validation_accuracy"):
        np.testing.assert_allclose(found[1].history_.values(name), found[0].history_.values(name), rtol=1e-5)


class Holes(Dataset):
    """A row of it cannot be read, and its DataLoader leaves it out."""

    def __len__(self):
        return N_ROWS

    def __getitem__(self, number):
        return None if number == 4 else (X[number], int(Y[number]))


def without_holes(items):
    return default_collate([item for item in items if item is not None])


class TwoSizes(Dataset):
    def __len__(self):
        return N_ROWS

    def __getitem__(self, number):
        return F.pad(X[number], (0, 4 * (number % 2))), int(Y[number])


def padded(items):
    """As wide as the widest of the batch."""
    width = max(inputs.shape[-1] for inputs, _ in items)
    return default_collate([(F.pad(inputs, (0, width - inputs.shape[-1])), code) for inputs, code in items])


class Resized(nn.Module):
    """What learns uses a size of the input."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        y = F.interpolate(torch.tanh(self.conv(self.stem(x))), size=x.shape[2:])
        return (y * torch.arange(x.shape[3])).mean((2, 3)) / x.shape[3]


def loading(data, n_rows=N_ROWS, **options):
    return batches(DataLoader(data, **options), None, n_rows=n_rows)


@pytest.mark.parametrize(
    ("network", "make", "reason"),
    [
        (Small, lambda: loading(Holes(), N_ROWS - 1, batch_size=5, collate_fn=without_holes), "gives other rows than"),
        (Small, lambda: loading(TwoSizes(), batch_sampler=[[*range(0, 22, 2)], [*range(1, 22, 2)]]), "cannot be read"),
        (
            Resized,
            lambda: loading(TwoSizes(), batch_size=5, collate_fn=padded),
            "not the same when they are read again, each alone",
        ),
        (Resized, lambda: loading(TwoSizes(), batch_size=1), "rows differ in size"),
    ],
)
def test_rows_that_only_their_own_batches_give_run_through_the_frozen_part_each_time(network, make, reason):
    start = made(network, "stem")
    network, decisions = trained(start, make())
    assert len(decisions) == 1
    assert "computed without autograd for each batch" in decisions[0]
    assert reason in decisions[0]
    assert_equal(network, trained_plainly(start, make()))


def test_looking_at_some_rows_leaves_the_generator_of_a_loader_alone():
    def make():
        pairs = [(X[row : row + 2], torch.tensor(Y[row : row + 2])) for row in range(0, N_ROWS, 2)]
        return loading(pairs, batch_size=None, shuffle=True, generator=torch.Generator().manual_seed(1))

    start = made(Small, "layer1")
    network, decisions = trained(start, make())
    assert "makes its own batches" in decisions[0]
    assert_equal(network, trained_plainly(start, make()))


class Centring(nn.Module):
    """Puts another tensor in the place of its buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("centre", torch.zeros(8))

    def forward(self, x):
        if self.training:
            self.centre = 0.9 * self.centre + 0.1 * x.detach().mean(0)
        return x - self.centre


def test_buffers_that_are_exchanged_are_not_lost():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), Centring(), nn.Linear(8, 3))
    start = ModelHandler(plain, device="cpu").freeze(up_to="1").get_module()
    data = batches((drawn(N_ROWS, 6), Y))
    network, decisions = trained(start, data)
    assert "'2.centre'" in decisions[0]
    assert_equal(network, trained_plainly(start, data))


def test_validation_sees_the_average_of_weights_that_a_layer_without_use_has_too():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused, self.stem, self.head = nn.Linear(8, 3), nn.Linear(6, 8), nn.Linear(8, 3)
            self.head.weight = self.unused.weight

        def forward(self, x):
            return self.head(torch.tanh(self.stem(x)))

    data = batches((drawn(N_ROWS, 6), Y))
    start = made(Tied, "stem")
    average = copy.deepcopy(start)
    with torch.no_grad():
        average.head.weight.add_(1)
    with FrozenPart(start, data, cache_options({**EXACT, "when": True}), num_epochs=3, validation=data) as part:
        part.feed(0)
        feed = part.validated(average)
        inputs = next(iter(feed.batches.epoch(0))).inputs
        got = feed.module.eval()(inputs)
    with torch.no_grad():
        torch.testing.assert_close(got, average(next(data.epoch(0)).inputs))


def test_no_row_is_read_where_nothing_is_frozen():
    given = batches()
    with mock.patch.object(TrainingBatches, "epoch", side_effect=AssertionError("a row is read")):
        part = FrozenPart(Small(), given, CacheOptions(), num_epochs=2)
        assert part.feed(0).batches is given
