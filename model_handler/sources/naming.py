"""Names of sources: those that there are, as far as the libraries are installed, and what is said of any other."""

import os
from importlib.util import find_spec

from model_handler.errors import nearest, with_fix
from model_handler.sources.embedded import EMBEDDED, INSTALLED
from model_handler.sources.source import UnknownSourceError

__all__ = ["architectures", "unknown_in", "unknown_name"]

_WEIGHTS = (".bin", ".ckpt", ".pkl", ".pt", ".pth", ".safetensors")  # of the files that hold them
_KINDS = (
    "'torchvision/NAME', 'timm/NAME', 'hf/ORG/NAME' or 'sentence-transformers/NAME' of the Hugging Face Hub, a "
    "directory written by save_pretrained, or 'torchvision/NAME=FILE.safetensors'"
)


def architectures() -> list[str]:
    """Return every name that needs no look at the Hub, as far as the libraries are installed."""
    names = [*INSTALLED]
    if find_spec("torchvision") is not None:
        from torchvision import models

        names += [f"torchvision/{model}" for model in models.list_models(module=models)]
    try:
        import timm
    except ImportError:
        return names
    return names + [f"timm/{model}" for model in timm.list_models()]


def unknown_name(name: str) -> UnknownSourceError:
    """Make the error for a name under which there is no source; of a file or directory, what to do with it."""
    if os.path.isdir(name):
        return _unknown_directory(name)
    if name.lower().endswith(_WEIGHTS) or os.path.isfile(name):
        return _unknown_file(name)
    return UnknownSourceError(_unknown(name))


def unknown_in(library: str, model: str, known: list[str]) -> str:
    """Say that a library has no model of that name, and the nearest ones."""
    near = [f"{library}/{candidate}" for candidate in nearest(model, known)]
    return f"there is no source named '{library}/{model}'; the nearest names are {near}"


def _unknown_directory(name: str) -> UnknownSourceError:
    return with_fix(
        UnknownSourceError,
        f"{_unknown(name)}. The directory of this name has no config.json or modules.json, as save_pretrained of "
        "transformers or sentence-transformers writes them",
        python=f"if a Repurposer was saved in it, read it by repurpose.load({name!r})",
        shell="if it is a directory that `repurpose train` wrote, give it to `repurpose predict`",
    )


def _unknown_file(name: str) -> UnknownSourceError:
    """Return what to do with a file that was given as a source, which may hold weights."""
    said = f"{name!r} is not a source, which is a network or a name such as {EMBEDDED!r} or 'torchvision/resnet50'"
    if not name.lower().endswith(_WEIGHTS):
        return UnknownSourceError(said)
    is_safe = name.lower().endswith(".safetensors")
    read = "safetensors.torch.load_file" if is_safe else "torch.load"
    by_name = f"if it holds the weights of an architecture that has a name, give both: 'torchvision/resnet50={name}'"
    return with_fix(
        UnknownSourceError,
        said,
        python=f"{by_name + '; ' if is_safe else ''}if the file holds weights, make the network they belong to, "
        f"network.load_state_dict({read}({name!r})), and give that network",
        shell=by_name
        if is_safe
        else "weights of your own need Python: load them into their network, and give that to LrRepurposer",
    )


def _unknown(name: str) -> str:
    known = architectures()
    bare = name.rpartition("/")[2]
    prefixed = [candidate for candidate in known if bare and candidate.partition("/")[2] == bare]
    if name.startswith((".", "/", "~")):
        return f"there is no directory {name!r} with a network in it. A name is {EMBEDDED!r}, {_KINDS}"
    on_hub = [f"hf/{name}"] if name.count("/") == 1 and all(name.split("/")) else []
    near = prefixed or on_hub or nearest(name, known)
    several = ", of libraries that both have it: say which by the prefix" if len(prefixed) > 1 else ""
    return (
        f"there is no source named {name!r}; the nearest names are {near}{several}. A name is {EMBEDDED!r} or another "
        f"that `list_sources()` gives, {_KINDS}"
    )
