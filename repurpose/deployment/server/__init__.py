"""A service over HTTP: one process that answers for a saved repurposer, within limits of size and time.

May import: serving, model_handler.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repurpose.deployment.server.app import service_app

__all__ = ["service_app"]


def __getattr__(name: str) -> Any:
    """Import what is asked for, since it needs the extra serve."""
    if name == "service_app":
        from repurpose.deployment.server.app import service_app

        return service_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
