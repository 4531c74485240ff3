"""Offsite-Tuning: a network that may not leave its owner learns from data that may not leave theirs.

May import: data, neural_network, parameters, persistence, training, model_handler.
"""

from repurpose.offsite.offsite_repurposer import OffsiteRepurposer
from repurpose.offsite.package import OffsitePackage

__all__ = ["OffsitePackage", "OffsiteRepurposer"]
