"""Heads trained on features of a network live here: the base for yours, and those that come along.

May import: repurposer, data, persistence, parameters, seeding, threads, model_handler.
"""

from repurpose.meta_model.bnn_repurposer import BnnRepurposer
from repurpose.meta_model.gp_repurposer import GpRepurposer
from repurpose.meta_model.laplace_repurposer import LaplaceRepurposer
from repurpose.meta_model.lr_repurposer import LrRepurposer
from repurpose.meta_model.meta_model_repurposer import MetaModelRepurposer
from repurpose.meta_model.svm_repurposer import SvmRepurposer

__all__ = ["BnnRepurposer", "GpRepurposer", "LaplaceRepurposer", "LrRepurposer", "MetaModelRepurposer", "SvmRepurposer"]
