"""Distilling: the blocks of an emulator are trained to give what the owner's whole middle gives, of the same input.

The loss is mean(((T - S) / rms(T))^2) of the owner's output T and the emulator's S, times 30 of text and 1 of images,
plus, of labelled text, the cross-entropy of the network with the emulator in it. Xiao, Lin and Han (2023),
arXiv:2302.04870, section 4.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model_handler import ModelError
from model_handler.data import Overview, as_batches, look_through
from model_handler.errors import first_few
from model_handler.network.outputs import tensors_in
from model_handler.network.replica import requires_grad_kept
from model_handler.progress import track
from repurpose.data.inputs import Inputs
from repurpose.data.labels import label_array, label_codes
from repurpose.data.row_shapes import check_row_shapes, shapes_of_spec
from repurpose.neural_network.architecture import Spec, as_spec
from repurpose.training.data.seeding import drawing_from
from repurpose.training.steps.forward import call, logits_of, on_device
from repurpose.training.steps.losses import cross_entropy

__all__ = ["Distillation", "distil", "middle_loss"]

_LOG = logging.getLogger(__name__)
_LEARNING_RATE = 1e-4
_OF_TEXT, _OF_IMAGES = 30.0, 1.0  # the weight of the middle's loss; that of the task is 1 and 0


@dataclass(frozen=True, eq=False)
class Distillation:
    """How an emulator is distilled: its `blocks`, the last module of the middle in either network, and what it costs.

    `class_names` are those of the outputs of the network's head, in order, or None where the task is left out;
    `example_inputs` says how rows of the network look; `verbose` whether progress is shown, as `track` takes it.
    """

    blocks: Sequence[str]
    student_end: str
    teacher_end: str
    is_text: bool
    class_names: Sequence[str | int] | None
    example_inputs: Spec
    min_steps: int
    seed: int
    verbose: bool | None = None


def distil(student: nn.Module, teacher: nn.Module, data: object, plan: Distillation, **reading: Any) -> list[float]:
    """Train the emulator's blocks in the network `student`, in place; return the loss of each step.

    Both networks are the owner's but for the middle, so that both middles read the same; the teacher is in evaluation
    mode and the student is set to it: there is no dropout, and normalisation has the statistics that it came with.
    Which parameters of it are frozen stays as it is, which would otherwise be sent.
    AdamW at a learning rate of 1e-4 that falls along a half cosine takes one epoch and at least `plan.min_steps` steps.
    `reading` has the options of `as_batches`.

    Raises ValueError for blocks without weights, rows that the network does not read and labels that are not among
    `plan.class_names`, with nothing changed, and ModelError where the loss is no number.
    """
    if not any(True for name in plan.blocks for _ in student.get_submodule(name).parameters()):
        raise ValueError(
            f"the emulator's blocks, {first_few(plan.blocks)}, have no weights, so that there is nothing to distil: "
            "leave distill_data out"
        )
    seen = look_through(data, **reading)
    _check_rows(teacher, seen.example, plan.example_inputs)
    names = plan.class_names if plan.is_text and seen.labels is not None else None
    if names is not None:
        _codes_of(seen.labels, names)
    n_steps = max(seen.n_batches, plan.min_steps)
    batches = islice(_batches(data, seen, reading, plan.seed), n_steps)
    n_rows = -(-n_steps * seen.n_rows // seen.n_batches)
    with requires_grad_kept(student), drawing_from(plan.seed), torch.enable_grad():
        shown = track(batches, description="Distilling", total=n_rows, verbose=plan.verbose)
        losses = _train(student, teacher, shown, n_steps, names, plan)
    _LOG.info("distilled in %d steps: the loss went from %.4g to %.4g", len(losses), losses[0], losses[-1])
    return losses


def middle_loss(given: Tensor, wanted: Tensor) -> Tensor:
    """Compute mean(((T - S) / rms(T))^2) of S, `given`, and T, `wanted`, of one shape."""
    scale = wanted.square().mean().sqrt().clamp_min(torch.finfo(wanted.dtype).tiny)
    return ((wanted - given) / scale).square().mean()


def _check_rows(network: nn.Module, rows: Inputs, known: Spec) -> None:
    """Raise ValueError for rows of another shape than the known ones, or that the network does not take."""
    shapes, first = shapes_of_spec(known), next(network.parameters())
    check_row_shapes(rows, shapes, "the network", what="distill_data", since="example_inputs")
    try:
        with torch.no_grad():
            call(network, on_device(rows, first.device, first.dtype))
    except Exception as error:  # whatever a network raises for what it cannot read
        given = shapes_of_spec(as_spec(rows))
        raise ValueError(
            f"distill_data has rows of shape {given}, which the network does not take: it reads rows like those of "
            f"example_inputs, of shape {shapes} ({error})"
        ) from error


def _train(
    student: nn.Module,
    teacher: nn.Module,
    batches: Iterable[Any],
    n_steps: int,
    names: Sequence[str | int] | None,
    plan: Distillation,
) -> list[float]:
    """Train the blocks on `n_steps` batches, on labels of these classes if any; return the loss of each."""
    optimizer = torch.optim.AdamW(_only_blocks_learn(student, plan.blocks), lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    first, losses = next(student.parameters()), list[float]()
    for batch in batches:
        inputs = on_device(batch.inputs, first.device, first.dtype)
        codes = None if names is None else torch.from_numpy(_codes_of(batch.labels, names)).to(first.device)
        loss = _loss(student, teacher, inputs, codes, plan)
        if not torch.isfinite(loss):
            raise ModelError(f"the loss of distillation is {loss.item()} in step {len(losses)}: are the data finite?")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def _loss(student: nn.Module, teacher: nn.Module, inputs: Inputs, codes: Tensor | None, plan: Distillation) -> Tensor:
    with torch.no_grad():
        wanted, _ = _run_to(teacher, plan.teacher_end, inputs, whole=False)
    given, output = _run_to(student, plan.student_end, inputs, whole=codes is not None)
    loss = (_OF_TEXT if plan.is_text else _OF_IMAGES) * middle_loss(given, wanted)
    return loss if codes is None else loss + cross_entropy(logits_of(output), codes)


def _only_blocks_learn(network: nn.Module, blocks: Sequence[str]) -> list[nn.Parameter]:
    network.requires_grad_(False).eval()
    found: list[nn.Parameter] = []
    for name in blocks:
        found += network.get_submodule(name).requires_grad_(True).parameters()
    return found


def _batches(data: object, seen: Overview, reading: dict[str, Any], seed: int) -> Iterator[Any]:
    """Yield batches without end, epoch by epoch, the rows in another order in each where they have numbers."""
    rng = np.random.RandomState(seed)
    while True:
        rows = None if seen.rows is None else rng.permutation(seen.rows)
        yield from as_batches(data, **reading, rows=rows)


def _codes_of(labels: object, names: Sequence[str | int]) -> np.ndarray:
    codes, unknown = label_codes(label_array(labels), np.array(names))
    if unknown:
        raise ValueError(
            f"the labels {first_few([repr(label) for label in unknown])} of distill_data are no classes of the head, "
            f"which has {first_few([repr(name) for name in names])}; name them by OffsiteOwner(class_names=...), "
            "or give data without labels"
        )
    return codes


class _Reached(BaseException):
    """A forward has come to the end of the middle; not an Exception, so that no `forward` swallows it."""


def _run_to(network: nn.Module, end: str, inputs: Inputs, *, whole: bool) -> tuple[Tensor, Any]:
    """Return what the module `end` gives, and what the network does, where the `whole` of it is to run."""
    found: list[Tensor] = []

    def note(module: nn.Module, arguments: object, output: object) -> None:
        found.append(tensors_in(output)[0])
        if not whole:
            raise _Reached

    output = None
    with network.get_submodule(end).register_forward_hook(note), suppress(_Reached):
        output = call(network, inputs)
    return found[0], output
