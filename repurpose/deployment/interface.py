"""`DeploymentMixin`: how a Repurposer leaves this library; `Repurposer` inherits it."""

from repurpose.deployment.predictor.interface import PredictorMixin

__all__ = ["DeploymentMixin"]


class DeploymentMixin(PredictorMixin):
    """Files that run anywhere, and predictors for other engines."""
