"""`DetectionRepurposer`: data in, boxes out, on the training engine; no classifier."""

import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from torch import nn

from model_handler import ModelError
from repurpose import load
from repurpose.detection import DetectionRepurposer, Detections
from repurpose.detection.evaluation import IsotonicScores, PlattScores
from repurpose.detection.learning import DetectionObjective
from repurpose.detection.networks.image_means import ImageMeanFCOSHead
from repurpose.repurposer import Repurposer
from tests.repurpose.detection.backbones import Residual


def scenes(n: int = 6, height: int = 64, width: int = 72) -> list:
    """Dark images with one bright square of 32 pixels each, and one image without."""
    draw = torch.Generator().manual_seed(0)
    data = []
    for _ in range(n - 1):
        image = torch.rand(3, height, width, generator=draw) * 0.2
        x, y = torch.randint(0, height - 32, (2,), generator=draw).tolist()
        image[:, y : y + 32, x : x + 32] = 1
        data.append((image, {"boxes": [[x, y, x + 32, y + 32]], "labels": ["square"]}))
    return [*data, (torch.zeros(3, 50, 60), {"boxes": np.empty((0, 4)), "labels": []})]


QUICK = {"image_size": 64, "channels": 64, "num_epochs": 2, "batch_size": 3, "random_state": 3, "device": "cpu"}


def repurposer_of(network: nn.Module | str | None = None, **options) -> DetectionRepurposer:
    return DetectionRepurposer(Residual() if network is None else network, **{**QUICK, **options})


def test_a_network_of_texts_is_refused_for_images() -> None:
    with pytest.raises(TypeError, match=r"found in images, and Source\(minilm: SentenceEncoder\) takes text; give a"):
        repurposer_of("minilm").repurpose(scenes())


class WithThinHead(DetectionRepurposer):
    """A user's own: FCOS with one convolution a branch in place of four."""

    def _create_target_module(self, example_inputs):
        module = super()._create_target_module(example_inputs)
        detector = module.get_submodule(module.detector_name)
        detector.head = ImageMeanFCOSHead(detector.backbone.out_channels, 1, len(self.classes_), num_convs=1)
        return module


@pytest.mark.parametrize("kind", ["fcos", "retinanet", "faster_rcnn"])
def test_it_learns_saves_and_finds_the_same_when_loaded(kind, tmp_path):
    torch.manual_seed(3)
    repurposer = repurposer_of(detector=kind).repurpose(scenes(3))
    assert repurposer.classes_.tolist() == ["square"]
    assert len(repurposer.history_) == 2
    images = [image for image, _ in scenes()]
    found = repurposer.predict_objects(images)
    assert [type(each) for each in found] == [Detections] * 6
    repurposer.save_repurposer(tmp_path / "saved", save_source_model=False)
    torch.manual_seed(3)
    again = load(tmp_path / "saved", source_model=repurposer.source_model)
    for one, other in zip(found, again.predict_objects(images), strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.scores, other.scores)


def test_the_same_seed_gives_the_same_detector_and_the_source_stays_as_it_was():
    network = Residual()
    network.stage1.norm.running_mean += 0.1  # as if trained: such statistics stay
    before = {name: value.clone() for name, value in network.state_dict().items()}
    weights = [
        repurposer_of(network, detector="faster_rcnn", num_epochs=1).repurpose(scenes(4)).target_model_.state_dict()
        for _ in range(2)
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not torch.equal(weights[0]["stage1.down.weight"], before["stage1.down.weight"])
    assert torch.equal(weights[0]["stage1.norm.running_mean"], before["stage1.norm.running_mean"])  # of the source


def test_learning_rates_know_the_layers_by_the_names_of_the_source():
    rates = {"stem": 0, "stage1": 0, "*": 1e-3}
    repurposer = repurposer_of(learning_rates=rates, num_epochs=1).repurpose(scenes())
    own, source = repurposer.target_model_.state_dict(), repurposer.source_model.state_dict()
    for name in ("stem.0.weight", "stage1.down.weight"):
        assert torch.equal(own[name], source[name])
    assert not torch.equal(own["stage2.down.weight"], source["stage2.down.weight"])


def test_new_layers_learn_the_slower_the_more_channels_they_read_where_no_rate_is_given():
    def rates(**options) -> dict[str, float]:
        table = repurposer_of(num_epochs=1, **options).repurpose(scenes(3)).parameter_groups_
        return {group.name: group.learning_rate for group in table}

    assert rates(channels="auto") == pytest.approx({"new": 1e-3, "transferred": 1e-4})  # 64 here
    assert rates(channels=128) == pytest.approx({"new": 5e-4, "transferred": 1e-4})
    assert rates(optimizer_params={"learning_rate": 0.02}) == {"new": 0.02, "transferred": 0.002}
    assert rates(learning_rates={"*": 0.01}) == {"*": 0.01}


def test_it_is_no_classifier_and_a_clone_has_its_parameters():
    repurposer = repurposer_of(detector="retinanet", layers=["stage1", "stage2"])
    assert not is_classifier(repurposer)
    assert not isinstance(repurposer, Repurposer)
    for name in ("predict_proba", "predict_label", "predict_uncertainty", "score", "conformalize"):
        assert not hasattr(repurposer, name)
    assert not {"class_weight", "mixup", "label_smoothing", "num_members"} & repurposer.get_params().keys()
    copied = clone(repurposer)
    assert copied.get_params() == repurposer.get_params()
    with pytest.raises(NotFittedError):
        copied.predict_objects([np.zeros((8, 8, 3), np.uint8)])
    assert copied.repurpose(scenes()).parameter_groups_.groups


def test_boxes_come_back_in_pixels_of_the_original_image():
    repurposer = repurposer_of().repurpose(scenes())
    answering(repurposer, [[([0, 0, 200, 300], 1.0)], [([0, 0, 30, 20], 1.0)]])
    found = repurposer.predict_objects([np.zeros((300, 200, 3), np.uint8), torch.zeros(3, 20, 30)])
    assert [each.boxes.tolist() for each in found] == [[[0, 0, 200, 300]], [[0, 0, 30, 20]]]
    assert [each.labels.tolist() for each in found] == [["square"], ["square"]]


def test_the_true_boxes_as_predictions_have_an_average_precision_of_one():
    data = scenes()
    repurposer = repurposer_of().repurpose(data)
    answering(repurposer, [[(box, 1.0) for box in target["boxes"]] for _, target in data])
    measured = repurposer.evaluate(data, n_bootstrap=10)
    assert measured.ap50 == measured.ap == measured.voc_ap50 == measured.voc07_ap50 == 1


def test_a_share_of_the_images_judges_each_epoch():
    history = repurposer_of(validation_fraction=0.3, early_stopping=5).repurpose(scenes()).history_
    assert np.isfinite(history.values("validation_loss")).all()
    shown = repurposer_of().repurpose(scenes(), validation_data=scenes(3)).history_
    assert np.isfinite(shown.values("validation_loss")).all()


def test_the_image_size_is_the_median_short_side_within_limits():
    assert repurposer_of(image_size="auto", num_epochs=1).repurpose(scenes(3)).image_size_ == 128
    assert repurposer_of(image_size="auto", num_epochs=1).repurpose(scenes(4, 140, 200)).image_size_ == 140


def answering(repurposer: DetectionRepurposer, answers: list) -> DetectionRepurposer:
    """The same, which finds in each image in turn what is given: a list of (box, score)."""
    waiting = iter(answers)

    def forward(images: list) -> list:
        given = [next(waiting) for _ in images]
        return [
            {"boxes": torch.tensor([box for box, _ in each], dtype=torch.float32).reshape(-1, 4),
             "labels": torch.zeros(len(each), dtype=torch.int64),
             "scores": torch.tensor([score for _, score in each])}
            for each in given
        ]  # fmt: skip

    repurposer.target_model_.forward = forward
    return repurposer


def test_calibrated_scores_are_the_share_of_boxes_that_are_right(tmp_path):
    """Of 102 boxes of score 0.9 a third is right, of 102 of score 0.3 a sixth: by isotonic regression, 1/3 and 1/6."""
    box, beside = [8, 8, 40, 40], [50, 50, 60, 60]
    data = [(torch.zeros(3, 64, 64), {"boxes": [box], "labels": ["square"]})] * 102
    found = [[(box if n % 3 == 0 else beside, 0.9), (box if n % 6 == 1 else beside, 0.3)] for n in range(102)]
    torch.manual_seed(3)
    repurposer = answering(repurposer_of(num_epochs=1).repurpose(scenes(3)), found * 4)
    before = repurposer.evaluate(data, n_bootstrap=2)
    assert before.calibration_error == pytest.approx(((0.9 - 1 / 3) + (0.3 - 1 / 6)) / 2)
    assert repurposer.calibrate(data) is repurposer
    (first, *_) = repurposer.predict_objects([image for image, _ in data])
    assert first.scores.tolist() == pytest.approx([1 / 3, 1 / 6])
    after = repurposer.evaluate(data, n_bootstrap=2)
    assert after.calibration_error == pytest.approx(0, abs=1e-12)
    assert (after.ap50, after.ap, after.voc_ap50) == (before.ap50, before.ap, before.voc_ap50)
    del repurposer.target_model_.forward
    repurposer.save_repurposer(tmp_path / "saved", save_source_model=False)
    again = load(tmp_path / "saved", source_model=repurposer.source_model)
    assert again.score_calibration_.apply(np.array([0.3, 0.9])).tolist() == pytest.approx([1 / 6, 1 / 3])
    assert not hasattr(repurposer.repurpose(scenes(3)), "score_calibration_")


def test_what_cannot_be_measured_is_told_before_an_image_is_looked_at():
    repurposer = answering(repurposer_of(num_epochs=1).repurpose(scenes(3)), [])  # any call would raise StopIteration
    empty, good = scenes()[-1], scenes()[0]
    beyond = (good[0], {"boxes": [[8, 8, 400, 40]], "labels": ["square"]})
    for method in (repurposer.evaluate, repurposer.calibrate):
        with pytest.raises(ValueError, match="none of the 2 images has an object that counts"):
            method([empty] * 2)
        with pytest.raises(ValueError, match="row 1"):
            method([good, beyond])
    assert not hasattr(repurposer, "score_calibration_")


def test_a_batch_too_large_for_memory_is_learned_in_halves_with_the_same_result(monkeypatch):
    def weights() -> dict:
        torch.manual_seed(3)
        network = Residual()
        for stage in (network.stage1, network.stage2, network.stage3):
            stage.norm.running_mean += 0.1  # as if trained: then it does not normalise by the batch
        by = {"optimizer": "SGD", "num_epochs": 1, "batch_size": 4}  # AdamW's first step is as large for no gradient
        return repurposer_of(network, **by).repurpose(scenes(4)).target_model_.state_dict()

    whole, seen, loss = weights(), [], DetectionObjective.loss

    def failing(self, module, inputs, targets):
        seen.append(len(targets))
        if len(targets) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return loss(self, module, inputs, targets)

    monkeypatch.setattr(DetectionObjective, "loss", failing)
    with pytest.warns(UserWarning, match="out of memory with 4 rows at once: training begins again with 2"):
        halved = weights()
    assert seen == [4, 2, 2]
    for name, value in whole.items():
        torch.testing.assert_close(halved[name], value, rtol=1e-4, atol=1e-5)


def test_a_subclass_gives_a_head_of_its_own(tmp_path):
    torch.manual_seed(3)
    repurposer = WithThinHead(Residual(), **QUICK).repurpose(scenes(3))
    head = repurposer.target_model_.get_submodule("detector.head")
    assert [len(branch.conv) for branch in (head.classification_head, head.regression_head)] == [3, 3]
    repurposer.save_repurposer(tmp_path / "saved", save_source_model=False)
    again = load(tmp_path / "saved", source_model=repurposer.source_model)
    assert type(again) is WithThinHead
    images = [image for image, _ in scenes(3)]
    for one, other in zip(repurposer.predict_objects(images), again.predict_objects(images), strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)


def test_what_the_network_is_made_by_cannot_change_between_training_and_saving(tmp_path):
    repurposer = repurposer_of(num_epochs=1).repurpose(scenes(2))
    repurposer.set_params(detector="retinanet", layers=["stage2", "stage3"])
    with pytest.raises(ValueError, match="layers, detector changed after training"):
        repurposer.save_repurposer(tmp_path / "saved")
    repurposer.set_params(detector="fcos", layers="auto").save_repurposer(tmp_path / "saved", save_source_model=False)
    load(tmp_path / "saved", source_model=repurposer.source_model)


def test_a_file_that_says_what_cannot_be_is_refused():
    repurposer = repurposer_of(num_epochs=1).repurpose(scenes(2))
    parameters, learned = repurposer.get_params(), repurposer._learned_for_file()
    lies = {
        "image_size_": [0, 1],
        "channels_": [0, 2**30, 2**40],  # of which weights would fill any memory
        "classes_": [np.array([None], object), np.array([["a"]]), np.array([1.5]), np.empty(0, int), np.array([1, 1])],
        "box_sides_": [-learned["box_sides_"]],
        "score_calibration_": [
            PlattScores(np.array([-1.0, 0.0])),
            IsotonicScores(np.array([0.5, 0.1]), np.array([0.1, 0.9])),
            IsotonicScores(np.array([0.1, 0.5]), np.array([0.9, 0.1])),
            IsotonicScores(np.empty(0), np.empty(0)),
        ],
    }
    for name, values in lies.items():
        for value in values:
            with pytest.raises(ValueError, match=f"its {name}"):
                DetectionRepurposer.restored(parameters, {**learned, name: value})
    for changed in ({"detector": ["fcos"]}, {"layers": 3}):
        with pytest.raises(ValueError, match="must be"):
            DetectionRepurposer.restored({**parameters, **changed}, learned)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"detector": "yolo"}, "detector must be one of"),
        ({"detector": ["fcos"]}, "detector must be one of"),
        ({"layers": None}, 'layers must be "auto" or a list'),
        ({"image_size": 8}, "image_size must be"),
        ({"layers": "layer3"}, 'layers must be "auto" or a list'),
        ({"channels": 100}, 'channels must be "auto" or a multiple of 32'),
        ({"channels": 2048}, 'channels must be "auto" or a multiple of 32 from 64 to 1024'),
        ({"channels": "many"}, 'channels must be "auto" or a multiple of 32'),
        ({"augmentation": "flip"}, "augmentation must be"),
        ({"num_epochs": 0}, "num_epochs must be"),
        ({"cache_frozen": True}, "cache_frozen=True cannot be"),
        ({"cache_frozen": {"when": True}}, "cache_frozen=True cannot be"),
        ({"cache_frozen": {"dtpye": "bfloat16"}}, "cache_frozen has no option 'dtpye'"),
        ({"early_stopping": 2}, "early_stopping needs something to judge by"),
        ({"validation_fraction": 0.01}, "leaves 0 to judge by"),
    ],
)
def test_what_cannot_be_is_refused(options, match):
    repurposer = repurposer_of(**options)
    with pytest.raises(ValueError, match=match):
        repurposer.repurpose(scenes())
    assert not hasattr(repurposer, "classes_")


def test_data_without_a_box_and_backbones_without_a_map_are_refused():
    with pytest.raises(ValueError, match="has an object to learn from"):
        repurposer_of().repurpose(scenes()[-1:])
    with pytest.raises(ModelError, match="gives no feature map"):
        repurposer_of(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))).repurpose(scenes())
    mixed = [*scenes(), (torch.zeros(3, 64, 64), {"boxes": [[1, 2, 30, 40]], "labels": [3]})]
    with pytest.raises(TypeError, match="labels must be all text or all whole numbers"):
        repurposer_of().repurpose(mixed)
    repurposer = repurposer_of(num_epochs=1).repurpose(scenes())
    other = [(torch.zeros(3, 64, 64), {"boxes": [[1, 2, 30, 40]], "labels": ["sqare"]})]
    never = repurposer_of(callbacks=[lambda *_: pytest.fail("an epoch was trained")])
    with pytest.raises(ValueError, match=r"row 0 of the list has labels that training has not.*nearest: \['square'\]"):
        never.repurpose(scenes(), validation_data=other)
    with pytest.raises(ValueError, match=r"min_score must be from 0.05 to 1, got 0.01"):
        repurposer.predict_objects(scenes(), min_score=0.01)
    with pytest.raises(ValueError, match=r"min_score must be from 0.05 to 1, got 'high'"):
        repurposer.predict_objects(scenes(), min_score="high")
