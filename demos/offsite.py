"""Offsite-Tuning: a network that stays where it is learns from data that stay where they are.

Run it as it stands: python demos/offsite.py. It needs no network connection and takes about a quarter of a minute.

Two processes run, an owner of a network and an owner of data, as if on two machines. All they share is a folder with
two files in it: the package that the one sends and the adapter that comes back. No file holds code.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

PATIENCE = 300  # seconds that one waits for the other's file
OWNERS, EMULATOR = "the owner's network as it is", "the emulator as it is"
TUNED, PLUGGED_IN = "tuned with the emulator", "plugged into the owner's network"


def owner(shared: Path) -> dict[str, float]:
    """Train a network, send a package of it, wait for the adapter, and plug that in."""
    from repurpose.offsite import OffsiteOwner

    images, labels = digits("owner")
    network = trained_network(images, labels)
    own = OffsiteOwner(network, adapter=(2, 2), emulator=4, example_inputs=images[:2], random_state=0)
    own.export(shared / "package.zip", distill_data=moved(images))
    plugged_in = own.plug_in(when_there(shared / "adapter.zip"))

    images, labels = digits("test")
    return {OWNERS: accuracy(network, images, labels), PLUGGED_IN: plugged_in.score(images, labels)}


def data_owner(shared: Path) -> dict[str, float]:
    """Wait for the package, tune its adapter on digits that the owner never sees, and send the adapter back."""
    from repurpose.offsite import OffsitePackage, OffsiteRepurposer

    package = OffsitePackage(when_there(shared / "package.zip"))
    rates = {"new": 1e-2, "transferred": 1e-3}
    repurposer = OffsiteRepurposer(package, num_epochs=20, learning_rates=rates, batch_size=20, random_state=0)
    repurposer.repurpose(digits("data owner"))
    repurposer.save_adapter(shared / "adapter.zip")

    images, labels = digits("test")
    return {EMULATOR: package.audit((images, labels)).accuracy, TUNED: repurposer.score(images, labels)}


def digits(whose: str) -> tuple[np.ndarray, np.ndarray]:
    """Scans of 8 x 8 pixels (n, 64) and their labels; the data owner's scanner has them a pixel to the right.

    Those of the "test" are as the data owner's, and nobody learns from them; here both have them, to judge by.
    """
    from sklearn.datasets import load_digits

    scans = load_digits()
    order = np.random.default_rng(0).permutation(len(scans.target))
    rows = {"owner": order[:1000], "data owner": order[1000:1200], "test": order[1200:]}[whose]
    images = (scans.images[rows] / 16).astype(np.float32)
    if whose != "owner":
        images = np.roll(images, 1, axis=2)
    return images.reshape(-1, 64), scans.target[rows]


def moved(images: np.ndarray) -> np.ndarray:
    """Mirror scans and move them by a pixel, (n, 64) to (7 n, 64).

    An emulator fits the better, the more kinds of rows it is distilled on; they need no labels.
    """
    scans = images.reshape(-1, 8, 8)
    steps = [np.roll(scans, step, axis) for axis in (1, 2) for step in (-1, 1)]
    return np.concatenate([scans, *steps, np.flip(scans, 1), np.flip(scans, 2)]).reshape(-1, 64)


def trained_network(images: np.ndarray, labels: np.ndarray):
    """Train 12 blocks. Their classes are here alone: a package says what they compute, and has no code."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.dropout = nn.LayerNorm(64), nn.Dropout(0.2)
            self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)

        def forward(self, rows):
            return rows + self.second(self.dropout(self.first(self.norm(rows)).relu()))

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.blocks = nn.Linear(64, 64), nn.Sequential(*(Block() for _ in range(12)))
            self.norm, self.head = nn.LayerNorm(64), nn.Linear(64, 10)

        def forward(self, images):
            return self.head(self.norm(self.blocks(self.stem(images))))

    torch.manual_seed(0)
    network, images, labels = Reader(), torch.tensor(images), torch.tensor(labels)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=200)
    for _ in range(200):
        rows = torch.randint(len(images), (64,))
        loss = nn.functional.cross_entropy(network(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def accuracy(network, images: np.ndarray, labels: np.ndarray) -> float:
    import torch

    with torch.no_grad():
        return float(np.mean(network(torch.tensor(images)).argmax(dim=1).numpy() == labels))


def when_there(path: Path) -> Path:
    """Wait for a file, and return its path. A file comes whole: it is written beside its place and renamed."""
    end = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{path} did not come within {PATIENCE} seconds")
        time.sleep(0.05)
    return path


ROLES = {"owner": owner, "data-owner": data_owner}


def run_both(shared: Path) -> dict[str, float]:
    """Let both run at once, and gather what they measured; where one fails, the other is not waited for."""
    parties = [subprocess.Popen([sys.executable, __file__, role, shared], stdout=subprocess.PIPE) for role in ROLES]
    try:
        while any(party.poll() is None for party in parties) and not any(party.poll() for party in parties):
            time.sleep(0.05)
    finally:
        for party in parties:
            party.kill()
    said = [party.communicate()[0] for party in parties]
    if any(party.returncode for party in parties):
        sys.exit("one of the two failed: its error is above")
    return {name: value for text in said for name, value in json.loads(text).items()}


def main() -> None:
    with TemporaryDirectory() as folder:
        measured = run_both(Path(folder))
        sizes = {file.name: file.stat().st_size for file in sorted(Path(folder).iterdir(), reverse=True)}
    print(f"{'':32}  accuracy on digits as the data owner has them")
    for name in (OWNERS, EMULATOR, TUNED, PLUGGED_IN):
        print(f"{name:32}  {measured[name]:.3f}")
    print("\nin the folder:", ", ".join(f"{name} ({size / 1000:.0f} kB)" for name, size in sizes.items()))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(ROLES[sys.argv[1]](Path(sys.argv[2]))))
    else:
        main()
