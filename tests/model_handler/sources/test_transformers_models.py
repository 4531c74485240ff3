"""Networks of transformers become sources: weights, their own preprocessing, and the layer that stands for them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, BertConfig, BertForMaskedLM, BertModel, CLIPConfig, CLIPModel, T5Config

from model_handler import ModelHandler, UnsafeFileError, load_source
from model_handler.sources.transformers_models import load_transformer
from tests.model_handler.sources.tiny import (
    SIZES,
    TEXTS,
    WORDS,
    tokenizer,
    write_image_encoder,
    write_json,
    write_text_encoder,
)


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_encoder(tmp_path_factory.mktemp("text"))


def test_a_directory_of_a_text_encoder_is_a_source(text_encoder: Path) -> None:
    source = load_source(str(text_encoder))
    assert type(source.network) is BertModel
    assert source.name == str(text_encoder)
    assert not source.network.training
    assert source.transform.max_length == 16  # of its positions: the tokenizer has no limit
    made = source.transform(["good film", "a"])
    assert made["input_ids"].tolist() == [[2, 6, 7, 3], [2, 4, 3, 0]]


def test_the_features_of_a_text_are_the_average_of_the_last_hidden_state_over_its_tokens(text_encoder: Path) -> None:
    handler = ModelHandler(load_source(str(text_encoder)))
    assert handler.default_layer == "encoder.layer.1.output.LayerNorm"
    features = handler.extract(handler.transform(TEXTS), [handler.default_layer], pooling="auto").matrix
    network = BertModel.from_pretrained(text_encoder).eval()
    for row, text in enumerate(TEXTS):
        with torch.no_grad():
            hidden = network(torch.tensor([tokenizer()(text)["input_ids"]])).last_hidden_state[0]
        np.testing.assert_allclose(features[row], hidden.mean(0), atol=1e-5)


def test_a_pooler_without_weights_is_left_out_so_that_two_loadings_are_the_same(tmp_path: Path) -> None:
    folder = write_text_encoder(tmp_path, with_pooler=False)
    first, second = (load_source(str(folder)).network for _ in range(2))
    assert first.pooler is None
    assert all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())


def test_a_directory_of_an_image_encoder_is_a_source_with_its_own_processor(tmp_path: Path) -> None:
    folder = write_image_encoder(tmp_path)
    source = load_source(str(folder))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    expected = AutoImageProcessor.from_pretrained(folder)(images=image, return_tensors="pt")["pixel_values"][0]
    assert torch.equal(source.transform(image), expected)
    handler = ModelHandler(source)
    assert handler.default_layer == "pooler.activation"
    with torch.no_grad():
        pooled = source.network(expected[None]).pooler_output
    np.testing.assert_allclose(handler.extract([image], ["pooler.activation"]).matrix, pooled, atol=1e-5)


def test_loading_leaves_the_generator_alone_and_random_weights_follow_it(text_encoder: Path) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    load_source(str(text_encoder))
    assert torch.equal(torch.rand(1), wanted)
    drawn = []
    for _ in range(2):
        torch.manual_seed(5)
        drawn.append(load_source(str(text_encoder), pretrained=False).network.embeddings.word_embeddings.weight)
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0], load_source(str(text_encoder)).network.embeddings.word_embeddings.weight)


def test_of_an_encoder_with_a_decoder_the_encoder_is_taken(tmp_path: Path) -> None:
    T5Config(vocab_size=len(WORDS), d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    source = load_source(str(tmp_path), pretrained=False)
    assert source.transform.max_length == 512  # neither its tokenizer nor its positions have a limit
    assert source.network(**source.transform(TEXTS)).last_hidden_state.shape == (3, 8, 8)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_of_a_network_is_never_run(tmp_path: Path, file: str) -> None:
    write_text_encoder(tmp_path)
    (tmp_path / "mine.py").write_text("raise SystemExit('this code ran')")
    settings = json.loads((tmp_path / file).read_text())
    settings["auto_map"] = {"AutoConfig": "mine.Config", "AutoModel": "mine.Model", "AutoTokenizer": ["mine.T", None]}
    write_json(tmp_path / file, settings)
    with pytest.raises(ValueError, match=r"never run here; where you have read .*trust_remote_code=True") as caught:
        load_source(str(tmp_path))
    assert f"({file} has an auto_map)" in str(caught.value)


@pytest.mark.parametrize("asked", ["someone/kernel", "flash_attention_2"])
def test_kernels_that_a_config_asks_for_are_not_fetched(tmp_path: Path, asked: str) -> None:
    settings = json.loads((write_text_encoder(tmp_path) / "config.json").read_text())
    write_json(tmp_path / "config.json", {**settings, "attn_implementation": asked})
    assert load_source(str(tmp_path)).network.config._attn_implementation == "sdpa"


def test_pickled_weights_are_read_without_running_what_is_in_them(tmp_path: Path) -> None:
    write_text_encoder(tmp_path)
    expected = load_source(str(tmp_path)).network.state_dict()
    (tmp_path / "model.safetensors").unlink()
    torch.save(expected, tmp_path / "pytorch_model.bin")
    assert torch.equal(
        load_source(str(tmp_path)).network.state_dict()["pooler.dense.weight"], expected["pooler.dense.weight"]
    )

    class Harmful:
        def __reduce__(self) -> tuple:
            return print, ("this code ran",)

    torch.save({"weights": Harmful()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UnsafeFileError, match=r"the weights of .* are a pickle that asks for more"):
        load_source(str(tmp_path))


def test_weights_that_lack_tensors_or_have_others_are_refused_by_name(tmp_path: Path) -> None:
    BertForMaskedLM(BertConfig(vocab_size=5, max_position_embeddings=16, **SIZES)).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    assert load_transformer(tmp_path, "mine", True).pooler is None  # what its head has besides does not matter
    config = json.loads((tmp_path / "config.json").read_text())
    write_json(tmp_path / "config.json", {**config, "num_hidden_layers": 3})
    with pytest.raises(ValueError, match=r"lack encoder.layer.2.attention.output.LayerNorm.bias.* and \d+ more"):
        load_source(str(tmp_path))
    write_json(tmp_path / "config.json", {**config, "vocab_size": 7})
    with pytest.raises(ValueError, match=r"other shapes of embeddings.word_embeddings.weight|cannot be read"):
        load_source(str(tmp_path))


def test_what_takes_images_and_text_is_refused_with_the_way_to_one_of_them(tmp_path: Path) -> None:
    part = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = CLIPConfig(text_config={**part, "vocab_size": 9}, vision_config={**part, "image_size": 8, "patch_size": 4})
    CLIPModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"a CLIPModel, which takes both images and text; .*CLIPVisionModel"):
        load_source(str(tmp_path))


def test_what_is_missing_or_damaged_in_a_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no config.json or modules.json"):
        load_source(str(tmp_path))
    write_text_encoder(tmp_path)
    for file in tmp_path.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"has no tokenizer that can be read .*tokenizer.save_pretrained"):
        load_source(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json of .* is no JSON"):
        load_source(str(tmp_path))
    write_json(tmp_path / "config.json", {"model_type": "mine"})
    with pytest.raises(ValueError, match=r"config.json of .* is none that transformers knows.*mine"):
        load_source(str(tmp_path))
    write_image_encoder(tmp_path / "image")
    (tmp_path / "image" / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match="no image processor that can be read"):
        load_source(str(tmp_path / "image"))


def test_missing_transformers_names_the_extra(text_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'repurpose-torch\[text\]'"):
        load_source(str(text_encoder))
    with pytest.raises(ImportError, match=r"pip install 'repurpose-torch\[text\]'"):
        load_source("minilm")
