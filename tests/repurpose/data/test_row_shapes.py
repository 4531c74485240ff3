"""Rows are compared with those of training: other sizes are for the network, other axes are a mistake."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import VisionTransformer

from model_handler import ModelError
from repurpose import AdapterRepurposer, LrRepurposer, NeuralNetworkFineTuneRepurposer, ToastRepurposer, load
from repurpose.data.row_shapes import SeenShapes, check_row_shapes, failures_blamed_on_sizes, shapes_of_spec
from repurpose.neural_network.architecture import as_spec
from tests.repurpose.examples import lr
from tests.repurpose.saved_files import edit


def rows(*shape):
    return torch.zeros(2, *shape)


def learned(*inputs):
    seen = SeenShapes()
    for batch in inputs:
        seen.note(batch)
    return seen.shapes


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ((60, 8), (40, 8)),  # a shorter text
        ((3, 32, 48), (3, 64, 64)),  # larger images
        ((3, 32, 48), (3, 48, 32)),  # upright ones
        ((32, 48, 3), (48, 32, 3)),
        ((28, 28), (32, 32)),  # grey ones without channels
        ((8, 100), (8, 50)),  # a shorter signal
        ((12,), (20,)),  # tokens; whether numbers are as wide is asked elsewhere
        ((), ()),
    ],
)
def test_other_sizes_are_left_to_the_network(then, now):
    check_row_shapes(rows(*now), learned(rows(*then)), "X")


@pytest.mark.parametrize(
    ("then", "now", "fix"),
    [
        ((60, 8), (1, 60, 8), r"\(1, 60, 8\), but Lr .* \(60, 8\) .*X\[:, 0\]"),
        ((60, 8), (8,), r"\(8,\), but Lr .* \(60, 8\) .*X\[None\] if this is one row and not a batch$"),
        ((3, 32, 32), (32, 32), r"X\[None\] if this is one row"),
        ((1, 28, 28), (28, 28), r"X\[None\] if .*, X\[:, None\] if an axis of one is missing"),
        ((8, 6), (48,), "give rows with the same axes"),
        ((8, 6), (6, 8), r"\(6, 8\), but Lr .* \(8, 6\) .*another arrangement"),
        ((1, 28, 28), (28, 28, 1), "another arrangement"),
        ((4, 12), (8, 6), "another arrangement"),
    ],
)
def test_other_axes_name_both_shapes_and_the_fix(then, now, fix):
    with pytest.raises(ValueError, match=fix):
        check_row_shapes(rows(*now), learned(rows(*then)), "Lr")


def test_sizes_that_differed_in_training_say_nothing():
    shapes = learned(rows(32, 48), rows(48, 32), rows(32, 32))
    assert shapes == (None, None)
    check_row_shapes(rows(48, 64), shapes, "Lr")
    with pytest.raises(ValueError, match=r"\(1, 48, 64\), but Lr is expecting rows of shape \(any, any\)"):
        check_row_shapes(rows(1, 48, 64), shapes, "Lr")
    with pytest.raises(ValueError, match=r"rows of shape \(3,\) after rows of shape \(3, 4\)"):
        learned(rows(3, 4), rows(3))


def test_parts_are_compared_by_place_or_name():
    inputs = (rows(3), rows(4, 5)), {"ids": rows(7), "mask": rows(7)}
    assert learned(inputs[0]) == [(3,), (4, 5)]
    assert learned(inputs[1], {"ids": rows(9)}) == {"ids": (None,), "mask": (7,)}
    for batch in inputs:
        assert shapes_of_spec(as_spec(batch)) == learned(batch)
        check_row_shapes(batch, learned(batch), "Lr")
    check_row_shapes({"ids": rows(7), "kinds": rows(2, 3)}, learned(inputs[1]), "Lr")
    check_row_shapes(rows(3), learned(inputs[0]), "Lr")  # of another kind: the network says what it takes
    check_row_shapes(rows(3, 4), None, "Lr")
    with pytest.raises(ValueError, match=r"\(1, 4, 5\)"):
        check_row_shapes((rows(3), rows(1, 4, 5)), learned(inputs[0]), "Lr")


class Tokens(nn.Module):
    """Takes any number of axes before the features."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.embed(x).flatten(1, -2).mean(1))


TEXTS = np.random.default_rng(0).normal(size=(12, 5, 8)).astype(np.float32)
Y = np.arange(12) % 3


@pytest.mark.parametrize("kind", [LrRepurposer, NeuralNetworkFineTuneRepurposer])
def test_every_question_judges_its_rows(kind):
    options = (
        {"feature_layer_names": ["embed"], "c": 1.0}
        if kind is LrRepurposer
        else {"transfer_layer_name": "embed", "num_epochs": 1}
    )
    repurposer = kind(Tokens(), **options, random_state=0).repurpose(TEXTS, Y)
    assert repurposer.predict_label(TEXTS[:, :3]).shape == (12,)
    wrong = TEXTS[:, None]
    for ask in (repurposer.predict_probability, repurposer.predict_uncertainty, repurposer.calibrate):
        with pytest.raises(ValueError, match=r"\(1, 5, 8\), but"):
            ask((wrong, Y) if ask == repurposer.calibrate else wrong)
    with pytest.raises(ValueError, match=r"\(1, 5, 8\), but"):
        repurposer.score(DataLoader(TensorDataset(torch.tensor(wrong), torch.tensor(Y)), batch_size=5))
    with pytest.raises(ValueError, match=r"\(8,\), but .*X\[None\]"):
        repurposer.predict_label(TEXTS[0])


def test_validation_rows_are_judged_too():
    repurposer = NeuralNetworkFineTuneRepurposer(Tokens(), "embed", num_epochs=1)
    with pytest.raises(ValueError, match=r"\(1, 5, 8\), but"):
        repurposer.repurpose(TEXTS, Y, validation_data=(TEXTS[:, None], Y))


@pytest.mark.parametrize("kind", [AdapterRepurposer, ToastRepurposer, NeuralNetworkFineTuneRepurposer])
def test_images_of_a_size_that_the_network_does_not_take_are_refused_naming_that_of_training(kind):
    images = np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype(np.float32)
    network = VisionTransformer(16, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=16)
    end = {"transfer_layer_name": "encoder.ln"} if kind is NeuralNetworkFineTuneRepurposer else {}
    repurposer = kind(network, num_epochs=1, random_state=0, **end).repurpose((images, Y[:4]))
    larger = images.repeat(2, axis=2).repeat(2, axis=3)
    said = rf"\(3, 32, 32\).*{kind.__name__} is expecting rows of shape \(3, 16, 16\), as in training; resize them"
    asked = [
        repurposer.predict_probability,
        repurposer.predict_uncertainty,
        getattr(repurposer, "attention_maps", None),
    ]
    for ask in filter(None, asked):
        with pytest.raises(ValueError, match=said):
            ask(larger)
    with pytest.raises(ValueError, match=said):
        repurposer.repurpose((images, Y[:4]), validation_data=(larger, Y[:4]))
    assert repurposer.predict_label(images).shape == (4,)


def test_a_network_that_takes_images_of_any_size_goes_on_taking_them():
    images = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    repurposer = AdapterRepurposer(network, layers="all", rank=1, num_epochs=1).repurpose((images, Y[:4]))
    larger = images.repeat(2, axis=2)
    assert repurposer.predict_label(larger).shape == (4,)
    repurposer.repurpose((images, Y[:4]), validation_data=(larger, Y[:4]))
    assert repurposer.predict_label(images).shape == (4,)


@pytest.mark.parametrize("error", [RuntimeError, AssertionError, IndexError])
def test_failures_are_blamed_on_sizes_that_differ_alone(error):
    def failing(given, trained_on):
        with failures_blamed_on_sizes(given, trained_on, "Lr"):
            raise error("no")

    with pytest.raises(ModelError, match=r"\(3, 8\), which .* expecting rows of shape \(3, 4\).*\(no\)"):
        failing((rows(5), rows(3, 8)), [(5,), (3, 4)])
    with pytest.raises(ModelError, match=r"\(2, 8\), which .* expecting rows of shape \(any, 4\)"):
        failing({"x": rows(2, 8)}, {"x": (None, 4)})
    for given, trained_on in [(rows(3), (3,)), (rows(3, 8), (3, None)), (rows(3), None), (rows(4).long(), (3,))]:
        with pytest.raises(error, match=r"^no$"):
            failing(given, trained_on)


def test_files_and_features_that_know_no_shape_are_taken_as_before(tmp_path):
    repurposer = lr().repurpose(np.eye(6, dtype=np.float32), np.arange(6) % 2)
    assert repurposer.row_shape_ == (6,)
    features = repurposer.get_features_from_source_model((np.eye(6, dtype=np.float32), np.arange(6) % 2))
    assert not hasattr(lr().repurpose(features), "row_shape_")
    repurposer.save_repurposer(tmp_path / "saved")
    edit(tmp_path / "saved", lambda plan: plan["fitted"].pop("row_shape_"))
    older = load(tmp_path / "saved", source_model=repurposer.source_model)
    assert older.predict_label(np.eye(6, dtype=np.float32)[:, None]).shape == (6,)
