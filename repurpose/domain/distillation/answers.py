"""The answers of a frozen network: recorded once for all rows, or asked for with each batch where rows change.

Recorded answers are looked up by the numbers of rows, which are the targets of `NumberedBatches`; then the frozen part
of the network that learns may be computed once too. Otherwise each batch is answered before it is learned from, as the
network that learns will see it: augmented, or mixed with other rows. Of several processes each records all rows for
itself, as it learns from others in each epoch; they come to the same answers.
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model_handler.data import unmoved_generators
from model_handler.errors import ModelError
from model_handler.network.replica import share_weights
from model_handler.progress import track
from repurpose.domain.distillation.numbered_batches import NumberedBatches
from repurpose.training.data.batches import TrainingBatch, TrainingBatches
from repurpose.training.data.seeding import drawing_from
from repurpose.training.frozen.row_reader import RowReader, why_rows_differ
from repurpose.training.steps.objective import Mixing
from repurpose.training.validation import logits_in_batches

__all__ = ["Answers", "AnswersOfEachBatch", "RecordedAnswers", "why_not_recorded"]


class Answers(ABC):
    """What a frozen network says of rows: `batches` are what to train on, `mixing` what is done to each batch."""

    batches: TrainingBatches
    mixing: Mixing | None = None

    def __init__(self, network: nn.Module, precision: str) -> None:
        self.network = share_weights(network).eval()  # the network itself may be the user's, in a mode of its own
        self.precision = precision

    def record(self) -> None:  # noqa: B027 (there may be nothing to do)
        """Do what comes once, before the first batch."""

    @abstractmethod
    def of(self, targets: Any) -> tuple[Tensor, Tensor]:
        """Return the labels of rows, as `ClassificationObjective` takes them, and the answers (n_rows, width)."""

    def _ask(self, batch: TrainingBatch) -> Tensor:
        """Return the answers (n_rows, width) to a batch. Raises ModelError where they hold NaN or infinity."""
        with torch.no_grad():
            answers = logits_in_batches(self.network, batch.inputs, self.precision)
        if not (finite := answers.isfinite().all(dim=1)).all():
            place = int((~finite).nonzero()[0])
            row = f"row {place} of a batch" if batch.rows is None else f"row {batch.rows[place]} of the data"
            raise ModelError(f"the frozen network answers {row} with NaN or infinity: are its numbers finite?")
        return answers


class RecordedAnswers(Answers):
    """Answers that are recorded before training, in one pass over the rows in their order, on the CPU."""

    def __init__(
        self, network: nn.Module, batches: TrainingBatches, precision: str, verbose: bool | None = None
    ) -> None:
        super().__init__(network, precision)
        self.batches = NumberedBatches.like(batches)
        self._labelled, self._verbose = batches, verbose
        self._codes = self._answers = torch.empty(0)

    def record(self) -> None:
        """Ask for the answers of all rows. Raises ModelError where they hold NaN or infinity."""
        reader = RowReader(self._labelled)
        n_numbers = int(np.max(reader.numbers)) + 1
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        with unmoved_generators(self._labelled.data), drawing_from(0):
            read = reader.read(reader.numbers)
            for batch in track(read, description="Answering", total=len(reader.numbers), verbose=self._verbose):
                answers = self._ask(batch).cpu()
                found.append((torch.from_numpy(np.asarray(batch.rows)), batch.targets, answers))
        rows, codes, answers = (torch.cat(parts) for parts in zip(*found, strict=True))
        self._codes = torch.full((n_numbers,), -1).index_copy(0, rows, codes)
        self._answers = torch.zeros(n_numbers, answers.shape[1]).index_copy(0, rows, answers)

    def of(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Look up codes of classes (n_rows,) and answers by the numbers of rows, on the device of these."""
        rows = targets.cpu()
        return self._codes[rows].to(targets.device), self._answers[rows].to(targets.device)


class AnswersOfEachBatch(Answers):
    """Answers to each batch as it will be learned from, after it was mixed."""

    def __init__(self, network: nn.Module, batches: TrainingBatches, mixing: Mixing | None, precision: str) -> None:
        super().__init__(network, precision)
        self.batches = batches
        self._mixed = mixing
        self.mixing = self._answered

    def of(self, targets: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return what stands in the targets of a batch that was answered."""
        return targets["labels"], targets["answers"]

    def _answered(self, batch: TrainingBatch) -> TrainingBatch:
        batch = batch if self._mixed is None else self._mixed(batch)
        answers = self._ask(batch)
        return replace(batch, targets={"labels": batch.targets, "answers": answers})


def why_not_recorded(batches: TrainingBatches, mixing: Mixing | None) -> str:
    """Say why the answers to rows cannot be recorded; "" where they can."""
    if mixing is not None:
        return "rows are mixed anew each epoch"
    if batches.rows is None:
        return "its batches come without the numbers of their rows"
    try:
        return why_rows_differ(RowReader(batches), batches)
    except ValueError as error:
        return str(error)
