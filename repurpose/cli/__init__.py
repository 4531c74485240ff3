"""The command `repurpose` lives here: train, predict and look at networks without Python; one command a module.

typer and rich are imported here and nowhere else in the package, and only when the command runs.

May import: repurpose, data, domain, persistence, selection, model_handler.
"""

__all__ = ["main"]


def main() -> None:
    """Run the command line given in `sys.argv`, and end the process with its exit code."""
    from repurpose.cli.app import app

    app()
