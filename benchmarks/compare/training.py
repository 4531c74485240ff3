"""Training: every Repurposer that trains a network, by several options, and trainings interrupted and resumed."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.compare.questions import COMMON, HELD_BACK, TRAIN, ask, ask_and_save, contents, history_text, network
from benchmarks.compare.results import Results
from repurpose import (
    NeuralNetworkFineTuneRepurposer,
    NeuralNetworkRandomFreezeRepurposer,
    NeuralNetworkRepurposer,
)

__all__ = ["WholeNetworkRepurposer", "collect"]

# high rates, so that predictions differ after twelve steps
_OPTIONS: dict[str, Any] = {"num_epochs": 4, "learning_rates": {"new": 0.1, "*": 0.02}, **COMMON}


class WholeNetworkRepurposer(NeuralNetworkRepurposer):
    """A user's own: the whole network, whose last layer is reinitialised."""

    def _create_target_module(self, example_inputs: Any) -> nn.Module:
        module = network()
        module.fc = nn.Linear(10, len(self.classes_))
        return module


class _Interruption(Exception):
    """Ends a training before its time."""


def _fine_tune(**options: Any) -> NeuralNetworkRepurposer:
    return NeuralNetworkFineTuneRepurposer(network(), "drop", **{**_OPTIONS, **options})


def _random_freeze(**options: Any) -> NeuralNetworkRepurposer:
    layers: dict[str, Any] = {"fixed_layers": ["conv1", "bn1"], "random_layers": ["conv2", "bn2"]}
    return NeuralNetworkRandomFreezeRepurposer(network(), None, **layers, **{**_OPTIONS, **options})


def _whole(**options: Any) -> NeuralNetworkRepurposer:
    return WholeNetworkRepurposer(network(), **{**_OPTIONS, **options})


def _flipped(images: Any) -> Any:
    return images.flip(-1)


_RATES = {"new": 5e-2, "conv2": 5e-3, "*": 0}
_TRAININGS: dict[str, tuple[Callable[..., NeuralNetworkRepurposer], Mapping[str, Any]]] = {
    "fine-tune": (_fine_tune, {}),
    "fine-tune, without a seed": (_fine_tune, {"random_state": None}),
    "fine-tune, epochs chosen": (_fine_tune, {"num_epochs": None}),
    "fine-tune, rates by layer": (_fine_tune, {"learning_rates": _RATES}),
    "fine-tune, nothing cached": (_fine_tune, {"learning_rates": _RATES, "cache_frozen": False}),
    "fine-tune, rates by depth": (_fine_tune, {"layer_decay": 0.5, "probe_epochs": 1, "norm_statistics": "batch"}),
    "fine-tune, thawed": (_fine_tune, {"unfreeze": {"conv2": 1, "conv1": 2}, "l2_sp": 0.01, "ema": 0.9}),
    "fine-tune, stopped early": (_fine_tune, {"validation_fraction": 0.25, "early_stopping": 1, "num_epochs": 20}),
    "fine-tune, by SGD": (
        _fine_tune,
        {
            "learning_rates": None,
            "optimizer": "SGD",
            "optimizer_params": {"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 0.01},
            "scheduler": "StepLR",
            "scheduler_params": {"step_size": 2},
            "class_weight": "balanced",
            "label_smoothing": 0.1,
            "clip_norm": 0.5,
            "accumulation": 2,
        },
    ),
    "fine-tune, mixed": (_fine_tune, {"mixup": 0.4, "cutmix": 0.5, "decay_all": True}),
    "fine-tune, augmented": (_fine_tune, {"augmentation": _flipped, "precision": "bfloat16"}),
    "random freeze": (_random_freeze, {}),
    "ensemble": (_fine_tune, {"num_members": 3, "num_epochs": 2}),
    "whole network": (_whole, {"learning_rates": {"fc": 5e-2, "*": 5e-3}}),
}


def collect(results: Results, folder: Path) -> None:
    """Of each training its groups, history, weights and all answers; then a search for a rate, and one interrupted."""
    for name, (make, options) in _TRAININGS.items():
        repurposer = make(**options)
        _learned(results.under(name), repurposer.repurpose(*TRAIN))
        ask_and_save(results.under(name), repurposer, folder, judged_by=HELD_BACK)
    judged = _fine_tune().repurpose(*TRAIN, validation_data=HELD_BACK)
    _learned(results.under("fine-tune, validated"), judged)
    search = _fine_tune().find_learning_rate(*TRAIN, n_steps=12)
    results.add("search for a rate", {name: value for name, value in vars(search).items() if name != "seconds"})
    for name, make in {"fine-tune": _fine_tune, "whole network": _whole, "ensemble": _ensemble}.items():
        _resume(results.under(f"{name}, resumed"), make, folder / f"checkpoints of {name}")


def _ensemble(**options: Any) -> NeuralNetworkRepurposer:
    return _fine_tune(num_members=2, **options)


def _resume(results: Results, make: Callable[..., NeuralNetworkRepurposer], checkpoints: Path) -> None:
    """Interrupt a training in its second epoch, before that is written down, and go on."""

    def interrupt(state: Any, record: Mapping[str, Any]) -> None:
        if record["epoch"] == 1:
            raise _Interruption

    epochs: list[int] = []
    with suppress(_Interruption):
        make(checkpoint_dir=checkpoints, callbacks=[interrupt]).repurpose(*TRAIN)
    results.add("checkpoints", contents(checkpoints))
    resumed = make(checkpoint_dir=checkpoints, callbacks=[lambda state, record: epochs.append(record["epoch"])])
    _learned(results, resumed.repurpose(*TRAIN))
    results.add("epochs", epochs)
    ask(results, resumed)


def _learned(results: Results, repurposer: NeuralNetworkRepurposer) -> None:
    results.add("groups", repr(repurposer.parameter_groups_))
    results.add("history", history_text(repurposer.history_))
    for number, history in enumerate(getattr(repurposer, "member_histories_", [])[1:], start=1):
        results.add(f"history of member {number}", history_text(history))
    state = repurposer.target_model_.state_dict()
    results.add("weights", {name: tensor.numpy() for name, tensor in state.items()})
