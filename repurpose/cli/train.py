"""`repurpose train`: a network repurposed to a folder of images, one sub-folder a class."""

import math
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.markup import escape

from repurpose.cli.layers import default_layer
from repurpose.cli.screen import console, scores

if TYPE_CHECKING:
    from repurpose import Features, ImageFolderData, MetaModelRepurposer

__all__ = ["train"]

_METHODS = {
    "lr": "LrRepurposer",
    "gp": "GpRepurposer",
    "svm": "SvmRepurposer",
    "laplace": "LaplaceRepurposer",
    "bnn": "BnnRepurposer",
}
_AUTO = "auto"


def train(
    folder: Annotated[Path, typer.Argument(help="A folder of images, one sub-folder a class.")],
    out: Annotated[Path, typer.Option(help="Where to save the result.")],
    source: Annotated[
        str, typer.Option(help="efficientnet-lite0 (no download), torchvision/NAME or timm/NAME.")
    ] = "efficientnet-lite0",
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="Take features from this layer; may be repeated. auto: chosen by the labels. Default: the last before "
            "the classifier."
        ),
    ] = None,
    method: Annotated[str, typer.Option(help=f"How the features are classified: {', '.join(_METHODS)}.")] = "lr",
    on_error: Annotated[str, typer.Option(help="For an unreadable image: raise, or skip and report it.")] = "raise",
    holdout: Annotated[float, typer.Option(help="Part of the images held out to measure with; 0 for none.")] = 0.2,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 32,
    seed: Annotated[int, typer.Option(help="Seed of the held-out part and of training.")] = 0,
) -> None:
    """Train on a folder of images and save the result."""
    from repurpose.persistence.saving import check_target

    started = time.perf_counter()
    check_target(out)
    repurposer_class = _method(method)
    if not 0 <= holdout < 1:
        raise ValueError(f"--holdout must be a part between 0 and 1, got {holdout}; 0 holds none out")
    names = _layer_names(layer or [])
    images = _labelled_images(folder, on_error)
    repurposer = repurposer_class(source, names, batch_size=batch_size, random_state=seed)
    if not names:
        repurposer.set_params(feature_layer_names=[default_layer(repurposer.source_model_handler)])
    taken = "layers over its depth, to choose from" if names == _AUTO else ", ".join(repurposer.feature_layer_names)
    console.print(f"{source}: features of {escape(taken)}{'' if names else ', the default'}")
    features = repurposer.get_features_from_source_model(images)
    _report_images(images, Counter(np.asarray(features.labels).tolist()))
    _report_held_out(repurposer, features, holdout, seed)
    repurposer.repurpose(features)
    repurposer.save_repurposer(out)
    seconds = time.perf_counter() - started
    if names == _AUTO:
        console.print(f"layers chosen: {escape(', '.join(repurposer.feature_layer_names_))}")
    console.print(f"{_choice(repurposer)}trained on all {len(features)} images in {seconds:.1f} s")
    console.print(f"saved to [bold]{escape(str(out))}[/]; next: repurpose predict {escape(str(out))} FOLDER")


def _method(name: str) -> "type[MetaModelRepurposer]":
    """The class of a method. Raises ValueError naming the nearest methods."""
    import repurpose
    from model_handler.errors import nearest

    if name not in _METHODS:
        raise ValueError(f"there is no method {name!r}; nearest: {nearest(name, _METHODS)}")
    return getattr(repurpose, _METHODS[name])


def _layer_names(layers: list[str]) -> list[str] | str:
    """What --layer asked for, as `feature_layer_names`. Raises ValueError for "auto" beside a layer."""
    if _AUTO not in layers:
        return layers
    if beside := [name for name in layers if name != _AUTO]:
        raise ValueError(f"--layer auto chooses among all layers; leave it out, or --layer {' --layer '.join(beside)}")
    return _AUTO


def _labelled_images(folder: Path, on_error: str) -> "ImageFolderData":
    """The images of a folder. Raises ValueError, before any network runs, unless it has two classes."""
    from repurpose import ImageFolderData

    images = ImageFolderData(folder, on_error=on_error)
    if len(images.classes or []) < 2:
        found = f"only one, {images.classes[0]!r}" if images.classes else "images and no sub-folders"
        raise ValueError(f"{folder} must have one sub-folder a class, at least two of them; it has {found}")
    return images


def _report_images(images: "ImageFolderData", counts: Counter[str]) -> None:
    named = ", ".join(f"{name} ({count})" for name, count in counts.items())
    console.print(escape(f"{counts.total()} images of {len(counts)} classes: {named}"))
    for path in images.skipped:
        console.print(f"[yellow]skipped, unreadable:[/] {escape(str(path))}")


def _report_held_out(repurposer: "MetaModelRepurposer", features: "Features", part: float, seed: int) -> None:
    """Train a copy without a stratified part of the rows and print how well it does on them."""
    from sklearn.base import clone
    from sklearn.model_selection import train_test_split

    labels = np.asarray(features.labels)
    if reason := _why_none_held_out(Counter(labels.tolist()), part):
        console.print(f"no held-out measurement: {reason}")
        return
    rows = np.arange(len(labels))
    train_rows, test_rows = train_test_split(rows, test_size=part, stratify=labels, random_state=seed)
    rehearsal = clone(repurposer).repurpose(features[train_rows])
    probabilities = rehearsal.predict_probability(features[test_rows])
    measured = scores(labels[test_rows], probabilities, rehearsal.classes_)
    console.print(f"held-out {len(test_rows)} images: {measured}")


def _why_none_held_out(counts: Counter[str], part: float) -> str | None:
    """What prevents holding out a part with every class on both sides, if anything."""
    if part == 0:
        return "--holdout 0"
    name, fewest = counts.most_common()[-1]
    n_held_out = math.ceil(counts.total() * part)
    if fewest < 4 or min(n_held_out, counts.total() - n_held_out) < len(counts):
        return f"too few images, {fewest} in class {name!r} and {n_held_out} to hold out"
    return None


def _choice(repurposer: "MetaModelRepurposer") -> str:
    how = "chosen by cross-validation" if getattr(repurposer, "c_scores_", None) else "as nothing could be chosen by"
    return f"C = {repurposer.c_:g} {how}, " if hasattr(repurposer, "c_") else ""
