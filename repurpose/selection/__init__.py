"""What to choose is measured here: which source, layer and method, on the user's own labelled data.

May import: nothing.
"""

from repurpose.selection.tuning import TuningResult, tune

__all__ = ["TuningResult", "tune"]
