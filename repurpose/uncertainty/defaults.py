"""What defaults meant when a repurposer was trained: kept with what it learned, so that they go on meaning that.

A later version may choose better; what was saved before goes on meaning what it meant.
"""

from typing import Any

__all__ = ["NAMES", "RANK_COST", "default_of", "keep_defaults"]

# Both by `python -m benchmarks unfamiliar`.
RANK_COST = (5, 0.01)  # ranks that cost nothing in sets by "raps", and what each rank after them costs
_NOW = {"unfamiliarity_method_": "mixed_mahalanobis", "rank_cost_": RANK_COST}
_OF_OLDER_FILES = {"unfamiliarity_method_": "mahalanobis", "rank_cost_": (2, 0.1)}  # which kept none

NAMES = tuple(_NOW)


def keep_defaults(repurposer: Any) -> None:
    """Settle what defaults mean from the training that begins on, in place."""
    vars(repurposer).update(_NOW)


def default_of(repurposer: Any, name: str) -> Any:
    """What that default means for a trained repurposer."""
    return getattr(repurposer, name, _OF_OLDER_FILES[name])
