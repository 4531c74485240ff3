"""`repurpose suggest` says which rows of a pool to label next, and copies images to where they are labelled."""

import json
import shutil
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from repurpose.cli.output.mistakes import UsageMistake
from repurpose.cli.output.outputs import STDOUT, Output, file_named, told_when_interrupted, write_result
from repurpose.cli.output.predictions import beginning
from repurpose.cli.output.rows import Row, as_csv
from repurpose.cli.output.screen import aside, console, shown
from repurpose.cli.reading.images import InputColumn, LabelColumn, OnError, OnErrorOption, TableOption
from repurpose.cli.reading.pools import Pool, pool_at, pool_in_table

if TYPE_CHECKING:
    from repurpose import Repurposer

__all__ = ["suggest"]

_NAMES = {"images": "path", "texts": "text", "rows": "row"}


class Method(StrEnum):
    """How rows are chosen."""

    AUTO = "auto"
    DOUBT = "doubt"
    EPIG = "epig"
    VARIANCE = "variance"
    MARGIN = "margin"
    TYPICALITY = "typicality"


def suggest(
    saved: Annotated[Path, typer.Argument(help="What train saved.")],
    pool: Annotated[
        list[Path] | None,
        typer.Argument(
            help="A folder of images without labels, sub-folders too; or one image or several; or a file of Features."
        ),
    ] = None,
    table: TableOption = None,
    input_column: InputColumn = None,
    label_column: LabelColumn = None,
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="How many rows to suggest.")] = 20,
    method: Annotated[
        Method, typer.Option(help="How they are chosen; auto is doubt for a Gaussian process, else margin.")
    ] = Method.AUTO,
    copy_to: Annotated[
        Path | None,
        typer.Option(help="Copy the images to this new or empty directory, their rank in front of their names."),
    ] = None,
    csv_file: Annotated[
        str | None,
        typer.Option("--csv", metavar="FILE", help="Write them with every column to this file; - is standard output."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write them to standard output as JSON.")] = False,
    since: Annotated[
        Path | None,
        typer.Option(help="What --json wrote before the last labels: say what was expected of them, and what came."),
    ] = None,
    on_error: OnErrorOption = OnError.RAISE,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the weights of its source network, if they are not here.")
    ] = False,
) -> None:
    """Suggest which rows of a pool to label next: those whose labels would teach most."""
    from repurpose import load

    if (table is None) == (not pool):
        raise UsageMistake("give a pool of images, or a --table of them" + (", not both" if pool else ""))
    if as_json and csv_file == STDOUT:
        raise UsageMistake("--json and --csv - both write to standard output; give --csv a file, or leave one out")
    if copy_to is not None:
        _check_is_free(copy_to)
    then = None if since is None else _told_in(since)
    target = file_named(csv_file)  # before the network runs
    with told_when_interrupted(None if target is None else Output.at(target)):
        repurposer = load(saved, download=download)
        if not hasattr(repurposer, "suggest_labels"):
            raise UsageMistake(f"{saved} holds a {type(repurposer).__name__}, which has no labels to suggest")
        rows_of = _read(repurposer, pool or [], table, input_column, label_column, on_error)
        if copy_to is not None and rows_of.kind != "images":
            raise UsageMistake(f"--copy-to copies images, and the pool has {rows_of.kind}; write them by --csv FILE")
        suggested = repurposer.suggest_labels(rows_of.features, n, method.value)
        rows, notes = suggested.to_dict("records"), suggested.attrs
        named = [{_NAMES[rows_of.kind]: rows_of.names[row["position"]], **row} for row in rows]
        if csv_file is not None:
            write_result(csv_file, as_csv(named))
        if as_json:
            typer.echo(json.dumps({"rows": named, **notes}, indent=1))
        results = aside if as_json or csv_file == STDOUT else console
        if results is console:
            results.print(_shown(named, rows_of.kind))
        _tell(results, notes, rows_of.kind, then)
        if copy_to is not None:
            _copy([rows_of.files[row["position"]] for row in rows], copy_to)
            results.print(f"{len(rows)} images copied to [bold]{shown(quote(str(copy_to)))}[/]", soft_wrap=True)
        if target is not None:
            results.print(f"{len(rows)} rows written to [bold]{shown(target)}[/]", soft_wrap=True)


def _read(
    repurposer: "Repurposer",
    pool: list[Path],
    table: Path | None,
    input_column: str | None,
    label_column: str | None,
    on_error: OnError,
) -> Pool:
    if table is None:
        return pool_at(repurposer, pool, on_error)
    return pool_in_table(repurposer, table, input_column, label_column, on_error)


def _check_is_free(directory: Path) -> None:
    """Raise OSError unless there is nothing at `directory`, or an empty directory."""
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(f"{directory} is a file; give a new or empty directory to copy to")
    if directory.exists() and any(directory.iterdir()):
        raise FileExistsError(f"{directory} is not empty; give a new or empty directory to copy to")


def _told_in(file: Path) -> dict[str, Any]:
    """Read what --json wrote. Raises ValueError for another file."""
    text = file.read_text(encoding="utf-8", errors="surrogateescape")
    with suppress(ValueError):
        told = json.loads(text)
        if isinstance(told, dict) and isinstance(told.get("rows"), list) and "expected_log_loss" in told:
            return told
    raise ValueError(f"{file} is not what `repurpose suggest --json` wrote")


def _shown(rows: list[Row], kind: str) -> Table:
    table = Table(kind.removesuffix("s"), "would be", "score")
    table.columns[0].overflow = "fold"
    table.columns[2].justify = "right"
    for row in rows:
        name = str(row[_NAMES[kind]])
        label, score = shown(str(row["label"])), f"{row['score']:.4f}"
        table.add_row(shown(beginning(name) if kind == "texts" else name), label, score)
    return table


def _tell(results: Console, notes: dict[str, Any], kind: str, then: dict[str, Any] | None) -> None:
    """Print what is expected, and of earlier suggestions (`then`) what was, beside what came."""
    expected = f"over the {notes['n_rows']} {kind} a log loss of {notes['expected_log_loss']:.3f} is expected"
    if "expected_drop" in notes:
        expected += f"; these labels should take {_drop(notes)} off it"
    results.print(f"{expected} ({notes['method']})", soft_wrap=True)
    if then is None:
        return
    before, was_expected = then["expected_log_loss"], ""
    if "expected_drop" in then:
        before, was_expected = then["log_loss_then"] + then["expected_drop"], f"{_drop(then)} was expected, and "
    came = before - notes["expected_log_loss"]
    results.print(f"of the labels since then {was_expected}{came:.4f} came: before them it was {before:.3f}")
    n_left = then["n_rows"] - len(then["rows"])
    if notes["n_rows"] != n_left:
        warned = f"of that pool {n_left} {kind} would be left, and this one has {notes['n_rows']}: it is another one"
        results.print(f"[yellow]Warning:[/] {warned}", soft_wrap=True)


def _drop(notes: dict[str, Any]) -> str:
    return f"{notes['expected_drop']:.4f} ± {notes['expected_drop_error']:.4f}"


def _copy(files: list[Path], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    width = len(str(len(files)))
    for rank, file in enumerate(files, start=1):
        shutil.copy2(file, directory / f"{rank:0{width}d}-{file.name}")
