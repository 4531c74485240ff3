"""A record tells which modules ran, how often and in what order, and what they returned."""

import torch

from model_handler.extraction.recording import record_calls
from tests.model_handler.networks import DataDependent


def test_a_record_notes_calls_in_the_order_of_return_and_shapes():
    record = record_calls(DataDependent().eval(), {"x": torch.randn(2, 4)})
    assert record.calls == ("stem", "block.0", "block.1", "block", "block.0", "block.1", "block", "head")
    assert record.shapes[-1] == (2, 2)
    assert record.last_call("block") == 1
    assert record.last_call("unknown") == 0
