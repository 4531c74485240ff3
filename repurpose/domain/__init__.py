"""Transfer between domains: labelled rows of a neighbouring domain, few labels or none of one's own.

May import: data, meta_model, parameters, persistence, seeding, threads, uncertainty, model_handler.
"""

from repurpose.domain.coral_repurposer import CoralRepurposer
from repurpose.domain.distillation.distilling_repurposer import DistillingRepurposer
from repurpose.domain.distillation.lwf_repurposer import LwfRepurposer
from repurpose.domain.distillation.relational_repurposer import RelationalRepurposer
from repurpose.domain.domain_repurposer import DomainRepurposer
from repurpose.domain.importance_weighted_repurposer import ImportanceWeightedRepurposer
from repurpose.domain.networks.dan_repurposer import DanRepurposer
from repurpose.domain.networks.dann_repurposer import DannRepurposer
from repurpose.domain.networks.deep_coral_repurposer import DeepCoralRepurposer
from repurpose.domain.networks.domain_adaptation_repurposer import DomainAdaptationRepurposer
from repurpose.domain.networks.domain_network_repurposer import DomainNetworkRepurposer
from repurpose.domain.networks.gradient_reversal import GradientReversal
from repurpose.domain.networks.multi_task_repurposer import MultiTaskRepurposer
from repurpose.domain.subspace_alignment_repurposer import SubspaceAlignmentRepurposer
from repurpose.domain.tca_repurposer import TcaRepurposer
from repurpose.domain.tradaboost_repurposer import TrAdaBoostRepurposer

__all__ = [
    "CoralRepurposer",
    "DanRepurposer",
    "DannRepurposer",
    "DeepCoralRepurposer",
    "DistillingRepurposer",
    "DomainAdaptationRepurposer",
    "DomainNetworkRepurposer",
    "DomainRepurposer",
    "GradientReversal",
    "ImportanceWeightedRepurposer",
    "LwfRepurposer",
    "MultiTaskRepurposer",
    "RelationalRepurposer",
    "SubspaceAlignmentRepurposer",
    "TcaRepurposer",
    "TrAdaBoostRepurposer",
]
