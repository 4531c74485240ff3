"""`LabellingMixin`: what a Repurposer can tell about labels; `Repurposer` inherits it."""

from repurpose.labelling.errors.interface import LabelErrorsMixin
from repurpose.labelling.suggesting.interface import SuggestingMixin
from repurpose.labelling.updating.interface import UpdatingMixin

__all__ = ["LabellingMixin"]


class LabellingMixin(LabelErrorsMixin, SuggestingMixin, UpdatingMixin):
    """Wrong labels, rows to label next, and rows that come and go."""
