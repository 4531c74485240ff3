"""`DeploymentMixin`: how a Repurposer leaves this library; `Repurposer` inherits it."""

__all__ = ["DeploymentMixin"]


class DeploymentMixin:
    """Files that run anywhere, and predictors for other engines."""
