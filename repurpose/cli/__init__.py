"""The command `repurpose`: train, predict and look at networks without writing Python; one command a module.

typer and rich are imported here and nowhere else in the package, and only when the command runs.
"""

__all__ = ["main"]


def main() -> None:
    """Run the command line given in `sys.argv`, and end the process with its exit code."""
    from repurpose.cli.app import app

    app()
