"""`repurpose detect` trains a detector on images with boxes, finds objects with it, and measures what it finds."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from model_handler.data.decoding import UnreadableImageError
from model_handler.errors import with_fix
from repurpose.cli.output.found_objects import FoundObjects, check_new_folder, evaluation_json
from repurpose.cli.output.mistakes import UsageMistake
from repurpose.cli.output.outputs import STDOUT, Output, file_named, told_when_interrupted, write_result
from repurpose.cli.output.screen import aside, console, shown
from repurpose.cli.reading.annotated import (
    DataArgument,
    ImagesOption,
    OnErrorOfBoxes,
    SplitOption,
    annotated,
    hold_out,
    refuse_other_classes,
)
from repurpose.cli.reading.images import OnError, OnErrorOption, image_files

if TYPE_CHECKING:
    from repurpose.detection import DetectionRepurposer, DetectionRows

__all__ = ["detect"]


class Kind(StrEnum):
    """What finds objects on the feature maps."""

    FCOS = "fcos"
    RETINANET = "retinanet"
    FASTER_RCNN = "faster_rcnn"


SavedArgument = Annotated[Path, typer.Argument(help="What train saved.")]
DownloadOption = Annotated[
    bool, typer.Option("--download", help="Fetch the weights of its source network, if they are not here.")
]
JsonOption = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write all of it to this file; - is standard output.")
]

detect = typer.Typer(
    no_args_is_help=True,
    help="Find objects in images: any source network becomes a detector.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@detect.command()
def train(
    data: DataArgument,
    out: Annotated[
        Path,
        typer.Option(
            help="Where to save the result: a directory, or one file NAME.zip; one saved there before is replaced."
        ),
    ],
    split: SplitOption = None,
    images: ImagesOption = None,
    source: Annotated[
        str, typer.Option(help="efficientnet-lite0 (no download), torchvision/NAME or timm/NAME.")
    ] = "efficientnet-lite0",
    detector: Annotated[Kind, typer.Option(help="What finds objects on the feature maps.")] = Kind.FCOS,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="Read the map of this layer; may be repeated.", show_default="the last of strides 8, 16 and 32"
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(min=32, help="The largest short side in pixels.", show_default="median of the images, 128 to 640"),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(
            help="Of the maps that it looks at: 64, 96, ...; fewer are faster.",
            show_default="by the width of the source, 64 to 256",
        ),
    ] = None,
    augment: Annotated[
        bool, typer.Option("--augment", help="Shift images at random, and mirror half of them; not for letters.")
    ] = False,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="How often training goes through all images.", show_default="5 to 50")
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(help="Other images with boxes, by which each epoch is judged.", show_default="DATA itself"),
    ] = None,
    validation_split: Annotated[
        str | None, typer.Option(metavar="NAME", help="The split of these, in a VOC folder.")
    ] = None,
    validation_images: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The folder of these, of a COCO file.", show_default="--images"),
    ] = None,
    holdout: Annotated[
        float, typer.Option(help="In place of these: part of the images that is not learned from.")
    ] = 0.0,
    on_error: OnErrorOfBoxes = OnError.RAISE,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a step.")] = 8,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the held-out part and of training.")] = 0,
) -> None:
    """Train on images with boxes and save the result."""
    from repurpose.detection import DetectionRepurposer
    from repurpose.persistence.saving import check_target, files_that_tell, is_saved_in

    started = time.perf_counter()
    judges = validation is not None or validation_split is not None
    _check_options(holdout, channels, judges=judges)
    if validation_images is not None and validation is None:
        raise UsageMistake("--validation-images goes with --validation FILE.json")
    check_target(out)
    replaced = ", in place of the one that was there" if is_saved_in(out) else ""
    with told_when_interrupted(Output.at(out, *files_that_tell(out))):
        given = annotated(data, split, images, on_error)
        learned: DetectionRows = given
        judged: DetectionRows | None = None
        if judges:
            folder = validation_images or (images if validation_split is None else None)
            judged = annotated(validation or data, validation_split, folder, on_error, option="validation-")
        elif holdout:
            learned, judged = hold_out(given, holdout, seed)
        _report_objects(learned)
        if judged is not None:
            refuse_other_classes(judged, learned)
        repurposer = DetectionRepurposer(
            source,
            layer or "auto",
            detector.value,
            image_size or "auto",
            channels=channels or "auto",
            augmentation="auto" if augment else None,
            num_epochs=epochs,
            batch_size=batch_size,
            random_state=seed,
        )
        repurposer.repurpose(learned, validation_data=judged)
        repurposer.save_repurposer(out)
        _report_training(repurposer, judged, time.perf_counter() - started)
        following = f"repurpose detect predict {shown(quote(str(out)))} IMAGES --out DRAWN"
        console.print(f"saved to [bold]{shown(out)}[/]{replaced}; next: {following}", soft_wrap=True)


@detect.command()
def predict(
    saved: SavedArgument,
    images: Annotated[list[Path], typer.Argument(help="A folder of images; or one image or several.")],
    out: Annotated[
        Path | None, typer.Option(help="Draw what is found on the images, into this new folder.", metavar="FOLDER")
    ] = None,
    json_file: JsonOption = None,
    min_score: Annotated[float, typer.Option(min=0.05, max=1, help="The least score of what is shown.")] = 0.3,
    on_error: OnErrorOption = OnError.RAISE,
    download: DownloadOption = False,
) -> None:
    """Find objects in images with what train saved."""
    target = file_named(json_file)
    if out is not None:
        check_new_folder(out, images)
    written = out or target
    with told_when_interrupted(None if written is None else Output.at(written)):
        paths = image_files(images, on_error)
        detector = _detector_in(saved, download)
        with _advice_of_skipping():
            found = FoundObjects(paths, detector.predict_objects(paths, min_score))
        if out is not None:
            found.draw_into(out)
        if json_file is not None:
            write_result(json_file, found.json())
        results = aside if json_file == STDOUT else console
        if written is None and json_file is None:
            results.print(found.table())
        n_objects = sum(map(len, found.found))
        n_without = sum(not len(each) for each in found.found)
        results.print(f"{n_objects} objects of score {min_score:g} or more in {len(paths)} images, none in {n_without}")
        for place in filter(None, (out, target)):
            results.print(f"written to [bold]{shown(place)}[/]", soft_wrap=True)


@detect.command()
def evaluate(
    saved: SavedArgument,
    data: DataArgument,
    split: SplitOption = None,
    images: ImagesOption = None,
    json_file: JsonOption = None,
    on_error: OnErrorOfBoxes = OnError.RAISE,
    download: DownloadOption = False,
) -> None:
    """Measure what train saved on other images with boxes: average precision by COCO's and VOC's rules."""
    target = file_named(json_file)
    with told_when_interrupted(None if target is None else Output.at(target)):
        rows = annotated(data, split, images, on_error)
        if not rows.classes:  # all boxes are read and judged for this
            raise ValueError(f"{rows.described} has no object that counts, so that there is nothing to find")
        evaluation = _detector_in(saved, download).evaluate(rows)
        if json_file is not None:
            write_result(json_file, evaluation_json(evaluation))
        results = aside if json_file == STDOUT else console
        results.print(shown(evaluation), soft_wrap=True)
        if target is not None:
            results.print(f"written to [bold]{shown(target)}[/]", soft_wrap=True)


def _check_options(holdout: float, channels: int | None, *, judges: bool) -> None:
    """Raise UsageMistake for values that cannot be, and for a held-out part beside other images that judge."""
    from repurpose.detection.networks.detectors import channel_mistakes

    if not 0 <= holdout < 1:
        raise UsageMistake(f"--holdout must be a part between 0 and 1, got {holdout}; 0 holds none out")
    if channels is not None and channel_mistakes(channels):
        raise UsageMistake(f"--channels must be a multiple of 32 from 64 to 1024, got {channels}")
    if judges and holdout:
        raise UsageMistake("each epoch is judged by --holdout or by other images; leave out the one or the other")


def _detector_in(saved: Path, download: bool) -> "DetectionRepurposer":
    """Load a detector. Raises ValueError for what is none, with the command for that."""
    from repurpose import load
    from repurpose.detection import DetectionRepurposer

    repurposer = load(saved, download=download)
    if not isinstance(repurposer, DetectionRepurposer):
        name, command = type(repurposer).__name__, f"repurpose predict {quote(str(saved))}"
        raise ValueError(f"{saved} holds a {name}, which says what a whole image shows: use `{command} IMAGES`")
    return repurposer


@contextmanager
def _advice_of_skipping() -> Iterator[None]:
    try:
        yield
    except UnreadableImageError as error:
        raise with_fix(UnreadableImageError, str(error), python="", shell="leave it out: --on-error skip") from error


def _report_objects(rows: "DetectionRows") -> None:
    """Print how many images and objects there are. Raises ValueError where there is none to learn from."""
    from repurpose.detection.data import overview_of

    overview = overview_of(rows)
    counts = [f"{name} ({count})" for name, count in zip(overview.classes.tolist(), overview.counts.tolist())]
    n_objects, n_images = len(overview.box_rows), len(rows)
    said = f"{n_objects} objects of {len(counts)} classes in {n_images} images: {', '.join(counts)}"
    console.print(shown(said), soft_wrap=True)


def _report_training(repurposer: "DetectionRepurposer", judged: "DetectionRows | None", seconds: float) -> None:
    """Print what training took, and how well the images are found by which it was judged."""
    from repurpose.detection.networks.pyramid import Backbone

    backbone = next(module for module in repurposer.target_model_.modules() if isinstance(module, Backbone))
    told = ", ".join(f"{found.name} (stride {found.stride})" for found in backbone.maps)
    n_epochs = len(repurposer.history_)
    console.print(f"maps of {shown(told)}; images of at most {repurposer.image_size_} pixels along their short side")
    console.print(f"trained for {n_epochs} epoch{'s' * (n_epochs > 1)} in {seconds:.1f} s")
    if judged is not None:
        measured = repurposer.evaluate(judged)
        low, high = measured.intervals["ap50"]
        said = f"AP50 {measured.ap50:.3f} ({low:.3f} to {high:.3f}), AP {measured.ap:.3f}"
        console.print(f"{measured.n_images} images that were not learned from: {said}")
