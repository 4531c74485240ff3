"""How the embedded source resizes images: the measurement behind `model_handler/sources/embedded.py`.

Small images are enlarged: the test log loss of logistic regression on features with either resize. Photographs shrink,
and two of them make no task: the distance of features to those of the preprocessing in training, which was TensorFlow's
bilinear resize, without antialiasing.
"""

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch.nn import functional
from torchvision import transforms

from benchmarks.tasks import LAYER, few_per_class, task_images
from benchmarks.timing import print_table
from model_handler import Features, ModelHandler, load_source

TASKS = ("digits", "drawings", "mnist", "letters", "fonts", "places")
BILINEAR, BICUBIC = transforms.InterpolationMode.BILINEAR, transforms.InterpolationMode.BICUBIC
SIDES = (32, 64, 128, 224, 300, 380, 427)
N_IMAGES, N_SQUARES = 1200, 24


def run(runs: int = 10) -> None:
    """Print differences in log loss by task and labels a class, and distances by the size of a square."""
    rows = []
    for task in TASKS:
        pixels, labels = task_images(task, N_IMAGES)
        both = {mode: _features(_preprocessing(mode), list(pixels), labels) for mode in (BICUBIC, BILINEAR)}
        for n_per_class in (2, 5, 10):
            losses = [[_loss(both[mode], n_per_class, seed) for seed in range(runs)] for mode in (BILINEAR, BICUBIC)]
            gains = np.subtract(*losses)
            rows.append([task, n_per_class, f"{np.mean(gains):+.3f} ({np.std(gains, ddof=1) / runs**0.5:.3f})"])
    print(f"test log loss with bilinear resize less that with bicubic, means of {runs} splits, enlarged images")
    print_table(["task", "labels a class", "difference"], rows)
    print("\ndistance of features to those of the preprocessing in training, by their norm")
    print_table(["side of a square of a photograph", "bicubic", "bilinear"], [_distances(side) for side in SIDES])


def _preprocessing(mode: transforms.InterpolationMode) -> transforms.Compose:
    _, *rest = load_source("efficientnet-lite0").transform.transforms
    return transforms.Compose([transforms.Resize(256, mode), *rest])


def _features(transform: transforms.Compose, images: list, labels: np.ndarray | None = None) -> Features:
    handler = ModelHandler(load_source("efficientnet-lite0").network, transform=transform, batch_size=64)
    return handler.extract(images if labels is None else (images, labels), [LAYER], pooling="auto")


def _loss(features: Features, n_per_class: int, seed: int) -> float:
    train, test = few_per_class(features.labels, n_per_class, seed)
    model = LogisticRegression(max_iter=5000).fit(features.matrix[train], features.labels[train])
    return log_loss(features.labels[test], model.predict_proba(features.matrix[test]))


def _distances(side: int) -> list[str]:
    rng, squares = np.random.default_rng(0), []
    for photograph in load_sample_images().images:
        for _ in range(N_SQUARES):
            top, left = (int(rng.integers(size - side + 1)) for size in photograph.shape[:2])
            squares.append(Image.fromarray(photograph[top : top + side, left : left + side]))
    expected = _features(transforms.Lambda(_as_in_training), squares).matrix
    size = np.linalg.norm(expected, axis=1)
    found = [_features(_preprocessing(mode), squares).matrix for mode in (BICUBIC, BILINEAR)]
    return [str(side), *(f"{(np.linalg.norm(matrix - expected, axis=1) / size).mean():.3f}" for matrix in found)]


def _as_in_training(image: Image.Image) -> torch.Tensor:
    """The centre, 224 of 256 parts of the shorter side, in one step of bilinear resize without antialiasing."""
    pixels = transforms.functional.pil_to_tensor(image)[None].float()
    side = int(min(image.size) * 224 / 256)
    centre = transforms.functional.center_crop(pixels, [side, side])
    return (functional.interpolate(centre, (224, 224), mode="bilinear", align_corners=False)[0] - 127) / 128
