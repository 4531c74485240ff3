from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from repurpose import LrRepurposer
from tests.repurpose.labelling.watching.examples import conformalized


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"alpha": 0}, "above 0 and below 1"),
        ({"alpha": 1.0}, "above 0 and below 1"),
        ({"alpha": 5}, "for 5 % write 0.05"),
        ({"alpha": None}, "above 0 and below 1"),
        ({"alpha": float("nan")}, "above 0 and below 1"),
        ({"tolerance": 1.0}, "tolerance"),
        ({"least_probability": 0.0}, "least_probability"),
        ({"method": "distance"}, "method must be one of"),
    ],
)
def test_parameters_that_cannot_be_used_are_refused(parameters: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        conformalized().watch(**parameters)


def _pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)


def test_folders_of_images_are_watched_as_they_are_predicted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for kind, level in (("dark", 60), ("bright", 190), ("stream", 120)):
        (tmp_path / kind).mkdir()
        for number in range(12):
            pixels = rng.integers(level - 50, level + 50, size=(8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / kind / f"{number}.png")
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    paths = [[str(file) for file in sorted((tmp_path / kind).iterdir())] for kind in ("dark", "bright")]
    repurposer = LrRepurposer(network, ["2"], transform=_pixels, c=1.0, random_state=0)
    repurposer.repurpose((paths[0] + paths[1], [0] * 12 + [1] * 12))
    watch = repurposer.watch()
    assert watch.update(str(tmp_path / "stream")).n_rows == 12
    assert watch.update(paths[0] + paths[1]).n_rows == 36


def test_another_seed_breaks_ties_otherwise() -> None:
    first, same, other = (conformalized().watch(random_state=seed) for seed in (1, 1, 2))
    assert first.to_json() == same.to_json() != other.to_json()
