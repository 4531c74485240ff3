import pytest
import torch

from model_handler import ModelError
from repurpose.training.data.augmentation import augmentation_mistakes, chosen_augmentation


def test_auto_shifts_and_flips_and_keeps_the_size() -> None:
    image = torch.arange(3 * 16 * 24, dtype=torch.float32).reshape(3, 16, 24)
    augment = chosen_augmentation("auto", image[None])
    torch.manual_seed(0)
    made = [augment(image) for _ in range(20)]
    assert {tuple(image.shape) for image in made} == {(3, 16, 24)}
    assert any(bool((image[0].diff(dim=1) < 0).any()) for image in made)
    assert any(bool((image[0].diff(dim=1) >= 0).all()) for image in made)
    assert len({image.sum().item() for image in made}) > 5


def test_auto_takes_pil_images_too() -> None:
    from PIL import Image

    assert chosen_augmentation("auto", torch.zeros(1, 3, 8, 8))(Image.new("RGB", (24, 16))).size == (24, 16)


def test_what_is_given_is_used_and_nothing_is_nothing() -> None:
    assert chosen_augmentation(abs, torch.zeros(1, 2)) is abs
    assert chosen_augmentation(None, torch.zeros(1, 2)) is None


def test_what_cannot_be_used_is_said() -> None:
    assert augmentation_mistakes("auto") == augmentation_mistakes(None) == augmentation_mistakes(abs) == []
    assert "got 'automatic'" in augmentation_mistakes("automatic")[0]
    with pytest.raises(ModelError, match="is for images"):
        chosen_augmentation("auto", torch.zeros(1, 2))
