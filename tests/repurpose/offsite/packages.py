"""A small network of blocks, data of two other classes, and the package that its owner would export."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.network.copying import deep_copy
from model_handler.network.states import copied_state
from repurpose.neural_network.architecture import as_spec
from repurpose.offsite.architecture import describe
from repurpose.offsite.package import PackageContents, write_package

CLASSES = ("apple", "fig", "pear")


class Block(nn.Module):
    """Adds to its input what two layers and a normalisation make of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.norm, self.down = (
            nn.Linear(width, width + 3),
            nn.BatchNorm1d(width + 3),
            nn.Linear(width + 3, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.norm(self.up(x))))


class Chain(nn.Module):
    """A stem, six blocks and a head."""

    def __init__(self, n_blocks: int = 6, n_classes: int = len(CLASSES), *, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Linear(4, 8)
        self.blocks = nn.Sequential(*(Block(8) for _ in range(n_blocks)))
        self.head = nn.Linear(8, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(torch.tanh(self.stem(x))))


def owners_network(seed: int = 0) -> Chain:
    """The owner's network, whose normalisation has statistics of its own."""
    network = Chain(seed=seed)
    network(torch.randn(64, 4))
    return network.eval()


def emulator_of(network: Chain, kept: Sequence[int] = (1, 4)) -> Chain:
    """The network that is sent: the first block, some of the middle, and the last block."""
    thinned = deep_copy(network)
    thinned.blocks = nn.Sequential(*(thinned.blocks[number] for number in (0, *kept, 5)))
    return thinned.eval()


def contents_of(network: Chain, kept: Sequence[int] = (1, 4), **changes: Any) -> PackageContents:
    """What the package holds that lacks the blocks that are not `kept`, of weights alone."""
    sent, n = emulator_of(network, kept), len(kept)
    contents = PackageContents(
        architecture=describe(sent, torch.zeros(2, 4), given=True),
        state=copied_state(sent),
        first=("blocks.0",),
        emulator=tuple(f"blocks.{number}" for number in range(1, n + 1)),
        last=(f"blocks.{n + 1}",),
        dropped=tuple(f"blocks.{number}" for number in range(1, 5) if number not in kept),
        classifier="head",
        n_inputs_of_head=8,
        class_names=CLASSES,
        example_inputs=as_spec(torch.zeros(2, 4)),
        preprocessing=None,
        is_distilled=False,
    )
    return replace(contents, **changes)


def without_head(network: Chain) -> PackageContents:
    """What a package holds that keeps the head from the data owner."""
    contents = contents_of(network)
    state = {name: value for name, value in contents.state.items() if not name.startswith("head.")}
    return replace(contents, state=state, class_names=None)


def exported(folder: Path, network: Chain | None = None, **changes: Any) -> Path:
    """Write the package of a network, and return where it is."""
    write_package(folder / "package", contents_of(network or owners_network(), **changes))
    return folder / "package"


def rows(n_rows: int = 24, labels: Sequence[str] = CLASSES, seed: int = 1) -> tuple[Tensor, list[str]]:
    """Clouds of points, one for each label, which come in turn."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.arange(n_rows) % len(labels)
    X = torch.randn(n_rows, 4, generator=generator) + 2 * nn.functional.one_hot(codes, 4)
    return X, [labels[code] for code in codes.tolist()]
