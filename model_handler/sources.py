"""Sources: pretrained networks by name, each with its own preprocessing.

`efficientnet-lite0` is installed with this package (`embedded_source`); names under `torchvision/` and `timm/` are
built, and their weights fetched, by those libraries.
"""

import inspect
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from threading import Lock
from typing import Any

import torch
from torch import nn

from model_handler.cached_weights import cached_by_timm
from model_handler.embedded_source import EMBEDDED, WITH_BICUBIC_RESIZE, efficientnet_lite0
from model_handler.errors import nearest, with_fix
from model_handler.network.ambient_modes import undisturbed

__all__ = [
    "EMBEDDED",
    "Source",
    "SourceUnavailableError",
    "UnknownSourceError",
    "blank_image",
    "load_source",
    "no_source",
]

_HUBS = ("huggingface_hub", "timm")  # the loggers that tell of each try
# Of `_quiet_hubs`: the levels as they were, and an entry for each thread that is inside.
_QUIET = Lock()
_levels: dict[logging.Logger, int] = {}
_in_quiet: list[None] = []
_WEIGHTS = (".bin", ".ckpt", ".pkl", ".pt", ".pth", ".safetensors")  # of the files that hold them


class SourceUnavailableError(OSError):
    """The weights of a source could not be fetched."""


class UnknownSourceError(ValueError):
    """A name under which there is no source."""


@dataclass(frozen=True, eq=False, repr=False)
class Source:
    """A network with its preprocessing: `transform` makes of a PIL image in RGB the tensor that the network takes.

    >>> from torch import nn
    >>> from torchvision.transforms.functional import to_tensor
    >>> from model_handler import ModelHandler, Source
    >>> source = Source(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), transform=to_tensor, name="mine")
    >>> ModelHandler(source)
    ModelHandler(mine, 2 layers, traced)
    """

    network: nn.Module
    transform: Callable[[Any], Any] | None = None
    name: str | None = None

    def __repr__(self) -> str:
        return f"Source({self.name or 'unnamed'}: {type(self.network).__name__})"


@undisturbed()
def load_source(name: str, *, pretrained: bool = True) -> Source:
    """Return the network of that name in eval mode, with its own preprocessing.

    Parameters
    ----------
    name : str
        "efficientnet-lite0" (its ImageNet weights are installed with this package), "torchvision/NAME" for an image
        classifier of torchvision, such as "torchvision/resnet50", or "timm/NAME" for a model of timm.
        "efficientnet-lite0-bicubic" is the same with a bicubic resize at all sizes, which the former had at first.
    pretrained : bool
        False gives random weights and the same preprocessing, and downloads nothing.

    Raises
    ------
    UnknownSourceError
        A ValueError, if there is no such name; the nearest ones are named, and of a file what to do with it.
    ValueError
        If there are no pretrained weights.
    ImportError
        If the library that the name asks for is not installed.
    SourceUnavailableError
        An OSError, if the weights cannot be fetched.

    Examples
    --------
    >>> from model_handler import load_source
    >>> source = load_source("torchvision/squeezenet1_1", pretrained=False)
    >>> source
    Source(torchvision/squeezenet1_1: SqueezeNet)
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a source must be text such as {EMBEDDED!r}, got {type(name).__name__}")
    prefix, slash, model = name.partition("/")
    embedded = efficientnet_lite0 if name in (EMBEDDED, WITH_BICUBIC_RESIZE) else None
    load = _LIBRARIES.get(prefix) if slash else embedded
    if load is None:
        raise _unknown_name(name)
    with _untouched_generator(pretrained):
        network, transform = load(model if slash else name, pretrained)
    return Source(network.eval(), transform, name)


def blank_image(transform: Callable[[Any], Any] | None) -> torch.Tensor | None:
    """Return what a preprocessing makes of a grey image, as a batch of one; None if it makes no tensor of it.

    Torch's generator is left as it was, should the preprocessing be random.
    """
    if transform is None:
        return None
    from PIL import Image

    with torch.random.fork_rng(devices=[]):
        try:
            made = transform(Image.new("RGB", (64, 64), "grey"))
        except Exception:  # it may be for something else than images
            return None
    return made[None] if isinstance(made, torch.Tensor) else None


def _torchvision(model: str, pretrained: bool) -> tuple[nn.Module, Callable[[Any], Any]]:
    try:
        from torchvision import models
    except ImportError as error:
        raise ImportError(f"'torchvision/{model}' needs torchvision: pip install torchvision ({error})") from error

    known = models.list_models(module=models)
    if model not in known:
        raise UnknownSourceError(_unknown_in("torchvision", model, known))
    weights = models.get_model_weights(model).DEFAULT
    with warnings.catch_warnings(), _fetching(f"torchvision/{model}"):
        warnings.filterwarnings("ignore", "The default weight initialization", FutureWarning)  # googlenet, inception_v3
        options = {} if pretrained else _options_with_weights(model, weights)
        network = models.get_model(model, weights=weights if pretrained else None, **options)
    return network, weights.transforms()


def _options_with_weights(model: str, weights: Any) -> dict[str, Any]:
    """Return the options of an architecture that torchvision sets where it is given weights."""
    if model in ("googlenet", "inception_v3"):
        return {"transform_input": True}
    if model.startswith("vit_"):
        return {"image_size": weights.meta["min_size"][0]}
    return {"input_size": weights.meta["min_size"]} if model == "maxvit_t" else {}


def _timm(model: str, pretrained: bool) -> tuple[nn.Module, Callable[[Any], Any]]:
    try:
        import timm
    except ImportError as error:
        raise ImportError(f"'timm/{model}' needs timm: pip install timm ({error})") from error

    architecture, _, tag = model.partition(".")
    if not timm.is_model(architecture):
        raise UnknownSourceError(_unknown_in("timm", model, timm.list_models()))
    tagged = timm.list_pretrained(f"{architecture}.*") + timm.list_pretrained(architecture)
    if tag and model not in tagged:
        raise UnknownSourceError(_unknown_in("timm", model, tagged or [architecture]))
    if pretrained and not tagged:
        raise with_fix(ValueError, f"'timm/{model}' has no pretrained weights", python=_random_weights(f"timm/{model}"))
    # What is in the cache is taken as it is: the Hub would be asked whether it has a newer one.
    cached = cached_by_timm(model) if pretrained else None
    with _fetching(f"timm/{model}"):
        network = timm.create_model(
            model, pretrained=pretrained, pretrained_cfg_overlay={"file": str(cached)} if cached else None
        )
    return network, timm.data.create_transform(**timm.data.resolve_data_config({}, model=network), is_training=False)


_PLACES = {"torchvision": " from download.pytorch.org", "timm": " from the Hugging Face Hub"}
_LIBRARIES = {"torchvision": _torchvision, "timm": _timm}


@contextmanager
def _untouched_generator(pretrained: bool) -> Iterator[None]:
    """Keep the user's generator as it is while a network is built whose initial weights are overwritten anyway."""
    if pretrained:
        with torch.random.fork_rng(devices=[]):
            yield
    else:
        yield


@contextmanager
def _fetching(name: str) -> Iterator[None]:
    """Turn what a download raises into one error that says what can be done, and leave out its lines for each try."""
    try:
        with _quiet_hubs():
            yield
    except Exception as error:
        if not _is_download_failure(error):
            raise
        place = _PLACES.get(name.partition("/")[0], "")
        raise with_fix(
            SourceUnavailableError,
            f"the weights of {name!r} could not be fetched{place} ({_root_cause(error)}). "
            f"Check the network and try again, or use {EMBEDDED!r}, whose weights are installed",
            python=_random_weights(name),
        ) from error


@contextmanager
def _quiet_hubs() -> Iterator[None]:
    """Let the loggers of hubs report errors alone in this block.

    Levels belong to the whole process: the first thread that comes in notes them, the last one to leave puts them back.
    """
    with _QUIET:
        if not _levels:
            _levels.update({logger: logger.level for logger in map(logging.getLogger, _HUBS)})
        _in_quiet.append(None)
        for logger in _levels:
            logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        with _QUIET:
            _in_quiet.pop()
            if not _in_quiet:
                for logger, level in _levels.items():
                    logger.setLevel(level)
                _levels.clear()


def _root_cause(error: BaseException) -> str:
    """Return what went wrong at the bottom of it: where no host was found, the hub's own error tells of its cache."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"


def _random_weights(name: str) -> str:
    return f"for random weights give load_source({name!r}, pretrained=False) as the source"


def no_source(value: object, what: str = "the source") -> TypeError:
    """Make the error for what is no network, `Source` or name, with what it takes to make a network of it."""
    if isinstance(value, PathLike):
        return TypeError(str(_unknown_file(fspath(value))))
    got = fix = ""
    if isinstance(value, type) or inspect.isroutine(value):
        kind = "class" if isinstance(value, type) else "function"
        got, fix = f"the {kind} {value.__name__}", f"; call the {kind} to make a network: {value.__name__}(...)"
    elif isinstance(value, Mapping):
        got = (
            f"{type(value).__name__} with the keys {', '.join(map(repr, list(value)[:3]))}{', ...' * (len(value) > 3)}"
        )
        fix = "; weights are no network: make the one they belong to, network.load_state_dict(weights), and give that"
    kinds = f"a torch.nn.Module, a Source, or a name such as 'torchvision/resnet50' or {EMBEDDED!r}"
    return TypeError(f"{what} must be {kinds}, got {got or type(value).__name__}{fix}")


def _unknown_name(name: str) -> UnknownSourceError:
    if name.lower().endswith(_WEIGHTS) or os.path.isfile(name):
        return _unknown_file(name)
    if not os.path.isdir(name):
        return UnknownSourceError(_unknown(name))
    return with_fix(
        UnknownSourceError,
        _unknown(name),
        python=f"if a Repurposer was saved in the directory of this name, read it by repurpose.load({name!r})",
        shell="if it is a directory that `repurpose train` wrote, give it to `repurpose predict`",
    )


def _unknown_file(name: str) -> UnknownSourceError:
    """Return what to do with a file that was given as a source, which may hold weights."""
    said = f"{name!r} is not a source, which is a network or a name such as {EMBEDDED!r} or 'torchvision/resnet50'"
    if not name.lower().endswith(_WEIGHTS):
        return UnknownSourceError(said)
    read = "safetensors.torch.load_file" if name.lower().endswith(".safetensors") else "torch.load"
    return with_fix(
        UnknownSourceError,
        said,
        python=f"if the file holds weights, make the network they belong to, "
        f"network.load_state_dict({read}({name!r})), and give that network",
        shell="weights of your own need Python: load them into their network, and give that to LrRepurposer",
    )


def _is_download_failure(error: Exception) -> bool:
    """Return whether a download raised an error.

    OSError covers urllib and files, HTTP clients raise their own, and a bad hash is a RuntimeError of torch's.
    """
    roots = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    clients = {"huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"}
    return isinstance(error, OSError) or bool(roots & clients) or "invalid hash value" in str(error)


def _unknown(name: str) -> str:
    known = _names()
    bare = name.rpartition("/")[2]
    prefixed = [candidate for candidate in known if bare and candidate.partition("/")[2] == bare]
    near = prefixed or nearest(name, known)
    kinds = f"{EMBEDDED!r}, 'torchvision/NAME' or 'timm/NAME'"
    return f"there is no source named {name!r}; the nearest names are {near}. A name is {kinds}"


def _unknown_in(library: str, model: str, known: list[str]) -> str:
    near = [f"{library}/{candidate}" for candidate in nearest(model, known)]
    return f"there is no source named '{library}/{model}'; the nearest names are {near}"


def _names() -> list[str]:
    """Return every name there is, as far as the libraries are installed."""
    names = [EMBEDDED, WITH_BICUBIC_RESIZE]
    try:
        from torchvision import models

        names += [f"torchvision/{model}" for model in models.list_models(module=models)]
    except ImportError:
        pass
    try:
        import timm

        names += [f"timm/{model}" for model in timm.list_models()]
    except ImportError:
        pass
    return names
