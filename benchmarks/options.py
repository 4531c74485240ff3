"""Types of the options of measurements, for argparse."""

import argparse
from pathlib import Path

__all__ = ["checkout", "existing_file", "positive"]


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def existing_file(text: str) -> Path:
    """A file that is there."""
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return Path(text)


def checkout(text: str) -> Path:
    """The root of a checkout of this project."""
    if missing := [name for name in ("model_handler", "repurpose") if not Path(text, name, "__init__.py").is_file()]:
        raise argparse.ArgumentTypeError(f"{text!r} is no checkout: it has no package {' and no '.join(missing)}")
    return Path(text).resolve()
