"""A pool to choose from is a folder of images, some files, the rows of a table, or features that were saved."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from repurpose.cli.output.mistakes import UsageMistake
from repurpose.cli.reading.images import Images, OnError, images_at, images_in_table

if TYPE_CHECKING:
    from model_handler import Features
    from repurpose import Repurposer

__all__ = ["Pool", "pool_at", "pool_in_table"]

_FEATURES = ".safetensors"


@dataclass(frozen=True, eq=False)
class Pool:
    """Features of the rows of a pool, what each row is called, and its files, if it is one of images.

    `kind` is "images", "texts", or "rows", which are called by their numbers.
    """

    features: "Features"
    kind: str
    names: Sequence[str | int]
    files: Sequence[Path]


def pool_at(repurposer: "Repurposer", paths: list[Path], on_error: OnError) -> Pool:
    """Return a pool of images, or of a file of `Features`, which is read in parts.

    Sub-folders are where images came from, such as days or cameras, and no labels. Raises UsageMistake for images where
    the network reads texts.
    """
    from model_handler import Features
    from model_handler.data.text.text_transform import reads_text

    if len(paths) == 1 and paths[0].suffix == _FEATURES and paths[0].is_file():
        features = repurposer.features_to_judge(Features.load(paths[0], mapped=True))
        return Pool(features, "rows", range(len(features)), [])
    if reads_text(repurposer._reading()["transform"]):
        raise UsageMistake("what was trained reads texts: give a --table of them, a CSV or Parquet file")
    images = images_at(paths, on_error)
    features = repurposer.features_to_judge(images.data)
    return Pool(replace(features, labels=None), images.kind, images.names, images.files)


def pool_in_table(
    repurposer: "Repurposer", table: Path, input_column: str | None, label_column: str | None, on_error: OnError
) -> Pool:
    """Return a pool of the images or texts of a table; rows that have a label in it are not to be chosen."""
    from model_handler.data.text.text_transform import reads_text

    is_text = reads_text(repurposer._reading()["transform"])
    images: Images = images_in_table(table, input_column, label_column, on_error, labelled=False, reads_text=is_text)
    features = repurposer.features_to_judge(images.data)
    known = None if images.labels is None else np.array(images.known_labels, dtype=object)
    return Pool(replace(features, labels=known), images.kind, images.names, [] if is_text else images.files)
