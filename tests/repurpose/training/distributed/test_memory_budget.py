import os

from repurpose.training.distributed.memory_budget import memory_budget


def test_the_budget_is_a_part_of_the_memory_there_is():
    assert 0 < memory_budget() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
