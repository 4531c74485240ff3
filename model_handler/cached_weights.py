"""Which file of pretrained weights a source's name stands for, and whether the caches of this machine have it.

torchvision keeps what it fetched in the `checkpoints` of `torch.hub.get_dir()`, and timm there or in the cache of the
Hugging Face Hub. Nothing is fetched here.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

__all__ = ["cached_by_timm", "missing_weights"]

_OF_HUB = "pytorch_model.bin"  # what timm asks the Hub for where a model names no file; it prefers the safetensors
_SAFE = {_OF_HUB: "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}


def missing_weights(name: str) -> str | None:
    """Return the file of weights that `load_source(name)` would have to fetch, None where it would fetch nothing.

    That is so for weights in a cache, those of the embedded source, names under which there is none, and libraries that
    are not installed; `load_source` says so of the last two.
    """
    library, _, model = name.partition("/")
    if not model or library not in _MISSING_OF or find_spec(library) is None:
        return None
    return _MISSING_OF[library](model)


def cached_by_timm(model: str) -> Path | None:
    """Return the safetensors file of a model of timm in the cache of the Hub, None where it is not there."""
    place = _place_of(model)
    if place is None or not place.hf_hub_id:
        return None
    safe = _files_on_hub(place)[0]
    return _in_hub_cache(place, safe) if safe.endswith(".safetensors") else None


def _missing_of_torchvision(model: str) -> str | None:
    from torchvision import models

    if model not in models.list_models(module=models):
        return None
    return _missing_from_checkpoints(models.get_model_weights(model).DEFAULT.url)


def _missing_of_timm(model: str) -> str | None:
    place = _place_of(model)
    if place is None or not place.hf_hub_id:
        url = None if place is None else place.url
        return _missing_from_checkpoints(url) if isinstance(url, str) else None
    files = _files_on_hub(place)
    if any(_in_hub_cache(place, file) for file in files):
        return None
    return f"{files[0]} of {place.hf_hub_id} on the Hugging Face Hub"


_MISSING_OF = {"torchvision": _missing_of_torchvision, "timm": _missing_of_timm}


def _missing_from_checkpoints(url: str) -> str | None:
    import torch

    file = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(url).path).name)
    return None if file.is_file() else f"{file}, from {url}"


def _place_of(model: str) -> "PretrainedCfg | None":
    """Return where timm has the weights of a model from; None where it has none."""
    from timm.models import get_pretrained_cfg

    place = get_pretrained_cfg(model)
    return place if place is not None and place.has_weights else None


def _files_on_hub(place: "PretrainedCfg") -> list[str]:
    """List the files that timm asks the Hub for, in its order."""
    file = place.hf_hub_filename or _OF_HUB
    safe = _SAFE.get(file, file.removesuffix(".bin") + ".safetensors" if file.endswith(".bin") else file)
    return list(dict.fromkeys([safe, file]))


def _in_hub_cache(place: "PretrainedCfg", file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = str(place.hf_hub_id).partition("@")
    found = try_to_load_from_cache(repository, file, revision=revision or None)
    return Path(found) if isinstance(found, str) else None  # else it is not there, or known not to be on the Hub
