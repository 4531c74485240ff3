"""Images with boxes that `repurpose detect` learns from or is measured on: a split of a VOC folder, or a COCO file."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from model_handler.errors import first_few, nearest
from repurpose.cli.output.mistakes import UsageMistake
from repurpose.cli.reading.images import OnError

if TYPE_CHECKING:
    from repurpose.detection import CocoData, DetectionRows, VocFolderData

__all__ = [
    "DataArgument",
    "ImagesOption",
    "OnErrorOfBoxes",
    "SplitOption",
    "annotated",
    "hold_out",
    "refuse_other_classes",
]

DataArgument = Annotated[
    Path, typer.Argument(help="A VOC folder (of JPEGImages, Annotations and ImageSets/Main), or a COCO file NAME.json.")
]
SplitOption = Annotated[
    str | None, typer.Option(help="Which images of a VOC folder: those of ImageSets/Main/NAME.txt.", metavar="NAME")
]
ImagesOption = Annotated[Path | None, typer.Option(help="The folder of a COCO file's images.", metavar="FOLDER")]
OnErrorOfBoxes = Annotated[
    OnError,
    typer.Option(help="What a box that cannot be used does: end the work with an error, or stay out with a warning."),
]


def annotated(
    data: Path, split: str | None, images: Path | None, on_error: OnError, *, option: str = ""
) -> "VocFolderData | CocoData":
    """Open images with boxes; `option` is what the names of both options begin with, as in --validation-split.

    Raises UsageMistake for a split of a file, a folder of images for a folder, and for neither; and what the data do.
    """
    from repurpose.detection import CocoData, VocFolderData
    from repurpose.detection.data import voc_splits

    if not data.exists():
        raise FileNotFoundError(f"there is no file or folder {str(data)!r}; give a VOC folder, or a COCO file")
    if data.is_dir():
        splits = ", ".join(voc_splits(data))
        if images is not None:
            raise UsageMistake(
                f"--{option}images is for a COCO file; the images of {data} are those of a --{option}split"
            )
        if split is None:
            raise UsageMistake(f"{data} is a VOC folder: give the --{option}split, one of {splits}")
        return VocFolderData(data, split, on_error=on_error.value)
    if split is not None:
        raise UsageMistake(f"--{option}split is for a VOC folder; {data} is a file, whose images are all taken")
    if images is None:
        raise UsageMistake(f"{data} is a file: give the folder of its images, --{option}images FOLDER")
    return CocoData(data, images, on_error=on_error.value)


def hold_out(data: "VocFolderData | CocoData", part: float, seed: int) -> tuple["DetectionRows", "DetectionRows"]:
    """Split images at random into those to learn from and a part, at most, to measure with.

    Each class stays with at least one image to learn from. Raises ValueError where no image is left for one of both.
    """
    from torch.utils.data import Subset

    from repurpose.detection import detection_rows

    shown = _labels_shown(data)
    left = Counter(label for labels in shown for label in labels)
    held_out: list[int] = []
    n_wanted = round(part * len(shown))
    for number in np.random.RandomState(seed).permutation(len(shown)).tolist():
        if len(held_out) < n_wanted and all(left[label] > 1 for label in shown[number]):
            left.subtract(shown[number])
            held_out.append(number)
    if not any(shown[number] for number in held_out):
        raise ValueError(
            f"--holdout {part:g} of {len(shown)} images leaves none with objects to measure with; give more, or 0"
        )
    learned = sorted({*range(len(shown))} - {*held_out})
    return detection_rows(Subset(data, learned)), detection_rows(Subset(data, sorted(held_out)))


def refuse_other_classes(judged: "DetectionRows", learned: "DetectionRows") -> None:
    """Raise ValueError where the images to judge by have no object, or one of a class that cannot be learned."""
    known, asked = ({label for labels in _labels_shown(rows) for label in labels} for rows in (learned, judged))
    if not asked:
        raise ValueError(f"{judged.described} has no object that counts, so that epochs cannot be judged by it")
    if unknown := sorted(asked - known):
        raise ValueError(
            f"{judged.described} has objects of classes that {learned.described} has not: {first_few(unknown, 5)}; "
            f"nearest there: {', '.join(nearest(unknown[0], sorted(known)))}. Rename them, or leave them out"
        )


def _labels_shown(rows: "DetectionRows") -> list[set[str]]:
    """Return the classes of each image's objects that count."""
    return [{*truth.labels[~truth.ignored].tolist()} for truth in rows.truths()]
