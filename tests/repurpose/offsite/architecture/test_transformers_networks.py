"""Networks of Hugging Face go by their configuration: the tables say of which kinds, and nothing else travels."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from model_handler import CorruptFileError, ModelError, UnsafeFileError
from repurpose.offsite.architecture import build, describe
from tests.repurpose.offsite.architecture.networks import check_same, images, rebuilt, tokens

transformers = pytest.importorskip("transformers")

_SIZES: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
_OF_WORDS: dict[str, Any] = {**_SIZES, "vocab_size": 20, "max_position_embeddings": 16}


def _bert(**options: Any) -> Any:
    names = {0: "benign", 1: "malignant", 2: "unclear"}
    config = transformers.BertConfig(**_OF_WORDS, id2label=names, label2id={v: k for k, v in names.items()}, **options)
    return transformers.BertForSequenceClassification(config).eval()


def _gpt2() -> Any:
    config = transformers.GPT2Config(vocab_size=20, n_embd=16, n_layer=3, n_head=2, n_positions=16, num_labels=3)
    config.pad_token_id = config.bos_token_id = config.eos_token_id = 0
    return transformers.GPT2ForSequenceClassification(config).eval()


def _of_words(network: nn.Module) -> Any:
    return network(**tokens()).logits


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_bert_goes_round_with_its_attention(attention: str) -> None:
    network = _bert(attn_implementation=attention)
    other = rebuilt(network, tokens())
    assert other.config._attn_implementation == attention
    check_same(network, other, _of_words)


def test_gpt2_with_a_head_for_classes_goes_round() -> None:
    network = _gpt2()
    check_same(network, rebuilt(network, tokens()), _of_words)


def test_vit_goes_round() -> None:
    config = transformers.ViTConfig(**_SIZES, image_size=32, patch_size=8, num_labels=4)
    network = transformers.ViTForImageClassification(config).eval()
    check_same(network, rebuilt(network, images()), lambda each: each(images()).logits)


def test_a_network_without_a_pooler_goes_round() -> None:
    network = transformers.BertModel(transformers.BertConfig(**_OF_WORDS), add_pooling_layer=False).eval()
    check_same(network, rebuilt(network, tokens()), lambda each: each(**tokens()).last_hidden_state)


@pytest.mark.parametrize(("make", "layers"), [(_bert, "bert.encoder.layer"), (_gpt2, "transformer.h")])
def test_a_network_that_lost_layers_goes_round(make: Callable[[], Any], layers: str) -> None:
    network = make()
    del network.get_submodule(layers)[1]
    other = rebuilt(network, tokens())
    assert len(other.get_submodule(layers)) == 2
    check_same(network, other, _of_words)


def test_a_head_of_another_width_goes_round() -> None:
    network = _bert()
    network.classifier = nn.Linear(16, 7)
    other = rebuilt(network, tokens())
    assert torch.equal(network(**tokens()).logits, other(**tokens()).logits)


def test_no_name_of_a_class_travels_in_a_configuration() -> None:
    network = _bert()
    assert "malignant" in network.config.id2label.values()
    said = describe(network, tokens()).said
    assert "malignant" not in json.dumps(said)
    assert said["config"]["num_labels"] == 3


def test_no_path_travels() -> None:
    network = _bert()
    network.config._name_or_path = "/home/clinic/secret"
    assert "secret" not in json.dumps(describe(network, tokens()).said)


def test_a_kind_that_is_not_in_the_tables_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="BertForMaskedLM cannot be sent as data: it is made by none of"):
        describe(transformers.BertForMaskedLM(transformers.BertConfig(**_OF_WORDS)), tokens())


@pytest.fixture(scope="module")
def sent() -> Any:
    return describe(_bert(), tokens())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda said: said.update(auto_class="pipeline"), "'pipeline', which is none that is made"),
        (lambda said: said.update(model_type="../evil"), "'../evil', which is none that is made"),
        (lambda said: said.update(attention="kernels-community/evil"), "kernels-community/evil"),
        (lambda said: said.update(options={"trust_remote_code": True}), "trust_remote_code"),
        (lambda said: said.update(trust_remote_code=True), "trust_remote_code"),
        (lambda said: said["config"].update(auto_map={"AutoModel": "evil--x.Y"}), "auto_map"),
        (lambda said: said["config"].update(_attn_implementation="evil/x"), "_attn_implementation"),
        (lambda said: said["config"].update(quantization_config={}), "quantization_config"),
        (lambda said: said["config"].update(id2label={"use_kernels": 1}), "may fetch or run code"),
        (lambda said: said["config"].update(num_hidden_layers=10**9), "num_hidden_layers 1000000000"),
        (lambda said: said["config"].update(vocab_size=2**40), "vocab_size"),
        (lambda said: said["config"].update(num_labels=10**6), "num_labels"),
        (lambda said: said["config"].update(layer_types=[1000] * 10), "layer_types 1000"),
        (lambda said: said["config"].update(hidden_act="os.system"), "makes no network"),
        (lambda said: said["config"].update(hidden_size="x; import os"), "makes no network"),
        (lambda said: said.update(config=[]), "configuration"),
        (lambda said: said.update(frozen=["x"]), "does not have"),
    ],
)
def test_a_configuration_that_asks_for_more_is_refused(sent: Any, change: Callable[[Any], object], named: str) -> None:
    said = copy.deepcopy(sent.said)
    change(said)
    with pytest.raises((UnsafeFileError, CorruptFileError), match=named):
        build(said, sent.constants)
