"""Inputs get the names of arguments, and copies of their own on the device."""

import torch
from torch import nn

from model_handler.network.inputs import default_input_names, place, with_numbers
from tests.model_handler.networks import TwoInputs


def test_default_inputs_are_the_arguments_without_a_default_or_the_first():
    class AllDefaults(nn.Module):
        def forward(self, ids=None, mask=None):
            return ids

    assert default_input_names(TwoInputs()) == ("a", "b")
    assert default_input_names(AllDefaults()) == ("ids",)


def test_floating_tensors_take_the_networks_dtype_and_whole_numbers_keep_theirs():
    cpu = torch.device("cpu")
    assert place(torch.ones(2, 3), cpu, torch.float64, channels_last=True).dtype == torch.float64
    assert place(torch.ones(2, 3, dtype=torch.long), cpu, torch.float16, channels_last=True).dtype == torch.long
    image = torch.ones(2, 3, 4, 4)
    assert place(image, cpu, torch.float32, channels_last=True).is_contiguous(memory_format=torch.channels_last)
    assert place(image, cpu, torch.float32, channels_last=False).is_contiguous()


def test_what_has_a_shape_alone_gets_the_same_numbers_each_time_and_moves_no_generator():
    state = torch.get_rng_state()
    images, ids = (
        torch.empty(2, 3, dtype=torch.float16, device="meta"),
        torch.empty(2, 3, dtype=torch.long, device="meta"),
    )
    assert torch.equal(with_numbers(images), with_numbers(images))
    assert with_numbers(images).shape == (2, 3)
    assert torch.equal(with_numbers(ids), torch.zeros(2, 3, dtype=torch.long))
    assert with_numbers(None) is None
    given = torch.ones(2)
    assert with_numbers(given) is given
    assert torch.equal(torch.get_rng_state(), state)
