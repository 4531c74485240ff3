"""A network of texts that takes no time: embeddings of words, and a layer of tokens that features are averaged over."""

from typing import Any

import torch
from torch import Tensor, nn

from model_handler import Source, TextTransform

WORDS = ["[PAD]", "[UNK]", "good", "lovely", "great", "bad", "dull", "poor", "film", "play"]
TEXTS = [f"{a} {b}" for a in WORDS[2:8] for b in ("film", "play", "good film and play")]
LABELS = ["bad" if text.split()[0] in WORDS[5:8] else "good" for text in TEXTS]


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.mix = nn.Embedding(len(WORDS), 6), nn.Linear(6, 6)
        self.classifier = nn.Linear(6, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        tokens = torch.relu(self.mix(self.embedding(input_ids)))
        mask = attention_mask.unsqueeze(-1)
        return self.classifier((tokens * mask).sum(1) / mask.sum(1).clamp(min=1))


def tiny_transform() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
    return TextTransform(tokenizer, max_length=8)


def text_source() -> Source:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Source(Tokens(), tiny_transform(), layer="mix")
