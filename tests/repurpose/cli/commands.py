"""What the tests of the command line share: running a command, tiny folders of images, and a network that is fast."""

import re
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision import transforms
from torchvision.models import VisionTransformer
from typer.testing import CliRunner

from model_handler import Source
from repurpose.cli.app import app
from tests.repurpose.detection.backbones import Residual

COLOURS = {"blue": (40, 60, 200), "green": (60, 190, 60), "red": (210, 50, 40)}


def run(*arguments: object) -> SimpleNamespace:
    """What the command printed, in one line without the breaks of the terminal, and its exit code."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    text = re.sub(r"\s+", " ", result.output)
    return SimpleNamespace(
        code=result.exit_code, text=text, exception=result.exception, stdout=result.stdout, stderr=result.stderr
    )


def write_image(path: Path, colour: tuple[int, int, int], rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.normal(colour, 30, size=(24, 24, 3)).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def write_images(folder: Path, *, n_per_class: int, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        for number in range(n_per_class):
            write_image(folder / name / f"{number}.png", colour, rng)
    return folder


def tiny_source(model: str, pretrained: bool) -> Source:
    """What `tiny/NAME` means in these tests: a few random filters, and a linear layer behind their averages.

    `tiny/blocks` is a transformer of six blocks with three outputs, `tiny/maps` has feature maps to detect on.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if model == "maps":
            steps = [transforms.Resize(64), transforms.CenterCrop(64), transforms.ToTensor()]
            return Source(Residual(), transforms.Compose(steps))
        if model == "blocks":
            sizes = {"num_layers": 6, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 16}
            steps = [transforms.Resize(16), transforms.CenterCrop(16), transforms.ToTensor()]
            return Source(VisionTransformer(16, 8, num_classes=3, **sizes), transforms.Compose(steps))
        body = {"conv": nn.Conv2d(3, 8, 3), "relu": nn.ReLU(), "pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten()}
        layers = body if model == "headless" else {**body, "head": nn.Linear(8, 5)}
        steps = [transforms.Resize(8), transforms.ToTensor()]
        return Source(nn.Sequential(OrderedDict(layers)), transforms.Compose(steps))
