"""`DetectionRepurposer`: any backbone becomes a detector, trained on images with boxes."""

from collections.abc import Callable, Sequence
from functools import partial
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from torch import nn

from model_handler import Source
from model_handler.network.ambient_modes import undisturbed
from model_handler.network.device import resolve_device
from model_handler.network.states import state_of
from model_handler.progress import track
from repurpose.detection.data import (
    DetectionRows,
    Detections,
    DetectionTruth,
    augmentation_mistakes,
    detection_rows,
)
from repurpose.detection.evaluation import (
    DetectionEvaluation,
    IsotonicScores,
    PlattScores,
    ScoreCalibration,
    evaluate_detections,
    fit_score_calibration,
    match_detections,
    refuse_without_objects,
)
from repurpose.detection.finding import find_objects
from repurpose.detection.learning import image_size_mistakes
from repurpose.detection.learning.batches import as_tensor
from repurpose.detection.learning.image_sizes import LEAST_SIZE
from repurpose.detection.networks import build_detector, find_feature_maps
from repurpose.detection.networks.detectors import (
    LEAST_CHANNELS,
    LEAST_SCORE,
    MOST_CHANNELS,
    channel_mistakes,
    detector_mistakes,
)
from repurpose.detection.pictures import Pictures, ShownRows
from repurpose.detection.preparation import N_QUANTILES, PreparesDetection
from repurpose.fitted import fitted_attributes
from repurpose.neural_network.architecture import like_spec
from repurpose.neural_network.members import open_checkpoints, seed_of_training
from repurpose.neural_network.restoring import check_groups, set_saved_state
from repurpose.neural_network.saved_training import GROUPS, HISTORY
from repurpose.persistence.values.schema import Array, By, Dict, Either, Maybe, Object, Sizes, Table, Text, Whole
from repurpose.training.data.seeding import drawing_from
from repurpose.training.distributed.starting import started_group
from repurpose.training.history import History
from repurpose.training.loop import train
from repurpose.training.plan.parameter_groups import GroupTable
from repurpose.training.plan.unfreezing import let_learn

__all__ = ["DetectionRepurposer"]


class DetectionRepurposer(PreparesDetection):
    """Finds objects: torchvision's FCOS, RetinaNet or Faster R-CNN on the feature maps of any backbone.

    Images are normalised as the source network was trained; resize and crop of its preprocessing are left out.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The backbone, or its name: a ConvNet, a hierarchical transformer such as Swin, or a plain one.
    layers : "auto" or sequence of str
        The layers whose maps are read; by default the last ones of strides 8, 16 and 32. See
        `repurpose.detection.networks.find_feature_maps`.
    detector : "fcos", "retinanet" or "faster_rcnn"
    image_size : int or "auto"
        The largest short side in pixels. Larger images are made smaller, smaller ones stay as they are. By default the
        median of the training images, from 128 to 640. A network that takes one size gets its images padded to that.
    augmentation : callable, "auto" or None
        From (image, target) to (image, target), such as a transform of torchvision.transforms.v2; "auto" shifts by up
        to an eighth and flips half of the images.
    channels : int or "auto"
        Of the levels of the pyramid, and of the heads on it: a multiple of 32 from 64 to 1024. Fewer are faster. By
        default half of those of the middle map, from 64 to 256: 64 on EfficientNet-Lite0, 256 on ResNet-50.
    batch_size : int, default=8
    num_epochs : int, optional
        By default as many as give 500 steps, from 5 to 50.
    learning_rates : dict, optional
        As in `TrainingParameters`. With AdamW the default is 1e-4 for transferred layers, and for new ones 1e-3 at 64
        channels and less in proportion where there are more.
    **kwargs
        The parameters of `repurpose.neural_network.training_parameters.TrainingParameters` and `Repurposer`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels of the training boxes, sorted.
    image_size_ : int
        The largest short side in pixels.
    channels_ : int
        Of the pyramid.
    target_model_ : DetectionNetwork
    history_ : History
    parameter_groups_ : GroupTable
    score_calibration_ : PlattScores or IsotonicScores
        After `calibrate`: what becomes of a score.

    Examples
    --------
    >>> import torch
    >>> from torchvision.models import resnet18
    >>> from repurpose.detection import DetectionRepurposer
    >>> images = torch.zeros(4, 3, 64, 64)
    >>> images[:, :, 16:48, 8:40] = 1
    >>> data = [(image, {"boxes": [[8, 16, 40, 48]], "labels": ["square"]}) for image in images]
    >>> repurposer = DetectionRepurposer(resnet18(), image_size=64, channels=64, num_epochs=2, random_state=8)
    >>> found = repurposer.repurpose(data).predict_objects(images[:2])
    >>> len(found), repurposer.classes_.tolist(), len(repurposer.history_)
    (2, ['square'], 2)
    """

    parameter_groups_: GroupTable
    history_: History
    score_calibration_: ScoreCalibration
    _schema: ClassVar[Table] = {
        "classes_": Array("n_classes", dtypes="i u U"),
        "image_size_": Whole(LEAST_SIZE),
        "channels_": Whole(LEAST_CHANNELS, MOST_CHANNELS),
        "box_sides_": Array("n_quantiles", dtypes="f", least=0.0),
        "example_inputs_": By(like_spec),
        "parameter_groups_": GROUPS,
        "history_": HISTORY,
        "score_calibration_": Maybe(Either(Object(PlattScores), Object(IsotonicScores))),
        "target_state_": Dict(Text()),
    }
    _of_the_network = ("transform", "layers", "detector")

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        layers: Sequence[str] | str = "auto",
        detector: str = "fcos",
        image_size: int | str = "auto",
        *,
        augmentation: Callable | str | None = None,
        channels: int | str = "auto",
        batch_size: int = 8,
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, batch_size=batch_size, **kwargs)
        self.layers = layers
        self.detector = detector
        self.image_size = image_size
        self.augmentation = augmentation
        self.channels = channels

    @undisturbed()
    def repurpose(self, data: object, *, validation_data: object = None) -> Self:
        """Learn to find what images with boxes show; an earlier result stays as it was if this fails.

        Parameters
        ----------
        data : VocFolderData, CocoData, Dataset, list of pairs, ...
            As `detection_rows` takes it; images without an object are allowed, ignored objects are not learned.
        validation_data : as `data`, optional
            By which each epoch is judged.

        Raises
        ------
        TypeError, ValueError
            For parameters or data that cannot be used; every mistake among the parameters is listed.
        ModelError
            For a backbone without a feature map.

        Examples
        --------
        >>> import torch
        >>> from torchvision.models import resnet18
        >>> from repurpose.detection import DetectionRepurposer
        >>> image, target = torch.rand(3, 64, 64), {"boxes": [[8, 16, 40, 48]], "labels": ["cat"]}
        >>> repurposer = DetectionRepurposer(resnet18(), image_size=64, channels=64, num_epochs=1)
        >>> repurposer.repurpose([(image, target)], validation_data=[(image, target)]).history_.records[0].keys()
        dict_keys(['epoch', 'loss', 'accuracy', 'learning_rates', 'validation_loss', 'seconds'])
        """
        self._check_parameters()
        rows = detection_rows(data)
        judged = None if validation_data is None else detection_rows(validation_data)
        if judged is not None and self.validation_fraction:
            raise ValueError("validation_data and validation_fraction are both given; give one of them")
        with self._learning(data):
            self._learn(rows, judged)
        return self

    def fit(self, X: object, y: None = None, *, validation_data: object = None) -> Self:
        """Do the same as `repurpose`, under scikit-learn's name."""
        return self.repurpose(X, validation_data=validation_data)

    @undisturbed()
    def predict_objects(self, data: object, min_score: float = LEAST_SCORE) -> list[Detections]:
        """Find objects in images, whose true boxes, if the data have any, are not looked at.

        Parameters
        ----------
        data : path of a folder or an image, images, or as in `repurpose`
            As `repurpose.detection.pictures.Pictures` takes it.
        min_score : float, default=0.05
            The least score of what is returned, a probability after `calibrate`; the detector itself keeps nothing that
            it gives less than 0.05, and at most 100 an image.

        Returns
        -------
        list of Detections
            One an image, boxes in its own pixels.

        Raises
        ------
        NotFittedError
            Before `repurpose`.
        ValueError
            For a score that cannot be, and data without an image.

        Examples
        --------
        >>> import torch
        >>> from torchvision.models import resnet18
        >>> from repurpose.detection import DetectionRepurposer
        >>> image, target = torch.rand(3, 64, 64), {"boxes": [[8, 16, 40, 48]], "labels": ["cat"]}
        >>> repurposer = DetectionRepurposer(resnet18(), image_size=64, channels=64, num_epochs=1)
        >>> found = repurposer.repurpose([(image, target)]).predict_objects(torch.rand(2, 3, 100, 80), min_score=0.99)
        >>> [len(each) for each in found]
        [0, 0]
        """
        self._check_is_repurposed()
        calibration = vars(self).get("score_calibration_")
        least = LEAST_SCORE if calibration is None else 0
        is_number = isinstance(min_score, Real) and not isinstance(min_score, bool)
        if not is_number or not least <= min_score <= 1:
            raise ValueError(f"min_score must be from {least} to 1, got {min_score!r}: nothing below is kept")
        found = self._find(data)
        if calibration is not None:
            found = [Detections(each.boxes, each.labels, calibration.apply(each.scores)) for each in found]
        return [each.at_least(min_score) for each in found]

    @undisturbed()
    def calibrate(self, data: object) -> Self:
        """Make the scores of found boxes the probability that they match a true one at an overlap of .5.

        Learned from what is found in images that training has not seen; an earlier calibration is replaced. The order
        of scores, and with it average precision, stays.

        Parameters
        ----------
        data : as in `repurpose`
            From 200 boxes found in them on, by isotonic regression, with fewer by Platt's sigmoid.

        Raises
        ------
        NotFittedError
            Before `repurpose`.
        ValueError
            For data without an object that counts, and where no box is found.

        Examples
        --------
        >>> import torch
        >>> from torchvision.models import resnet18
        >>> from repurpose.detection import DetectionRepurposer
        >>> data = [(torch.rand(3, 64, 64), {"boxes": [[8, 16, 40, 48]], "labels": ["cat"]})] * 2
        >>> repurposer = DetectionRepurposer(resnet18(), "auto", "faster_rcnn", 64, channels=64, num_epochs=1)
        >>> type(repurposer.repurpose(data).calibrate(data).score_calibration_).__name__
        'PlattScores'
        """
        found, truths = self._found_and_true(data)
        self.score_calibration_ = fit_score_calibration(match_detections(found, truths, self.classes_))
        return self

    @undisturbed()
    def evaluate(self, data: object, *, n_bootstrap: int = 1000) -> DetectionEvaluation:
        """Measure what is found in images against their true boxes, by COCO's and VOC's rules, with intervals.

        Parameters
        ----------
        data : as in `repurpose`
        n_bootstrap : int
            How often images are drawn anew for the intervals.

        Raises
        ------
        NotFittedError
            Before `repurpose`.
        ValueError
            For data without an object that counts.

        Examples
        --------
        >>> import torch
        >>> from torchvision.models import resnet18
        >>> from repurpose.detection import DetectionRepurposer
        >>> data = [(torch.rand(3, 64, 64), {"boxes": [[8, 16, 40, 48]], "labels": ["cat"]})] * 2
        >>> repurposer = DetectionRepurposer(resnet18(), image_size=64, channels=64, num_epochs=1).repurpose(data)
        >>> 0 <= repurposer.evaluate(data, n_bootstrap=10).ap50 <= 1
        True
        """
        found, truths = self._found_and_true(data)
        calibration = vars(self).get("score_calibration_")
        return evaluate_detections(found, truths, self.classes_, calibration=calibration, n_bootstrap=n_bootstrap)

    def _create_target_module(self, example_inputs: Any) -> nn.Module:
        """Hook: the network to train, of the kind of `DetectionNetwork`; made again when a saved one is loaded."""
        handler = self._handler_for(example_inputs)
        found = find_feature_maps(handler, example_inputs, self.layers)
        # FCOS has no anchors; which boxes it may miss is told in training
        boxes = None if self.detector == "fcos" else np.stack([self.box_sides_, self.box_sides_], axis=1)
        options: dict[str, Any] = {"image_size": self.image_size_, "boxes": boxes, "channels": self.channels_}
        return build_detector(handler, found, len(self.classes_), self.detector, **options)

    def _learn(self, rows: DetectionRows, judged: DetectionRows | None) -> None:
        device = resolve_device(self.device, self._source_network())
        with started_group(self.distributed, device, self.sync_norm) as process_group:
            checkpoints = open_checkpoints(self.checkpoint_dir, 0, 1, process_group)
            draw = partial(seed_of_training, self.random_state, checkpoints)
            seed = process_group.from_main_process(draw)
            if hasattr(self, "prediction_seed_"):
                self.prediction_seed_ = seed  # that of all processes, and of a training that is resumed
            task = self._prepare_task(rows, judged, seed=seed)
            self._refuse_blind_stopping(task)
            self.history_ = train(task, checkpoints=checkpoints, process_group=process_group)
            self.parameter_groups_ = task.groups
            self.target_model_ = task.module
            self._note_training()

    def _found_and_true(self, data: object) -> tuple[list[Detections], list[DetectionTruth]]:
        """Find objects in images with true boxes, which are judged before the network looks at any image."""
        self._check_is_repurposed()
        rows = ShownRows(detection_rows(data))
        n_objects = sum(int((~truth.ignored).sum()) for truth in rows.truths())
        refuse_without_objects(n_objects, len(rows))
        return self._find(rows), list(rows.truths())

    def _find(self, data: object) -> list[Detections]:
        """Find objects, with the scores that the network gives."""
        self._refuse_other_network()
        pictures = Pictures(data)
        shown = track(pictures, description="Finding objects", total=len(pictures), verbose=self.verbose)
        found = find_objects(self.target_model_, map(as_tensor, shown), self.batch_size, self.precision)
        return [
            Detections(boxes=each["boxes"], labels=self.classes_[each["labels"]], scores=each["scores"])
            for each in found
        ]

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes() + image_size_mistakes(self.image_size)
        mistakes += augmentation_mistakes(self.augmentation) + channel_mistakes(self.channels)
        return mistakes + detector_mistakes(self.detector, self.layers)

    def _learned_for_file(self) -> dict[str, Any]:
        self._refuse_other_network()  # a file of another one could not be read
        learned = {name: value for name, value in fitted_attributes(self).items() if not isinstance(value, nn.Module)}
        return {**learned, "target_state_": state_of(self.target_model_)}

    def _sizes_of(self, learned: Any) -> Sizes:
        classes = learned.get("classes_")
        if not isinstance(classes, np.ndarray) or classes.ndim != 1 or classes.dtype == object or not len(classes):
            raise ValueError("its classes_ are no array of labels")
        if len(set(classes.tolist())) < len(classes):
            raise ValueError("its classes_ are not different labels")
        return {**super()._sizes_of(learned), "n_classes": len(classes), "n_quantiles": N_QUANTILES}

    def _take_from_file(self, learned: Any) -> None:
        super()._take_from_file({name: value for name, value in learned.items() if name != "target_state_"})
        if mistakes := detector_mistakes(self.detector, self.layers):
            raise ValueError("; ".join(mistakes))
        with drawing_from(0):  # what the hook draws is overwritten below, and the user's generators are not moved by it
            module = self._create_module(like_spec(self.example_inputs_))
        set_saved_state(module, learned["target_state_"], type(self).__name__)
        check_groups(self.parameter_groups_, module)
        let_learn(module, self.parameter_groups_, max(group.from_epoch for group in self.parameter_groups_))
        self.target_model_ = module.eval()

    def _check_restored(self) -> None:
        super()._check_restored()
        calibration = vars(self).get("score_calibration_")
        if calibration is not None and not calibration.rises:
            raise ValueError("its score_calibration_ does not rise with the score")
