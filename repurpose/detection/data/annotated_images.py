"""Images on disk with annotations beside them: what `VocFolderData` and `CocoData` share.

Annotations are read once, and images each time they are asked for.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from model_handler.errors import first_few, nearest
from repurpose.detection.data.boxes import judged_truth
from repurpose.detection.data.pictures import open_annotated, upright_size
from repurpose.detection.data.rows import DetectionRow, DetectionRows, DetectionTruth, Picture

__all__ = ["ON_ERROR", "AnnotatedImages", "Annotation", "check_on_error", "refuse_missing_images"]

ON_ERROR = ("raise", "skip")
_FIX = "mend the file, or leave such boxes out"


@dataclass(frozen=True, eq=False)
class Annotation:
    """What an annotation says of one image, not judged yet; `size` is the one it states, None where it does not."""

    image: Path
    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray
    size: tuple[int, int] | None
    name: str


class AnnotatedImages(DetectionRows, Dataset):
    """A map-style Dataset of (image, {"boxes", "labels", "ignored"}); a derived class says what is annotated.

    Parameters
    ----------
    n_rows : int
    on_error : "raise" or "skip"
        What a box that cannot be used does: it raises an error, or is left out with a warning.
    """

    def __init__(self, n_rows: int, on_error: str) -> None:
        self._n_rows = n_rows
        self.on_error = on_error
        self._truths: dict[int, DetectionTruth] = {}

    @abstractmethod
    def annotation(self, number: int) -> Annotation:
        """Read the annotation of one row."""

    @property
    def classes(self) -> list[str]:
        """The names of the objects that count, sorted; all annotations are read for them, once."""
        return sorted({label for truth in self.truths() for label in truth.labels[~truth.ignored].tolist()})

    def __len__(self) -> int:
        return self._n_rows

    def __getitem__(self, number: int) -> tuple[Picture, Mapping[str, Any]]:
        row = self.row(number)
        target = {
            "boxes": torch.from_numpy(row.boxes),
            "labels": row.labels.tolist(),
            "ignored": torch.from_numpy(row.ignored),
        }
        return row.image, target

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.described}: {len(self)} images)"

    def truth(self, number: int) -> DetectionTruth:
        """Read the objects of one row. Raises ValueError naming the annotation, IndexError beyond the last row."""
        number = self._counted(number)
        if number not in self._truths:
            self._truths[number] = self._judged(self.annotation(number))
        return self._truths[number]

    def row(self, number: int) -> DetectionRow:
        """Read one row with its image. Raises as `truth` does, and UnreadableImageError for a broken image."""
        number = self._counted(number)
        image, truth = self.picture(number), self.truth(number)
        # Copies: who changes a row in place does not change what is kept for the next time.
        return DetectionRow(image, truth.boxes.copy(), truth.labels.copy(), truth.ignored.copy(), truth.name)

    def picture(self, number: int) -> Picture:
        """Read the image of one row, as its annotation has it, and judge no box."""
        given = self.annotation(self._counted(number))
        return open_annotated(given.image, given.size, given.name)

    def _judged(self, given: Annotation) -> DetectionTruth:
        return judged_truth(
            given.boxes,
            given.labels,
            given.ignored,
            size=given.size or upright_size(given.image, given.name),
            name=given.name,
            skip=self.on_error == "skip",
            fix=f'{_FIX}: {type(self).__name__}(..., on_error="skip")',
            fix_in_shell=f"{_FIX}: --on-error skip",
        )

    def _counted(self, number: int) -> int:
        if not -len(self) <= number < len(self):
            raise IndexError(f"there is no row {number}: {self.described} has {len(self)}")
        return number % len(self)


def check_on_error(on_error: object) -> None:
    """Raise ValueError for another value than the two."""
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error must be one of {list(ON_ERROR)}, got {on_error!r}")


def refuse_missing_images(missing: Mapping[str, str], folder: Path, found: list[str]) -> None:
    """Raise FileNotFoundError where images, by what names them, are not among those `found` in a folder."""
    if missing:
        said = [f"{image} (named by {by})" for by, image in missing.items()]
        near = nearest(next(iter(missing.values())), found)
        raise FileNotFoundError(
            f"{len(missing)} image{'s are' if len(missing) > 1 else ' is'} missing in {folder}: {first_few(said)}; "
            f"{f'nearest there: {near}' if near else 'there is no image in it'}"
        )
