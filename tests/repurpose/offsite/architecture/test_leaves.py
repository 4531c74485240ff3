"""Layers by class and constructor values: each is made again as it was, and one that was changed since is refused."""

import pytest
import torch
from torch import nn

from model_handler import CorruptFileError, UnsafeFileError
from repurpose.offsite.architecture.arguments import UnsendableError
from repurpose.offsite.architecture.leaves import is_leaf, leaf_as_json, leaf_from_json

_LAYERS = [
    nn.Linear(3, 4, bias=False),
    nn.Conv2d(4, 8, 3, stride=2, dilation=2, groups=2, bias=False, padding_mode="circular"),
    nn.Conv1d(2, 2, 3, padding="same"),
    nn.ConvTranspose2d(4, 4, 3, 2, 1, 1, 2, False, 1),
    nn.BatchNorm2d(4, affine=False),
    nn.BatchNorm1d(4, track_running_stats=False, momentum=None),
    nn.LayerNorm((3, 4), bias=False),
    nn.Embedding(5, 3, padding_idx=1, max_norm=2.0),
    nn.MultiheadAttention(8, 2, 0.1, bias=False, add_bias_kv=True, kdim=5, vdim=6, batch_first=True),
    nn.LSTM(3, 4, 2, bias=False, batch_first=True, dropout=0.1, bidirectional=True, proj_size=2),
    nn.RNN(3, 4, nonlinearity="relu"),
    nn.GRU(3, 4),
    nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
    nn.AdaptiveAvgPool2d((None, 3)),
    nn.GELU("tanh"),
    nn.Softplus(2, 10),
    nn.TransformerEncoderLayer(8, 2, 16, 0.2, activation="gelu", batch_first=True, norm_first=True, bias=False),
]


@pytest.mark.parametrize("layer", _LAYERS, ids=lambda layer: type(layer).__name__)
def test_a_layer_is_made_again_as_it_was(layer: nn.Module) -> None:
    made = leaf_from_json(leaf_as_json(layer))
    assert type(made) is type(layer)
    assert repr(made) == repr(layer)
    shapes = [{name: each.shape for name, each in part.state_dict().items()} for part in (made, layer)]
    assert shapes[0] == shapes[1]
    assert all(each.is_meta for each in made.parameters())


@pytest.mark.parametrize("layer", ["DropPath", "LayerNorm2d", "BatchNormAct2d", "LayerNorm", "GroupNorm1"])
def test_a_layer_of_timm_is_made_again(layer: str) -> None:
    timm_layers = pytest.importorskip("timm.layers")
    made = getattr(timm_layers, layer)(4)
    assert type(leaf_from_json(leaf_as_json(made))) is type(made)


def test_a_layer_has_the_dtype_of_its_numbers() -> None:
    assert leaf_from_json(leaf_as_json(nn.Linear(3, 4).double())).weight.dtype == torch.float64
    assert leaf_from_json(leaf_as_json(nn.BatchNorm2d(4).bfloat16())).running_mean.dtype == torch.bfloat16
    with pytest.raises(CorruptFileError, match="of the dtype torch"):
        leaf_from_json({**leaf_as_json(nn.Linear(3, 4)), "dtype": {"dtype": "int64"}})


def test_a_layer_that_was_changed_after_it_was_made_is_refused() -> None:
    layer = nn.MultiheadAttention(8, 2)
    layer.head_dim = 3
    with pytest.raises(UnsendableError, match="head_dim is not as its constructor makes it"):
        leaf_as_json(layer)
    layer = nn.MultiheadAttention(8, 2)
    layer.out_proj = nn.Sequential(nn.Linear(8, 8))
    with pytest.raises(UnsendableError, match="weights"):
        leaf_as_json(layer)


def test_a_class_derived_from_one_of_the_table_is_no_leaf() -> None:
    class Own(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input) + 1

    assert is_leaf(nn.Linear(2, 2))
    assert not is_leaf(Own(2, 2))


def test_options_that_would_take_memory_or_time_are_refused() -> None:
    for said in (
        {"leaf": "torch.nn.Linear", "options": {"in_features": 2, "out_features": 2, "device": "cpu"}},
        {"leaf": "torch.nn.LSTM", "options": {"input_size": 2, "hidden_size": 2, "num_layers": 10**6}},
        {"leaf": "torch.nn.LayerNorm", "options": {"normalized_shape": [1] * 5000}},
    ):
        with pytest.raises(UnsafeFileError):
            leaf_from_json(said)
    with pytest.raises(CorruptFileError, match="cannot be made"):
        leaf_from_json({"leaf": "torch.nn.Linear", "options": {"in_features": "two"}})
