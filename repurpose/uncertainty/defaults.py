"""Defaults are kept with what a repurposer learned, so that they go on meaning what they meant in training.

A later version may choose better; what was saved before goes on meaning what it meant.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["CURRENT", "RANK_COST", "default_of"]

# Both by `python -m benchmarks unfamiliar`.
RANK_COST = (5, 0.01)  # ranks that cost nothing in sets by "raps", and what each rank after them costs
CURRENT: Mapping[str, Any] = MappingProxyType(
    {"unfamiliarity_method_": "mixed_mahalanobis", "rank_cost_": RANK_COST}
)  # what a Repurposer keeps when it is trained
_OF_OLDER_FILES = {"unfamiliarity_method_": "mahalanobis", "rank_cost_": (2, 0.1)}  # which kept none


def default_of(learned: Mapping[str, Any], name: str) -> Any:
    """Return the meaning of that default for a Repurposer that learned these attributes."""
    return learned.get(name, _OF_OLDER_FILES[name])
