"""One process by itself finds, adds and agrees with itself."""

import torch

from repurpose.training.distributed.single_process import Alone


def test_alone_nothing_is_dealt_or_exchanged():
    alone, data = Alone(), object()
    assert alone.dealt(data) is data
    assert alone.planned(data) is data
    assert alone.told(lambda: data) is data
    assert alone.answers(lambda: data) == [data]
    assert alone.agreed(lambda: (data, "no")) == (data, "no")
    assert alone.total(1, 2) == [1, 2]
    assert not torch.distributed.is_initialized()
