"""TOAST: a frozen network looks twice, the second time steered by what the first look made of the task.

Shi, Gai, Darrell and Wang (2023), arXiv:2305.15542. `places` finds where a network is steered, `selection` and
`feedback` are what learns, `steering` adds it, `steered_network` runs both passes; the Repurposer is in
`toast_repurposer`. May import: data, neural_network, parameters, persistence, training, model_handler.
"""

from repurpose.neural_network.toast.pretuning import ToastPretuning
from repurpose.neural_network.toast.toast_repurposer import ToastRepurposer

__all__ = ["ToastPretuning", "ToastRepurposer"]
