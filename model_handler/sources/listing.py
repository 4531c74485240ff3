"""Which sources there are: installed with packages, in the caches of this machine, and known by name."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from model_handler.sources.cached_weights import file_of_checkpoint
from model_handler.sources.embedded import INSTALLED
from model_handler.sources.hub_cache import MAIN, SENTENCES, Repository, has_preprocessing, hub_folder
from model_handler.sources.sentence_encoders import MODULES

__all__ = ["SourceInfo", "list_sources"]


@dataclass(frozen=True)
class SourceInfo:
    """A source that `load_source` takes by `name`.

    `where` is "embedded" (its weights are installed), "cached" (they are in a cache of this machine) or "known" (they
    would be fetched); `kind` is what it takes, "image" or "text".

    >>> from model_handler import list_sources
    >>> [info.name for info in list_sources() if info.where == "embedded" and info.kind == "image"][0]
    'efficientnet-lite0'
    """

    name: str
    where: Literal["embedded", "cached", "known"]
    kind: Literal["image", "text"]


def list_sources() -> list[SourceInfo]:
    """List the sources by name: embedded ones first, then those in the caches of this machine, then others by name.

    Those of torchvision and timm are known by name; the Hugging Face Hub has many more. Nothing is fetched.

    >>> from model_handler import list_sources
    >>> list_sources()[0]
    SourceInfo(name='efficientnet-lite0', where='embedded', kind='image')
    """
    embedded = [
        SourceInfo(name, "embedded", "text" if needed.kind == "text" else "image")
        for name, needed in INSTALLED.items()
        if needed.is_installed
    ]
    cached = sorted({*_cached_of_hub(), *_cached_of_torchvision()}, key=lambda info: info.name)
    names = {info.name for info in cached}
    known = [SourceInfo(name, "known", "image") for name in _known() if name not in names]
    return embedded + cached + known


def _known() -> Iterator[str]:
    if find_spec("torchvision") is not None:
        from torchvision import models

        yield from (f"torchvision/{model}" for model in models.list_models(module=models))
    if find_spec("timm") is not None:
        import timm

        yield from (f"timm/{model}" for model in timm.list_pretrained())


def _cached_of_torchvision() -> Iterator[SourceInfo]:
    if find_spec("torchvision") is None or not file_of_checkpoint("x").parent.is_dir():
        return
    from torchvision import models

    files = {path.name for path in file_of_checkpoint("x").parent.iterdir()}
    for model in models.list_models(module=models):
        weights = models.get_model_weights(model)
        for tag in weights:
            if file_of_checkpoint(tag.url).name in files:
                name = f"torchvision/{model}" + ("" if tag == weights.DEFAULT else f":{tag.name}")
                yield SourceInfo(name, "cached", "image")


def _cached_of_hub() -> Iterator[SourceInfo]:
    if find_spec("huggingface_hub") is None:
        return
    for folder in sorted(hub_folder().glob("models--*")):
        repository = Repository("hf", folder.name.removeprefix("models--").replace("--", "/", 1))
        snapshot = repository.snapshot or next(iter(sorted((folder / "snapshots").glob("*"))), None)
        if snapshot is None:
            continue
        revision = MAIN if snapshot == repository.snapshot else snapshot.name
        if (name := _name_in_cache(repository.id, revision, snapshot)) is not None:
            yield SourceInfo(name, "cached", _kind(snapshot))


def _name_in_cache(identity: str, revision: str, snapshot: Path) -> str | None:
    """Return the name by which a repository in the cache is loaded; None for one that is no source, or not whole."""
    organisation, _, model = identity.rpartition("/")
    if organisation == "timm":
        return f"timm/{model}" if (snapshot / "model.safetensors").is_file() else None
    library = SENTENCES if (snapshot / MODULES).is_file() else "hf"
    repository = Repository(library, identity, revision)
    return None if repository.missing() else repository.name


def _kind(snapshot: Path) -> Literal["image", "text"]:
    """Return what a network takes, by the files beside it: tokenizers are files of many kinds, image processors one."""
    is_sentences = (snapshot / MODULES).is_file()
    is_image = (snapshot / "preprocessor_config.json").is_file() or not has_preprocessing(snapshot)
    return "image" if is_image and not is_sentences else "text"
