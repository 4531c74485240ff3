"""`repurpose train` repurposes a network to images of a folder, one sub-folder a class, or of a table.

With images of a neighbouring domain beside them, they may lack labels.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from repurpose.cli.domains import SourceDataOption, check_domains, source_images, target_images
from repurpose.cli.held_out import report_held_out
from repurpose.cli.methods import (
    AUTO,
    Head,
    LayerOption,
    Method,
    SourceOption,
    check_goes_together,
    layer_names,
    make_repurposer,
    source_reads_text,
)
from repurpose.cli.output.mistakes import UsageMistake
from repurpose.cli.output.outputs import Output, told_when_interrupted
from repurpose.cli.output.screen import console, shown
from repurpose.cli.reading.images import (
    GroupColumn,
    Images,
    InputColumn,
    LabelColumn,
    OnError,
    OnErrorOption,
    TableOption,
    check_one_given,
    groups_in_table,
    labelled_images,
)
from repurpose.parameters import only_given

if TYPE_CHECKING:
    from repurpose import Features, MetaModelRepurposer

__all__ = ["train"]


def train(
    out: Annotated[
        Path,
        typer.Option(
            help="Where to save the result: a directory, or one file NAME.zip; one saved there before is replaced."
        ),
    ],
    folder: Annotated[
        Path | None,
        typer.Argument(help="A folder of images, one sub-folder a class; flat, if it has no labels (--source-data)."),
    ] = None,
    table: TableOption = None,
    input_column: InputColumn = None,
    label_column: LabelColumn = None,
    group_column: GroupColumn = None,
    source: SourceOption = "efficientnet-lite0",
    layer: LayerOption = None,
    method: Annotated[
        Method,
        typer.Option(
            help="What learns from the features: a head, lr to bnn, or with --source-data a method of two domains, "
            "pooled to tradaboost. Networks are trained in Python."
        ),
    ] = Method.LR,
    source_data: SourceDataOption = None,
    head: Annotated[
        Head | None, typer.Option(help="What a method of two domains trains.", show_default=str(Head.LR))
    ] = None,
    on_error: OnErrorOption = OnError.RAISE,
    holdout: Annotated[float, typer.Option(help="Part of the rows held out to measure with; 0 for none.")] = 0.2,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows a step.")] = 32,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the held-out part and of training.")] = 0,
) -> None:
    """Train on images or texts and save the result."""
    from repurpose.persistence.saving import check_target, files_that_tell, is_saved_in

    started = time.perf_counter()
    if not 0 <= holdout < 1:
        raise UsageMistake(f"--holdout must be a part between 0 and 1, got {holdout}; 0 holds none out")
    check_one_given(folder, table)
    names = layer_names(layer or [])
    check_goes_together(method, head, names, source_data or [])
    check_target(out)
    replaces = is_saved_in(out)
    with told_when_interrupted(Output.at(out, *files_that_tell(out))):
        sources = source_images(source_data or [], input_column, label_column, on_error)
        reads_text = _reads_text(source, table, sources)
        if sources:
            images = target_images(folder, table, input_column, label_column, on_error, sources)
            check_domains(method, images, sources)
        else:
            images = labelled_images(folder, table, input_column, label_column, on_error, reads_text=reads_text)
        groups = groups_in_table(images, table, input_column, group_column) if group_column else None
        repurposer = make_repurposer(method, head, source, names, batch_size=batch_size, random_state=seed)
        features = repurposer.get_features_from_source_model(images.data)
        taken = "layers over its depth, to choose from" if names == AUTO else ", ".join(features.layer_names)
        console.print(f"{shown(source)}: features of {shown(taken)}{'' if names else ', the default'}")
        labels = images.known_labels  # only now is it known which images could not be read
        _report_images(labels, images.kind, "target: " if sources else "")
        of_sources = _read_sources(repurposer, sources)
        given = only_given(source_data=of_sources or None, groups=groups)
        report_held_out(repurposer, features, labels, holdout, seed, kind=images.kind, **given)
        repurposer.repurpose(features, labels, **given)
        repurposer.save_repurposer(out)
        seconds = time.perf_counter() - started
        if names == AUTO:
            console.print(f"layers chosen: {shown(', '.join(repurposer.feature_layer_names_))}", soft_wrap=True)
        n_images = len(features) + sum(map(len, of_sources.values()))
        console.print(f"{_chosen_layers_text(repurposer)}trained on all {n_images} {images.kind} in {seconds:.1f} s")
        replaced = ", in place of the one that was there" if replaces else ""
        following = f"repurpose predict {shown(quote(str(out)))} {'--table FILE' if reads_text else 'FOLDER'}"
        console.print(f"saved to [bold]{shown(out)}[/]{replaced}; next: {following}", soft_wrap=True)


def _reads_text(source: str, table: Path | None, sources: Mapping[str, Images]) -> bool:
    """Return whether the network reads the texts of a table. Raises UsageMistake for source data, which are images."""
    if table is None or not source_reads_text(source):
        return False
    if sources:
        raise UsageMistake(f"--source {source} reads text, and --source-data is for images; leave it out")
    return True


def _read_sources(repurposer: "MetaModelRepurposer", sources: Mapping[str, Images]) -> dict[str, "Features"]:
    """Extract the features of each source domain."""
    read = {}
    for name, images in sources.items():
        read[name] = repurposer.get_features_from_source_model(images.data)
        _report_images(images.known_labels, images.kind, f"{name}: ")
    return read


def _report_images(labels: Sequence[str | None], kind: str, of: str = "") -> None:
    counts = Counter(label for label in labels if label is not None)
    classes = f"{len(counts)} {'class' if len(counts) == 1 else 'classes'}: " + ", ".join(
        f"{name} ({count})" for name, count in counts.items()
    )
    if not counts:
        text = f"{len(labels)} {kind} without labels"
    elif counts.total() < len(labels):
        text = f"{len(labels)} {kind}, {counts.total()} of them labelled, of {classes}"
    else:
        text = f"{len(labels)} {kind} of {classes}"
    console.print(shown(f"{of}{text}"), soft_wrap=True)


def _chosen_layers_text(repurposer: "MetaModelRepurposer") -> str:
    head: Any = repurposer if hasattr(repurposer, "c_") else getattr(repurposer, "target_model_", None)
    if not hasattr(head, "c_"):
        return ""
    how = "chosen by cross-validation" if getattr(head, "c_scores_", None) else "as nothing could be chosen by"
    return f"C = {head.c_:g} {how}, "
