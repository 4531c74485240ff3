"""`repurpose extract` writes features of images or texts to a directory of shards, and goes on after a break."""

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from repurpose.cli.methods import source_reads_text
from repurpose.cli.output.mistakes import UsageMistake
from repurpose.cli.output.screen import aside, console, shown
from repurpose.cli.reading.images import InputColumn, LabelColumn, OnError, OnErrorOption, TableOption
from repurpose.cli.reading.table import LABEL, PATH, TEXT

if TYPE_CHECKING:
    from model_handler import ModelHandler, ShardedFeatures

__all__ = ["extract"]


class Pooling(StrEnum):
    """How an output of more than two axes becomes a row."""

    AUTO = "auto"
    AVG = "avg"
    MAX = "max"
    CLS = "cls"
    FLATTEN = "flatten"


def extract(
    source: Annotated[str, typer.Argument(help="The network: a name that `repurpose sources` lists, or a directory.")],
    out: Annotated[Path, typer.Option(help="The directory of the features; one that was begun is gone on with.")],
    data: Annotated[
        list[str] | None,
        typer.Argument(
            help="A folder of images, or tar files as WebDataset has them, such as 'photos-{000..012}.tar'."
        ),
    ] = None,
    table: TableOption = None,
    input_column: InputColumn = None,
    label_column: LabelColumn = None,
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", "--layers", help="A layer; may be repeated. Default: the last before the classifier."),
    ] = None,
    pooling: Annotated[Pooling, typer.Option(help="How the places of a layer's output are brought together.")] = (
        Pooling.AUTO
    ),
    rows_per_shard: Annotated[int, typer.Option(min=1, help="Rows a file: what a break costs at most.")] = 10_000,
    on_error: OnErrorOption = OnError.RAISE,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows a step.")] = 32,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images; with none, a thread does.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    key: Annotated[
        str | None, typer.Option(help="Text for what cannot be known otherwise, such as a network's own code.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write what was done to standard output as JSON.")] = False,
) -> None:
    """Extract the features of any number of images or texts; the same command goes on after a break."""
    from model_handler import ModelHandler
    from model_handler.default_layer import default_layer
    from repurpose.source import open_source

    if (table is None) == (not data):
        raise UsageMistake("give a folder of images or tar files, or a --table" + (", not both" if data else ""))
    if table is not None and on_error is OnError.SKIP:
        raise UsageMistake("--on-error skip is for folders; every row of a table is wanted")
    started = time.perf_counter()
    given = _given(data or [], on_error) if table is None else _rows(table, source, input_column, label_column)
    options: dict[str, Any] = {"device": device, "batch_size": batch_size, "num_workers": workers}
    handler = ModelHandler(open_source(source), **options)
    names = layer or [default_layer(handler, "layer_names")]
    if not as_json:
        aside.print(shown(_left(out)), soft_wrap=True)
    more: dict[str, Any] = {"pooling": pooling.value, "rows_per_shard": rows_per_shard, "key": key}
    try:
        features = handler.extract_to(out, given, names, **more)
    except KeyboardInterrupt as error:
        aside.print(f"[bold]Interrupted:[/] {shown(_left(out))}", soft_wrap=True)
        raise typer.Exit(130) from error
    _report(out, handler, features, time.perf_counter() - started, as_json)


def _given(data: list[str], on_error: OnError) -> Any:
    from model_handler import ImageFolderData, TarShards
    from model_handler.data.tar.tar_shards import names_tars

    if all(map(names_tars, data)):
        if on_error is OnError.SKIP:
            raise UsageMistake("--on-error skip is for folders; tar files are read whole")
        return TarShards(data)
    if len(data) > 1:
        raise UsageMistake(f"give one folder of images, or tar files alone, got {' '.join(data)}")
    return ImageFolderData(data[0], on_error=on_error.value)


def _rows(table: Path, source: str, input_column: str | None, label_column: str | None) -> Any:
    from repurpose import TableData

    column = input_column or (TEXT if source_reads_text(source) else PATH)
    label = label_column
    if label is None and LABEL in TableData(table, input=column).columns:
        label = LABEL
    return TableData(table, input=column, label=label)


def _left(out: Path) -> str:
    """Say what is there, and how to go on after a break."""
    n_shards = len(list(out.glob("shard-*.safetensors"))) if out.is_dir() else 0
    finished = f"{n_shards} finished shard{'s' * (n_shards != 1)}"
    return f"{out} has {finished}; after a break, the same command goes on behind them"


def _report(
    out: Path, handler: "ModelHandler", features: "ShardedFeatures | None", seconds: float, as_json: bool
) -> None:
    if as_json:
        typer.echo(json.dumps({"out": str(out), "seconds": round(seconds, 3), **_plain(features)}, indent=1))
        return
    if features is None:
        console.print(f"{shown(out)}: the shards of this process are written; those of others are missing yet")
        return
    widths = ", ".join(f"{name}: {width}" for name, width in features.widths.items())
    console.print(
        f"{shown(out)}: {len(features)} rows of {shown(handler.name)} in {seconds:.1f} s; features of {shown(widths)}",
        soft_wrap=True,
    )
    console.print(f"next, in Python: Features.open({str(out)!r})", soft_wrap=True)


def _plain(features: "ShardedFeatures | None") -> dict[str, Any]:
    if features is None:
        return {"complete": False}
    return {
        "complete": True,
        "n_rows": len(features),
        "layers": features.widths,
        "has_labels": features.labels is not None,
        "class_names": features.class_names,
        "skipped": features.skipped,
    }
