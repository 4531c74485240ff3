"""The axes that a plot is drawn on, given or new; matplotlib is imported when something is drawn."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["axes_or_new"]


def axes_or_new(ax: "Axes | None") -> "Axes":
    """Return the given axes, or those of a new figure."""
    from matplotlib import pyplot

    return pyplot.subplots()[1] if ax is None else ax
