"""The weights in packages, with the preprocessing that they were trained with."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from model_handler import load_source
from model_handler.sources.embedded import INSTALLED

PALACE = 698  # of the classes of ImageNet


@pytest.mark.parametrize(("number", "side"), [(1, 240), (2, 260)])
def test_larger_networks_recognise_a_photograph_at_their_own_size(number: int, side: int) -> None:
    source = load_source(f"efficientnet-lite{number}")
    pixels = source.transform(Image.fromarray(load_sample_image("china.jpg")))
    assert pixels.shape == (3, side, side)
    config = timm.get_pretrained_cfg(f"tf_efficientnet_lite{number}")
    assert config.input_size == (3, side, side)
    assert source.transform.transforms[0].size == round(side / config.crop_pct)
    norm = source.network._bn0
    with torch.no_grad():
        maps = source.network._conv_stem(pixels[None])
        assert source.network(pixels[None]).argmax() == PALACE
    alive = norm.running_var > 1e-3
    ratio = maps.var((0, 2, 3))[alive] / norm.running_var[alive]
    assert ratio.log().abs().mean() < 0.8  # another mean and deviation of the pixels would put it off by far


@pytest.mark.parametrize("number", [1, 2])
def test_larger_networks_compute_what_those_of_timm_compute_with_the_same_weights(number: int) -> None:
    network = load_source(f"efficientnet-lite{number}").network
    other = timm.create_model(f"tf_efficientnet_lite{number}", pretrained=False).eval()
    # Both list their tensors in order of execution, under other names.
    values, names = list(network.state_dict().values()), other.state_dict()
    assert [value.shape for value in values] == [value.shape for value in names.values()]
    other.load_state_dict(dict(zip(names, values)))
    side = {1: 240, 2: 260}[number]
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, side, side)).astype(np.float32))
    with torch.no_grad():
        torch.testing.assert_close(network(images), other(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "needed"), [(name, needed) for name, needed in INSTALLED.items()])
def test_missing_packages_name_the_command(monkeypatch: pytest.MonkeyPatch, name: str, needed) -> None:
    monkeypatch.setitem(__import__("sys").modules, needed.packages[1], None)
    with pytest.raises(ImportError, match=r"pip install ") as caught:
        load_source(name)
    assert needed.to_install in str(caught.value)
