"""A group of one process gathers, sums and broadcasts what the process itself has."""

import torch

from repurpose.training.distributed.single_process import SingleProcess


def test_a_single_process_splits_and_exchanges_nothing():
    process, data = SingleProcess(), object()
    assert process.shard(data) is data
    assert process.adapt_plan(data) is data
    assert process.from_main_process(lambda: data) is data
    assert process.gather(lambda: data) == [data]
    assert process.gather_first_objection(lambda: (data, "no")) == (data, "no")
    assert process.all_reduce_sum(1, 2) == [1, 2]
    assert not torch.distributed.is_initialized()
