"""Image sources, good and bad ones, and their features of four tasks at several layers, kept on disk.

Three networks know ImageNet, the same three know nothing, one small one has learned MNIST and another one digits of
scikit-learn, none of which are in a task.
"""

import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.domains.images import SIDE, learned, small_images, small_network
from benchmarks.tasks import few_per_class, task_images
from model_handler import Features, ModelHandler, Source, load_source

__all__ = ["N_LABELS", "PRETRAINED", "SOURCES", "TASKS", "extract", "features_of", "load", "split"]

TASKS = ("digits", "drawings", "letters", "places")
N_IMAGES, N_LABELS, _N_LAYERS = 520, 20, 4  # images of a task, labels of a class, candidate layers of a source
_LITE = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
_IMAGENET, _RANDOM = {name: f"{name}, ImageNet" for name in _LITE}, {name: f"{name}, random" for name in _LITE}
_SMALL = {"mnist": "small network, MNIST", "digits": "small network, digits"}
_BATCH_SIZE = 32


def _small(task: str) -> Source:
    """Train a small network on digits that are in no task; it takes images as grey squares."""
    images, labels = small_images(task)
    rows = np.arange(len(labels))
    if task in TASKS:
        rows = np.random.default_rng(0).permutation(len(labels))[N_IMAGES:]  # `task_images` draws those before
    network = learned(small_network(10), images[rows], np.asarray(labels)[rows])
    return Source(network, _grey_square, _SMALL[task])


def _grey_square(image: Image.Image) -> Tensor:
    pixels = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=np.float32)
    return (torch.from_numpy(pixels / 255)[None] - 0.3) / 0.35


def _lite(name: str, pretrained: bool) -> Source:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return load_source(name, pretrained=pretrained)


SOURCES: Mapping[str, Callable[[], Source]] = {
    **{title: partial(_lite, name, True) for name, title in _IMAGENET.items()},
    **{title: partial(_lite, name, False) for name, title in _RANDOM.items()},
    **{title: partial(_small, task) for task, title in _SMALL.items()},
}
PRETRAINED = (*_IMAGENET.values(), *_SMALL.values())
load = cache(lambda title: SOURCES[title]())


def extract(task: str, title: str, folder: Path) -> dict[str, float]:
    """Extract the features of a task at the candidate layers of a source, keep them, and tell what that took."""
    pixels, labels = task_images(task, N_IMAGES)
    source = load(title)
    handler = ModelHandler(source, batch_size=_BATCH_SIZE)
    images = list(pixels)
    layers = handler.candidate_layers(_N_LAYERS, data=images[:2])
    handler.extract(images[:_BATCH_SIZE], layers, pooling="avg")  # not counted
    start = time.perf_counter()
    features = handler.extract((images, labels), layers, pooling="avg")
    seconds = time.perf_counter() - start
    file = _file(task, title, folder)
    file.parent.mkdir(parents=True, exist_ok=True)
    features.save(file)
    n_parameters = sum(parameter.numel() for parameter in source.network.parameters())
    return {"seconds": seconds, "megabytes": features.matrix.nbytes / 1e6, "parameters": n_parameters}


@cache
def features_of(task: str, title: str, folder: Path) -> Features:
    """Return the features of a task, extracted where they are not there yet."""
    if not _file(task, title, folder).exists():
        extract(task, title, folder)
    return Features.load(_file(task, title, folder))


def split(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the rows to train and rank on, and those to test on, the same for every source."""
    return few_per_class(labels, N_LABELS, seed)


def _file(task: str, title: str, folder: Path) -> Path:
    return folder / "features" / f"{task}, {title}.safetensors"
