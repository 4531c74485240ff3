"""`LabellingMixin`: what a Repurposer can tell about labels; `Repurposer` inherits it."""

from repurpose.labelling.errors.interface import LabelErrorsMixin
from repurpose.labelling.suggesting.interface import SuggestingMixin
from repurpose.labelling.updating.interface import UpdatingMixin
from repurpose.labelling.watching.interface import WatchingMixin

__all__ = ["LabellingMixin"]


class LabellingMixin(LabelErrorsMixin, SuggestingMixin, UpdatingMixin, WatchingMixin):
    """Wrong labels, rows to label next, rows that come and go, and a stream that is watched."""
