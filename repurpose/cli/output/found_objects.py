"""What `repurpose detect` found is shown as a table, drawn on the images, and written as JSON; an evaluation too."""

import json
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from model_handler.files.whole_files import make_folder
from model_handler.files.write_errors import writing
from repurpose.cli.output.screen import shown

if TYPE_CHECKING:
    from repurpose.detection import DetectionEvaluation, Detections

__all__ = ["FoundObjects", "check_new_folder", "evaluation_json"]

_DRAWN_AS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}  # the suffixes that drawn images keep


@dataclass(frozen=True, eq=False)
class FoundObjects:
    """The images, and what was found in each."""

    paths: Sequence[Path]
    found: Sequence["Detections"]

    def table(self) -> Table:
        """Make a row for each image: how many objects of each class, and the surest."""
        table = Table("image", "objects", "surest")
        table.columns[0].overflow = "fold"
        for path, each in zip(self.paths, self.found):
            counts = Counter(each.labels.tolist())
            counted = ", ".join(f"{n} {label}" for label, n in counts.most_common())
            surest = (
                f"{each.labels[0]} {each.scores[0]:.2f} at {_box_text(each.boxes[0].tolist())}" if len(each) else ""
            )
            table.add_row(shown(path), shown(counted), shown(surest))
        return table

    def json(self) -> bytes:
        """Return all boxes, x1, y1, x2, y2 in pixels of the upright image, the surest first, as JSON."""
        images = [
            {
                "image": str(path),
                "objects": [
                    {"label": label, "score": score, "box": box}
                    for label, score, box in zip(each.labels.tolist(), each.scores.tolist(), each.boxes.tolist())
                ],
            }
            for path, each in zip(self.paths, self.found)
        ]
        return _json(images)

    def draw_into(self, folder: Path) -> None:
        """Write the images, with boxes drawn on them, into a new or an empty folder: all of them, or none."""
        from repurpose.detection import draw

        parent = folder.resolve().parent
        make_folder(parent)
        with writing(folder), tempfile.TemporaryDirectory(prefix=".drawn-", dir=parent) as place:
            drawn = Path(place, "drawn")
            for path, within, each in zip(self.paths, _names_within(self.paths), self.found):
                (drawn / within).parent.mkdir(parents=True, exist_ok=True)
                content = BytesIO()  # a whole file is written by one call, whatever its format seeks
                draw(path, each).save(content, format=_DRAWN_AS[within.suffix.lower()], quality=92)
                (drawn / within).write_bytes(content.getvalue())
            if folder.exists():  # and is empty
                folder.rmdir()
            drawn.rename(folder)


def check_new_folder(folder: Path, images: Sequence[Path]) -> None:
    """Raise OSError unless a new folder can be made here, and ValueError inside a folder that the images are of."""
    from repurpose.persistence.container.directory import check_parents, refuse_other_contents

    refuse_other_contents(folder, lambda names: False, lambda name: False)
    inside = [given for given in images if given.is_dir() and folder.resolve().is_relative_to(given.resolve())]
    if inside:
        raise ValueError(f"{folder} lies inside {inside[0]}, and would be read with it the next time; give another")
    check_parents(folder)


def evaluation_json(evaluation: "DetectionEvaluation") -> bytes:
    """Return an evaluation as JSON; null stands for what is not defined."""
    per_class = evaluation.per_class
    names = [field.name for field in fields(per_class) if field.name != "labels"]
    columns = {name.replace("intervals", "interval"): getattr(per_class, name).tolist() for name in names}
    rows = [dict(zip(["label", *columns], row)) for row in zip(per_class.labels, *columns.values())]
    measures = {
        name: {"value": getattr(evaluation, name), "interval": list(limits), "by": evaluation.interval_methods[name]}
        for name, limits in evaluation.intervals.items()
    }
    counts = {name: getattr(evaluation, name) for name in ("n_images", "n_true", "n_found")}
    return _json({**counts, **measures, "per_class": rows})


def _names_within(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield where each image is drawn, below the folder: as below the folder that all have in common."""
    common = _common_folder(paths)
    for path in paths:
        within = Path(os.path.abspath(path)).relative_to(common)
        yield within if within.suffix.lower() in _DRAWN_AS else within.with_name(f"{within.name}.png")


def _common_folder(paths: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([os.path.abspath(path.parent) for path in paths]))


def _box_text(box: list[float]) -> str:
    return " ".join(f"{edge:.0f}" for edge in box)


def _json(value: Any) -> bytes:
    return (json.dumps(_without_nan(value), indent=1) + "\n").encode()


def _without_nan(value: Any) -> Any:
    """Replace NaN, which is no JSON, by None."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
