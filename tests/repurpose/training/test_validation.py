"""Logits come one row an input, also where a network squeezes a row alone."""

import pytest
import torch
from torch import nn

from model_handler import ModelError
from repurpose.training.validation import logits_in_batches


class Squeezing(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(x.unsqueeze(-1).squeeze())


class First(Squeezing):
    def forward(self, x):
        return self.fc(x[:1])


def test_a_row_alone_has_the_logits_it_has_among_others():
    network, x = Squeezing().eval(), torch.randn(3, 3)
    wanted = network.fc(x)
    torch.testing.assert_close(logits_in_batches(network, x, "float32"), wanted)
    torch.testing.assert_close(logits_in_batches(network, x[2:], "float32"), wanted[2:])


def test_another_number_of_rows_is_told():
    with pytest.raises(ModelError, match="gives 1 rows of logits for 3 inputs"):
        logits_in_batches(First().eval(), torch.randn(3, 3), "float32")


def test_a_layer_that_fails_is_named_with_what_the_inputs_are():
    with pytest.raises(ModelError, match=r"layer 'fc'.*The inputs are int64.*X\.astype\('float32'\)"):
        logits_in_batches(Squeezing().eval(), torch.ones(3, 3).long(), "float32")
