"""Layer types: classes, class names in any case, Xfer's families, and refusals that name the nearest."""

import pytest
import torch.nn.functional as F
from torch import nn

from model_handler.errors import ModelError
from model_handler.network.layer_types import is_of_type, known_types

# Every value of Xfer's LayerType but its label-taking SVMOutput and the input, which are no layers here.
XFER = ["FullyConnected", "Convolution", "Activation", "Pooling", "Flatten", "SoftmaxOutput", "Dropout", "Concat"]
XFER += ["BatchNorm", "_Plus", "LRN", "mean", "Embedding"]


class OwnConv(nn.Conv2d):
    pass


@pytest.mark.parametrize(
    ("layer", "layer_type"),
    [
        (nn.Conv2d(1, 1, 1), nn.Conv2d),
        (OwnConv(1, 1, 1), nn.Conv2d),
        (OwnConv(1, 1, 1), "conv2d"),
        (OwnConv(1, 1, 1), "OwnConv"),
        (nn.Conv1d(1, 1, 1), "Convolution"),
        (nn.ConvTranspose2d(1, 1, 1), "convolution"),
        (nn.Linear(1, 1), "FullyConnected"),
        (nn.Linear(1, 1), "fully_connected"),
        (nn.GELU(), "ACTIVATION"),
        ("relu", "activation"),
        ("leaky_relu", "activation"),
        ("relu", "ReLU"),
        ("linear", "fullyconnected"),
        ("adaptive_avg_pool2d", "pooling"),
        ("flatten", "Flatten"),
        (nn.AdaptiveAvgPool2d(1), "pooling"),
        (nn.BatchNorm1d(1), "batchnorm"),
        (nn.LayerNorm(1), "normalization"),
        (nn.Dropout2d(), "dropout"),
        (nn.Embedding(1, 1), "embedding"),
        (nn.MultiheadAttention(1, 1), "attention"),
        (nn.LSTM(1, 1), "recurrent"),
        (nn.LogSoftmax(1), "SoftmaxOutput"),
        ("softmax", "SoftmaxOutput"),
        ("cat", "Concat"),
        ("concat", "Concat"),
        ("add", "_Plus"),
        ("mean", "mean"),
        (nn.LocalResponseNorm(2), "LRN"),
        (nn.LocalResponseNorm(2), "normalization"),
        ("local_response_norm", "LRN"),
    ],
)
def test_a_layer_is_of_its_class_its_bases_and_its_families(layer, layer_type):
    assert is_of_type(layer, layer_type)


@pytest.mark.parametrize(
    ("layer", "layer_type"),
    [
        (nn.Conv2d(1, 1, 1), nn.Conv1d),
        (nn.Conv2d(1, 1, 1), "conv"),
        (nn.LayerNorm(1), "batchnorm"),
        (nn.MultiheadAttention(1, 1), "activation"),
        (nn.Softmax(-1), "activation"),
        ("add", "activation"),
        ("relu", nn.ReLU),
        ("mul", "_Plus"),
        ("stack", "Concat"),
        (nn.LayerNorm(1), "LRN"),
        (nn.Sigmoid(), "SoftmaxOutput"),
    ],
)
def test_a_layer_is_of_no_other_type(layer, layer_type):
    assert not is_of_type(layer, layer_type)


@pytest.mark.parametrize(
    "layer_type", [nn.Module, OwnConv, "conv3d", "Convolution", "relu6", "add", "BatchNorm2d", *XFER]
)
def test_types_that_exist_pass(layer_type):
    known_types({"add"}, layer_type)


def test_an_unknown_type_is_refused_with_the_nearest():
    with pytest.raises(ModelError, match="no layer type 'convolutoin'; nearest: \\['convolution'"):
        known_types(set(), "convolutoin")


@pytest.mark.parametrize("layer_type", [int, F.relu, nn.ReLU(), 3])
def test_what_is_no_layer_type_at_all_is_refused(layer_type):
    with pytest.raises(ModelError, match=r"a layer type is a torch.nn.Module class or a name, got"):
        known_types(set(), layer_type)
