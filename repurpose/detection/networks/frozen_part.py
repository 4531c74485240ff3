"""The frozen part of a detector: the first layers of its backbone, which give the same for an image in each epoch.

Images are normalised and padded before them. What they give is handed to the rest, and beside it sizes and targets, so
that each row has all that its loss depends on.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from model_handler.errors import ModelError
from model_handler.frozen_prefix.frontier import Frontier
from model_handler.frozen_prefix.splitting import split
from repurpose.detection.networks.images import ImageBatches, in_corners
from repurpose.detection.networks.modes import in_training
from repurpose.detection.networks.targets import coded, listed, padded_as
from repurpose.neural_network.architecture import WithParts

__all__ = ["frontier_of_detector"]


def frontier_of_detector(
    network: WithParts, name: str, first_code: int, inputs: object, *, precision: str, fixed_sizes: bool
) -> Frontier:
    """Return where the frozen part of the backbone ends, and the rest of it with the detector on it.

    Parameters
    ----------
    network : DetectionNetwork
        Whose detector has this name, and calls the first class `first_code`.
    inputs : dict of tensors
        "images", "targets" and "sizes", as it takes them.
    precision, fixed_sizes
        As in `split`.

    Raises
    ------
    ModelError
        Where the backbone cannot be split.
    """
    trunk, detector = network.__dict__["network"], network.get_submodule(name)
    transform = detector.get_submodule("transform")
    if not isinstance(inputs, Mapping) or not isinstance(transform, ImageBatches):
        raise ModelError("images do not come in padded batches")
    device = next(parameter.device for parameter in network.parameters())
    images, *beside = _prepared(transform, inputs, device)
    found = split(trunk, images, precision=precision, fixed_sizes=fixed_sizes)
    if (of_trunk := found.frontier) is None:
        raise ModelError(found.reason)
    return _FrontierOfDetector(
        (*of_trunk.layer_names, "sizes", "targets"),
        (*of_trunk.shapes, *(tuple(part.shape[1:]) for part in beside)),
        (*of_trunk.dtypes, *(part.dtype for part in beside)),
        _Rest(of_trunk.rest, name, detector, first_code),
        of_trunk.last_layer,
        of_trunk.n_layers,
        of_trunk,
        transform,
        device,
    )


@dataclass(frozen=True, eq=False)
class _FrontierOfDetector(Frontier):
    """That of the backbone; sizes of images, and those they are padded to, (n, 4); targets (n, most, 5)."""

    _of_trunk: Frontier
    _transform: ImageBatches
    _device: torch.device

    def values(self, inputs: Any, *, folded: bool = True) -> tuple[Tensor, ...]:
        images, sizes, targets = _prepared(self._transform, inputs, self._device)
        return (*self._of_trunk.values(images, folded=folded), sizes, targets)

    def n_flops(self, inputs: Any) -> int:
        return self._of_trunk.n_flops(_prepared(self._transform, inputs, self._device)[0])


def _prepared(
    transform: ImageBatches, inputs: Mapping[str, Tensor], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise and pad images as the detector does, and scale their boxes where they are made smaller."""
    images, targets, own_sizes = (inputs[name].to(device) for name in ("images", "targets", "sizes"))
    with torch.no_grad(), transform.padding_at_least(images.shape[-2], images.shape[-1]):
        made, scaled = transform(in_corners(images, own_sizes), listed(targets))
    padded = made.tensors.shape[-2:]
    sizes = torch.tensor([[*size, *padded] for size in made.image_sizes], device=device)
    return made.tensors, sizes, padded_as(targets, scaled)


@dataclass(frozen=True, eq=False)
class _HalfComputed:
    """Stands for images (n, 3, height, width), of which the frozen part of a backbone has given `values`."""

    shape: tuple[int, ...]
    values: tuple[Tensor, ...]


class _HalfComputedImages(list[Tensor]):
    """Images of the sizes of a batch, without numbers, and the batch."""

    def __init__(self, values: tuple[Tensor, ...], sizes: list[list[int]]) -> None:
        blank = values[0].new_empty(())
        super().__init__(blank.expand(3, height, width) for height, width, *_ in sizes)
        self.batch = _HalfComputed((len(sizes), 3, *sizes[0][2:]), values)


class _AsTheyAre(nn.Module):
    """Takes the place of what normalises and pads images, where that has been done."""

    def forward(
        self, images: _HalfComputedImages, targets: list[dict[str, Tensor]]
    ) -> tuple[ImageList, list[dict[str, Tensor]]]:
        """Return images as torchvision's detectors take them."""
        sizes = [(image.shape[1], image.shape[2]) for image in images]
        return ImageList(images.batch, sizes), targets

    def postprocess(
        self, result: list[dict[str, Tensor]], image_shapes: list[tuple[int, int]], original: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Return what Faster R-CNN finds as it is: in training, nothing."""
        return result


class _Rest(WithParts):
    """What is left of a detector behind the frozen part of its backbone, with its own parameters and their names."""

    def __init__(self, rest_of_trunk: nn.Module, name: str, detector: nn.Module, first_code: int) -> None:
        backbone = _with_modules(detector.get_submodule("backbone"), {})
        backbone.__dict__["trunk"] = lambda images: rest_of_trunk(*images.values)
        made = _with_modules(detector, {"backbone": backbone, "transform": _AsTheyAre()})
        super().__init__(rest_of_trunk, {name: made})
        self.detector_name, self.first_code = name, first_code

    def forward(self, *values: Tensor) -> dict[str, Tensor]:
        """Compute the losses by name, in evaluation too."""
        *maps, sizes, targets = values
        detector = self.get_submodule(self.detector_name)
        with in_training(detector):
            images = _HalfComputedImages(tuple(maps), sizes.tolist())
            return detector(images, coded(listed(targets), self.first_code))


def _with_modules(module: nn.Module, others: dict[str, nn.Module]) -> nn.Module:
    """Return a copy of a module with the same children but these."""
    made = copy(module)
    made._modules = {**module._modules, **others}
    return made
