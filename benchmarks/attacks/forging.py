"""Files as one makes them who knows the format: manifests and files whose hashes are right."""

from hashlib import sha256
from pathlib import Path
from typing import Any

from model_handler.files.canonical_json import canonical


def signed(content: Any, files: Any) -> str:
    """The text of a manifest whose hash is right."""
    whole = {"content": content, "files": files}
    return canonical({**whole, "sha256": sha256(canonical(whole).encode()).hexdigest()})


def forged_file(folder: Path, name: str, data: bytes) -> dict[str, Any]:
    """Write a file under its name with its hash: the entry that names it in a manifest."""
    digest = sha256(data).hexdigest()
    stem, _, suffix = name.rpartition(".")
    file = f"{stem}-{digest[:32]}.{suffix}"
    (folder / file).write_bytes(data)
    return {"file": file, "size": len(data), "sha256": digest}
