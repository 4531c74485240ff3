"""What is in the files of a saved repurposer, and how an attacker who knows the format would change them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.attacks.forging import forged_file, manifest_text
from repurpose.persistence.container.generations import MANIFEST


def plan_of(folder: Path) -> dict[str, Any]:
    """What the manifest says of the repurposer."""
    return json.loads((folder / MANIFEST).read_text())["content"]


def files_of(folder: Path) -> dict[str, Path]:
    """The files that the manifest names, by what they are called there."""
    entries = json.loads((folder / MANIFEST).read_text())["files"]
    return {name: folder / entry["file"] for name, entry in entries.items()}


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change what the manifest says of the repurposer, and make its hash right again."""
    whole = json.loads((folder / MANIFEST).read_text())
    change(whole["content"])
    (folder / MANIFEST).write_text(manifest_text(whole["content"], whole["files"]))


def edit_files(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change what the manifest says of its files, and make its hash right again."""
    whole = json.loads((folder / MANIFEST).read_text())
    change(whole["files"])
    (folder / MANIFEST).write_text(manifest_text(whole["content"], whole["files"]))


def exchange(folder: Path, name: str, data: bytes) -> None:
    """Give a file other bytes, and make all hashes and sizes right again."""
    entry = forged_file(folder, name, data)
    edit_files(folder, lambda files: files.update({name: entry}))
