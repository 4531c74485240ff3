"""A trained Repurposer as one file of ONNX, compared with the Repurposer before it is handed out.

May import: deployment.answers, serving, source, uncertainty, version, model_handler.
"""

from repurpose.deployment.onnx_file.parity import FileDiffersError, ParityReport

__all__ = ["FileDiffersError", "ParityReport"]
