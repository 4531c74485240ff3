import copy

import numpy as np
import torch
from torch import Tensor, nn

from model_handler import ModelHandler
from repurpose import NeuralNetworkFineTuneRepurposer
from repurpose.neural_network.heads import Pooled, add_head


class Encoder(nn.Module):
    """Tokens (n, length) to (n, length, 5), whose padding is not zero."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.mixing = nn.Embedding(20, 5), nn.Linear(5, 5)

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.mixing(self.embedding(ids))


def tokens() -> dict[str, Tensor]:
    ids = torch.randint(1, 20, (12, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[::2, 4:] = 0
    return {"ids": ids, "attention_mask": mask}


def test_padding_is_left_out_of_the_average_also_in_a_copy() -> None:
    torch.manual_seed(0)
    given = tokens()
    handler = ModelHandler(Encoder(), given)
    module = copy.deepcopy(add_head(handler.truncate("mixing"), 3, "auto")).eval()
    hidden = module.mixing(module.embedding(given["ids"]))
    counts = given["attention_mask"][..., None]
    expected = module.head((hidden * counts).sum(1) / counts.sum(1))
    torch.testing.assert_close(module(**given), expected)


def test_padding_changes_no_prediction() -> None:
    torch.manual_seed(0)
    given = tokens()
    repurposer = NeuralNetworkFineTuneRepurposer(Encoder(), "mixing", num_epochs=1, random_state=0)
    repurposer.fit(given, np.arange(12) % 2)
    other = {**given, "ids": torch.where(given["attention_mask"].bool(), given["ids"], 7)}
    assert np.array_equal(repurposer.predict_proba(given), repurposer.predict_proba(other))


def test_maps_with_their_channels_last_are_averaged_over_positions() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(5)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x)

    x = torch.randn(2, 4, 4, 5)
    module = add_head(ModelHandler(Last(), x), 3, "auto")
    assert module.head.weight.shape == (3, 5)
    torch.testing.assert_close(module(x), module.head(module.norm(x).mean((1, 2))))


def test_whole_numbers_become_floating_before_the_head() -> None:
    pooled = Pooled("auto", None)
    assert pooled(torch.ones(2, 3, dtype=torch.int64)).dtype == torch.float32


def test_names_that_are_taken_get_a_number() -> None:
    network = nn.Sequential()
    network.add_module("head", nn.Linear(4, 4))
    module = add_head(ModelHandler(network, torch.zeros(2, 4)), 3, "auto")
    assert module.head_2.weight.shape == (3, 4)


def test_the_head_has_the_dtype_of_what_it_reads() -> None:
    module = add_head(ModelHandler(nn.Sequential(nn.Linear(4, 4)).double(), torch.zeros(2, 4).double()), 3, "auto")
    assert module.head.weight.dtype == torch.float64
