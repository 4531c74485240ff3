"""`DeploymentMixin`: how a Repurposer leaves this library; `Repurposer` inherits it."""

from repurpose.deployment.onnx_file.interface import OnnxFileMixin
from repurpose.deployment.predictor.interface import PredictorMixin

__all__ = ["DeploymentMixin"]


class DeploymentMixin(OnnxFileMixin, PredictorMixin):
    """Files that run anywhere, and predictors for other engines."""
