"""One module with the names of source and detector: losses in training, detections with codes from 0 in evaluation."""

import copy

import pytest
import torch
from torchvision.ops import box_iou

from model_handler import ModelHandler
from tests.repurpose.detection.backbones import Deciding, Residual, detector_on, plain_transformer, targets_of

KINDS = ["fcos", "retinanet", "faster_rcnn"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", [Residual, Deciding, plain_transformer])
def test_images_without_a_box_have_finite_losses_and_gradients(kind, network):
    detector = detector_on(network(), kind)
    images = [torch.rand(3, 50, 60), torch.rand(3, 64, 40)]
    sum(detector(images, targets_of([], [])).values()).backward()
    gradients = [parameter.grad for parameter in detector.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_codes_start_at_zero_outside_whatever_the_detector_calls_them(kind):
    detector = detector_on(Residual(), kind, n_classes=3)
    inner, given = detector.detector, []
    boxes = torch.tensor([[0.0, 0, 9, 9], [64, 0, 64, 9], [1, 2, 3, 4]])  # one on the edge, of which nothing is left
    found = {"boxes": boxes, "labels": torch.tensor([1, 1, 2]), "scores": torch.tensor([0.9, 0.8, 0.7])}
    inner.forward = lambda images, targets=None: given.append(targets) or [found]
    detector.losses([torch.rand(3, 64, 64)], targets_of([(1, 2, 30, 40)]))
    first = 1 if kind == "faster_rcnn" else 0
    assert given[0][0]["labels"].tolist() == [1 + first]
    (outside,) = detector.eval()([torch.rand(3, 64, 64)])
    assert outside["labels"].tolist() == [1 - first, 2 - first]
    assert torch.equal(outside["boxes"], boxes[[0, 2]])
    assert torch.equal(outside["scores"], found["scores"][[0, 2]])


def test_a_detector_learns_to_find_what_it_was_shown():
    """A bright square at another place in each of two images: after some steps it is the best detection."""
    detector = detector_on(Residual()).eval()  # two images are no measure for BatchNorm
    images, boxes = [torch.zeros(3, 64, 64) for _ in range(2)], [(8, 16, 40, 48), (24, 8, 56, 40)]
    for image, (x1, y1, x2, y2) in zip(images, boxes):
        image[:, y1:y2, x1:x2] = 1
    optimizer = torch.optim.AdamW(detector.parameters(), 3e-3)
    targets = targets_of(*([box] for box in boxes))
    for _ in range(10):
        optimizer.zero_grad()
        sum(detector.losses(images, targets).values()).backward()
        optimizer.step()
    for found, box in zip(detector(images), boxes):
        assert found["labels"][0] == 1
        assert box_iou(found["boxes"][:1], torch.tensor([box], dtype=torch.float32)) > 0.5
        assert found["scores"].tolist() == sorted(found["scores"].tolist(), reverse=True)
        assert (found["scores"] >= 0.05).all()


def test_a_batch_with_sizes_is_the_list_of_its_images():
    detector = detector_on(Residual()).eval()
    images, targets = [torch.rand(3, 50, 60), torch.rand(3, 40, 30)], targets_of([(1, 2, 30, 40)], [(3, 4, 20, 20)])
    batch = torch.full((2, 3, 64, 64), 0.7)
    for place, image in zip(batch, images):
        place[:, : image.shape[1], : image.shape[2]] = image
    sizes = torch.tensor([[50, 60], [40, 30]])
    assert detector.losses(batch, targets, sizes) == detector.losses(images, targets)
    assert not detector.training


def test_layers_have_the_names_and_weights_of_the_source_and_nothing_behind_the_last_map_is_left():
    source = Residual()
    detector = detector_on(source)
    own = dict(detector.named_parameters())
    for name, parameter in source.named_parameters():
        if name.startswith("fc"):
            assert name not in own
        else:
            assert torch.equal(own[name], parameter)
            assert own[name].data_ptr() != parameter.data_ptr()
    assert {name.partition(".")[0] for name in own} == {"stem", "stage1", "stage2", "stage3", "detector"}
    copied = copy.deepcopy(detector)
    with torch.no_grad():
        copied.stem[0].weight.zero_()
        copied.stem[0].bias.zero_()
    trunk = copied.__dict__["network"]
    assert not trunk.stem(torch.rand(1, 3, 8, 8)).any()
    assert own["stem.0.weight"].any()
    copied.eval()
    assert not trunk.training
    assert ModelHandler(source, torch.zeros(1, 3, 64, 64)).layer_names[-1] == "fc"


def test_every_image_needs_its_targets():
    with pytest.raises(ValueError, match="2 images need as many targets, got 1"):
        detector_on(Residual())([torch.rand(3, 64, 64)] * 2, targets_of([]))


@pytest.mark.parametrize("kind", ["fcos", "retinanet"])
def test_parts_of_a_batch_add_up_to_it_whatever_the_sizes_of_their_images(kind):
    detector = detector_on(Residual(), kind).eval()
    images, sizes = torch.zeros(2, 3, 64, 96), torch.tensor([[64, 96], [40, 30]])
    images[0], images[1, :, :40, :30] = torch.rand(3, 64, 96), torch.rand(3, 40, 30)
    targets = targets_of([(8, 16, 40, 48)], [(2, 3, 28, 33)])
    whole = detector(images, targets, sizes)
    first, second = (detector(images[n : n + 1], targets[n : n + 1], sizes[n : n + 1]) for n in range(2))
    for name, loss in whole.items():
        torch.testing.assert_close((first[name] + second[name]) / 2, loss)
    assert detector.detector.transform.least_size == (0, 0)
