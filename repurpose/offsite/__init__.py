"""Offsite-Tuning: a network that may not leave its owner is adapted to data that may not leave theirs.

Xiao, Lin and Han (2023), arXiv:2302.04870. May import: data, neural_network, parameters, persistence, seeding, source,
training, model_handler.
"""

from repurpose.offsite.offsite_repurposer import OffsiteRepurposer
from repurpose.offsite.owner import OffsiteOwner
from repurpose.offsite.package import OffsitePackage
from repurpose.offsite.plugged_repurposer import PluggedInRepurposer

__all__ = ["OffsiteOwner", "OffsitePackage", "OffsiteRepurposer", "PluggedInRepurposer"]
