"""The commands are put together here, and end with exit code 0, 1 for files, data and network, 2 for what was typed.

Expected errors are one message without a traceback; an interruption from the keyboard ends with 130.
"""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from repurpose.cli.check import check
from repurpose.cli.demo import demo
from repurpose.cli.detect import detect
from repurpose.cli.export import export
from repurpose.cli.extract import extract
from repurpose.cli.layers import layers
from repurpose.cli.offsite import offsite
from repurpose.cli.output.mistakes import is_usage_mistake
from repurpose.cli.output.screen import aside, show_error, warnings_on_screen
from repurpose.cli.predict import predict
from repurpose.cli.rank import rank
from repurpose.cli.serve import serve
from repurpose.cli.sources import sources
from repurpose.cli.suggest import suggest
from repurpose.cli.train import train

__all__ = ["app"]

# What the library raises for a user's mistake or a machine's lack, as opposed to a defect of ours.
_EXPECTED = (ValueError, TypeError, OSError, ImportError, NotImplementedError)


class _Commands(TyperGroup):
    """A group of commands that shows expected errors without a traceback, unless --debug asks for it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with warnings_on_screen():
                return super().invoke(ctx)
        except BrokenPipeError:  # who read our output has gone, as `head` does: typer ends quietly
            raise
        except KeyboardInterrupt as error:
            aside.print("[bold]Interrupted[/]")
            raise typer.Exit(130) from error
        except _EXPECTED as error:
            if ctx.params.get("debug"):
                raise
            show_error(error)
            raise typer.Exit(2 if is_usage_mistake(error) else 1) from error


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Reuse a pretrained network for a new task.",
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "repurpose demo": demo,
    "repurpose train photos --out saved, or repurpose train --table reviews.csv --source minilm --out saved": train,
    "repurpose predict saved photos/new, or repurpose predict saved --table new.csv --csv answers.csv": predict,
    "repurpose check photos --csv doubtful.csv": check,
    "repurpose suggest saved unlabelled -n 20 --copy-to next": suggest,
    "repurpose serve saved --max-unfamiliarity 0.99": serve,
    "repurpose export saved --onnx model.onnx --check photos/new": export,
    "repurpose layers efficientnet-lite0": layers,
    "repurpose rank photos, or repurpose rank --table reviews.csv": rank,
    "repurpose sources resnet": sources,
    "repurpose extract efficientnet-lite0 photos --out features": extract,
}
for _example, _command in _COMMANDS.items():
    app.command(epilog=f"For example: {_example}")(_command)
app.add_typer(detect, name="detect")
app.add_typer(offsite, name="offsite")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"repurpose-torch {version('repurpose-torch')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options that stand before the command: repurpose --debug train ..."""
