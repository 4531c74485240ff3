from types import SimpleNamespace

import pytest
import torch
from torch import nn

from model_handler import ModelError
from repurpose.training.steps.forward import call, logits_of, moved, on_device


class Sum(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor | float = 0.0) -> torch.Tensor:
        return a + 2 * b


def test_inputs_go_alone_by_position_or_by_name() -> None:
    a, b = torch.ones(2, 3), torch.ones(2, 3)
    assert torch.equal(call(Sum(), a), a)
    assert torch.equal(call(Sum(), (a, b)), 3 * a)
    assert torch.equal(call(Sum(), {"b": b, "a": a}), 3 * a)


def test_logits_are_the_output_or_what_it_calls_so() -> None:
    logits = torch.zeros(2, 3)
    for output in (logits, (logits,), {"logits": logits, "loss": logits}, SimpleNamespace(logits=logits)):
        assert logits_of(output) is logits
    with pytest.raises(ModelError, match=r"logits of shape \(n_rows, n_classes\), got \(2, 3, 4\)"):
        logits_of(torch.zeros(2, 3, 4))
    with pytest.raises(ModelError, match=r"got \(3,\)\. A network that squeezes .*drop_last=True"):
        logits_of(torch.zeros(3))


def test_placed_inputs_are_copies_in_the_dtype_of_the_network() -> None:
    given = {"image": torch.ones(2, 3), "ids": torch.ones(2, dtype=torch.int64)}
    placed = on_device(given, torch.device("cpu"), torch.float64)
    assert (placed["image"].dtype, placed["ids"].dtype) == (torch.float64, torch.int64)
    placed["ids"].zero_()
    assert given["ids"].all()


def test_targets_of_any_build_are_moved_and_what_is_no_tensor_stays() -> None:
    targets = [{"boxes": torch.ones(2, 4), "name": "a"}, {"boxes": torch.zeros(0, 4), "name": "b"}]
    found = moved((targets, torch.arange(2)), torch.device("meta"))
    assert [each["boxes"].device.type for each in found[0]] == ["meta", "meta"]
    assert [each["name"] for each in found[0]] == ["a", "b"]
    assert found[1].device.type == "meta"
