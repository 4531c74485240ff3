"""`LabellingMixin`: what a Repurposer can tell about labels; `Repurposer` inherits it."""

from repurpose.labelling.errors.interface import LabelErrorsMixin
from repurpose.labelling.updating.interface import UpdatingMixin

__all__ = ["LabellingMixin"]


class LabellingMixin(LabelErrorsMixin, UpdatingMixin):
    """Wrong labels, and rows to label next."""
