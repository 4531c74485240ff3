"""Learning: what `get_module` hands out."""

import torch

from tests.model_handler.networks import Residual, handle


def test_an_unedited_handler_hands_out_a_copy_of_the_source():
    network = Residual()
    module = handle(network).get_module()
    assert type(module) is Residual
    assert all(a is not b and torch.equal(a, b) for a, b in zip(module.parameters(), network.parameters()))
