"""Copies that can learn, whatever tensors hang on the modules."""

import copy

import pytest
import torch
from torch import nn

from model_handler.network.copying import deep_copy, detach_tensors, separate_storage
from model_handler.network.replica import share_weights


class Keeping(nn.Module):
    """Keeps what it computed, under a name, in a list and in a dict."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x):
        self.last = self.linear(x)
        self.all, self.named = [self.last], {"last": self.last}
        return self.last


def buffers(**tensors):
    module = nn.Module()
    for name, tensor in tensors.items():
        module.register_buffer(name, tensor)
    return module


def test_tensors_with_a_history_are_copied_by_value_and_stay_one():
    module = Keeping()
    kept = module(torch.ones(1, 2))
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(module)
    copied = deep_copy(module)
    assert torch.equal(copied.last, kept)
    assert copied.last.is_leaf
    assert copied.all[0] is copied.last is copied.named["last"]
    assert copied.linear.weight.requires_grad
    assert module.last is kept
    assert kept.grad_fn is not None


def test_a_replica_has_lists_of_its_own():
    module = Keeping()
    module(torch.ones(1, 2))
    share_weights(module).all.append("mine")
    assert len(module.all) == 1


def test_history_is_let_go_of_in_place():
    module = Keeping()
    kept = module(torch.ones(1, 2))
    detach_tensors(module)
    assert module.last.is_leaf
    assert torch.equal(module.last, kept)
    assert torch.equal(copy.deepcopy(module.last), kept)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.full((1, 1), 2.0).expand(1, 8),
        torch.arange(5.0).unfold(0, 3, 1),
        torch.arange(6.0).as_strided((2, 3), (1, 2)),
        torch.ones((), dtype=torch.bool).expand(4),
        torch.ones(2, dtype=torch.complex64)[:, None].expand(2, 3),
    ],
)
def test_tensors_that_overlap_themselves_get_a_place_for_each_number(tensor):
    module = buffers(a=tensor, alias=tensor, other=torch.zeros(2))
    module.weight = nn.Parameter(tensor, requires_grad=False)
    copied = deep_copy(module)
    assert torch.equal(copied.a, tensor)
    assert copied.a is copied.alias
    assert isinstance(copied.weight, nn.Parameter)
    copied.load_state_dict(copied.state_dict())
    copied.a.copy_(torch.zeros_like(tensor))  # into an expanded tensor, torch writes nothing
    assert copied.a.count_nonzero() == 0
    assert module.a is tensor
    assert module.a.stride() == tensor.stride()


def test_other_tensors_stay_themselves():
    tensors = {
        "transposed": torch.arange(6.0).view(2, 3).T,
        "sliced": torch.arange(6.0)[::2],
        "empty": torch.zeros(0, 4).expand(0, 4),
        "scalar": torch.tensor(1.0),
        "one": torch.ones(1, 1).expand(1, 1),
        "sparse": torch.eye(2).to_sparse(),
    }
    module = buffers(**tensors, nothing=None)
    separate_storage(module)
    assert all(getattr(module, name) is tensor for name, tensor in tensors.items())
    assert module.nothing is None


def test_layouts_without_a_storage_are_copied():
    copied = deep_copy(buffers(a=torch.eye(3).to_sparse_csr()))
    assert torch.equal(copied.a.to_dense(), torch.eye(3))


def test_a_copy_of_torchscript_can_learn():
    module = nn.Sequential(torch.jit.script(nn.Linear(2, 2)), torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)))
    module[1].requires_grad_(False)
    copied = deep_copy(module)
    assert all(parameter.is_leaf for parameter in copied.parameters())
    assert [parameter.requires_grad for parameter in copied.parameters()] == [True, True, False, False]
    before = module[0].weight.detach().clone()
    copied(torch.ones(1, 2)).sum().backward()
    torch.optim.SGD([p for p in copied.parameters() if p.requires_grad], 0.1).step()
    assert torch.equal(module[0].weight, before)
    assert not torch.equal(copied[0].weight, before)
