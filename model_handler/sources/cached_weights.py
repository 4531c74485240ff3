"""Which file of pretrained weights a source's name stands for, and whether the caches of this machine have it.

torchvision keeps what it fetched in the `checkpoints` of `torch.hub.get_dir()`, and timm there or in the cache of the
Hugging Face Hub. Nothing is fetched here.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from model_handler.sources.hub_cache import Repository, hub_folder, hub_url
from model_handler.sources.weight_files import SUFFIX

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

__all__ = ["Place", "cached_by_timm", "file_of_checkpoint", "missing_weights", "place_at_timm"]

_OF_HUB = "pytorch_model.bin"  # what timm asks the Hub for where a model names no file; it prefers the safetensors
_SAFE = {_OF_HUB: "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}


@dataclass(frozen=True)
class Place:
    """Where weights come from: its address and name, the file, whether a cache has it, and how else to fetch it."""

    url: str
    is_on_hub: bool
    name: str
    file: str
    is_cached: bool
    how_elsewhere: str


def missing_weights(name: str, pretrained: bool = True) -> str | None:
    """Return the file of weights that `load_source(name)` would have to fetch, None where it would fetch nothing.

    That is so for weights in a cache, those of embedded sources and local files, names under which there is none, and
    libraries that are not installed; `load_source` says so of the last two. Without pretrained weights, the files are
    those of the architecture and the preprocessing, which the Hugging Face Hub alone has.
    """
    architecture, equals, file = name.partition("=")
    if equals and file.lower().endswith(SUFFIX):
        return missing_weights(architecture, pretrained=False)  # the weights are in a file
    library, _, model = name.partition("/")
    if not model:
        return None
    if library in ("hf", "sentence-transformers"):
        repository = Repository.parse(library, model)
        return None if repository is None else repository.missing(pretrained)
    if not pretrained or library not in _MISSING_OF or find_spec(library) is None:
        return None
    return _MISSING_OF[library](model)


def file_of_checkpoint(url: str) -> Path:
    """Return the file in which torch keeps the weights of that address, whether it is there or not."""
    import torch

    return Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(url).path).name)


def cached_by_timm(model: str) -> Path | None:
    """Return the safetensors file of a model of timm in the cache of the Hub, None where it is not there."""
    config = _config_of(model)
    if config is None or not config.hf_hub_id:
        return None
    safe = _files_on_hub(config)[0]
    return _in_hub_cache(config, safe) if safe.endswith(".safetensors") else None


def place_at_timm(model: str) -> Place | None:
    """Return where timm has the weights of a model from; None where it has none, or they come with it."""
    config = _config_of(model)
    if config is None:
        return None
    if not config.hf_hub_id:
        if not isinstance(config.url, str):
            return None
        file = file_of_checkpoint(config.url)
        elsewhere = f"curl -LO {config.url}, and put the file here as {file}"
        return Place(
            config.url, False, urlparse(config.url).netloc, f"{file}, from {config.url}", file.is_file(), elsewhere
        )
    files = _files_on_hub(config)
    return Place(
        hub_url(),
        True,
        "the Hugging Face Hub",
        f"{files[0]} of {config.hf_hub_id} on the Hugging Face Hub",
        any(_in_hub_cache(config, file) for file in files),
        f"`hf download {config.hf_hub_id} {files[0]}`, and copy its folder into {hub_folder()} here",
    )


def _missing_of_torchvision(model: str) -> str | None:
    from torchvision import models

    name, _, tag = model.partition(":")
    if name not in models.list_models(module=models):
        return None
    weights = models.get_model_weights(name)
    if tag and tag not in weights.__members__:
        return None
    url = (weights[tag] if tag else weights.DEFAULT).url
    file = file_of_checkpoint(url)
    return None if file.is_file() else f"{file}, from {url}"


def _missing_of_timm(model: str) -> str | None:
    place = place_at_timm(model)
    return None if place is None or place.is_cached else place.file


_MISSING_OF = {"torchvision": _missing_of_torchvision, "timm": _missing_of_timm}


def _config_of(model: str) -> "PretrainedCfg | None":
    """Return what timm knows of the weights of a model; None where it has none."""
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(model)
    return config if config is not None and config.has_weights else None


def _files_on_hub(config: "PretrainedCfg") -> list[str]:
    """List the files that timm asks the Hub for, in its order."""
    file = config.hf_hub_filename or _OF_HUB
    safe = _SAFE.get(file, file.removesuffix(".bin") + ".safetensors" if file.endswith(".bin") else file)
    return list(dict.fromkeys([safe, file]))


def _in_hub_cache(config: "PretrainedCfg", file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = str(config.hf_hub_id).partition("@")
    found = try_to_load_from_cache(repository, file, revision=revision or None)
    return Path(found) if isinstance(found, str) else None  # else it is not there, or known not to be on the Hub
