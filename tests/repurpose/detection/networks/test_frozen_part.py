"""What frozen layers of a backbone give is computed once: losses, gradients and whole trainings stay the same."""

import logging

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from model_handler.frozen_prefix.splitting import split
from repurpose.detection import DetectionRepurposer
from repurpose.detection.networks import DetectionNetwork
from tests.repurpose.detection.backbones import Residual, detector_on, plain_transformer

KINDS = ["fcos", "retinanet", "faster_rcnn"]
FROZEN = {"stem": 0.0, "stage1": 0.0, "*": 1e-3}


def frozen_detector(kind: str) -> DetectionNetwork:
    """Its stem and first stage do not learn, nor do the statistics of any normalisation."""
    network = Residual()
    for stage in (network.stage1, network.stage2, network.stage3):
        stage.norm = FrozenBatchNorm2d(stage.norm.num_features)
    detector = detector_on(network, kind)
    for part in (detector.stem, detector.stage1):
        part.requires_grad_(False)
    return detector


def inputs_of(*sizes: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Bytes of one shape, of which an image has a part, with a box each but the last."""
    images = torch.randint(0, 256, (len(sizes), 3, 64, 96), generator=torch.Generator().manual_seed(1))
    boxes = [[[4.0, 6, 28, 38, 1], [-1] * 5]] * (len(sizes) - 1) + [[[-1.0] * 5] * 2]
    return {"images": images.byte(), "targets": torch.tensor(boxes), "sizes": torch.tensor(sizes)}


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_gradients_of_the_rest_are_those_of_the_whole(kind):
    detector, inputs = frozen_detector(kind), inputs_of((64, 96), (40, 30), (50, 60))
    frontier = split(detector, inputs).frontier
    assert frontier is not None
    assert frontier.last_layer.startswith("stage1")
    assert {name.partition(".")[0] for name, _ in frontier.rest.named_parameters()} == {"stage2", "stage3", "detector"}
    found = {}
    for name, call in (("whole", detector), ("rest", frontier.rest)):
        detector.zero_grad()
        given = inputs if name == "whole" else frontier.values(inputs, folded=False)
        torch.manual_seed(3)  # Faster R-CNN draws samples
        losses = call(**given) if name == "whole" else call(*given)
        sum(losses.values()).backward()
        gradients = {each: part.grad.clone() for each, part in detector.named_parameters() if part.requires_grad}
        found[name] = ({each: loss.detach() for each, loss in losses.items()}, gradients)
    torch.testing.assert_close(found["rest"], found["whole"])


def test_the_rest_has_the_validation_loss_of_the_whole_and_its_mode():
    detector, inputs = frozen_detector("fcos").eval(), inputs_of((64, 96), (40, 30))
    frontier = split(detector, inputs).frontier
    rest = frontier.rest.eval()
    torch.testing.assert_close(rest(*frontier.values(inputs, folded=False)), detector(**inputs))
    assert not any(module.training for module in rest.modules())


def test_a_network_with_losses_of_its_own_is_not_split():
    class Weighted(DetectionNetwork):
        def losses(self, images, targets, sizes=None):
            return {name: 2 * loss for name, loss in super().losses(images, targets, sizes).items()}

    detector = frozen_detector("fcos")
    detector.__class__ = Weighted
    assert split(detector, inputs_of((64, 96))).reason == "Weighted.losses may look into the network"


def scenes(*sizes: tuple[int, int]) -> list:
    draw = np.random.default_rng(0)
    boxes = [[[4, 6, 28, 38]], [[10, 2, 40, 30], [0, 0, 20, 20]], []]
    return [
        (
            draw.integers(0, 256, (*size, 3), dtype=np.uint8),
            {"boxes": boxes[number % 3], "labels": ["cat"] * (number % 3 < 2) + ["dog"] * (number % 3 == 1)},
        )
        for number, size in enumerate(sizes)
    ]


def trained(data: list, network: nn.Module | None = None, **options) -> DetectionRepurposer:
    given = {"image_size": 64, "channels": 64, "num_epochs": 3, "batch_size": 3, "random_state": 3, "device": "cpu"}
    torch.manual_seed(1)
    source = Residual() if network is None else network
    return DetectionRepurposer(source, **{**given, "learning_rates": FROZEN, **options}).repurpose(
        data, validation_data=data[:2]
    )


SAME_PADDED_SIZE = [(64, 64), (60, 64), (64, 50), (40, 64), (64, 64)]


@pytest.mark.parametrize("kind", KINDS)
def test_training_with_kept_activations_is_training_without(kind, caplog):
    data = scenes(*SAME_PADDED_SIZE)
    with caplog.at_level(logging.INFO, "repurpose.training"):
        kept = trained(data, detector=kind, cache_frozen={"when": True, "folded": False})
    assert "is computed once: 5 rows" in caplog.text
    plain = trained(data, detector=kind, cache_frozen=False)
    for name in ("loss", "validation_loss"):
        ours, theirs = ([record[name] for record in each.history_.records] for each in (kept, plain))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    for (name, ours), theirs in zip(
        kept.target_model_.state_dict().items(), plain.target_model_.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5, msg=name)


def test_a_resumed_training_keeps_activations_too_and_ends_the_same(tmp_path):
    def stop(state, record):
        if state.epoch == 1:
            raise KeyboardInterrupt

    data, options = scenes(*SAME_PADDED_SIZE), {"cache_frozen": True, "ema": 0.9}
    whole = trained(data, **options)
    with pytest.raises(KeyboardInterrupt):
        trained(data, callbacks=[stop], checkpoint_dir=tmp_path, **options)
    resumed = trained(data, checkpoint_dir=tmp_path, **options)
    for ours, theirs in zip(resumed.target_model_.state_dict().values(), whole.target_model_.state_dict().values()):
        assert torch.equal(ours, theirs)


def test_images_that_are_padded_by_their_batch_are_computed_for_each(caplog):
    data = scenes((64, 64), (64, 96), (64, 64))
    reason = "images are padded to the largest of a batch, and differ in size, such as 64 x 64 and 64 x 96"
    with pytest.raises(ValueError, match=reason):
        trained(data, cache_frozen=True)
    with caplog.at_level(logging.INFO, "repurpose.training"):
        found = trained(data)
    assert f"is computed folded and without autograd for each batch: {reason}" in caplog.text
    plain = trained(data, cache_frozen=False)
    losses = ([record["loss"] for record in each.history_.records] for each in (found, plain))
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_augmented_images_are_computed_for_each_batch(caplog):
    with caplog.at_level(logging.INFO, "repurpose.training"):
        trained(scenes(*SAME_PADDED_SIZE), augmentation="auto")
    assert "without autograd for each batch: augmentation draws anew each epoch" in caplog.text


def test_a_network_of_one_size_keeps_what_it_gives_for_images_of_any(caplog):
    with caplog.at_level(logging.INFO, "repurpose.training"):
        trained(
            scenes((64, 64), (64, 96), (30, 40)), plain_transformer(), learning_rates={"patch_embed": 0.0, "*": 1e-3}
        )
    assert "is computed once: 3 rows" in caplog.text
