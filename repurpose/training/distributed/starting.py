"""Starting a process group: the processes that a launcher started, as one of the ways to train in several."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from model_handler.processes import teamed
from repurpose.training.distributed.data_parallel import DataParallelGroup
from repurpose.training.distributed.fully_sharded import FullyShardedGroup
from repurpose.training.distributed.process_group import ProcessGroup
from repurpose.training.distributed.single_process import SingleProcess

__all__ = ["started_group"]


@contextmanager
def started_group(distributed: str | None, device: torch.device, sync_norm: bool) -> Iterator[ProcessGroup]:
    """Give the group of the processes that `torchrun` started, for this block; one process where there is no other.

    `distributed` is "ddp", "fsdp" or None, with which each process trains by itself.
    """
    with teamed(distributed is not None) as team:
        if team is None:
            yield SingleProcess()
        elif distributed == "fsdp":
            yield FullyShardedGroup(team, device, sync_norm)
        else:
            yield DataParallelGroup(team, device, sync_norm)
