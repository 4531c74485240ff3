"""What a layer returns, of one tensor and of several, and which of them is meant."""

from collections import OrderedDict

import pytest
import torch

from model_handler.errors import ModelError
from model_handler.network.outputs import select_tensor

MAPS = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))


def test_the_one_floating_tensor_is_meant():
    ids = torch.arange(3)
    assert select_tensor((ids, TOKENS, None), "layer", None) is TOKENS
    assert select_tensor({"ids": ids, "hidden": [TOKENS]}, "layer", None) is TOKENS
    assert select_tensor(ids, "layer", None) is ids


def test_a_model_output_means_its_last_hidden_state():
    class Output(OrderedDict):
        __getattr__ = OrderedDict.get

    output = Output(pooled=TOKENS[:, 0], last_hidden_state=TOKENS)
    assert select_tensor(output, "layer", None) is TOKENS
    assert select_tensor(dict(output), "layer", None) is TOKENS
    assert select_tensor(output, "layer", 0) is output["pooled"]


def test_several_tensors_are_listed_and_one_is_taken_by_index():
    with pytest.raises(ModelError, match=r"returns 2 tensors; name one of a\[0\] \(3, 5, 4\), a\[1\] \(3, 4, 5, 6\)"):
        select_tensor((TOKENS, (MAPS,)), "a", None)
    assert select_tensor((TOKENS, (MAPS,)), "a", 1) is MAPS
    with pytest.raises(ModelError, match=r"layer 'a' returns 2 tensors, so there is no a\[2\]"):
        select_tensor((TOKENS, MAPS), "a", 2)
    with pytest.raises(ModelError, match="returns no tensor but str"):
        select_tensor("text", "a", None)
