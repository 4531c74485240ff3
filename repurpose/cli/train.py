"""`repurpose train` repurposes a network to images of a folder, one sub-folder a class, or of a table."""

import time
from collections import Counter
from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from repurpose.cli.held_out import report_held_out
from repurpose.cli.images import (
    LabelColumn,
    OnError,
    OnErrorOption,
    PathColumn,
    TableOption,
    check_one_given,
    labelled_images,
)
from repurpose.cli.mistakes import UsageMistake
from repurpose.cli.outputs import Output, told_when_interrupted
from repurpose.cli.screen import console, shown
from repurpose.cli.table import PATH

if TYPE_CHECKING:
    from repurpose import Features, MetaModelRepurposer

__all__ = ["train"]


class Method(StrEnum):
    """How the features are classified."""

    LR = "lr"
    GP = "gp"
    SVM = "svm"
    LAPLACE = "laplace"
    BNN = "bnn"


_CLASSES = {
    Method.LR: "LrRepurposer",
    Method.GP: "GpRepurposer",
    Method.SVM: "SvmRepurposer",
    Method.LAPLACE: "LaplaceRepurposer",
    Method.BNN: "BnnRepurposer",
}
_AUTO = "auto"


def train(
    out: Annotated[
        Path,
        typer.Option(
            help="Where to save the result: a directory, or one file NAME.zip; one saved there before is replaced."
        ),
    ],
    folder: Annotated[Path | None, typer.Argument(help="A folder of images, one sub-folder a class.")] = None,
    table: TableOption = None,
    path_column: PathColumn = PATH,
    label_column: LabelColumn = None,
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
    method: Annotated[Method, typer.Option(help="How the features are classified.")] = Method.LR,
    on_error: OnErrorOption = OnError.RAISE,
    holdout: Annotated[float, typer.Option(help="Part of the images held out to measure with; 0 for none.")] = 0.2,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a step.")] = 32,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the held-out part and of training.")] = 0,
) -> None:
    """Train on images and save the result."""
    import repurpose
    from repurpose.persistence.saving import check_target, files_that_tell, is_saved_in

    started = time.perf_counter()
    if not 0 <= holdout < 1:
        raise UsageMistake(f"--holdout must be a part between 0 and 1, got {holdout}; 0 holds none out")
    check_one_given(folder, table)
    names = _layer_names(layer or [])
    check_target(out)
    replaces = is_saved_in(out)
    with told_when_interrupted(Output.at(out, *files_that_tell(out))):
        images = labelled_images(folder, table, path_column, label_column, on_error)
        repurposer = getattr(repurpose, _CLASSES[method])(source, names, batch_size=batch_size, random_state=seed)
        features = repurposer.get_features_from_source_model(images.data)
        taken = "layers over its depth, to choose from" if names == _AUTO else ", ".join(features.layer_names)
        console.print(f"{shown(source)}: features of {shown(taken)}{'' if names else ', the default'}")
        _report_images(features)
        report_held_out(repurposer, features, holdout, seed)
        repurposer.repurpose(features)
        repurposer.save_repurposer(out)
        seconds = time.perf_counter() - started
        if names == _AUTO:
            console.print(f"layers chosen: {shown(', '.join(repurposer.feature_layer_names_))}", soft_wrap=True)
        console.print(f"{_chosen_layers_text(repurposer)}trained on all {len(features)} images in {seconds:.1f} s")
        replaced = ", in place of the one that was there" if replaces else ""
        following = f"repurpose predict {shown(quote(str(out)))} FOLDER"
        console.print(f"saved to [bold]{shown(out)}[/]{replaced}; next: {following}", soft_wrap=True)


def _layer_names(layers: list[str]) -> list[str] | str | None:
    """Turn what --layer asked for into `feature_layer_names`.

    Raises UsageMistake for a layer given twice, and for "auto" beside one.
    """
    if repeated := sorted({name for name in layers if layers.count(name) > 1}):
        raise UsageMistake(f"--layer {quote(repeated[0])} was given more than once")
    if layers == [_AUTO]:
        return _AUTO
    if _AUTO in layers:
        beside = [f"--layer {quote(name)}" for name in layers if name != _AUTO]
        raise UsageMistake(f"--layer auto chooses among all layers; leave it out, or {' '.join(beside)}")
    return layers or None


def _report_images(features: "Features") -> None:
    counts = Counter(np.asarray(features.labels).tolist())
    named = ", ".join(f"{name} ({count})" for name, count in counts.items())
    console.print(shown(f"{counts.total()} images of {len(counts)} classes: {named}"), soft_wrap=True)


def _chosen_layers_text(repurposer: "MetaModelRepurposer") -> str:
    how = "chosen by cross-validation" if getattr(repurposer, "c_scores_", None) else "as nothing could be chosen by"
    return f"C = {repurposer.c_:g} {how}, " if hasattr(repurposer, "c_") else ""
