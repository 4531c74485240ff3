"""`LabellingMixin`: what a Repurposer can tell about labels; `Repurposer` inherits it."""

from repurpose.labelling.errors.interface import LabelErrorsMixin
from repurpose.labelling.suggesting.interface import SuggestingMixin

__all__ = ["LabellingMixin"]


class LabellingMixin(LabelErrorsMixin, SuggestingMixin):
    """Wrong labels, and rows to label next."""
