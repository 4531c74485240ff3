"""Copies of saved things, opened to be changed: the plan, the arrays and the files, and how hashes are made right.

In the run "hashes made right" what is written has the sizes and hashes that it needs; in "without hashes" it has the
form of versions before there were any, where there was one.
"""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attacks.forging import forged_file
from model_handler.files.array_files import array_digest, little_endian, pieces_of, read_arrays
from model_handler.files.canonical_json import canonical

RUNS = ("as it is", "hashes made right", "without hashes")
Spelling = Callable[[str], str]


def _as_it_stands(text: str) -> str:
    return text


class Opened:
    """A saved repurposer: its plan is in `plan_file`, its further files are the `payloads`."""

    can_name_files = True
    arrays: dict[str, np.ndarray] | None = None  # of a thing of one file

    def __init__(self, path: Path, run: str) -> None:
        self.folder, self.run = path, run
        whole = json.loads((path / "manifest.json").read_text())
        self.content, self.files, self._hash = whole["content"], whole["files"], whole["sha256"]
        self.plan_file = path / "manifest.json"
        if run == "without hashes":
            self.can_name_files = False
            for name, entry in self.files.items():
                (path / entry["file"]).rename(path / name)
                entry["file"] = name
            self.plan_file.unlink()
            self.plan_file = path / "repurposer.json"
            self.write_content({**self.content, "format": 2})
        self.payloads = {name: path / entry["file"] for name, entry in self.files.items()}
        self.skops = [name for name in self.payloads if name.endswith(".skops")]

    def write_content(self, content: Any, spell: Spelling = _as_it_stands) -> None:
        """Write another plan; `spell` changes its text."""
        self.content = content
        self._write(spell)

    def write_files(self, files: Any) -> None:
        """Write another list of files."""
        self.files = files
        self._write(_as_it_stands)

    def write_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """Have no arrays of its own."""
        raise NotImplementedError

    def replace(self, name: str, data: bytes) -> None:
        """Write another file in the place of one."""
        if self.run == "hashes made right":
            self.files[name] = forged_file(self.folder, name, data)
            self._write(_as_it_stands)
        else:
            self.payloads[name].write_bytes(data)

    def _write(self, spell: Spelling) -> None:
        if self.run == "without hashes":
            text = spell(json.dumps(self.content))
        else:
            inner = spell(canonical({"content": self.content, "files": self.files}))
            found = sha256(inner.encode(errors="surrogatepass")).hexdigest()
            digest = found if self.run == "hashes made right" else self._hash
            text = f'{inner[:-1]},"sha256":"{digest}"}}'
        self.plan_file.write_text(text, encoding="utf-8", errors="surrogatepass")


class OpenedArrays(Opened):
    """A file of arrays with a text in its metadata: `Features`, of this version or the first, and checkpoints."""

    can_name_files = False

    def __init__(self, path: Path, run: str, kind: str) -> None:
        self.plan_file, self.run, self.kind = path, run, kind
        self.payloads, self.skops, self.files = {}, [], {}
        found = read_arrays(path)
        self.arrays, self.notes = found.arrays, found.notes
        self._text, self._hash_name = ("hashed_text", "text_sha256") if kind == "features" else ("checkpoint", "sha256")
        self._whole = json.loads(found.notes[self._text])
        self.content = self._whole["content"]
        if run == "without hashes" and kind == "features":
            self._write(_as_it_stands)

    def write_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """Write other arrays."""
        self.arrays = arrays
        if self.run == "hashes made right" and self.kind == "features":
            self._whole["arrays"] = {name: array_digest(array) for name, array in arrays.items()}
        elif self.run == "hashes made right":  # each has its hash for a name
            now = {name: array_digest(array) for name, array in arrays.items()}
            self.arrays = {now[name]: array for name, array in arrays.items()}
            self._whole["arrays"] = {key: now.get(name, name) for key, name in self._whole["arrays"].items()}
        self._write(_as_it_stands)

    def _write(self, spell: Spelling) -> None:
        assert self.arrays is not None
        if self.kind == "features" and self.run == "without hashes":
            content = self.content if isinstance(self.content, dict) else {"layer_names": self.content}
            notes = {str(name): spell(json.dumps(value)) for name, value in content.items()}
        else:
            text = spell(canonical({**self._whole, "content": self.content}))
            found = sha256(text.encode(errors="surrogatepass")).hexdigest()
            digest = found if self.run == "hashes made right" else self.notes[self._hash_name]
            notes = {self._text: text, self._hash_name: digest}
        self.plan_file.write_bytes(b"".join(pieces_of(little_endian(self.arrays), notes)))


def opened(kind: str, path: Path, run: str) -> Opened:
    """Open a copy of a `Target` of this kind."""
    return Opened(path, run) if kind in ("directory", "exchanged") else OpenedArrays(path, run, kind)
