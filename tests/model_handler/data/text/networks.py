"""Tiny networks that read text, with random weights, and their tokenizer of a dozen words."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from model_handler import Source, TextTransform

WORDS = ["good", "bad", "film", "a", "very", "the"]
_VOCABULARY = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
_SIZES = {"vocab_size": 10, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
_BERT = {**_SIZES, "intermediate_size": 24, "max_position_embeddings": 40}
_NAMES = ["input_ids", "attention_mask"]  # of networks without segments


def words(**options: Any) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are words between [CLS] and [SEP]."""
    tokenizer = Tokenizer(models.WordLevel(_VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named, **options)


_NETWORKS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "bert": (lambda: BertModel(BertConfig(**_BERT)), {}),
    "roberta": (lambda: RobertaModel(RobertaConfig(**_BERT, pad_token_id=0)), {"model_input_names": _NAMES}),
    "distilbert": (
        lambda: DistilBertModel(
            DistilBertConfig(vocab_size=10, dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=40)
        ),
        {"model_input_names": _NAMES},
    ),
    "padded left": (
        lambda: GPT2Model(
            GPT2Config(
                vocab_size=10, n_embd=16, n_layer=2, n_head=2, n_positions=40, bos_token_id=None, eos_token_id=None
            )
        ),
        {"model_input_names": _NAMES, "padding_side": "left"},
    ),
}


@cache
def text_source(name: str = "bert", max_length: int = 32) -> Source:
    """A network of one of the kinds in `_NETWORKS`, in evaluation mode."""
    make, options = _NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Source(make().eval(), TextTransform(words(**options), max_length=max_length), name)


def random_texts(n: int, longest: int = 30, seed: int = 0) -> list[str]:
    """Texts of 0 to `longest` words."""
    rng = np.random.RandomState(seed)
    return [" ".join(rng.choice(WORDS, n_words)) for n_words in rng.randint(0, longest, n)]


def reviews(n: int = 24, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Texts of different lengths that say "good" or "bad", and which."""
    rng = np.random.RandomState(seed)
    labels = np.array(["pos", "neg"] * (n // 2))
    said = {"pos": "good", "neg": "bad"}
    texts = [" ".join([said[label]] * rng.randint(1, 4) + WORDS[2 : rng.randint(2, 6)]) for label in labels]
    return texts, labels
