"""Preparing the training of a detector: what of the data the network depends on, batches, and all else of a `Task`."""

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model_handler import ModelHandler, Source
from model_handler.errors import ModelError, with_fix
from model_handler.sources import blank_input
from repurpose.detection.data import (
    DetectionRows,
    DetectionTruth,
    chosen_augmentation,
    overview_of,
)
from repurpose.detection.learning import (
    DetectionBatches,
    DetectionObjective,
    DetectionValidation,
    PaddedRows,
    chosen_image_size,
    sizes_of_boxes,
)
from repurpose.detection.networks import FeatureMaps, find_feature_maps
from repurpose.detection.networks.anchors import warn_of_thin_boxes
from repurpose.detection.networks.detectors import chosen_channels
from repurpose.detection.networks.pyramid import divisor_of, pyramid_strides
from repurpose.neural_network.architecture import as_spec
from repurpose.neural_network.preparation_steps import plan_of
from repurpose.neural_network.training_parameters import TrainingParameters
from repurpose.neural_network.transfer_network import TransferNetwork
from repurpose.training.checkpoints.configuration import describe_labels
from repurpose.training.data.seeding import SeedPurpose, drawing_from, seed_of
from repurpose.training.plan.groups import make_groups
from repurpose.training.task import Task

__all__ = ["N_QUANTILES", "PreparesDetection"]

_STEPS = 500  # of a training whose epochs are not given
N_QUANTILES = 101  # of the sizes of boxes, kept for the anchors
_COARSEST = 32  # the stride of the coarsest map
# What a layer gives moves by as much more as it reads more channels (Yang et al., 2022, arXiv:2203.03466), and a head
# of 256 learns nothing at 1e-3.
_RATE_OF_64_CHANNELS, _RATE_OF_SOURCE = 1e-3, 1e-4


class PreparesDetection(TransferNetwork, TrainingParameters):
    """Base of `DetectionRepurposer`, whose parameters it reads."""

    layers: Sequence[str] | str
    detector: str
    image_size: int | str
    augmentation: Callable | str | None
    channels: int | str
    channels_: int
    classes_: np.ndarray
    image_size_: int
    box_sides_: np.ndarray

    def _prepare_task(self, rows: DetectionRows, judged: DetectionRows | None, *, seed: int) -> Task:
        """Hook, optional: all that a training needs. Sets what of the data the network depends on."""
        truths = list(rows.truths())
        self.classes_ = overview_of(rows, truths).classes
        self.image_size_ = chosen_image_size(self.image_size, truths)
        example = self._example_image()
        self.example_inputs_ = as_spec(example)
        found = self._feature_maps(example)
        self.channels_ = chosen_channels(self.channels, found)
        sizes = sizes_of_boxes(truths, self.image_size_, found.fixed_size)
        if self.detector == "fcos":
            warn_of_thin_boxes(sizes, pyramid_strides(found, with_pool=False))
        self.box_sides_ = np.quantile(np.sqrt(sizes.prod(axis=1)), np.linspace(0, 1, N_QUANTILES)).astype(np.float32)
        with drawing_from(seed_of(seed, SeedPurpose.NEW_LAYERS)):
            module = self._create_module(example)
        make = partial(
            PaddedRows,
            classes=self.classes_,
            image_size=self.image_size_,
            fixed_size=found.fixed_size,
            multiple=divisor_of(found),
        )
        learned, held_out = self._split(len(rows), seed)
        data = make(rows, truths, augmentation=chosen_augmentation(self.augmentation))
        batches = self._batches(data, truths, learned, seed)
        evaluation = None
        if judged is not None:
            shown = list(judged.truths())
            of_judged = self._batches(make(judged, shown), shown, np.arange(len(judged)), None)
            evaluation = DetectionValidation(of_judged, self.precision)
        elif len(held_out):
            of_held_out = self._batches(make(rows, truths), truths, held_out, None)
            evaluation = DetectionValidation(of_held_out, self.precision)
        plan = plan_of({**self._plan_values(), **self._usual_rates()}, seed, batches.n_batches, n_steps=_STEPS)
        new, blocks = self._new_parameters(module), self._block_names(example)
        groups = make_groups(module, plan, new, blocks)
        return Task(module, plan, groups, new, batches, DetectionObjective(), evaluation, blocks=blocks)

    def _usual_rates(self) -> dict[str, Any]:
        """Return learning rates by the number of channels, under the name of their parameter; none where one is given.

        Of AdamW alone, which moves each weight by as much whatever its gradient is.
        """
        given = self.optimizer_params or {}
        if self.learning_rates is not None or {"lr", "learning_rate"} & set(given) or self.optimizer != "AdamW":
            return {}
        return {"learning_rates": {"new": _RATE_OF_64_CHANNELS * 64 / self.channels_, "transferred": _RATE_OF_SOURCE}}

    def _split(self, n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw the rows to learn from and those to judge by."""
        n_held_out = round(self.validation_fraction * n_rows)
        if self.validation_fraction and not 0 < n_held_out < n_rows:
            raise ValueError(
                f"validation_fraction={self.validation_fraction:g} of {n_rows} images leaves {n_held_out} to judge by "
                f"and {n_rows - n_held_out} to learn from; give another, or validation_data"
            )
        order = np.random.RandomState(seed_of(seed, SeedPurpose.VALIDATION_SPLIT) % 2**32).permutation(n_rows)
        return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])

    def _batches(
        self, data: PaddedRows, truths: Sequence[DetectionTruth], numbers: np.ndarray, seed: int | None
    ) -> DetectionBatches:
        labels = np.array([str(label) for number in numbers for label in truths[number].labels.tolist()], dtype=str)
        return DetectionBatches(
            data,
            self.classes_,
            rows=numbers,
            n_rows=len(numbers),
            max_batch_size=min(self.batch_size, len(numbers)),
            seed=seed,
            batch_size=self.batch_size,
            labels=describe_labels(labels, in_order=True),
            num_workers=self.num_workers,
        )

    def _feature_maps(self, example: Tensor) -> FeatureMaps:
        """Find the maps. Raises ModelError, with what to give, for a network that does not take images of this size."""
        try:
            return find_feature_maps(ModelHandler(self._open_source(), device=self.device), example, self.layers)
        except ModelError as error:
            side = example.shape[-1]
            raise with_fix(
                ModelError,
                f"images of {side} x {side} pixels were tried: {error}",
                python="if the network takes images of one size alone, give it, such as image_size=224, or a Source "
                "with its preprocessing",
                shell="if the network takes images of one size alone, give it, such as --image-size 224",
            ) from error

    def _example_image(self) -> Tensor:
        """Make a blank image of a size that the network takes: that of its own preprocessing, if it has any."""
        source = self._open_source()
        own = source.transform if isinstance(source, Source) else None
        blank = blank_input(self.transform or own)
        if isinstance(blank, dict):
            raise TypeError(
                f"objects are found in images, and {source!r} takes text; give a network of "
                "images, such as 'efficientnet-lite0'"
            )
        side = _COARSEST * ceil(self.image_size_ / _COARSEST)
        return torch.zeros(1, 3, side, side) if blank is None else torch.zeros_like(blank)
