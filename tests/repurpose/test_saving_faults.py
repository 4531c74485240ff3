"""A disk that is full, or a key pressed, at any call of the system while something is saved: old or new, and whole."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from model_handler import Features, ModelHandler
from repurpose import LrRepurposer, load
from repurpose.cli.output.outputs import replace_file
from repurpose.training.checkpoints.checkpoints import Checkpoints

ROOMS = (
    "model_handler/files",
    "repurpose/persistence/container",
    "repurpose/training/checkpoints",
    "repurpose/cli",
)
WRITING = ("open", "write", "replace", "mkdir", "chmod", "posix_fallocate")
N_NUMBERS = 500


class NumberedRepurposer(LrRepurposer):
    """Learns a `number_` too, as a class of a user's may."""


@dataclass(frozen=True)
class Saving:
    """How a number is saved in a folder, and read from what is there. A folder of its own is made for it."""

    save: Callable[[Path, int], object]
    read: Callable[[Path], int]
    n_files: int  # at most, with the folders

    def begin(self, folder: Path, is_first: bool) -> Path:
        """A folder to which the number 0 was saved, or nothing yet."""
        folder.mkdir()
        if not is_first:
            self.save(folder, 0)
        return folder

    def check_whole(self, folder: Path, *numbers: int | None) -> None:
        """One of these is there (None: nothing), and after another saving that one alone."""
        try:
            assert self.read(folder) in numbers
        except FileNotFoundError:
            assert None in numbers
        self.save(folder, 2)
        assert self.read(folder) == 2
        assert len(names(folder)) <= self.n_files
        assert not [name for name in names(folder) if ".writing-" in name]


def fsync(handle: int) -> None:
    """Stand for the system's, which takes seconds for hundreds of files."""


@pytest.fixture(autouse=True)
def without_syncing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", fsync)


@pytest.fixture(scope="module")
def savings() -> dict[str, Saving]:
    network = nn.Sequential(nn.Identity())
    X = np.arange(24, dtype=np.float32).reshape(6, 4) % 5
    repurposer = NumberedRepurposer(network, ["0"], c=1.0, verbose=False).repurpose(X, [0, 1] * 3)

    def save_repurposer(folder: Path, number: int) -> None:
        repurposer.number_ = np.full(N_NUMBERS, number)
        repurposer.batch_size = 1 + number
        repurposer.save_repurposer(folder / "new" / "saved")

    def read_repurposer(folder: Path) -> int:
        loaded = load(folder / "new" / "saved", network)
        return only([*loaded.number_, loaded.batch_size - 1])

    def save_checkpoint(folder: Path, number: int) -> None:
        Checkpoints(folder / "new").save({"weights": torch.full((N_NUMBERS,), number)}, number, {"seed": "0"})

    def read_checkpoint(folder: Path) -> int:
        state = Checkpoints(folder / "new").load({"seed": "0"})
        if state is None:
            raise FileNotFoundError
        return only(state["weights"].tolist())

    def features(number: int) -> Features:
        return Features({"a": np.full((N_NUMBERS, 1), number)}, ["label"] * N_NUMBERS)

    handlers = [ModelHandler(nn.Sequential(*[nn.Linear(4, 4)] * (number + 1))) for number in range(3)]
    return {
        "save_repurposer": Saving(save_repurposer, read_repurposer, 7),
        "Features.save": Saving(
            lambda folder, number: features(number).save(folder / "new" / "features.safetensors"),
            lambda folder: only(Features.load(folder / "new" / "features.safetensors").matrix.ravel()),
            2,
        ),
        "checkpoints": Saving(save_checkpoint, read_checkpoint, 3),
        "predictions": Saving(
            lambda folder, number: replace_file(folder / "new" / "out.csv", b"%d " % number * N_NUMBERS),
            lambda folder: only((folder / "new" / "out.csv").read_text().split()),
            2,
        ),
        "a drawing": Saving(
            lambda folder, number: handlers[number].visualize_net().save(folder / "new" / "net.dot"),
            lambda folder: (folder / "new" / "net.dot").read_text().count("Linear") - 1,
            2,
        ),
    }


KINDS = ["save_repurposer", "Features.save", "checkpoints", "predictions", "a drawing"]


def only(numbers: Any) -> int:
    """The number that all of them are. Fails where parts of two were read."""
    (number,) = {int(number) for number in numbers}
    return number


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@contextmanager
def calls(at: Callable[[int], None]) -> Iterator[None]:
    """Call `at` with the number of each call of the system that takes room on the disk, before it is made."""
    number = iter(range(1_000_000))

    def see(frame: FrameType, event: str, called: Any) -> None:
        if event == "call" and frame.f_code is fsync.__code__:
            at(next(number))
        elif event == "c_call" and called.__name__ in WRITING:
            of_a_file = "." not in called.__qualname__ or called.__qualname__.startswith("FileIO.")
            if of_a_file and called.__module__ != "torch._C":
                at(next(number))

    sys.setprofile(see)
    try:
        yield
    finally:
        sys.setprofile(None)


@contextmanager
def steps(at: Callable[[object], None]) -> Iterator[None]:
    """Call `at` where Python looks whether a key was pressed: as functions begin, and behind what C did."""

    def see(frame: FrameType, event: str, called: Any) -> None:
        file = frame.f_code.co_filename.replace("\\", "/")
        if event in ("call", "c_return") and any(room in file for room in ROOMS):
            at((file, frame.f_lineno, event, getattr(called, "__name__", "")))

    sys.setprofile(see)
    try:
        yield
    finally:
        sys.setprofile(None)


def seen_by(watching: Any, save: Callable[[], object]) -> list[Any]:
    """What is seen while something is saved, each once."""
    found: dict[Any, None] = {}
    with watching(lambda point: found.setdefault(point)):
        save()
    return list(found)


def raising(error: BaseException, point: object) -> Callable[[object], None]:
    def at(reached: object) -> None:
        if reached == point:
            raise error

    return at


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_full_at_any_call_leaves_old_or_new_and_says_what_it_needs(
    savings: dict[str, Saving], kind: str, is_first: bool, tmp_path: Path
) -> None:
    saving, needs = savings[kind], 0
    before = None if is_first else 0
    seen = saving.begin(tmp_path / "seen", is_first)
    points = seen_by(calls, lambda: saving.save(seen, 1))
    for point in points:
        folder, failure = saving.begin(tmp_path / f"{point}", is_first), None
        try:
            with calls(raising(OSError(errno.ENOSPC, "No space left on device"), point)):
                saving.save(folder, 1)
        except OSError as error:
            failure = error
        if failure is not None:
            assert failure.errno == errno.ENOSPC
            for said in (str(folder / "new"), "No space left on device", "bytes are free there"):
                assert said in str(failure)
            needs += "it needs" in str(failure)
        saving.check_whole(folder, 1, *([] if failure is None else [before]))
    assert needs >= 4  # to open, write, sync and rename


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_pressed_at_any_moment_leaves_old_or_new(savings: dict[str, Saving], kind: str, tmp_path: Path) -> None:
    saving = savings[kind]
    seen = saving.begin(tmp_path / "seen", is_first=False)
    points = seen_by(steps, lambda: saving.save(seen, 1))
    for place, point in enumerate(points):
        folder = saving.begin(tmp_path / f"{place}", is_first=False)
        with pytest.raises(KeyboardInterrupt), steps(raising(KeyboardInterrupt(), point)):
            saving.save(folder, 1)
        saving.check_whole(folder, 0, 1)
