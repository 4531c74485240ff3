"""The images: features at all candidate layers, splits that every method shares, and images that belong to no class."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.tasks import few_per_class, task_features
from model_handler import Features, ModelHandler

__all__ = [
    "HELD_OUT",
    "N_HELD_OUT",
    "N_TEST",
    "N_UNFAMILIAR",
    "TASKS",
    "Split",
    "features_on_disk",
    "load_features",
    "split_of",
    "unfamiliar_sets",
]

TASKS = ("digits", "mnist")
PHOTOGRAPHS, HELD_OUT = "photographs", "held-out classes"
N_TEST = {"digits": 797, "mnist": 1000}  # what is left, 1,000 and 4,000 images, is there to be labelled
N_UNFAMILIAR = 1000
N_HELD_OUT = 3  # of the ten classes


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to train on, rows to test on, and by the name of their set rows that belong to no class of either."""

    train: Features
    test: Features
    unfamiliar: Mapping[str, Features]

    def without_classes(self, seed: int) -> "Split":
        """The same split without some classes, whose test rows are now the unfamiliar ones."""
        held_out = np.random.default_rng(seed).choice(np.unique(self.train.labels), N_HELD_OUT, replace=False)
        left, strange = ~np.isin(self.train.labels, held_out), np.isin(self.test.labels, held_out)
        return Split(self.train[left], self.test[~strange], {HELD_OUT: self.test[strange]})


def unfamiliar_sets(task: str) -> tuple[str, ...]:
    """The names of the sets of unfamiliar inputs, the hardest last."""
    return (*_others(task), HELD_OUT)


@contextmanager
def features_on_disk(cache: Path | None) -> Iterator[Path]:
    """A directory with the features of all images, made where they are missing; a passing one without `cache`."""
    with tempfile.TemporaryDirectory() as passing:
        directory = cache or Path(passing)
        if missing := [name for name in (*TASKS, PHOTOGRAPHS) if not _file(directory, name).exists()]:
            candidates = tuple(ModelHandler("efficientnet-lite0").candidate_layers())
            for name in missing:
                task_features(name, candidates).save(_file(directory, name))
        yield directory


def load_features(directory: Path) -> dict[str, Features]:
    """The features of all images, by the name of their set."""
    return {name: Features.load(_file(directory, name)) for name in (*TASKS, PHOTOGRAPHS)}


def split_of(features: Mapping[str, Features], task: str, n_per_class: int, seed: int) -> Split:
    """The split of a seed, the same for every method; with more labels a class it keeps those of fewer.

    `n_per_class` 0 takes every image that is not tested on. Unfamiliar are the other task's images and photographs.
    """
    order = np.random.default_rng(seed).permutation(len(features[task]))
    test, pool = order[: N_TEST[task]], order[N_TEST[task] :]
    if n_per_class:
        pool = pool[few_per_class(features[task].labels[pool], n_per_class, seed)[0]]
    unfamiliar = {}
    for name in _others(task):
        drawn = np.random.default_rng(seed).permutation(len(features[name]))[:N_UNFAMILIAR]
        unfamiliar[name] = features[name][drawn]
    return Split(features[task][pool], features[task][test], unfamiliar)


def _others(task: str) -> list[str]:
    return [name for name in (*TASKS, PHOTOGRAPHS) if name != task]


def _file(directory: Path, name: str) -> Path:
    return directory / f"{name}.safetensors"
