"""Files of Offsite-Tuning that are attacked: packages and an adapter, each read as the other side reads it."""

import warnings
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.attacks.saved import Answers, Target
from model_handler.files.array_files import array_digest
from model_handler.network.states import state_of
from repurpose.offsite import OffsiteOwner, OffsitePackage, OffsiteRepurposer

_ROWS = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
_TOKENS = torch.arange(10).reshape(2, 5)


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm, self.down = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.norm(self.up(x)).relu())


def blocks_network() -> nn.Module:
    """A network of six blocks, which travels as a graph."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Sequential(*(_Block() for _ in range(6))), nn.Linear(4, 3)).eval()


def text_network() -> nn.Module:
    """A BERT of four blocks, which travels as its configuration."""
    from transformers import AutoModelForSequenceClassification, BertConfig

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    config = BertConfig(vocab_size=20, num_hidden_layers=4, num_labels=3, max_position_embeddings=16, **sizes)
    return AutoModelForSequenceClassification.from_config(config).eval()


def offsite_targets(folder: Path) -> list[Target]:
    """Packages of a graph and of a configuration, and an adapter."""
    return [*graph_targets(folder), *text_targets(folder)]


def graph_targets(folder: Path) -> list[Target]:
    """A package of a graph, as a directory and as a zip file, and an adapter for it."""
    owner = OffsiteOwner(blocks_network(), (1, 1), 2, example_inputs=_ROWS, device="cpu")
    for name in ("offsite-package", "offsite.zip"):
        _export(owner, folder / name)
    package = OffsitePackage(folder / "offsite.zip")
    OffsiteRepurposer(package, device="cpu").save_adapter(folder / "offsite-adapter")

    def plugged_in(path: Path) -> nn.Module:
        return owner.plug_in(path, package).target_model_

    return [
        Target.of("offsite package", "exchanged", folder / "offsite-package", _network, _answers),
        Target.of("offsite zip", "archive", folder / "offsite.zip", _network, _answers),
        Target.of("offsite adapter", "exchanged", folder / "offsite-adapter", plugged_in, _answers),
    ]


def text_targets(folder: Path) -> list[Target]:
    """A package of a configuration."""
    owner = OffsiteOwner(text_network(), (1, 1), 1, example_inputs={"input_ids": _TOKENS}, device="cpu")
    _export(owner, folder / "offsite-text")
    return [Target.of("offsite text", "exchanged", folder / "offsite-text", _network, _answers_of_text)]


def _export(owner: OffsiteOwner, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # nothing is distilled
        owner.export(path)


def _network(path: Path) -> nn.Module:
    return OffsitePackage(path).network()


def _answers(network: nn.Module) -> Answers:
    return _answers_to(network, _ROWS)


def _answers_of_text(network: nn.Module) -> Answers:
    return _answers_to(network, _TOKENS)


def _answers_to(network: nn.Module, rows: Tensor) -> Answers:
    with torch.no_grad():
        found = network(rows)
    logits = found if isinstance(found, Tensor) else found[0]
    state = [sha256(" ".join(state_of(network)).encode()).hexdigest()]
    state += [array_digest(value.numpy()) for value in state_of(network).values()]
    return Answers([logits.numpy().tobytes()], state)
