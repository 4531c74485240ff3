"""What counts as one layer."""

from torch import nn

from model_handler.graph.leaves import is_leaf
from tests.model_handler.networks import Residual


def test_a_leaf_is_an_instance_of_a_torch_class_or_a_module_without_children():
    class Wide(nn.Conv2d):
        def __init__(self):
            super().__init__(3, 3, 1)
            self.scale = nn.Linear(1, 1)

    assert is_leaf(nn.Linear(1, 1))
    assert is_leaf(Wide())
    assert is_leaf(nn.TransformerEncoderLayer(4, 2, 4))
    assert not is_leaf(nn.Sequential(nn.ReLU()))
    assert not is_leaf(nn.ModuleList([nn.ReLU()]))
    assert is_leaf(nn.Sequential())
    assert not is_leaf(Residual())
