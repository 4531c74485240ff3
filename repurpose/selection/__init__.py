"""What to choose is measured here: which source, layer and method, on the user's own labelled data.

May import: nothing.
"""

from repurpose.selection.ranking.rank_sources import rank_sources

__all__ = ["rank_sources"]
