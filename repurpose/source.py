"""The source network of a Repurposer is checked, loaded by name once a process, and named on screen here."""

from functools import lru_cache

from torch import nn

from model_handler import Source, load_source
from model_handler.errors import with_fix
from model_handler.sources import SourceUnavailableError, no_source
from model_handler.sources.cached_weights import missing_weights

__all__ = ["check_source", "describe_source", "open_source", "refuse_fetching", "weights_are_here"]


def check_source(source_model: object) -> None:
    """Raise TypeError unless `source_model` is a network, a `Source` or a name."""
    if isinstance(source_model, (nn.Module, Source, str)):
        return
    raise no_source(source_model, "source_model")


def open_source(source_model: nn.Module | Source | str) -> nn.Module | Source:
    """Return the network; one given by name is loaded once a process and shared by all Repurposers that name it."""
    return _load_once(source_model) if isinstance(source_model, str) else source_model


def weights_are_here(name: str) -> bool:
    """Return whether `open_source` would give the source of that name, and fetch nothing for it."""
    try:
        if missing_weights(name) is None:
            _load_once(name)
            return True
    except Exception:  # there is no such name here, or its weights are damaged, whatever reads them
        pass
    return False


def refuse_fetching(name: str) -> None:
    """Raise SourceUnavailableError where the weights of the source of that name would have to be fetched."""
    if missing := missing_weights(name):
        raise with_fix(
            SourceUnavailableError,
            f"the weights of {name!r} are not on this machine, and nothing was fetched ({missing})",
            python="load(path, download=True) fetches them",
            shell="repurpose predict --download fetches them",
            between=": ",
        )


def describe_source(source_model: object) -> str:
    """Return one line for the screen: a name as it was given, or the class and size of a network, never its layers."""
    if isinstance(source_model, Source):
        inner = repr(source_model.name) if source_model.name else describe_source(source_model.network)
        return f"Source({inner})"
    if not isinstance(source_model, nn.Module):
        return repr(source_model)
    n_parameters = sum(parameter.numel() for parameter in source_model.parameters())
    return f"{type(source_model).__name__} ({_short(n_parameters)} parameters)"


@lru_cache(maxsize=4)
def _load_once(name: str) -> Source:
    return load_source(name)


def _short(count: int) -> str:
    for size, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.1f} {letter}"
    return str(count)
