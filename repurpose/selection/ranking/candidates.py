"""Candidates of a ranking: sources by the names of their rows, whatever way they were given."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

from torch import nn

from model_handler import Features, ModelHandler, Source
from repurpose.selection.ranking.published_accuracy import imagenet_accuracy

__all__ = ["Candidate", "Candidates", "named_candidates"]

Candidates = Iterable[str | nn.Module | Source] | Mapping[str, str | nn.Module | Source | Features]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A source by the name of its row: the name of a source, a network, or features that were extracted before."""

    name: str
    source: Any

    @property
    def published_accuracy(self) -> float:
        """The published top-1 accuracy on ImageNet (%); NaN where none is known."""
        given = self.source.name if isinstance(self.source, Source) else self.source
        return imagenet_accuracy(given) if isinstance(given, str) else float("nan")


def named_candidates(candidates: Candidates) -> list[Candidate]:
    """Name each candidate: by its key, its name as a source or its class, numbered where several have the same.

    What a candidate is, is judged when its turn comes. Raises TypeError for a single one and ValueError for none.
    """
    if isinstance(candidates, (str, PathLike, nn.Module, Source, Features, ModelHandler)):
        shown = repr(candidates) if isinstance(candidates, str) else type(candidates).__name__
        raise TypeError(f"candidates must be a list of sources, or a mapping of names to sources, got {shown} alone")
    if isinstance(candidates, Mapping):
        named = [Candidate(str(name), source) for name, source in candidates.items()]
    else:
        named = [Candidate(_name_of(source), source) for source in candidates]
    if not named:
        raise ValueError("there is no candidate to rank: name at least one source, such as 'efficientnet-lite0'")
    seen: dict[str, int] = {}
    numbered = []
    for candidate in named:
        seen[candidate.name] = count = seen.get(candidate.name, 0) + 1
        numbered.append(candidate if count == 1 else Candidate(f"{candidate.name} ({count})", candidate.source))
    return numbered


def _name_of(source: object) -> str:
    if isinstance(source, str):
        return source
    return (isinstance(source, Source) and source.name) or type(getattr(source, "network", source)).__name__
