from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from model_handler import Source, TableData, TextTransform
from repurpose import LrRepurposer, NeuralNetworkFineTuneRepurposer
from repurpose.selection import tune

WORDS = ["good", "fine", "bad", "poor", "film", "book"]
RATES = {"optimizer_params__learning_rate": [1e-2, 1e-1]}


class WordNetwork(nn.Module):
    """The mean of the words of a text, without padding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(len(WORDS) + 2, 8)
        self.mean = nn.Identity()
        self.head = nn.Linear(8, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        mask = attention_mask[..., None].float()
        return self.head(self.mean((self.words(input_ids) * mask).sum(1) / mask.sum(1).clamp(min=1)))


@pytest.fixture
def source() -> Source:
    numbers = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    words = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Source(WordNetwork(), TextTransform(PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]")))


@pytest.fixture
def table(tmp_path: Path) -> TableData:
    rng = np.random.RandomState(0)
    lines = ["text,label,author"]
    for row in range(30):
        liked = row % 3 == 0
        lines.append(f"{rng.choice(WORDS[:2] if liked else WORDS[2:4])} {rng.choice(WORDS[4:])},{liked},{row // 3}")
    path = tmp_path / "texts.csv"
    path.write_text("\n".join(lines))
    return TableData(path, input="text", label="label", group="author")


def test_heads_and_networks_are_tuned_on_texts_of_a_table_by_its_groups(
    source: Source, table: TableData, tmp_path: Path
) -> None:
    head = tune(LrRepurposer(source, ["mean"]), table, space={"c": [0.1, 10.0]}, budget=3, random_state=0)
    assert head.best_repurposer.predict_label(["good book", "poor film"]).tolist() == ["True", "False"]
    assert len(np.unique(head.best_repurposer.training_groups_)) == 10
    network = NeuralNetworkFineTuneRepurposer(source, "mean", num_epochs=2)
    options = {"space": RATES, "random_state": 0, "study_file": tmp_path / "study.log"}
    assert len(tune(network, table, budget=1, **options).trials) == 1
    assert len(tune(network, table, budget=2, **options).trials) == 2
    with pytest.raises(ValueError, match=r"groups: SHA-256 .* in the file, now none"):
        tune(network, (table.texts(), table.labels), budget=2, **options)
