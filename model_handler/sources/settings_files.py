"""The JSON files beside weights: read as data, and refused where they ask for code of their own."""

import json
from pathlib import Path
from typing import Any

from model_handler.errors import with_fix

__all__ = ["own_code", "read_json", "read_settings", "refuse_own_code"]


def read_settings(folder: Path, file: str, name: str) -> dict[str, Any]:
    """Return the settings in a JSON file of a folder; {} where there is none. Raises ValueError for a damaged one."""
    settings = read_json(folder, file, name)
    if not isinstance(settings, dict):
        raise ValueError(f"{file} of {name!r} holds no settings by name but {str(settings)[:40]}: {folder / file}")
    return settings


def read_json(folder: Path, file: str, name: str) -> Any:
    """Return what a JSON file of a folder holds; {} where there is none. Raises ValueError for a damaged one."""
    path = folder / file
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} of {name!r} is no JSON ({error}); fetch or write it again: {path}") from error


def refuse_own_code(folder: Path, name: str) -> None:
    """Raise ValueError where a model, tokenizer or processor asks for code that comes with its weights."""
    for file in ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"):
        settings = read_settings(folder, file, name)
        if settings.get("auto_map"):
            raise own_code(name, f"{file} has an auto_map", str(folder))


def own_code(name: str, why: str, folder: str) -> ValueError:
    """Make the error for what runs by code of its own, with how to load it oneself."""
    return with_fix(
        ValueError,
        f"{name!r} needs code that comes with its weights ({why}), which is never run here",
        python="where you have read that code and trust it, load the network yourself and give the nn.Module: "
        f"Source(transformers.AutoModel.from_pretrained({folder!r}, trust_remote_code=True), transform)",
    )
