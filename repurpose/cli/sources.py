"""`repurpose sources` lists the networks that have a name: installed, in the caches of this machine, and to fetch."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from repurpose.cli.output.screen import aside, console, shown

__all__ = ["sources"]


def sources(
    pattern: Annotated[
        str | None, typer.Argument(help="Only names with this in them, those known by name too; such as resnet.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write all of them to standard output as JSON.")] = False,
) -> None:
    """List the networks that --source takes by name: embedded, cached on this machine, and known by name."""
    from model_handler import list_sources
    from model_handler.sources import WITH_BICUBIC_RESIZE

    listed = [info for info in list_sources() if pattern is None or pattern.lower() in info.name.lower()]
    if as_json:
        typer.echo(json.dumps([asdict(info) for info in listed], indent=1))
        return
    here = [info for info in listed if info.where != "known" and info.name != WITH_BICUBIC_RESIZE]  # of old files alone
    rows = here if pattern is None else listed
    table = Table("name", "takes", "weights")
    for info in rows:
        table.add_row(shown(info.name), info.kind, _WEIGHTS[info.where])
    if rows:
        console.print(table)
    else:
        aside.print(f"no name that is known here has {shown(pattern)!r} in it")
    if n_more := sum(info.where == "known" for info in listed) if pattern is None else 0:
        aside.print(f"and {n_more} of torchvision and timm, to be downloaded: give a part of the name, or --json")
    aside.print(
        "of the Hugging Face Hub: hf/ORG/NAME, sentence-transformers/NAME; and directories that save_pretrained wrote"
    )


_WEIGHTS = {"embedded": "installed", "cached": "in a cache of this machine", "known": "to be downloaded"}
