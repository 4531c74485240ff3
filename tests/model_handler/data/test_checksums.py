import numpy as np
import torch

from model_handler.data.checksums import checksum


def test_the_same_numbers_and_text_have_the_same_checksum_and_others_have_not():
    def batch(number=1.0, text="a", key="x"):
        return [{key: torch.full((2,), number, requires_grad=True), "y": np.array([3])}, (text, 5)]

    assert checksum(batch()) == checksum(batch())
    assert len({checksum(value) for value in (batch(), batch(2.0), batch(text="b"), batch(key="z"))}) == 4
    assert checksum(batch(), start=1) != checksum(batch())
