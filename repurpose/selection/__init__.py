"""What to choose is measured here: which source, layer and method, on the user's own labelled data.

May import: nothing.
"""

from repurpose.selection.comparing import compare_methods
from repurpose.selection.ranking.rank_sources import rank_sources
from repurpose.selection.tuning import TuningResult, tune

__all__ = ["TuningResult", "compare_methods", "rank_sources", "tune"]
