"""`repurpose predict` gives labels and probabilities of images or texts, and says what they are worth."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console

from repurpose.cli.output.mistakes import UsageMistake
from repurpose.cli.output.outputs import STDOUT, Output, file_named, told_when_interrupted
from repurpose.cli.output.predictions import Predictions
from repurpose.cli.output.screen import aside, console, shown
from repurpose.cli.reading.images import (
    Images,
    InputColumn,
    LabelColumn,
    OnError,
    OnErrorOption,
    TableOption,
    images_at,
    images_in_table,
)

if TYPE_CHECKING:
    from repurpose import Repurposer

__all__ = ["predict"]


def predict(
    saved: Annotated[Path, typer.Argument(help="What train saved.")],
    images: Annotated[
        list[Path] | None, typer.Argument(help="A folder, flat or one sub-folder a class; or one image or several.")
    ] = None,
    table: TableOption = None,
    input_column: InputColumn = None,
    label_column: LabelColumn = None,
    csv_file: Annotated[
        str | None,
        typer.Option(
            "--csv",
            metavar="FILE",
            help="Write path or text, label and the probabilities of the classes to this file; - is standard output.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to show for each row.")] = 3,
    abstain_below: Annotated[
        float, typer.Option(min=0, max=1, help="Give no label where no class has this probability.")
    ] = 0.0,
    coverage: Annotated[
        float | None, typer.Option(help="Add the set of labels that holds the right one so often, such as 0.9.")
    ] = None,
    p_values: Annotated[
        bool, typer.Option("--p-values", help="Add the share of familiar rows that look as strange as this one.")
    ] = False,
    on_error: OnErrorOption = OnError.RAISE,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the weights of its source network, if they are not here.")
    ] = False,
) -> None:
    """Predict the classes of images or texts with what train saved."""
    import repurpose.offsite  # noqa: F401 (what plug-in saved is of a class that is defined there)
    from model_handler.data.text.text_transform import reads_text
    from repurpose import load

    if coverage is not None and not 0 < coverage < 1:
        raise UsageMistake(f"--coverage must be above 0 and below 1, such as 0.9, got {coverage:g}")
    if (table is None) == (not images):
        raise UsageMistake("give images, or a --table of them" + (", not both" if images else ""))
    target = file_named(csv_file)  # before the network runs
    with told_when_interrupted(None if target is None else Output.at(target)):
        repurposer = load(saved, download=download)
        if hasattr(repurposer, "predict_objects"):
            name, command = type(repurposer).__name__, f"repurpose detect predict {quote(str(saved))}"
            raise ValueError(f"{saved} holds a {name}, which finds objects in images: use `{command} IMAGES`")
        is_text = reads_text(repurposer._reading()["transform"])
        if table is None and is_text:
            raise UsageMistake(
                f"{saved} was trained on texts: give a --table of them, a CSV or Parquet file with a column text"
            )
        if table is None:
            given = images_at(images or [], on_error)
        else:
            given = images_in_table(table, input_column, label_column, on_error, labelled=False, reads_text=is_text)
        predictions = _predict(repurposer, given, abstain_below, coverage, p_values)
        results = aside if csv_file == STDOUT else console
        if csv_file is None:
            results.print(predictions.table(top))
        else:
            predictions.write_csv(csv_file)
        if target is not None:
            results.print(f"{len(given.names)} predictions written to [bold]{shown(target)}[/]", soft_wrap=True)
        _report_accuracy(results, given, predictions, repurposer)


def _predict(
    repurposer: "Repurposer", images: Images, abstain_below: float, coverage: float | None, p_values: bool
) -> Predictions:
    """Return everything that was asked of the images, by one pass through the network where the head reads features."""
    from repurpose.data.class_names import names_of_labels

    rows: Any = images.data
    if hasattr(repurposer, "feature_layer_names_"):
        rows = repurposer.source_model_handler.extract(
            rows,
            repurposer.feature_layer_names_,
            pooling=repurposer.pooling,
        )
    labels = repurposer.predict_label(rows, abstain_below=abstain_below)
    more = {}
    if coverage is not None:
        sets = repurposer.predict_set(rows, coverage)
        more[f"set ({coverage:g})"] = [", ".join(names) for names in sets.names]
    if p_values:
        more["p-value"] = [f"{value:.3g}" for value in repurposer.unfamiliarity_p_value(rows)]
    probabilities, classes = repurposer.predict_probability(rows), repurposer.class_names_.tolist()
    names = names_of_labels(labels, repurposer.classes_, repurposer.class_names_)
    return Predictions(images.names, names, probabilities, classes, more, of_texts=images.kind == "texts")


def _report_accuracy(results: Console, images: Images, predictions: Predictions, repurposer: "Repurposer") -> None:
    """Print the accuracy where true labels are known and some can be predicted, and how many got an answer."""
    from repurpose.data.class_names import names_of_given

    answered = np.array([label is not None for label in predictions.labels])
    if not answered.all():
        results.print(f"{answered.sum()} of {len(answered)} {images.kind} have a likely enough class")
    if images.labels is None:
        return
    truth, known = names_of_given(images.labels, repurposer.classes_, repurposer.class_names_), set(predictions.classes)
    unseen_labels = shown(", ".join(sorted(set(truth) - known - {""})))
    where = "labels of the table" if images.listed else "names of the sub-folders"
    if known.isdisjoint(truth):
        if unseen_labels:
            results.print(f"no accuracy: the {where} are no classes of the training: {unseen_labels}", soft_wrap=True)
        return
    counted = answered & (np.array(truth) != "")
    if counted.any():
        right = predictions.labels[counted].astype(str) == np.array(truth)[counted]
        results.print(f"accuracy {right.mean():.3f} ({right.sum()} of {len(right)}), by the {where}")
    if unseen_labels:
        results.print(f"[yellow]never seen in training, so counted as wrong:[/] {unseen_labels}", soft_wrap=True)
