"""Throughput: training and inference beside torchvision's own detector in a loop written by hand.

Both are FCOS on ResNet-50 at 256 pixels, of the same layers, the first two of five frozen, BatchNorm frozen throughout,
with the same optimiser on the same images; ours reads rows, pads batches, follows a schedule and keeps a history. Both
run all layers in each step: what frozen ones give is not kept, nor BatchNorm folded into them, as it would be.
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d

from benchmarks.adapters.cells import Cell
from repurpose.detection import DetectionRepurposer, Detections

__all__ = ["BATCH_SIZE", "KINDS", "NAME", "N_IMAGES", "OURS", "SIDE", "THEIRS", "examine", "rival_of"]

NAME = "throughput"
TRAINING, INFERENCE = "training", "inference"
KINDS = (TRAINING, INFERENCE)
OURS, THEIRS = "ours", "torchvision"
SIDE, N_IMAGES, BATCH_SIZE = 256, 16, 4
_N_CLASSES = 4
_CHANNELS = 256  # those of torchvision's pyramid
_FROZEN = ("conv1", "bn1", "layer1")
_RATE = 1e-4
_LEAST_SCORE, _MOST_DETECTIONS = 0.05, 100  # as ours has them; torchvision's FCOS would leave more scores out
_TRAINABLE = 3  # torchvision's count of layers of the backbone that learn, from its end

Pairs = list[tuple[Tensor, dict[str, Any]]]


def examine(cell: Cell) -> Mapping[str, float]:
    """Measure both sides once, the first one by turns, after each has run once on a single batch."""
    images = _images()
    ours = _trained(images[:BATCH_SIZE])
    rival = rival_of(ours)
    if cell.kind == TRAINING:
        sides = {OURS: lambda: _our_epoch(images), THEIRS: lambda: _epoch_by_hand(rival_of(ours), images)}  # both anew
        _epoch_by_hand(rival, images[:BATCH_SIZE])
        more = {f"learning, {name}": float(n) for name, n in _n_learning(ours, rival).items()}
    else:
        sides = {OURS: lambda: _our_predictions(ours, images)[0], THEIRS: lambda: _by_hand(rival, images)[0]}
        more = _apart(_our_predictions(ours, images[:BATCH_SIZE])[1], _by_hand(rival, images[:BATCH_SIZE])[1])
    order = list(sides) if cell.seed % 2 == 0 else list(sides)[::-1]
    return {name: sides[name]() for name in order} | more


def rival_of(ours: DetectionRepurposer) -> FCOS:
    """Make torchvision's own detector, with our weights."""
    network = torchvision.models.resnet50(norm_layer=FrozenBatchNorm2d)
    extra = LastLevelP6P7(_CHANNELS, _CHANNELS)
    backbone = _resnet_fpn_extractor(network, _TRAINABLE, returned_layers=[2, 3, 4], extra_blocks=extra)
    options = {"min_size": SIDE, "max_size": 2 * SIDE, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    options |= {"score_thresh": _LEAST_SCORE, "detections_per_img": _MOST_DETECTIONS}
    rival = FCOS(backbone, _N_CLASSES, **options)
    weights = ours.target_model_.state_dict()
    rival.load_state_dict({name: weights[_our_name(name)] for name in rival.state_dict()})
    return rival


def _our_name(name: str) -> str:
    for theirs, here in (("backbone.body.", ""), ("backbone.fpn.", "detector.backbone.pyramid."), ("", "detector.")):
        if name.startswith(theirs):
            return here + name.removeprefix(theirs)
    raise KeyError(name)


def _trained(images: Pairs) -> DetectionRepurposer:
    """Train ours for an epoch, with its own source anew."""
    torch.manual_seed(0)
    network = torchvision.models.resnet50()
    for module in network.modules():
        if isinstance(module, torchvision.models.resnet.Bottleneck):
            nn.init.constant_(module.bn3.weight, 0.2)  # statistics are not those of these weights: sums would explode
    return DetectionRepurposer(
        network,
        image_size=SIDE,
        channels=_CHANNELS,
        batch_size=BATCH_SIZE,
        num_epochs=1,
        optimizer="SGD",
        optimizer_params={"momentum": 0.9},
        scheduler=None,
        learning_rates={**dict.fromkeys((*_FROZEN, nn.BatchNorm2d), 0.0), "*": _RATE},
        cache_frozen=False,  # all layers in each step, as by hand
        random_state=0,
        verbose=False,
    ).repurpose(images)


def _our_epoch(images: Pairs) -> float:
    return float(_trained(images).history_.records[-1]["seconds"])


def _epoch_by_hand(model: FCOS, images: Pairs) -> float:
    """What a user would write, with the seconds it takes."""
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=_RATE, momentum=0.9)
    model.train()
    start = time.perf_counter()
    for numbers in torch.randperm(len(images)).split(BATCH_SIZE):
        batch = [images[number] for number in numbers.tolist()]
        targets = [
            {"boxes": torch.tensor(target["boxes"]), "labels": torch.tensor(target["labels"])} for _, target in batch
        ]
        losses = model([image.float() / 255 for image, _ in batch], targets)
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def _our_predictions(ours: DetectionRepurposer, images: Pairs) -> tuple[float, list[Detections]]:
    given = [image for image, _ in images]
    start = time.perf_counter()
    found = ours.predict_objects(given)
    return time.perf_counter() - start, found


def _by_hand(model: FCOS, images: Pairs) -> tuple[float, list[dict[str, Tensor]]]:
    model.eval()
    start = time.perf_counter()
    found: list[dict[str, Tensor]] = []
    with torch.no_grad():
        for first in range(0, len(images), BATCH_SIZE):
            found += model([image.float() / 255 for image, _ in images[first : first + BATCH_SIZE]])
    return time.perf_counter() - start, found


def _apart(ours: list[Detections], theirs: list[dict[str, Tensor]]) -> dict[str, float]:
    """Say by how much the scores of both differ at most, and how many detections an image has.

    Those of torchvision's of which clipping to the image left nothing are none.
    """
    pairs = []
    for each, other in zip(ours, theirs, strict=True):
        kept = (other["boxes"][:, 2:] > other["boxes"][:, :2]).all(dim=1)
        pairs.append((each.scores, other["scores"][kept].double().numpy()))
    most = max(
        float(np.abs(mine - other).max(initial=0)) if len(mine) == len(other) else np.inf for mine, other in pairs
    )
    return {"scores apart": most, "detections": float(np.mean([len(mine) for mine, _ in pairs]))}


def _n_learning(ours: DetectionRepurposer, rival: FCOS) -> dict[str, int]:
    return {
        OURS: sum(group.n_elements for group in ours.parameter_groups_),
        THEIRS: sum(each.numel() for each in rival.parameters() if each.requires_grad),
    }


def _images() -> Pairs:
    """Draw images with two boxes each; their labels are the codes of their classes."""
    drawing = np.random.default_rng(0)
    pairs: Pairs = []
    for number in range(N_IMAGES):
        pixels = torch.from_numpy(drawing.integers(0, 256, size=(3, SIDE, SIDE), dtype=np.uint8))
        corners = drawing.uniform(0, SIDE / 2, size=(2, 2))
        boxes = np.concatenate([corners, corners + drawing.uniform(SIDE / 16, SIDE / 2, size=(2, 2))], axis=1)
        labels = [number % _N_CLASSES, (number + 2) % _N_CLASSES]
        pairs.append((pixels, {"boxes": boxes.astype(np.float32).tolist(), "labels": labels}))
    return pairs
