"""Cost: a step of training of each kind beside full tuning and peft, seconds an epoch and peak memory; a ViT-Ti.

The network has random weights, as only sizes matter here. Steps are those of a plain loop, of batches in memory, and
take turns; an epoch is one of `repurpose`, in a process of its own, with all that the library does beside the steps.
"""

import multiprocessing
import statistics
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.adapters.cells import Cell, Result
from benchmarks.adapters.methods import FULL, LITE, TOAST, UNTUNED_TOAST, make_method, methods_for
from benchmarks.memory import peak, restart_peak
from benchmarks.timing import interleaved, median_ratio
from repurpose import AdapterRepurposer, NeuralNetworkRepurposer

__all__ = [
    *("CACHED", "EPOCH", "NAME", "N_CLASSES", "OURS", "PEAK", "PEFT", "STEP"),
    *("data_of", "measure_epoch", "measure_method", "measure_steps", "method_of", "network", "titles"),
]

NAME = "cost"
PEFT, OURS = "peft's LoRA on qkv", "LoRA on qkv"
CACHED = "TOAST, first pass cached"
STEP, TO_FULL, TO_PEFT = "step, s", "step to one of full tuning", "times as fast as peft"
EPOCH, PEAK = "epoch, s", "peak memory, MiB"
SIDE, BATCH_SIZE, N_IMAGES, N_CLASSES, N_EPOCHS = 96, 16, 64, 10, 3
_LAYER, _RANK = "head_drop", 4
_Step = Callable[[], object]


def measure_steps(runs: int, commit: str) -> list[Result]:
    """Measure a step of all sides in turn, six times `runs`."""
    seconds = interleaved(_steps(), 6 * runs)
    found = {title: {STEP: statistics.median(times)} for title, times in seconds.items()}
    for title, times in seconds.items():
        found[title][TO_FULL] = 1 / median_ratio(seconds[FULL], times)
    found[OURS][TO_PEFT] = median_ratio(seconds[PEFT], seconds[OURS])
    return [Result(Cell(NAME, title, 0.0, 0), measures, commit) for title, measures in found.items()]


def measure_epoch(cell: Cell) -> Mapping[str, float]:
    """Measure an epoch and the peak memory of a kind, in a process of its own."""
    return measure_method(partial(method_of, cell.kind))


def measure_method(make: Callable[..., NeuralNetworkRepurposer]) -> Mapping[str, float]:
    """Measure an epoch and the peak memory of what `make` makes of options, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds, peak = pool.apply(_epoch_and_peak, (make,))
    return {EPOCH: seconds, PEAK: peak}


def titles() -> list[str]:
    """List the kinds that cost differently."""
    # what is pre-tuned costs no more in training than what is not
    return [title for title in methods_for(with_prompts=True) if title not in (TOAST, LITE)]


def _steps() -> dict[str, _Step]:
    images, labels = data_of(BATCH_SIZE)
    rows = images, torch.tensor(labels)
    sides = {title: _step_of(_trained(title), *rows) for title in titles()}
    toast = _trained(UNTUNED_TOAST)
    with torch.no_grad():
        z = toast.target_model_.first_pass(images)
    sides[CACHED] = _step_of(toast, *rows, forward=partial(toast.target_model_.second_pass, z))
    layers = [f"blocks.{number}.attn.qkv" for number in range(12)]
    ours = AdapterRepurposer(network(), layers=layers, rank=_RANK, target_class_count=N_CLASSES, num_epochs=1)
    sides[OURS] = _step_of(ours.repurpose(data_of(2)), *rows)
    sides[PEFT] = _step_of_peft(*rows)
    return sides


def _step_of(
    method: NeuralNetworkRepurposer, images: Tensor, labels: Tensor, forward: Callable[..., Tensor] | None = None
) -> _Step:
    """Make a step of a plain loop on a network that was trained so far as to know what learns in it."""
    module = method.target_model_.train()
    learning = {name for group in method.parameter_groups_.groups for name in group.parameters}
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in learning)
    return partial(_step, module, images, labels, _optimizer(module), forward or module)


def _step_of_peft(images: Tensor, labels: Tensor) -> _Step:
    from peft import LoraConfig, get_peft_model

    with_head = deepcopy(network())
    with_head.reset_classifier(N_CLASSES)
    config = LoraConfig(r=_RANK, lora_alpha=_RANK, target_modules=["qkv"], modules_to_save=["head"])
    module = get_peft_model(with_head, config).train()
    return partial(_step, module, images, labels, _optimizer(module), module)


def _step(
    module: nn.Module, images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer, forward: Callable[..., Tensor]
) -> None:
    loss = functional.cross_entropy(forward(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _optimizer(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([each for each in module.parameters() if each.requires_grad], lr=1e-4)


def _trained(title: str) -> NeuralNetworkRepurposer:
    return method_of(title, num_epochs=1).repurpose(data_of(2))


def method_of(title: str, **options: object) -> NeuralNetworkRepurposer:
    """Make the untrained Repurposer of a title."""
    return make_method(
        title, network(), _LAYER, 1e-3, lambda: None, {"target_class_count": N_CLASSES, "random_state": 0, **options}
    )


def network() -> nn.Module:
    """Make ViT-Ti with random weights, for small images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model("vit_tiny_patch16_224", img_size=SIDE).eval()


def data_of(n_images: int) -> tuple[Tensor, list[int]]:
    """Make random images and labels."""
    images = torch.randn(n_images, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return images, [number % N_CLASSES for number in range(n_images)]


def _epoch_and_peak(make: Callable[..., NeuralNetworkRepurposer]) -> tuple[float, float]:
    """Seconds of the last of some epochs, and MiB by which the resident size grows at most in training."""
    torch.set_num_threads(1)
    make(num_epochs=1).repurpose(data_of(2))  # all that is imported and warmed up once
    method = make(num_epochs=N_EPOCHS, batch_size=BATCH_SIZE)
    before = restart_peak()
    method.repurpose(data_of(N_IMAGES))
    return method.history_.values("seconds")[-1], peak() - before
