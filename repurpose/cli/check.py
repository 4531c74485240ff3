"""`repurpose check` says which labels of images or texts are likely wrong, and which ones fit better."""

import json
from typing import Annotated

import typer
from rich.table import Table

from repurpose.cli.methods import (
    Head,
    LayerOption,
    Method,
    SourceOption,
    layer_names,
    make_repurposer,
    source_reads_text,
)
from repurpose.cli.output.mistakes import UsageMistake
from repurpose.cli.output.outputs import STDOUT, Output, file_named, told_when_interrupted, write_result
from repurpose.cli.output.predictions import beginning
from repurpose.cli.output.rows import Row, as_csv
from repurpose.cli.output.screen import aside, console, shown
from repurpose.cli.reading.images import (
    FolderArgument,
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

__all__ = ["check"]

_HOW = {
    "closed form": "left out of the Gaussian process in closed form, with one of each class",
    "folds": "held out by one of five trainings",
}


def check(
    folder: FolderArgument = None,
    table: TableOption = None,
    input_column: InputColumn = None,
    label_column: LabelColumn = None,
    group_column: GroupColumn = None,
    source: SourceOption = "efficientnet-lite0",
    layer: LayerOption = None,
    method: Annotated[
        Head, typer.Option(help="What judges the labels; gp without a training for each part that is left out.")
    ] = Head.GP,
    top: Annotated[int, typer.Option(min=1, help="How many of the worst to show.")] = 20,
    csv_file: Annotated[
        str | None,
        typer.Option(
            "--csv",
            metavar="FILE",
            help="Write all of them, the worst first, with every column to this file; - is standard output.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write all of them to standard output as JSON.")] = False,
    on_error: OnErrorOption = OnError.RAISE,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a step.")] = 32,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of training and of what is left out.")] = 0,
) -> None:
    """Find labels that are likely wrong, each judged as if it had not been seen."""
    check_one_given(folder, table)
    if as_json and csv_file == STDOUT:
        raise UsageMistake("--json and --csv - both write to standard output; give --csv a file, or leave one out")
    names = layer_names(layer or [])
    target = file_named(csv_file)  # before the network runs
    with told_when_interrupted(None if target is None else Output.at(target)):
        reads_text = table is not None and source_reads_text(source)
        images = labelled_images(folder, table, input_column, label_column, on_error, reads_text=reads_text)
        groups = groups_in_table(images, table, input_column, group_column) if group_column else None
        repurposer = make_repurposer(Method(method), None, source, names, batch_size=batch_size, random_state=seed)
        repurposer.repurpose(images.data, **only_given(groups=groups))
        found = repurposer.find_label_errors()
        rows = [_named(row, images) for row in found.to_dict("records")]
        if csv_file is not None:
            write_result(csv_file, as_csv(rows))
        if as_json:
            attrs = {**found.attrs, "not_judged": [images.names[row] for row in found.attrs["not_judged"]]}
            typer.echo(json.dumps({"rows": rows, **attrs}, indent=1))
        elif csv_file != STDOUT:
            _show(rows, found.attrs["judged_by"], images.kind, top)
        if target is not None:
            aside.print(f"{len(rows)} rows written to [bold]{shown(target)}[/]", soft_wrap=True)


def _named(row: Row, images: Images) -> Row:
    """Return a row with the path of its image, or its text, in place of a number."""
    name = "text" if images.kind == "texts" else "path"
    return {name: images.names[row["row"]], **{column: value for column, value in row.items() if column != "row"}}


def _show(rows: list[Row], judged_by: str, kind: str, top: int) -> None:
    """Print the worst rows of those that another label fits better, and what to expect of them."""
    suspects = [row for row in rows if row["suggested"] != row["given"]]
    worst = suspects[:top]
    judged = f"{len(rows)} {kind}, each {_HOW[judged_by]}"
    if not worst:
        console.print(f"no label fits better than the given one: {judged}")
        return
    first = next(iter(rows[0]))
    shown_table = Table("image" if first == "path" else first, "given", "suggested", "probability of the given")
    shown_table.columns[0].overflow = "fold"
    shown_table.columns[3].justify = "right"
    for row in worst:
        name = beginning(row[first]) if kind == "texts" else row[first]
        cells = (name, row["given"], row["suggested"], f"{row['probability']:.3f}")
        shown_table.add_row(*map(shown, cells))
    console.print(shown_table)
    n_right = sum(row["probability"] for row in worst)
    more = f", the {len(worst)} worst of which are shown" if len(worst) < len(suspects) else ""
    console.print(f"of {judged}, {len(suspects)} have a label that another one fits better{more}", soft_wrap=True)
    console.print(f"of the labels shown, about {n_right:.1f} are expected to be right all the same")
