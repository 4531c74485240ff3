"""`DeploymentMixin`: how a Repurposer leaves this library; `Repurposer` inherits it."""

from repurpose.deployment.onnx_file.interface import OnnxFileMixin

__all__ = ["DeploymentMixin"]


class DeploymentMixin(OnnxFileMixin):
    """Files that run anywhere, and predictors for other engines."""
