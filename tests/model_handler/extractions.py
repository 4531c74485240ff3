"""Extractions that `test_processes` makes in one process and in two; as a script, it writes what each process got.

Run by `torchrun --nproc-per-node 2 -m tests.model_handler.extractions FOLDER`.
"""

import os
import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, TensorDataset
from torchvision.transforms.functional import to_tensor

from model_handler import ModelHandler
from model_handler.data import ImageFolderData
from repurpose import LrRepurposer

RANK = int(os.environ.get("RANK", "0"))
X = np.random.default_rng(0).normal(size=(201, 6)).astype(np.float32)
Y = np.arange(201) % 3
NAMES = np.array(["cat", "dog", "owl"])[Y]
COMPUTED: list[int] = []  # the numbers of rows that went through the network


class Network(nn.Module):
    """Two layers; raises where a row begins with 1000."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.a, self.check, self.b = nn.Linear(6, 5), Check(), nn.Linear(5, 4)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(self.check(x)).tanh())


class Check(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        COMPUTED.append(len(x))
        if (x[:, 0] == 1000).any():
            raise RuntimeError("a row begins with 1000")
        return x


class Rows(Dataset):
    """Remembers which rows this process read; they are `offset` more than those of another process."""

    def __init__(self, n_rows: int = 30, offset: float = 0) -> None:
        self.rows = X[:n_rows] + np.float32(offset)
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> tuple[np.ndarray, int]:
        self.read.append(row)
        return self.rows[row], row


class Stream(IterableDataset):
    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows

    def __iter__(self):
        return iter(list(zip(X[: self.n_rows], Y, strict=False)))


class ThinnedLoader(DataLoader):
    """A loader whose iteration is its own: every other batch is left out."""

    def __iter__(self):
        yield from list(super().__iter__())[::2]


def loader(dataset: Dataset, seed: int = 3, **options) -> DataLoader:
    return DataLoader(dataset, generator=torch.Generator().manual_seed(seed), **options)


def write_images(folder: Path) -> None:
    for number in range(21):
        path = folder / f"class {number % 3}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((1, 2, 3), 10 * number, np.uint8)).save(path)
    (folder.parent / "fine").mkdir()
    for name in "abc":
        Image.new("RGB", (2, 1)).save(folder.parent / "fine" / f"{name}.png")
    for number in (4, 5, 12, 20):  # the first two are a whole batch
        (folder / f"class {number % 3}" / f"{number:02}.png").write_bytes(b"no image")


def flat(image) -> Tensor:
    return to_tensor(image).flatten()


SETS = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
UNEVEN = [[0, 1, 2], [3], [4, 5, 6, 7], [8, 9], [10]]


def seeded(seed: int) -> DataLoader:
    """A loader that draws its order from the global generator."""
    torch.manual_seed(seed)
    return DataLoader(SETS, batch_size=8, shuffle=True)


def good(folder: Path) -> dict:
    """Data by name, each new when called."""
    return {
        "an array in a hundred batches": lambda: X,
        "a pair with text": lambda: (X[:11], NAMES[:11]),
        "one row": lambda: X[:1],
        "a dict": lambda: {"x": X[:7], "labels": Y[:7]},
        "a dataset": lambda: Rows(),
        "an iterable dataset": lambda: Stream(9),
        "an empty round's end": lambda: Stream(6),
        "a loader": lambda: loader(SETS, batch_size=7),
        "a loader with workers": lambda: loader(SETS, batch_size=7, num_workers=2),
        "a loader shuffled alike": lambda: loader(SETS, batch_size=8, shuffle=True),
        "a loader shuffled by the global seed": lambda: seeded(5),
        "a loader that drops rows": lambda: loader(SETS, batch_size=67, drop_last=True),
        "a loader of uneven batches": lambda: loader(SETS, batch_sampler=UNEVEN),
        "a loader without batching": lambda: DataLoader(SETS, batch_size=None, sampler=UNEVEN),
        "a loader of a stream": lambda: loader(Stream(11), batch_size=3),
        "a loader of a stream with workers": lambda: loader(Stream(11), batch_size=3, num_workers=1),
        "a loader with its own iteration": lambda: ThinnedLoader(SETS, batch_size=30),
        "a list of images": lambda: [folder / "class 0" / "00.png", folder / "class 1" / "01.png"] * 4,
        "a folder with bad files": lambda: ImageFolderData(folder, on_error="skip"),
    }


def bad(folder: Path) -> dict:
    """Data with a flaw, by name, each made by a function of the process's rank."""
    return {
        "an image of the second batch": lambda rank: (
            [folder / "class 0" / "00.png"] * 3 + [folder / "class 1" / "04.png"]
        ),
        "a layer in the second batch": lambda rank: np.vstack([X[:2], np.full((1, 6), 1000, np.float32)]),
        "a transform on one process": lambda rank: ImageFolderData(folder.parent / "fine", transform=[flat, len][rank]),
        "a file that one process lacks": lambda rank: [folder / "class 0" / ["00.png", "none.png"][rank]],
        "a shuffle of each one's own": lambda rank: loader(SETS, seed=rank, batch_size=8, shuffle=True),
        "a shuffle by global seeds": lambda rank: seeded(rank),
        "a shared-out sampler": lambda rank: DataLoader(SETS, batch_size=8, sampler=DistributedSampler(SETS, 2, rank)),
        "a stream of each one's own": lambda rank: DataLoader(Stream(6 + 2 * rank), batch_size=2),
        "other data": lambda rank: [X[:8], X[:9]][rank],
        "no rows": lambda rank: Stream(0),
        "rows too many": lambda rank: DataLoader(WrongLength(), batch_size=2),
    }


class WrongLength(Stream):
    def __init__(self) -> None:
        super().__init__(9)

    def __len__(self) -> int:
        return 5


def outcome(handler: ModelHandler, make, *names: str):
    """The features' matrix and labels, or the error's type, text and notes."""
    try:
        features = handler.extract(make(), names or ["a", "b"])
    except Exception as error:
        return type(error).__name__, str(error), getattr(error, "__notes__", [])
    return features.matrix, features.labels


def everything(folder: Path, rank: int) -> dict:
    """What a process sees of all that can be extracted."""
    warnings.simplefilter("ignore")  # the folder's, told by its own tests
    handler = ModelHandler(Network(), transform=flat, batch_size=2, verbose=RANK == 1)
    seen = {name: outcome(handler, make) for name, make in good(folder).items()}
    seen |= {name: outcome(handler, lambda make=make: make(rank)) for name, make in bad(folder).items()}
    skipping = ImageFolderData(folder, on_error="skip")
    seen["twice"] = [outcome(handler, lambda: skipping) for _ in range(2)]
    seen["skipped"] = [path.name for path in skipping.skipped]
    seen["a layer that one process lacks"] = outcome(handler, lambda: X, ["a", "c"][rank])
    rows = Rows()
    COMPUTED.clear()
    handler.extract(rows, ["b"])
    seen["read"], seen["computed"] = rows.read, sum(COMPUTED)
    poolings = handler.extract_poolings(X, ["a", "b"], ["avg", "flatten", abs])
    seen["poolings"] = {str(pooling): (found.matrix, found.labels) for pooling, found in poolings.items()}
    alone = ModelHandler(Network(), batch_size=2, share=False)
    kept = folder.parent / f"kept by {os.environ.get('WORLD_SIZE', '1')}" / str(rank)
    seen["kept"] = [twice_with(kept, share=share) for share in ([False, True] if rank == 0 else [True])]
    seen["alone"] = outcome(alone, lambda: X[:5]) if rank == 0 else None
    outcome(handler, lambda: seeded(5))
    seen["generator"] = torch.get_rng_state()
    repurposer = LrRepurposer(Network(), ["a"], batch_size=4, random_state=0).fit(X[:51], NAMES[:51])
    seen["a repurposer"] = repurposer.predict_probability(X[:51]), repurposer.predict_label(X)
    return seen


def twice_with(kept: Path, *, share: bool) -> list[tuple[np.ndarray, int]]:
    """What two extractions give that keep features, and how many rows this process computes for each."""
    linear = nn.Sequential(nn.Linear(6, 5))
    linear.load_state_dict({f"0.{name}": value for name, value in Network().a.state_dict().items()})
    handler, n_rows, outcomes = ModelHandler(linear, batch_size=2, share=share), [], []
    handler.extract(X[:8], ["0"])  # by which every process verifies its graph
    hook = nn.modules.module.register_module_forward_hook(
        lambda layer, given, rows: n_rows.append(len(rows)) if isinstance(layer, nn.Linear) else None
    )
    for _ in range(2):
        n_rows.clear()
        outcomes.append((handler.extract(X, ["0"], cache_dir=kept).matrix, sum(n_rows)))
    hook.remove()
    return outcomes


def main(folder: Path) -> None:
    assert "accelerate" not in sys.modules
    (folder / f"{RANK}.pickle").write_bytes(pickle.dumps(everything(folder / "images", RANK)))
    if RANK == 0:  # the other is not there any more
        got = outcome(ModelHandler(Network()), lambda: X)
        (folder / "left.pickle").write_bytes(pickle.dumps(got))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
