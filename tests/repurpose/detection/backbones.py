"""Small backbones for tests of detection: a residual one, one that cannot be traced, a plain transformer."""

import torch
from torch import nn

from model_handler import ModelHandler
from repurpose.detection.networks import DetectionNetwork, build_detector, find_feature_maps


class Block(nn.Module):
    """A residual block whose first convolution still has the stride of what it reads."""

    def __init__(self, channels: int, more: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(channels, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.down = nn.Conv2d(channels, more, 3, stride=2, padding=1)
        self.skip = nn.Conv2d(channels, more, 1, stride=2)

    def forward(self, x):
        return self.relu(self.down(self.relu(self.norm(self.narrow(x)))) + self.skip(x))


class Residual(nn.Module):
    """Maps of strides 4, 8, 16 and 32, and a classifier behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4, padding=1), nn.ReLU(inplace=True))
        self.stage1, self.stage2, self.stage3 = Block(4, 8), Block(8, 12), Block(12, 16)
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        return self.fc(self.stage3(self.stage2(self.stage1(self.stem(x)))).mean((2, 3)))


class Deciding(Residual):
    """The same, of which no graph can be traced, as the forward looks at numbers."""

    def forward(self, x):
        x = self.stem(x)
        for stage in (self.stage1, self.stage2, self.stage3):
            if x.sum() < 1e9:
                x = stage(x)
        return self.fc(x.mean((2, 3)))


def plain_transformer(size: int = 64) -> nn.Module:
    """A transformer of 16 x 16 patches for one size, with a class token and two registers."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=size, patch_size=16, embed_dim=16, depth=1, num_heads=2, reg_tokens=2, num_classes=3
    ).eval()


def detector_on(network: nn.Module, kind: str = "fcos", n_classes: int = 2, **options) -> DetectionNetwork:
    """A detector for images of 64 pixels on the maps that are found, in training mode."""
    torch.manual_seed(0)
    images = torch.zeros(1, 3, 64, 64)
    handler = ModelHandler(network, images, device="cpu")
    found = find_feature_maps(handler, images)
    return build_detector(handler, found, n_classes, kind, **{"image_size": 64, "channels": 64, **options}).train()


def targets_of(*boxes_of_images: list[tuple[float, ...]]) -> list[dict[str, torch.Tensor]]:
    """Targets of the class 1, boxes as x1, y1, x2, y2."""
    return [
        {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.ones(len(boxes), dtype=torch.int64),
        }
        for boxes in boxes_of_images
    ]
