"""Tiny networks with random weights, as `save_pretrained` writes them, and a place in a cache of the Hub."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, ViTConfig, ViTImageProcessor, ViTModel

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "word", "good", "film", "bad", "the", "was", "query", ":"]
TEXTS = ["good film", "the film was bad a word", "a"]
SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def tokenizer() -> Any:
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def write_text_encoder(folder: Path, *, with_pooler: bool = True) -> Path:
    """BERT of two layers and thirteen words, with up to 16 tokens."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(vocab_size=len(WORDS), max_position_embeddings=16, **SIZES)
        BertModel(config, add_pooling_layer=with_pooler).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def write_image_encoder(folder: Path) -> Path:
    """A vision transformer of two layers on images of 8 x 8."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ViTModel(ViTConfig(image_size=8, patch_size=4, **SIZES)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(folder)
    return folder


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_sentence_encoder(folder: Path, pooling: dict[str, Any], kinds: tuple[str, ...] = ("Normalize",)) -> Path:
    """As older versions of sentence-transformers wrote it."""
    write_text_encoder(folder)
    names = ["Transformer", "Pooling", *kinds]
    parts = [
        {
            "idx": number,
            "name": str(number),
            "path": f"{number}_{name}" if number else "",
            "type": f"sentence_transformers.models.{name}",
        }
        for number, name in enumerate(names)
    ]
    write_json(folder / "modules.json", parts)
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 8, **pooling})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 6, "do_lower_case": False})
    return folder


def put_into_cache(cache: Path, repository: str, commit: str = COMMIT, reference: str = "main") -> Path:
    """Make the folder of a snapshot in a cache of the Hub, as its client would, and return it."""
    root = cache / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "refs" / reference).write_text(commit)
    (root / "snapshots" / commit).mkdir(parents=True)
    return root / "snapshots" / commit
