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
    "CHOSEN_ON",
    "CONFIRMED_ON",
    "HELD_OUT",
    "N_TEST",
    "N_UNFAMILIAR",
    "TASKS",
    "Split",
    "features_on_disk",
    "load_features",
    "split_of",
    "unfamiliar_sets",
]

CHOSEN_ON = ("digits", "drawings")  # rules and defaults are chosen on these,
CONFIRMED_ON = ("mnist", "letters", "fonts", "places")  # and looked at on these when they stand
TASKS = (*CHOSEN_ON, *CONFIRMED_ON)
HELD_OUT = "held-out classes"
# What is left is there to be labelled: 1,000, 560, 4,000, 700, 700 and 390 images.
N_TEST = {"digits": 797, "drawings": 400, "mnist": 1000, "letters": 500, "fonts": 500, "places": 130}
_OTHERS = {
    "digits": ("mnist", "places"),
    "drawings": ("letters", "places"),
    "mnist": ("digits", "places"),
    "letters": ("digits", "places"),
    "fonts": ("digits", "places"),
    "places": ("drawings", "digits"),
}
N_UNFAMILIAR = 1000  # at most


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to train on, rows to test on, and by the name of their set rows that belong to no class of either."""

    train: Features
    test: Features
    unfamiliar: Mapping[str, Features]

    def without_classes(self, seed: int) -> "Split":
        """The same split without a third of the classes, whose test rows are now the unfamiliar ones."""
        classes = np.unique(self.train.labels)
        held_out = np.random.default_rng(seed).choice(classes, len(classes) // 3, replace=False)
        left, strange = ~np.isin(self.train.labels, held_out), np.isin(self.test.labels, held_out)
        return Split(self.train[left], self.test[~strange], {HELD_OUT: self.test[strange]})


def unfamiliar_sets(task: str) -> tuple[str, ...]:
    """The names of the sets of unfamiliar inputs, the hardest last."""
    return (*_OTHERS[task], HELD_OUT)


@contextmanager
def features_on_disk(cache: Path | None) -> Iterator[Path]:
    """A directory with the features of all images, made where they are missing; a passing one without `cache`."""
    with tempfile.TemporaryDirectory() as passing:
        directory = cache or Path(passing)
        if missing := [name for name in TASKS if not _file(directory, name).exists()]:
            candidates = tuple(ModelHandler("efficientnet-lite0").candidate_layers())
            for name in missing:
                task_features(name, candidates).save(_file(directory, name))
        yield directory


def load_features(directory: Path) -> dict[str, Features]:
    """The features of all images, by the name of their set."""
    return {name: Features.load(_file(directory, name)) for name in TASKS}


def split_of(features: Mapping[str, Features], task: str, n_per_class: int, seed: int) -> Split:
    """The split of a seed, the same for every method; with more labels a class it keeps those of fewer.

    `n_per_class` 0 takes every image that is not tested on. Unfamiliar are images of two other tasks.
    """
    order = np.random.default_rng(seed).permutation(len(features[task]))
    test, pool = order[: N_TEST[task]], order[N_TEST[task] :]
    if n_per_class:
        pool = pool[few_per_class(features[task].labels[pool], n_per_class, seed)[0]]
    unfamiliar = {}
    for name in _OTHERS[task]:
        drawn = np.random.default_rng(seed).permutation(len(features[name]))[:N_UNFAMILIAR]
        unfamiliar[name] = features[name][drawn]
    return Split(features[task][pool], features[task][test], unfamiliar)


def _file(directory: Path, name: str) -> Path:
    return directory / f"{name}.safetensors"
