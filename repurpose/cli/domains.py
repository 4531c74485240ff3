"""Images of two domains: those of the target, labelled or not, and labelled ones of neighbouring source domains."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from os.path import abspath
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from repurpose.cli.methods import Method
from repurpose.cli.output.mistakes import UsageMistake
from repurpose.cli.reading.images import Images, OnError, check_is_folder, images_at, images_in_table, labelled_images

__all__ = ["SourceDataOption", "check_domains", "source_images", "target_images"]

SourceDataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--source-data",
        metavar="FOLDER",
        help="Labelled images of a neighbouring domain, a folder with one sub-folder a class or a CSV file; several "
        "domains, which count alike, by repeating it: NAME=FOLDER.",
    ),
]
_ONE, _TARGET = "source", "target"  # what the library calls a source domain without a name, and the other one
_MARKS = ("nan", "None", "null", "NA", "-1")  # what programs write in place of a label; in a table it is an empty cell


def target_images(
    folder: Path | None,
    table: Path | None,
    input_column: str | None,
    label_column: str | None,
    on_error: OnError,
    sources: Mapping[str, Images],
) -> Images:
    """Return the images of a target: a folder, flat or of a sub-folder a class, or a table that may lack labels.

    A column of labels that is named may be that of a source's table alone.
    """
    if folder is not None:
        check_is_folder(folder)
        return images_at([folder], on_error)
    if table is None:
        raise UsageMistake("give a folder of images, or a --table of them")
    of_a_source = any(images.listed for images in sources.values())
    images = images_in_table(table, input_column, label_column, on_error, labelled=False, may_lack_column=of_a_source)
    return replace(images, data=images.listed.files if images.listed else images.data)


def source_images(
    given: list[str], input_column: str | None, label_column: str | None, on_error: OnError
) -> dict[str, Images]:
    """Return the labelled images of each source domain by its name; see `_named`. Raises as `labelled_images`."""
    domains: dict[str, Images] = {}
    for name, path in _named(given):
        if not path.exists():
            raise FileNotFoundError(f"there is no folder or table {str(path)!r}, which --source-data asks for")
        folder, table = (None, path) if path.is_file() else (path, None)
        domains[name] = labelled_images(folder, table, input_column, label_column, on_error)
    return domains


def check_domains(method: Method, target: Images, sources: Mapping[str, Images]) -> None:
    """Raise ValueError, before any network runs, for domains that the method cannot learn from."""
    from repurpose.domain.reading.source_domains import agreed_classes
    from repurpose.domain.reading.target_labels import judge_labels

    _refuse_shared({_TARGET: target, **sources})
    _refuse_marks(target, sources)
    of_sources = {name: np.array(images.known_labels) for name, images in sources.items()}
    of_target = target.known_labels
    judged = judge_labels(of_target, np.concatenate([*of_sources.values()]), len(of_target))
    if method is Method.TRADABOOST and not len(judged.values):
        raise ValueError(
            "--method tradaboost needs labels in the target, by which it finds the source images that help, and none "
            "of its images has one; sort some into one sub-folder a class, or use --method coral, which needs none"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes left out, which training tells
        agreed_classes(of_sources, judged)


def _refuse_shared(domains: Mapping[str, Images]) -> None:
    """Raise ValueError for an image in two domains: it would count twice, and be judged by what learned from it."""
    seen: dict[Path, str] = {}
    for name, images in domains.items():
        files = {file.resolve(): file for file in images.files}
        if shared := files.keys() & seen.keys():
            first = min(shared)
            raise ValueError(
                f"{len(shared)} of the {len(files)} images of {name!r} are images of {seen[first]!r} too, as "
                f"{files[first]}; give each image to one domain"
            )
        seen |= dict.fromkeys(files, name)


def _refuse_marks(target: Images, sources: Mapping[str, Images]) -> None:
    """Raise ValueError for what a table has in place of labels, unless the source has such a class.

    A folder of that name was made by hand, and is a class.
    """
    known = {label for images in sources.values() for label in images.known_labels}
    labels = target.known_labels if target.listed else []
    if found := sorted({str(label) for label in labels if label in _MARKS} - known):
        raise ValueError(
            f"{labels.count(found[0])} images of the target have the label {found[0]!r}, which no source image has; "
            "leave the label of an image empty where it has none, or give the class another name"
        )


def _named(given: list[str]) -> list[tuple[str, Path]]:
    """Return each domain's name and path: of NAME=PATH both; else "source", and of several paths their last parts."""
    if "" in given:
        raise UsageMistake("--source-data is empty; give a folder with one sub-folder a class, or a CSV file")
    pairs = []
    for text in given:
        name, separator, rest = text.partition("=")
        if separator and name and rest and not Path(text).exists():
            pairs.append((name, Path(rest)))
        else:
            pairs.append((_ONE if len(given) == 1 else Path(abspath(text)).name, Path(text)))
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names) or _TARGET in names:
        raise UsageMistake(
            f"source domains need names that differ, none of them {_TARGET!r}, got {', '.join(names)}; name them by "
            "--source-data NAME=FOLDER"
        )
    return pairs
