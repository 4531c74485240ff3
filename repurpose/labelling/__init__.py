"""Labels themselves are the question here: which are wrong, which to ask for next, rows that come and go, an alarm.

May import: nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repurpose.labelling.suggesting.first import suggest_first
    from repurpose.labelling.watching.watch import Watch

__all__ = ["Watch", "suggest_first"]


def __getattr__(name: str) -> Any:
    """Import what is asked for, since Repurposers import this package before heads are there."""
    if name == "suggest_first":
        from repurpose.labelling.suggesting.first import suggest_first

        return suggest_first
    if name == "Watch":
        from repurpose.labelling.watching.watch import Watch

        return Watch
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
