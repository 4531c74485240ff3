"""Where batches have rows of several streams, the frozen part is computed once for each row of each stream."""

import copy
import logging
import os
import re
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from model_handler.frozen_prefix import splitting
from repurpose.training.data.batches import TrainingBatch, TrainingBatches
from repurpose.training.frozen.frozen import FrozenPart
from repurpose.training.plan.cache_options import CacheOptions, cache_options
from tests.repurpose.training.frozen.test_frozen import (
    EXACT,
    N_ROWS,
    Dense,
    Resized,
    Small,
    TwoParts,
    Y,
    assert_equal,
    batches,
    drawn,
    made,
    trained,
    trained_plainly,
)
from tests.repurpose.training.two_streams import Joined

N_TARGET = 9


class Unlabelled(TrainingBatches):
    """Its data has no labels: it makes targets of the numbers of the rows."""

    def make_batch(self, batch):
        return TrainingBatch(batch.inputs, torch.from_numpy(batch.rows) % 3, batch.n_rows, batch.rows)


def target(data=None, **options):
    given = {"rows": np.arange(N_TARGET), "n_rows": N_TARGET, "n_batches": 2, "seed": 5, **options}
    return batches((drawn(N_TARGET, 3, 8, 8) + 1, Y[:N_TARGET]) if data is None else data, **given)


def two(**streams):
    return Joined({"source": batches(), "target": target(), **streams})


def loader(n_rows, generator=None):
    data = TensorDataset(drawn(n_rows, 3, 8, 8), torch.tensor(Y[:n_rows]))
    return DataLoader(data, batch_size=5, shuffle=True, generator=generator)


@pytest.mark.parametrize(("network", "up_to"), [(Small, "bn"), (Small, "layer2"), (Dense, "layers.0")])
def test_training_ends_where_the_plain_way_does_and_each_row_runs_through_the_frozen_part_once(network, up_to):
    start, n_computed, values = made(network, up_to), [], splitting._FrontierOfGraph.values

    def counted(frontier, inputs, **options):
        n_computed.append(len(inputs))
        return values(frontier, inputs, **options)

    with mock.patch.object(splitting._FrontierOfGraph, "values", counted):
        got, decisions = trained(start, two())
    assert_equal(got, trained_plainly(start, two()))
    assert len(decisions) == 1
    kept = r"once: source: 22 rows, \S+ (bytes|kB) in memory; target: 9 rows, \S+ (bytes|kB) in memory$"
    assert re.search(kept, decisions[0])
    assert sum(n_computed) == N_ROWS + N_TARGET


def test_a_frontier_of_several_tensors():
    torch.manual_seed(0)
    start = nn.Sequential(TwoParts())[0]
    for parameter in [*start.left.parameters(), *start.right.parameters()]:
        parameter.requires_grad_(False)
    start.head.weight.requires_grad_(True)

    def data():
        rows = ((drawn(N_ROWS, 6), drawn(N_ROWS, 4)), Y)
        few = ((drawn(N_TARGET, 6) + 1, drawn(N_TARGET, 4)), Y[:N_TARGET])
        return Joined({"source": batches(rows), "target": target(few)})

    got, decisions = trained(start, data(), {"when": True, **EXACT})
    assert_equal(got, trained_plainly(start, data()))
    assert "is computed once: source: 22 rows" in decisions[0]


@pytest.mark.parametrize("generator", [False, True])
def test_loaders_keep_their_orders(generator):
    def data():
        made_anew = [torch.Generator().manual_seed(seed) if generator else None for seed in (1, 2)]
        source = batches(loader(N_ROWS, made_anew[0]), None)
        return two(source=source, target=batches(loader(11, made_anew[1]), None, n_rows=11, n_batches=3))

    start = made(Small, "layer1")
    got, decisions = trained(start, data())
    assert_equal(got, trained_plainly(start, data()))
    assert "is computed once: source: 22 rows" in decisions[0]
    assert "target: 11 rows" in decisions[0]


def test_rows_without_labels_have_the_targets_that_their_stream_makes():
    def data():
        plain = target()
        rows = {"rows": plain.rows, "n_rows": N_TARGET, "max_batch_size": 5, "batch_size": 5, "seed": 5}
        return two(target=Unlabelled(plain.data[0], plain.classes, **rows))

    start = made(Small, "layer1")
    got, decisions = trained(start, data())
    assert_equal(got, trained_plainly(start, data()))
    assert "is computed once" in decisions[0]


def test_streams_share_the_memory_and_nothing_stays_on_disk(tmp_path):
    start = made(Small, "layer2")  # 8 numbers of 4 bytes a row
    options = {"when": True, "memory": N_ROWS * 32 + 100, "directory": str(tmp_path), **EXACT}
    got, decisions = trained(start, two(), options)
    assert_equal(got, trained_plainly(start, two()))
    assert decisions[0].endswith("once: source: 22 rows, 704 bytes in memory; target: 9 rows, 288 bytes on disk")
    assert os.listdir(tmp_path) == []


def test_bfloat16_halves_what_both_take():
    _, decisions = trained(made(Small, "layer2"), two(), {"dtype": "bfloat16", **EXACT})
    assert decisions[0].endswith("source: 22 rows, 352 bytes in memory; target: 9 rows, 144 bytes in memory")


class Odd(TrainingBatches):
    """Its targets are no codes."""

    def make_batch(self, batch):
        made = super().make_batch(batch)
        return TrainingBatch(made.inputs, made.targets.double(), made.n_rows, made.rows)


def odd():
    plain = target()
    rows = {"rows": plain.rows, "n_rows": N_TARGET, "max_batch_size": 5, "batch_size": 5, "seed": 5}
    return two(target=Odd(plain.data, plain.classes, **rows))


@pytest.mark.parametrize(
    ("data", "more", "reason"),
    [
        (lambda: two(target=target(augment=lambda row: row + torch.rand(()))), {}, "target: augmentation draws anew"),
        (lambda: two(source=batches(augment=lambda row: row * 1)), {}, "source: augmentation draws anew"),
        (two, {"mixes": True}, "inputs are mixed anew each epoch"),
        (two, {"epochs": 1}, "it is needed for one epoch"),
    ],
)
def test_where_rows_of_one_stream_differ_both_run_through_the_frozen_part_each_time(data, more, reason):
    start = made(Small, "layer1")
    got, decisions = trained(start, data(), **more)
    assert_equal(got, trained_plainly(start, data(), epochs=more.get("epochs", 3)))
    assert len(decisions) == 1
    assert f"is computed without autograd for each batch: {reason}" in decisions[0]


def test_targets_of_another_kind_are_not_kept():
    with FrozenPart(made(Small, "layer1"), odd(), CacheOptions(), num_epochs=3) as part:
        batch = next(part.feed(0).batches.epoch(0))
    assert batch.targets.dtype == torch.float64
    assert part.decisions[0].endswith("target: targets are of another kind than int64 (n_rows,)")


def test_rows_of_another_size_in_the_other_stream_are_not_kept():
    """What learns uses a size of its input, which is another one in each stream."""

    class InTurn(Joined):
        def epoch(self, number):
            for stream in self.streams.values():
                yield from stream.epoch(number)

    def data():
        small = target((drawn(N_TARGET, 3, 4, 4), Y[:N_TARGET]))
        return InTurn({"source": batches(), "target": small})

    class Pooled(Resized):
        def forward(self, x):
            y = torch.tanh(self.conv(self.stem(x).mean((2, 3), keepdim=True)))
            return (y * torch.arange(x.shape[3])).mean((2, 3)) / x.shape[3]

    start = made(Pooled, "stem")
    got, decisions = trained(start, data())
    assert_equal(got, trained_plainly(start, data()))
    assert "for each batch: rows differ in size: {'source': [(3, 8, 8)], 'target': [(3, 4, 4)]}" in decisions[0]


class Otherwise(Joined):
    rows_are_unchanged = False


class OfItsOwnKind(TrainingBatches):
    rows_are_unchanged = False


def with_such_a_stream():
    plain = target()
    rows = {"rows": plain.rows, "n_rows": N_TARGET, "max_batch_size": 5, "batch_size": 5, "seed": 5}
    return two(target=OfItsOwnKind(plain.data, plain.classes, **rows))


@pytest.mark.parametrize("data", [lambda: Otherwise(two().streams), with_such_a_stream])
def test_batches_that_are_made_otherwise_train_the_network_whole(data):
    start = made(Small, "layer1")
    got, decisions = trained(start, data())
    assert_equal(got, trained_plainly(start, two()), tolerance=0)
    assert decisions == ["the network is trained whole: its batches are made of streams in a way of their own"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (lambda: two(target=target(augment=lambda row: row)), "target: augmentation draws anew each epoch"),
        (odd, "target: targets are of another kind"),
    ],
)
def test_true_refuses_what_cannot_be_and_names_the_stream(data, reason):
    with pytest.raises(ValueError, match=rf"cache_frozen=True cannot be: .* {reason}"):
        trained(made(Small, "layer1"), data(), True)


def test_validation_by_both_is_kept_with_what_is_left_of_the_memory(caplog):
    network = made(Small, "layer2")
    judged = two(source=batches(seed=None), target=target(seed=None))
    options = cache_options({"memory": 2 * (N_ROWS + N_TARGET) * 32 - 1, **EXACT})
    with (
        caplog.at_level(logging.INFO, "repurpose"),
        FrozenPart(network, two(), options, num_epochs=3, validation=judged) as part,
    ):
        part.feed(0)
        feed, whole = part.validated(network), copy.deepcopy(network).eval()
        feed.module.eval()
        for ours, plain in zip(feed.batches.epoch(0), judged.epoch(0), strict=True):
            with torch.no_grad():
                torch.testing.assert_close(feed.module(ours.inputs), whole(plain.inputs))
            assert torch.equal(ours.targets, plain.targets)
    sizes = [message for message in caplog.messages if "activations of" in message]
    assert sizes == [
        "source: activations of 22 rows take 704 bytes in memory",
        "target: activations of 9 rows take 288 bytes in memory",
        "source: activations of 22 rows take 704 bytes in memory",
        "target: activations of 9 rows take 288 bytes on disk",
    ]


def test_what_is_learned_later_draws_the_line_anew_for_both():
    network = made(Small, "layer2")
    with FrozenPart(network, two(), CacheOptions(), num_epochs=4, changes={0, 2}) as part:
        first = part.feed(0)
        for parameter in network.layer2.parameters():
            parameter.requires_grad_(True)
        second = part.feed(2)
        assert second is not first
        assert tuple(next(second.batches.epoch(2)).inputs.shape[1:]) == (8, 4, 4)
    assert all("; target: 9 rows" in decision for decision in part.decisions)
