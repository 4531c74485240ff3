"""`LabellingMixin`: what a Repurposer can tell about labels; `Repurposer` inherits it."""

from repurpose.labelling.errors.interface import LabelErrorsMixin

__all__ = ["LabellingMixin"]


class LabellingMixin(LabelErrorsMixin):
    """Wrong labels, and rows to label next."""
