from types import SimpleNamespace

import pytest
import torch
from torch import nn

from model_handler import ModelError
from repurpose.training.steps.forward import call, logits_of, on_device, pieces


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


def test_pieces_hold_all_rows_in_order() -> None:
    inputs = ({"a": torch.arange(5)}, torch.arange(5))
    cut = pieces(inputs, 5, 2)
    assert [len(targets) for _, targets in cut] == [1, 2, 2]
    assert torch.cat([parts["a"] for parts, _ in cut]).tolist() == list(range(5))
    assert pieces(inputs, 5, None) == [inputs]


def test_pieces_are_nearly_as_large_as_each_other() -> None:
    assert [len(piece) for piece in pieces(torch.arange(17), 17, 8)] == [5, 6, 6]  # and no row is left alone
    assert [len(piece) for piece in pieces(torch.arange(16), 16, 8)] == [8, 8]
