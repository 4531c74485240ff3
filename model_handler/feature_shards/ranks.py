"""Which shards are this process's own, of several that a launcher started: number i is that of rank i mod their number.

The processes need not know of each other: each writes its own files, and whoever finds all of them there lists them.
"""

import os
from dataclasses import dataclass

import torch.distributed

from model_handler.network.device import is_launched

__all__ = ["Rank", "own_rank"]


@dataclass(frozen=True)
class Rank:
    """This process, number `index` of `of`."""

    index: int = 0
    of: int = 1

    def owns(self, shard: int) -> bool:
        """Tell whether a shard is for this process to compute."""
        return shard % self.of == self.index

    def __str__(self) -> str:
        return f"process {self.index} of {self.of}"


def own_rank(share: bool) -> Rank:
    """Return the rank of this process; that of one alone where the work is not to be shared."""
    if not share:
        return Rank()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return Rank(torch.distributed.get_rank(), torch.distributed.get_world_size())
    return Rank(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if is_launched() else Rank()
