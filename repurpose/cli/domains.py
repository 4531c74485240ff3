"""Images of two domains: those of the target, labelled or not, and labelled ones of neighbouring source domains."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from repurpose.cli.images import Images, OnError, check_is_folder, images_at, images_in_table, labelled_images
from repurpose.cli.methods import Method
from repurpose.cli.mistakes import UsageMistake

__all__ = ["SourceDataOption", "check_domains", "known_labels", "source_images", "target_images"]

SourceDataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--source-data",
        metavar="FOLDER",
        help="Labelled images of a neighbouring domain, a folder with one sub-folder a class or a CSV file; several "
        "domains, which count alike, by repeating it: NAME=FOLDER.",
    ),
]
_ONE = "source"  # what the library calls a source domain without a name


def target_images(
    folder: Path | None, table: Path | None, path_column: str, label_column: str | None, on_error: OnError
) -> Images:
    """Return the images of a target: a folder, flat or of a sub-folder a class, or a table that may lack labels."""
    if folder is not None:
        check_is_folder(folder)
        return images_at([folder], on_error)
    if table is None:
        raise UsageMistake("give a folder of images, or a --table of them")
    images = images_in_table(table, path_column, label_column, on_error, labelled=False)
    return replace(images, data=images.listed.files if images.listed else images.data)


def source_images(given: list[str], path_column: str, label_column: str | None, on_error: OnError) -> dict[str, Images]:
    """Return the labelled images of each source domain by its name; see `_named`. Raises as `labelled_images`."""
    domains: dict[str, Images] = {}
    for name, path in _named(given):
        folder, table = (None, path) if path.is_file() else (path, None)
        domains[name] = labelled_images(folder, table, path_column, label_column, on_error)
    return domains


def known_labels(images: Images) -> list[str | None]:
    """Return the label of each image, None where it has none."""
    return [None] * len(images.names) if images.labels is None else [label or None for label in images.labels]


def check_domains(method: Method, target: Images, sources: Mapping[str, Images]) -> None:
    """Raise ValueError, before any network runs, for domains that the method cannot learn from."""
    from repurpose.domain.reading.source_domains import agreed_classes
    from repurpose.domain.reading.target_labels import judge_labels

    of_sources = {name: np.array(known_labels(images)) for name, images in sources.items()}
    of_target = known_labels(target)
    judged = judge_labels(of_target, np.concatenate([*of_sources.values()]), len(of_target))
    if method is Method.TRADABOOST and not len(judged.values):
        raise ValueError(
            "--method tradaboost needs labels in the target, by which it finds the source images that help, and none "
            "of its images has one; sort some into one sub-folder a class, or use --method coral, which needs none"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes left out, which training tells
        agreed_classes(of_sources, judged)


def _named(given: list[str]) -> list[tuple[str, Path]]:
    """Return each domain's name and path: of NAME=PATH both; else "source", and of several paths their last parts."""
    pairs = []
    for text in given:
        name, separator, rest = text.partition("=")
        if separator and name and rest and not Path(text).exists():
            pairs.append((name, Path(rest)))
        else:
            pairs.append((_ONE if len(given) == 1 else Path(text).resolve().name, Path(text)))
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names) or "target" in names:
        raise UsageMistake(
            f"source domains need names that differ, none of them 'target', got {', '.join(names)}; name them by "
            "--source-data NAME=FOLDER"
        )
    return pairs
