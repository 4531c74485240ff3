"""Repurposers of images, numbers and texts that tests of deployment share, and images as files hold them."""

from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from model_handler import Source
from repurpose import LrRepurposer
from tests.model_handler.data.text.networks import reviews, text_source
from tests.repurpose.examples import blobs, lr

X, Y = blobs(60)
NAMES = np.array(["pear", "apple", "fig"])[Y]


def pixels(image: Image.Image) -> torch.Tensor:
    """An 8 x 8 image as numbers from 0 to 1: (3, 8, 8)."""
    return torch.from_numpy(np.asarray(image.resize((8, 8)), dtype=np.float32) / 255).permute(2, 0, 1)


class Colours(nn.Module):
    """Mean colours of the four quarters of an image: (n, 12)."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.flat = nn.Flatten()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.flat(self.pool(images))


def pictures(n: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noisy red, green and blue images, uint8 (n, 10, 12, 3), and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    images = rng.integers(0, 120, (n, 10, 12, 3))
    images[np.arange(n), :, :, labels] += rng.integers(0, 100, (n, 1, 1))
    return images.astype(np.uint8), np.array(["red", "green", "blue"])[labels]


def as_file(image: np.ndarray, file_format: str = "PNG") -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, file_format)
    return buffer.getvalue()


def of_numbers(**options: Any) -> LrRepurposer:
    return lr(**options).repurpose((X, NAMES))


def of_images() -> LrRepurposer:
    source = Source(Colours(), transform=pixels)
    return LrRepurposer(source, ["flat"], c=1.0, random_state=0).repurpose(pictures())


def of_texts() -> LrRepurposer:
    return LrRepurposer(text_source(), ["pooler.activation"], c=1.0, random_state=0).repurpose(*reviews())
