"""Networks as data: a description in JSON that no code is in, and the network that is built from it.

May import: neural_network, model_handler.
"""

from repurpose.offsite.architecture.describing import Architecture, build, describe
from repurpose.offsite.architecture.filling import fill

__all__ = ["Architecture", "build", "describe", "fill"]
