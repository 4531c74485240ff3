"""A perfect detector: FCOS whose head knows the true boxes, from the files through all that is between them and AP.

What its head gives is turned into boxes, thinned out, scaled back, named and matched as that of any other; a box that
is off by a pixel, a class that is off by one or a true box that is dropped would show in the average precision.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from benchmarks.adapters.cells import Cell
from benchmarks.detection.scenes import LEARNED, write_scenes
from repurpose.detection import DetectionRepurposer, DetectionTruth, VocFolderData, detection_rows

__all__ = ["IMAGE_SIZES", "KINDS", "NAME", "RULES", "KnowingHead", "examine"]

NAME = "perfect"
IMAGE_SIZES = {"images as they are": 640, "images made smaller": 96}
KINDS = tuple(IMAGE_SIZES)
RULES = ("ap50", "ap", "voc_ap50", "voc07_ap50")
_N_IMAGES, _DIFFICULT = 60, 0.2
_SURE = 20.0  # a logit


def examine(cell: Cell) -> Mapping[str, float]:
    """Let a detector know the true boxes of the scenes of a seed, a fifth of them difficult, and measure it."""
    with TemporaryDirectory() as directory:
        write_scenes(Path(directory), LEARNED, _N_IMAGES, cell.seed, difficult=_DIFFICULT)
        data = VocFolderData(directory, LEARNED)
        detector = DetectionRepurposer(
            "efficientnet-lite0",
            image_size=IMAGE_SIZES[cell.kind],
            channels=64,
            learning_rates={"transferred": 0, "new": 1e-3},
            num_epochs=1,
            random_state=cell.seed,
            verbose=False,
        ).repurpose(data)
        fcos = detector.target_model_.get_submodule(detector.target_model_.detector_name)
        fcos.head = KnowingHead(list(detection_rows(data).truths()), detector.classes_.tolist(), fcos.transform)
        found = detector.evaluate(data, n_bootstrap=1)
    return {rule: getattr(found, rule) for rule in RULES} | {"true": found.n_true, "found": found.n_found}


class KnowingHead(nn.Module):
    """Gives the true boxes of images that are asked about in the order of `truths`.

    Parameters
    ----------
    truths : sequence of DetectionTruth
    classes : list of str
    transform : nn.Module
        Of the detector; what it makes of images says how large they are for the network.
    """

    def __init__(self, truths: Sequence[DetectionTruth], classes: list[str], transform: nn.Module) -> None:
        super().__init__()
        self.truths, self.classes = truths, classes
        self.n_seen = 0
        self.padded, self.sizes = (0, 0), [(0, 0)]
        transform.register_forward_hook(self._look)

    def forward(self, levels: list[Tensor]) -> dict[str, Tensor]:
        """Give each box to the place of the finest level that is nearest to its centre, and is free."""
        n_images, n_places = len(levels[0]), sum(level.shape[2] * level.shape[3] for level in levels)
        logits = torch.full((n_images, n_places, len(self.classes)), -_SURE)
        distances = torch.ones(n_images, n_places, 4)
        rows, columns = (torch.arange(side) for side in levels[0].shape[2:])
        stride = self.padded[0] // len(rows)
        places = stride * torch.cartesian_prod(rows, columns).flip(1).float()  # x and y of each, in pixels
        for number in range(n_images):
            boxes, codes = self._known(self.n_seen + number, self.sizes[number])
            away = torch.cdist((boxes[:, :2] + boxes[:, 2:]) / 2, places)
            for box, code, to_places in zip(boxes, codes, away):
                taken = logits[number, : len(places)].amax(dim=1) > 0
                place = int(to_places.masked_fill(taken, torch.inf).argmin())
                logits[number, place, code] = _SURE
                distances[number, place] = torch.cat([places[place] - box[:2], box[2:] - places[place]]) / stride
        self.n_seen += n_images
        return {
            "cls_logits": logits,
            "bbox_regression": distances,
            "bbox_ctrness": torch.full((n_images, n_places, 1), _SURE),
        }

    def _look(self, transform: nn.Module, given: tuple, made: tuple) -> None:
        self.padded, self.sizes = tuple(made[0].tensors.shape[-2:]), made[0].image_sizes

    def _known(self, number: int, size: tuple[int, int]) -> tuple[Tensor, list[int]]:
        """Return the boxes of an image in its pixels for the network, and their codes, of classes that were learned."""
        truth = self.truths[number]
        ratio = torch.tensor(size) / torch.tensor(truth.size)
        known = [place for place, label in enumerate(truth.labels) if label in self.classes]
        boxes = torch.from_numpy(truth.boxes[known]) * ratio.flip(0).repeat(2)
        return boxes, [self.classes.index(label) for label in truth.labels[known]]
