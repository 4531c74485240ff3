"""Methods: every way between a new head on a frozen network and the network tuned whole, under one budget of training.

Each is an untrained Repurposer, made of a source network, a learning rate and a seed. The rate is that of new layers
and adapters; full tuning gives transferred layers a tenth of it, as the library does unless told otherwise.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from repurpose import AdapterRepurposer, NeuralNetworkFineTuneRepurposer, NeuralNetworkRepurposer, ToastRepurposer
from repurpose.neural_network.toast.pretuning import ToastPretuning

__all__ = [
    *(
        "FULL",
        "LEARNED",
        "LEFT_AFTER",
        "LEFT_BEFORE",
        "LINEAR",
        "LITE",
        "LORA",
        "TOAST",
        "TUNING_SEEDS",
        "UNTUNED_TOAST",
    ),
    *("make_method", "methods_for", "n_learned"),
]

LINEAR, FULL, LORA = "linear", "full", "LoRA"
TOAST, UNTUNED_TOAST, LITE = "TOAST", "TOAST, not pre-tuned", "TOAST-Lite"
TUNING_SEEDS = (100,)  # the draws by which rates are chosen, and which are not reported
LEARNED, LEFT_BEFORE, LEFT_AFTER = "parameters beside the head", "attention left, before", "attention left, after"
_ADAPTERS = {"bias": "bias", "norm": "norm", "scale_shift": "scale and shift", "lora": LORA, "prompt": "prompts"}


def methods_for(*, with_prompts: bool) -> list[str]:
    """List the titles of the methods; prompts are for networks whose blocks run on tokens."""
    adapters = [title for kind, title in _ADAPTERS.items() if with_prompts or kind != "prompt"]
    return [LINEAR, FULL, *adapters, UNTUNED_TOAST, TOAST, LITE]


def make_method(
    title: str,
    source: Any,
    layer: str,
    rate: float,
    pretuned: Callable[[], ToastPretuning | None],
    options: Mapping[str, Any],
) -> NeuralNetworkRepurposer:
    """Make the Repurposer of a title; `layer` is what the head reads, `pretuned` is called where TOAST is pre-tuned."""
    rates = {"new": rate, "*": 0.0 if title == LINEAR else rate / 10}
    options = {"verbose": False, **options, "learning_rates": rates}
    if title in (LINEAR, FULL):
        return NeuralNetworkFineTuneRepurposer(source, layer, **options)
    if title == UNTUNED_TOAST:
        return ToastRepurposer(source, **options)
    if title in (TOAST, LITE):
        return ToastRepurposer(source, lite=title == LITE, pretuned=pretuned(), **options)
    kind = next(kind for kind, text in _ADAPTERS.items() if text == title)
    return AdapterRepurposer(source, kind, **options)


def n_learned(trained: NeuralNetworkRepurposer) -> int:
    """Count the numbers that learned, without those of the head."""
    groups = trained.parameter_groups_.groups
    learned = {name for group in groups for name in group.parameters}
    sizes = {name: parameter.numel() for name, parameter in trained.target_model_.named_parameters()}
    return sum(sizes[name] for name in learned if not re.match(r"head(_\d+)?\.", name))
