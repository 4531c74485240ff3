"""`LabelErrorsMixin`: the question which labels are wrong; `LabellingMixin` inherits it."""

__all__ = ["LabelErrorsMixin"]


class LabelErrorsMixin:
    """Labels that are likely wrong, with those that fit better."""
