"""`repurpose rank` says which networks suit labelled images or texts, before anything is trained."""

import json
import math
from collections.abc import Sequence
from enum import StrEnum
from shlex import quote
from typing import Annotated, Any

import typer
from rich.table import Table

from repurpose.cli.output.mistakes import UsageMistake
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
from repurpose.cli.reading.table import holds_texts

__all__ = ["rank"]

Row = dict[str, Any]


class Pooling(StrEnum):
    """How the places of a layer's output are brought together."""

    AVG = "avg"
    MAX = "max"
    CLS = "cls"
    FLATTEN = "flatten"


def rank(
    folder: FolderArgument = None,
    table: TableOption = None,
    input_column: InputColumn = None,
    label_column: LabelColumn = None,
    group_column: GroupColumn = None,
    texts: Annotated[
        bool,
        typer.Option("--texts", help="The table holds texts, not paths; to be said where their column is not text."),
    ] = False,
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="Judge this network, by name or directory; may be repeated. Default: those whose weights are on this "
            "machine (repurpose sources)."
        ),
    ] = None,
    pooling: Annotated[
        list[Pooling] | None,
        typer.Option(help="Judge layers pooled so; may be repeated.", show_default=Pooling.AVG.value),
    ] = None,
    every_layer: Annotated[bool, typer.Option("--every-layer", help="Show every layer, not the best alone.")] = False,
    nested: Annotated[
        bool, typer.Option("--nested", help="Also measure the choice itself honestly, in about six times the time.")
    ] = False,
    max_rows: Annotated[int, typer.Option(min=4, help="Of more rows, a part of so many is judged.")] = 2000,
    on_error: OnErrorOption = OnError.RAISE,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows a step.")] = 32,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the part and of what is left out.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Write the whole table to standard output as JSON.")] = False,
) -> None:
    """Rank networks for labelled images or texts, before training, by how well they predict rows left out."""
    from repurpose.selection import rank_sources

    check_one_given(folder, table)
    if texts and table is None:
        raise UsageMistake("--texts are those of a --table; a folder holds images")
    texts = texts or (table is not None and input_column is None and holds_texts(table))
    names = source or _on_this_machine("text" if texts else "image")
    given = labelled_images(folder, table, input_column, label_column, on_error, reads_text=texts)
    groups = groups_in_table(given, table, input_column, group_column) if group_column else None
    options: dict[str, Any] = {
        "pooling": [each.value for each in pooling or [Pooling.AVG]],
        "nested": nested,
        "every_layer": every_layer,
        "max_rows": max_rows,
    }
    ranked = rank_sources(names, given.data, groups=groups, batch_size=batch_size, random_state=seed, **options)
    rows = [_plain(row) for row in ranked.to_dict("records")]
    if as_json:
        typer.echo(json.dumps({"rows": rows, **ranked.attrs}, indent=1))
    _tell_failed(rows)
    if not as_json:
        _show(rows, ranked.attrs, given)
        place = quote(str(folder)) if table is None else f"--table {quote(str(table))}"
        columns = {"--input-column": input_column, "--label-column": label_column, "--group-column": group_column}
        named = [f" {option} {quote(name)}" for option, name in columns.items() if name is not None]
        _tell_next(rows[0], place + "".join(named))


def _on_this_machine(kind: str) -> list[str]:
    from model_handler import list_sources
    from model_handler.sources import WITH_BICUBIC_RESIZE

    # That one is another's weights again, resized to as before; what was saved then has its name.
    here = [info for info in list_sources() if info.where != "known" and info.name != WITH_BICUBIC_RESIZE]
    names = [info.name for info in here if info.kind == kind]
    if not names:
        raise UsageMistake(f"no {kind} network is on this machine; name some: --source NAME (repurpose sources)")
    return names


def _plain(row: Row) -> Row:
    """Return a row as JSON has words for it: numbers, text and null."""

    def plain(value: Any) -> Any:
        value = value.item() if hasattr(value, "item") else value
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {name: plain(value) for name, value in row.items()}


def _tell_failed(rows: Sequence[Row]) -> None:
    """Say which networks could not be judged. Raises ValueError where none could, UsageMistake if none has a name."""
    failed = [f"{row['source']}: {row['error']}" for row in rows if row["error"]]
    if len(failed) == len(rows):
        is_typed_wrong = all(row["error"].startswith("UnknownSourceError") for row in rows)
        kind = UsageMistake if is_typed_wrong else ValueError
        raise kind("none of the networks could be judged:\n" + "\n".join(failed))
    for reason in failed:
        aside.print(f"[yellow]Not ranked:[/] {shown(reason)}", soft_wrap=True)


def _show(rows: Sequence[Row], notes: dict[str, Any], given: Images) -> None:
    able = [row for row in rows if not row["error"]]
    columns = [name for name in _SHOWN if any(row.get(name) is not None for row in able)]
    if all(row["pooling"] == Pooling.AVG for row in able):
        columns.remove("pooling")
    table = _table(able, columns)
    n_fitting = len(columns)
    while (
        n_fitting > _FEWEST
        and console.measure(table, options=console.options.update(width=1000)).maximum > console.width
    ):
        n_fitting -= 1
        table = _table(able, columns[:n_fitting])
    console.print(table)
    if n_fitting < len(columns):
        console.print(f"{len(columns) - n_fitting} more columns in a wider terminal, and all of them with --json")
    console.print(
        f"judged by {notes['n_rows']} {given.kind} left out; the first log loss is the best of several, and optimistic"
    )
    if "nested_log_loss" in notes:
        console.print(
            f"the choice itself, made without the rows that it is measured on: log loss {notes['nested_log_loss']:.3f} "
            f"± {notes['nested_log_loss_error']:.3f}"
        )


def _table(rows: Sequence[Row], columns: Sequence[str]) -> Table:
    table = Table(*(_SHOWN[name][0] for name in columns))
    for number, column in enumerate(table.columns):
        column.overflow = "fold"
        column.justify = "left" if number < 2 else "right"
    for row in rows:
        table.add_row(*(_cell(name, row) for name in columns))
    return table


def _tell_next(best: Row, place: str) -> None:
    command = f"repurpose train {place} --source {quote(best['source'])} --layer {quote(best['layer'])} --out DIRECTORY"
    if best["pooling"] == Pooling.AVG:
        console.print(f"next: {shown(command)}", soft_wrap=True)
    else:
        console.print(
            f"next, in Python, as train has no --pooling: pooling={best['pooling']!r} with this source and layer"
        )


_FEWEST = 4  # columns that are shown however narrow the terminal is
_SHOWN: dict[str, tuple[str, str]] = {
    "source": ("source", "{}"),
    "layer": ("layer", "{}"),
    "gp_log_loss": ("log loss", "{:.3f}"),
    "difference": ("more than the first", "{:.3f}"),
    "pooling": ("pooling", "{}"),
    "nested_log_loss": ("nested", "{:.3f}"),
    "lr_log_loss_5fold": ("LR, 5 folds", "{:.3f}"),
    "class_mean_accuracy": ("class means", "{:.3f}"),
    "logme": ("LogME", "{:.3f}"),
    "h_score": ("H-score", "{:.2f}"),
    "parameters": ("parameters", "{:,.0f}"),
    "imagenet_accuracy": ("ImageNet %", "{:.1f}"),
    "extraction_seconds": ("seconds", "{:.1f}"),
}


def _cell(name: str, row: Row) -> str:
    if row.get(name) is None:
        return ""
    text = _SHOWN[name][1].format(row[name])
    error = row.get("difference_error")
    return f"{text} ± {error:.3f}" if name == "difference" and error else shown(text)
