"""The list of sources has what is installed, what the caches of this machine have, and what is known by name."""

from pathlib import Path

from torchvision.models import ResNet50_Weights

from model_handler.sources import SourceInfo, list_sources
from tests.model_handler.sources.tiny import (
    COMMIT,
    put_into_cache,
    write_image_encoder,
    write_sentence_encoder,
    write_text_encoder,
)


def test_caches_are_listed_by_the_names_that_load_them(cache: Path) -> None:
    write_text_encoder(put_into_cache(cache, "org/text"))
    write_image_encoder(put_into_cache(cache, "image"))
    write_sentence_encoder(put_into_cache(cache, "sentence-transformers/tiny"), {})
    write_sentence_encoder(put_into_cache(cache, "org/sentences"), {})
    write_text_encoder(put_into_cache(cache, "org/tagged", reference="v1"))
    put_into_cache(cache, "org/half")
    (put_into_cache(cache, "timm/lcnet_050.ra2_in1k") / "model.safetensors").touch()
    checkpoints = cache.parent / "checkpoints"
    checkpoints.mkdir()
    for tag in ("IMAGENET1K_V1", "IMAGENET1K_V2"):
        (checkpoints / ResNet50_Weights[tag].url.rpartition("/")[2]).touch()
    listed = list_sources()
    assert [(info.name, info.kind) for info in listed if info.where == "cached"] == [
        ("hf/image", "image"),
        (f"hf/org/tagged@{COMMIT}", "text"),
        ("hf/org/text", "text"),
        ("sentence-transformers/org/sentences", "text"),
        ("sentence-transformers/tiny", "text"),
        ("timm/lcnet_050.ra2_in1k", "image"),
        ("torchvision/resnet50", "image"),
        ("torchvision/resnet50:IMAGENET1K_V1", "image"),
    ]
    known = {info.name for info in listed if info.where == "known"}
    assert {"torchvision/resnet18", "timm/resnet18.a1_in1k"} <= known
    assert "torchvision/resnet50" not in known


def test_what_is_installed_comes_first(cache: Path) -> None:
    listed = list_sources()
    assert listed[0] == SourceInfo("efficientnet-lite0", "embedded", "image")
    assert SourceInfo("minilm", "embedded", "text") in listed
    assert not [info for info in listed if info.where == "cached"]
