"""The source of a saved repurposer is fetched or kept where that is wanted, and else the same as in training."""

import copy
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import transforms

from model_handler import CorruptFileError, Features, Source, load_source
from model_handler.network.states import copied_state
from model_handler.sources import SourceUnavailableError
from repurpose import LrRepurposer, NeuralNetworkFineTuneRepurposer, load
from repurpose import source as source_module
from repurpose.persistence.network.finding import Finding
from repurpose.persistence.network.fingerprint import table_of
from repurpose.persistence.network.identity import SavedSource
from tests.model_handler.sources.tiny import COMMIT, TEXTS, put_into_cache, write_text_encoder
from tests.repurpose.examples import blobs, small_network
from tests.repurpose.saved_files import edit, exchange, files_of, plan_of

SQUEEZENET = "torchvision/squeezenet1_1"
FILE = "squeezenet1_1-b8a52dc0.pth"
TO_TENSOR = transforms.Compose([transforms.Resize(8), transforms.ToTensor()])


@pytest.fixture
def state() -> dict[str, Any]:
    """Weights that stand for those of the web."""
    torch.manual_seed(0)
    return load_source(SQUEEZENET, pretrained=False).network.state_dict()


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The empty cache of torchvision; a download is an error."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was fetched")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr("model_handler.sources.torchvision_models.reach", lambda url: None)
    source_module._load_once.cache_clear()
    (tmp_path / "cache" / "checkpoints").mkdir(parents=True)
    yield tmp_path / "cache" / "checkpoints"
    source_module._load_once.cache_clear()


def on_features(source: Any) -> LrRepurposer:
    """A head on features that are given, so that the network need not run."""
    X, y = blobs()
    return LrRepurposer(source, ["features"], c=1.0).repurpose(Features({"features": X}, y))


def test_weights_that_are_not_here_are_fetched_only_where_that_is_wanted(
    tmp_path: Path, checkpoints: Path, state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(state, checkpoints / FILE)
    on_features(SQUEEZENET).save_repurposer(tmp_path / "saved")
    assert load(tmp_path / "saved").source_model == SQUEEZENET
    (checkpoints / FILE).unlink()
    source_module._load_once.cache_clear()
    with pytest.raises(SourceUnavailableError, match=r"not on this machine.*fetched.*load\(path, download=True\)"):
        load(tmp_path / "saved")
    with pytest.raises(SourceUnavailableError, match=r"load\(path, download=True\)"):
        load(tmp_path / "saved", source_model=SQUEEZENET)
    fetched = []

    def fetch(url: str, file: str, *_: object, **__: object) -> None:
        fetched.append(url)
        torch.save(state, file)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    assert load(tmp_path / "saved", download=True).source_model == SQUEEZENET
    assert fetched == [f"https://download.pytorch.org/models/{FILE}"]


def test_weights_that_a_name_no_longer_stands_for_are_refused(
    tmp_path: Path, checkpoints: Path, state: dict[str, Any]
) -> None:
    torch.save(state, checkpoints / FILE)
    on_features(SQUEEZENET).save_repurposer(tmp_path / "saved")
    torch.save({**state, "features.0.bias": state["features.0.bias"] + 1}, checkpoints / FILE)
    source_module._load_once.cache_clear()
    with pytest.raises(ValueError, match=r"what 'torchvision/squeezenet1_1' stands for .*numbers in features\.0\.bias"):
        load(tmp_path / "saved")


def test_saving_fetches_nothing(tmp_path: Path, checkpoints: Path) -> None:
    on_features(SQUEEZENET).save_repurposer(tmp_path / "saved")
    assert plan_of(tmp_path / "saved")["source"] == {"name": SQUEEZENET}


@pytest.mark.parametrize("by_name", [True, False])
def test_kept_weights_of_a_known_name_need_neither_the_network_nor_the_web(
    tmp_path: Path, checkpoints: Path, state: dict[str, Any], by_name: bool
) -> None:
    torch.save(state, checkpoints / FILE)
    repurposer = on_features(SQUEEZENET if by_name else load_source(SQUEEZENET))
    repurposer.save_repurposer(tmp_path / "saved", save_source_model=True)
    (checkpoints / FILE).unlink()
    source_module._load_once.cache_clear()
    generator = torch.get_rng_state()
    loaded = load(tmp_path / "saved")
    assert torch.equal(torch.get_rng_state(), generator)
    assert loaded.source_model.name == SQUEEZENET
    assert not loaded.source_model.network.training
    assert loaded.source_model.network.state_dict().keys() == state.keys()
    assert all(torch.equal(loaded.source_model.network.state_dict()[name], state[name]) for name in state)
    assert loaded.source_model.transform.crop_size == [224]
    loaded.save_repurposer(tmp_path / "again", save_source_model=True)
    assert (
        files_of(tmp_path / "again")["source.safetensors"].name
        == files_of(tmp_path / "saved")["source.safetensors"].name
    )


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_a_network_built_for_kept_weights_computes_as_with_fetched_ones(name: str) -> None:
    """torchvision sets this where it is given weights, and then expects other inputs."""
    assert load_source(f"torchvision/{name}", pretrained=False).network.transform_input


def test_kept_weights_fill_a_copy_of_a_network_of_any_weights(tmp_path: Path) -> None:
    X, y = blobs()
    repurposer = LrRepurposer(small_network(), ["2"], c=1.0).repurpose(X, y)
    repurposer.save_repurposer(tmp_path / "saved", save_source_model=True)
    other = small_network(seed=1)
    before = copied_state(other)
    loaded = load(tmp_path / "saved", other)
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
    assert all(torch.equal(other.state_dict()[name], before[name]) for name in before)
    assert table_of(loaded.source_model) == table_of(small_network())
    of_source = load(tmp_path / "saved", Source(other, TO_TENSOR))
    assert of_source.source_model.transform is TO_TENSOR
    assert np.array_equal(of_source.predict_probability(X), repurposer.predict_probability(X))


def test_a_fine_tuned_network_needs_its_source_no_more(tmp_path: Path) -> None:
    X, y = blobs()
    tuned = NeuralNetworkFineTuneRepurposer(small_network(), "2", num_epochs=1, random_state=0).repurpose(X, y)
    tuned.save_repurposer(tmp_path / "saved", save_source_model=True)
    loaded = load(tmp_path / "saved", small_network(seed=5))
    assert np.array_equal(loaded.predict_probability(X), tuned.predict_probability(X))
    assert np.array_equal(loaded.repurpose(X, y).predict_probability(X), tuned.predict_probability(X))


def test_kept_weights_without_an_architecture_say_what_to_give(tmp_path: Path) -> None:
    for source in (small_network(), Source(small_network(), name="mine"), Source(small_network(), name="timm/mine")):
        on_features(source).save_repurposer(tmp_path / "saved", save_source_model=True)
        with pytest.raises(ValueError, match=r"weights alone are in the file.*of any weights, a Sequential"):
            load(tmp_path / "saved")


def test_kept_weights_do_not_go_into_another_architecture(tmp_path: Path) -> None:
    on_features(Source(small_network(), name=SQUEEZENET)).save_repurposer(tmp_path / "saved", save_source_model=True)
    with pytest.raises(ValueError, match=r"the network of that name is another: it lacks 0\.weight"):
        load(tmp_path / "saved")
    for change, said in (
        (nn.Identity(), r"it lacks 2\.weight"),
        (nn.Linear(6, 4), r"2\.weight is \(4, 6\), saved \(5"),
    ):
        other = small_network()
        other[2] = change
        with pytest.raises(ValueError, match=f"do not fit into source_model .*{said}"):
            load(tmp_path / "saved", other)
    other = small_network()
    other[1] = nn.GELU()
    with pytest.raises(ValueError, match="its layers are of other classes"):
        load(tmp_path / "saved", other)


def test_a_name_of_a_far_larger_network_takes_no_memory(tmp_path: Path) -> None:
    on_features(Source(small_network(), name=SQUEEZENET)).save_repurposer(tmp_path / "saved", save_source_model=True)
    edit(tmp_path / "saved", lambda plan: plan["source"].update(loaded_as="torchvision/vit_h_14"))
    with pytest.raises(ValueError, match="the network of that name is another: it is larger"):
        load(tmp_path / "saved")


def test_damaged_weights_of_the_source_are_found(tmp_path: Path) -> None:
    on_features(small_network()).save_repurposer(tmp_path / "saved", save_source_model=True)
    whole = files_of(tmp_path / "saved")["source.safetensors"].read_bytes()
    files_of(tmp_path / "saved")["source.safetensors"].write_bytes(whole[:-1] + b"x")
    with pytest.raises(CorruptFileError, match=r"source-\w+\.safetensors is damaged"):
        load(tmp_path / "saved", small_network())
    exchange(tmp_path / "saved", "source.safetensors", whole[:200])
    with pytest.raises(CorruptFileError, match=r"source\.safetensors"):
        load(tmp_path / "saved", small_network())
    for lie in ({"tensors": []}, {"tensors": {"0.weight": ["float32", "x", ""]}}, {"tied": {"a": 1}}, {"layers": 3}):
        on_features(small_network()).save_repurposer(tmp_path / "saved", save_source_model=True)
        edit(tmp_path / "saved", lambda plan, lie=lie: plan["source"].update(lie))
        with pytest.raises(CorruptFileError, match="damaged: no usable"):
            load(tmp_path / "saved", small_network())


def test_another_network_is_refused_with_what_differs(tmp_path: Path) -> None:
    on_features(small_network()).save_repurposer(tmp_path / "saved")
    changed = small_network()
    changed[2].bias.data[0] += 1
    narrow = nn.Sequential(*small_network()[:3])
    for other, said in (
        (changed, r"\(a Sequential\): other numbers in 2\.bias$"),
        (narrow, r"\(a Sequential\): it lacks 4\.weight, 4\.bias$"),
        (small_network().double(), r"other dtypes: 0\.weight is float64, saved float32.* and 3 more$"),
    ):
        with pytest.raises(ValueError, match=said):
            load(tmp_path / "saved", other)


def test_another_preprocessing_is_refused_unless_a_transform_takes_its_place(tmp_path: Path) -> None:
    on_features(Source(small_network(), TO_TENSOR)).save_repurposer(tmp_path / "saved")
    load(tmp_path / "saved", Source(small_network(), copy.deepcopy(TO_TENSOR)))
    larger = transforms.Compose([transforms.Resize(16), transforms.ToTensor()])
    with pytest.raises(ValueError, match=r"the preprocessing is not the one .*transforms\.0\.size is 16, saved 8"):
        load(tmp_path / "saved", Source(small_network(), larger))
    with pytest.raises(ValueError, match=r"the preprocessing is not the one .*it is None, saved a Compose"):
        load(tmp_path / "saved", small_network())
    assert load(tmp_path / "saved", small_network(), transform=larger).transform is larger


def test_directories_without_a_table_are_compared_as_before(tmp_path: Path) -> None:
    from repurpose.persistence.network.fingerprint import fingerprint

    on_features(Source(small_network(), TO_TENSOR)).save_repurposer(tmp_path / "saved")
    before = {"fingerprint": fingerprint(small_network()), "network": "Sequential", "loaded_as": None}
    edit(tmp_path / "saved", lambda plan: plan.update(source=before))
    edit(tmp_path / "saved", lambda plan: plan.pop("libraries"))
    assert load(tmp_path / "saved", small_network()).c == 1.0
    with pytest.raises(ValueError, match=r"weights, or their names and shapes, differ \(fingerprint \w{12}, saved"):
        load(tmp_path / "saved", small_network(seed=1))


@pytest.mark.parametrize("kind", [LrRepurposer, NeuralNetworkFineTuneRepurposer])
def test_networks_with_their_channels_last_compute_the_same_bits(tmp_path: Path, kind: Any) -> None:
    def network(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        layers = (nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU())
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)).eval()

    X = np.random.default_rng(0).normal(size=(8, 3, 16, 16)).astype(np.float32)
    source = network(0).to(memory_format=torch.channels_last)
    repurposer = kind(source, ["5"], c=1.0) if kind is LrRepurposer else kind(source, "4", num_epochs=1)
    repurposer.repurpose(X, np.arange(8) % 2).save_repurposer(tmp_path / "saved", save_source_model=True)
    loaded = load(tmp_path / "saved", network(1))
    assert loaded.source_model[0].weight.stride() == source[0].weight.stride()
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of the Hugging Face Hub, which cannot be asked."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: pytest.fail("the Hub was asked"))
    source_module._load_once.cache_clear()
    yield tmp_path / "hub"
    source_module._load_once.cache_clear()


def on_texts(source: str) -> LrRepurposer:
    return LrRepurposer(source, c=1.0, random_state=0).repurpose((TEXTS * 2, ["good", "bad", "none"] * 2))


def test_a_source_of_the_hub_is_saved_with_its_commit(tmp_path: Path, hub: Path) -> None:
    write_text_encoder(put_into_cache(hub, "org/tiny"))
    repurposer = on_texts("hf/org/tiny")
    assert repurposer.feature_layer_names_ == ["encoder.layer.1.output.LayerNorm"]
    repurposer.save_repurposer(tmp_path / "saved")
    assert plan_of(tmp_path / "saved")["source"]["name"] == f"hf/org/tiny@{COMMIT}"
    (put_into_cache(hub, "org/tiny", commit="f" * 40) / "config.json").touch()  # the branch moves on
    source_module._load_once.cache_clear()
    loaded = load(tmp_path / "saved")
    assert loaded.source_model == f"hf/org/tiny@{COMMIT}"
    np.testing.assert_array_equal(loaded.predict_probability(TEXTS), repurposer.predict_probability(TEXTS))
    shutil.rmtree(hub)
    source_module._load_once.cache_clear()
    with pytest.raises(SourceUnavailableError, match=rf"model.safetensors of org/tiny .*{COMMIT}\): load\(path, down"):
        load(tmp_path / "saved")


def test_another_tokenizer_is_another_preprocessing(tmp_path: Path, hub: Path) -> None:
    folder = write_text_encoder(tmp_path / "encoder")
    on_texts(str(folder)).save_repurposer(tmp_path / "saved")
    source_module._load_once.cache_clear()
    assert load(tmp_path / "saved").predict_label(["good film"]).tolist() == ["good"]
    settings = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(settings.replace('"Lowercase"', '"NFC"'))
    source_module._load_once.cache_clear()
    with pytest.raises(ValueError, match=r"preprocessing is not the one that .*: sample.input_ids.1 is 1, saved 9"):
        load(tmp_path / "saved")


def test_a_directory_that_is_no_longer_there_is_to_be_given(tmp_path: Path, hub: Path) -> None:
    folder = write_text_encoder(tmp_path / "encoder")
    repurposer = on_texts(str(folder))
    repurposer.save_repurposer(tmp_path / "saved")
    repurposer.save_repurposer(tmp_path / "whole", save_source_model=True)
    folder.rename(tmp_path / "moved")
    source_module._load_once.cache_clear()
    for saved in ("saved", "whole"):
        with pytest.raises(ValueError, match=r"load\(path, source_model=\.\.\.\)"):
            load(tmp_path / saved)
        loaded = load(tmp_path / saved, source_model=str(tmp_path / "moved"))
        np.testing.assert_array_equal(loaded.predict_probability(TEXTS), repurposer.predict_probability(TEXTS))


@pytest.mark.parametrize("name", ["//server/share", "\\\\server\\share", "torchvision/resnet18=//server/x.safetensors"])
def test_a_file_makes_this_machine_ask_no_other_one(tmp_path: Path, name: str) -> None:
    network = small_network()
    finding = Finding(
        replace(SavedSource.parse({}, "it"), name=name),
        tmp_path,
        None,
        download=True,
        had_bicubic=False,
        has_own_transform=False,
    )
    with pytest.raises(ValueError, match="cannot be found again: it leads to another machine"):
        finding.source(None)
    assert finding.source(network) is network
