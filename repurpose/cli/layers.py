"""`repurpose layers` lists the layers of a network, and which of them `train` takes where none is named."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from repurpose.cli.output.screen import console

__all__ = ["layers"]


def layers(
    source: Annotated[str, typer.Argument(help="A name, such as those that `repurpose sources` lists.")],
) -> None:
    """List the layers of a network in order of execution, with types and output shapes."""
    from model_handler import ModelHandler, load_source
    from model_handler.sources import blank_input

    loaded = load_source(source, pretrained=False)  # names and shapes need no weights, and no download
    handler = ModelHandler(loaded, example_inputs=blank_input(loaded.transform))
    table = Table("layer", "type", "output shape", "parameters")
    for layer in handler.layers:
        shape = " x ".join(map(str, layer.output_shape[1:])) if layer.output_shape else ""
        table.add_row(escape(layer.name), layer.type, shape, f"{layer.n_parameters:,}" if layer.n_parameters else "")
    console.print(table)
    if (default := handler.default_layer) is not None:
        console.print(f"train takes [bold]{escape(default)}[/] where no --layer is given")
    else:
        console.print(
            "train needs a --layer here: the network does not end in a linear layer, whose input it would take"
        )
