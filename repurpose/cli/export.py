"""`repurpose export` writes what train saved as one file of ONNX, compared with it on some rows before."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from repurpose.cli.output.mistakes import UsageMistake
from repurpose.cli.output.outputs import Output, check_file, told_when_interrupted
from repurpose.cli.output.screen import aside, console, shown
from repurpose.cli.reading.images import (
    Images,
    InputColumn,
    OnError,
    OnErrorOption,
    TableOption,
    images_at,
    images_in_table,
)

__all__ = ["export"]


def export(
    saved: Annotated[Path, typer.Argument(help="What train saved.")],
    onnx: Annotated[Path, typer.Option("--onnx", metavar="FILE", help="Where to write the file of ONNX.")],
    coverage: Annotated[float, typer.Option(help="How often sets of labels are to hold the right one.")] = 0.9,
    check: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Images on which the file is compared with the model; without labels too."),
    ] = None,
    table: TableOption = None,
    input_column: InputColumn = None,
    rows: Annotated[int, typer.Option(min=1, max=1000, help="On how many of them, spread over all.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="Write what was found to standard output as JSON.")] = False,
    on_error: OnErrorOption = OnError.RAISE,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the weights of its source network, if they are not here.")
    ] = False,
) -> None:
    """Write what train saved as one file of ONNX, which runs without this library: probabilities, sets and p-values."""
    import repurpose.offsite  # noqa: F401 (what plug-in saved is of a class that is defined there)
    from model_handler.data.text.text_transform import reads_text
    from repurpose import load

    if not 0 < coverage < 1:
        raise UsageMistake(f"--coverage must be above 0 and below 1, such as 0.9, got {coverage:g}")
    if check is not None and table is not None:
        raise UsageMistake("give --check FOLDER or --table FILE, not both")
    check_file(onnx)
    repurposer = load(saved, download=download)
    if not hasattr(repurposer, "export_onnx"):
        raise ValueError(f"{saved} holds a {type(repurposer).__name__}, which cannot be exported")
    is_text = reads_text(repurposer._reading()["transform"])
    if check is not None and is_text:
        raise UsageMistake(f"{saved} was trained on texts: give a --table of some, a CSV or Parquet file")
    if check is None and table is None and not hasattr(repurposer, "reference_answers_"):
        raise UsageMistake(
            f"the file is compared with {saved} on some rows: give " + ("--table FILE" if is_text else "--check FOLDER")
        )
    given = None
    if table is not None:
        given = images_in_table(table, input_column, None, on_error, labelled=False, reads_text=is_text)
    elif check is not None:
        given = images_at([check], on_error)
    with told_when_interrupted(Output.at(onnx)):
        report = repurposer.export_onnx(onnx, coverage, check_data=None if given is None else _spread(given, rows))
    if as_json:
        typer.echo(json.dumps(asdict(report)))
        return
    others = [len(found) for found in (report.other_labels, report.other_sets, report.other_p_values)]
    console.print(
        f"compared on {report.n_rows} rows: probabilities differ by at most {report.difference:.1e}; "
        f"{others[0]} labels, {others[1]} sets and {others[2]} p-values differ, where rounding decides",
        soft_wrap=True,
    )
    written = ", ".join(report.files)
    aside.print(f"{report.n_bytes / 1e6:.1f} MB written to [bold]{shown(written)}[/]", soft_wrap=True)


def _spread(given: Images, n_rows: int) -> list[Any]:
    """Return so many images or texts, spread over all, since those of a class often stand together."""
    found: list[Any] = given.names if given.kind == "texts" else given.files
    return found if len(found) <= n_rows else [found[row * len(found) // n_rows] for row in range(n_rows)]
