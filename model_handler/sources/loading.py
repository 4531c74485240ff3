"""What a name of a source means: the part before the first slash is the library that the rest is looked up in.

Without a slash it is one whose weights are installed (`embedded`); a directory is one that `save_pretrained` wrote.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from model_handler.errors import with_fix
from model_handler.network.ambient_modes import undisturbed
from model_handler.sources.cached_weights import missing_weights
from model_handler.sources.embedded import EMBEDDED, INSTALLED, load_embedded
from model_handler.sources.hub_cache import SENTENCES, Repository
from model_handler.sources.naming import unknown_name
from model_handler.sources.sentence_encoders import MODULES, load_sentence_encoder
from model_handler.sources.source import Source, SourceUnavailableError, UnknownSourceError
from model_handler.sources.timm_models import load_of_timm
from model_handler.sources.torchvision_models import load_of_torchvision
from model_handler.sources.transformers_models import load_whole_transformer
from model_handler.sources.weight_files import SUFFIX, load_with_weights

__all__ = ["LIBRARIES", "load_source"]


@undisturbed()
def load_source(name: str, *, pretrained: bool = True, download: bool = True) -> Source:
    """Return the network of that name in eval mode, with its own preprocessing.

    Files on this machine are taken first, then one attempt is made to fetch what is missing. Code that comes with
    weights is never run.

    Parameters
    ----------
    name : str
        One of these:

        - "efficientnet-lite0" (its ImageNet weights are installed with this package), "efficientnet-lite1",
          "efficientnet-lite2" and the text encoder "minilm", where their packages are; "efficientnet-lite0-bicubic" is
          the first with a bicubic resize at all sizes, which it had at first;
        - "torchvision/NAME" or "torchvision/NAME:TAG" for an image classifier of torchvision and its weights by tag,
          such as "torchvision/resnet50:IMAGENET1K_V1";
        - "timm/NAME" or "timm/NAME.TAG" for a model of timm;
        - "hf/ORG/NAME" for an encoder of images or text on the Hugging Face Hub, and "sentence-transformers/NAME" for a
          sentence encoder (of that organisation, or "sentence-transformers/ORG/NAME"); "@REVISION" behind it names a
          branch, tag or commit. The name of the source has the commit;
        - a directory that `save_pretrained` of transformers or sentence-transformers wrote;
        - "torchvision/NAME=FILE.safetensors", or another architecture, for weights of your own.
    pretrained : bool
        False gives random weights and the same preprocessing; no weights are downloaded.
    download : bool
        Whether what is missing on this machine may be fetched.

    Raises
    ------
    UnknownSourceError
        A ValueError, if there is no such name; the nearest ones are named, and of a file what to do with it.
    ValueError
        If there are no pretrained weights, they do not fit, or the network would need code of its own.
    ImportError
        If the library that the name asks for is not installed.
    SourceUnavailableError
        An OSError, if the weights cannot be fetched, after ten seconds at most where nothing answers.

    Examples
    --------
    >>> from model_handler import load_source
    >>> source = load_source("torchvision/squeezenet1_1", pretrained=False)
    >>> source
    Source(torchvision/squeezenet1_1: SqueezeNet)
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a source must be text such as {EMBEDDED!r}, got {type(name).__name__}")
    if not download and (missing := missing_weights(name, pretrained)):
        raise with_fix(
            SourceUnavailableError,
            f"{name!r} is not wholly on this machine, and nothing was fetched ({missing})",
            python="load_source(name, download=True) fetches it",
            between=": ",
        )
    with _untouched_generator(pretrained or "=" in name):
        source = _loaded(name, pretrained)
    return replace(source, network=source.network.eval(), name=source.name or name)


def _loaded(name: str, pretrained: bool) -> Source:
    architecture, equals, file = name.partition("=")
    if equals and file.lower().endswith(SUFFIX):
        return load_with_weights(file, name, lambda n_classes: _built(architecture, n_classes))
    library, slash, model = name.partition("/")
    if slash and model and (load := LIBRARIES.get(library)):
        return load(model, pretrained)
    if name in INSTALLED:
        return load_embedded(name, pretrained)
    folder = Path(name)
    if name and os.path.isfile(folder / MODULES):  # unlike Path.is_file, also where the name is too long for a file
        return load_sentence_encoder(folder, name, pretrained)
    if name and os.path.isfile(folder / "config.json"):
        return load_whole_transformer(folder, name, pretrained)
    raise unknown_name(name)


def _built(architecture: str, n_classes: int | None) -> Source:
    """Build an architecture by name, with as many classes as weights of its user's have."""
    library, _, model = architecture.partition("/")
    if n_classes is not None and library in _WITH_CLASSES:
        return _WITH_CLASSES[library](model, False, n_classes)
    return _loaded(architecture, pretrained=False)


def _of_hub(library: str) -> Callable[[str, bool], Source]:
    def load(model: str, pretrained: bool) -> Source:
        repository = Repository.parse(library, model)
        if repository is None:
            raise UnknownSourceError(
                f"there is no source named '{library}/{model}': of the Hugging Face Hub it is '{library}/ORG/NAME', or "
                f"'{library}/ORG/NAME@REVISION' with a branch, tag or commit"
            )
        folder = repository.fetched(pretrained)
        pinned = repository.pinned(folder).name
        if library == SENTENCES and (folder / MODULES).is_file():
            return replace(load_sentence_encoder(folder, pinned, pretrained), name=pinned)
        if library == SENTENCES:
            raise UnknownSourceError(
                f"{repository.id!r} has no {MODULES}, so it is no sentence encoder; 'hf/{repository.id}' reads its "
                "transformer alone"
            )
        return replace(load_whole_transformer(folder, pinned, pretrained), name=pinned)

    return load


LIBRARIES: dict[str, Callable[[str, bool], Source]] = {
    "torchvision": load_of_torchvision,
    "timm": load_of_timm,
    "hf": _of_hub("hf"),
    SENTENCES: _of_hub(SENTENCES),
}
_WITH_CLASSES = {"torchvision": load_of_torchvision, "timm": load_of_timm}


@contextmanager
def _untouched_generator(is_overwritten: bool) -> Iterator[None]:
    """Keep the user's generator as it is while a network is built whose initial weights are overwritten anyway."""
    if is_overwritten:
        with torch.random.fork_rng(devices=[]):
            yield
    else:
        yield
