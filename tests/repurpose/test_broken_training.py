"""Trainings and predictions that break off in the midst of the data: an error that says where, and a second try works.

Whatever was learned before stays, and the source network is as it was.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, get_worker_info

from model_handler import ModelHandler
from repurpose import LrRepurposer, NeuralNetworkFineTuneRepurposer

N_ROWS = 24
LABELS = np.arange(N_ROWS) % 3
X = (np.random.default_rng(0).normal(size=(N_ROWS, 4)) + LABELS[:, None]).astype(np.float32)
COMMON: dict[str, Any] = {"random_state": 0, "verbose": False, "device": "cpu"}
MAKERS: dict[str, Callable[[nn.Module], Any]] = {
    "lr": lambda source: LrRepurposer(source, ["1"], c=1.0, **COMMON),
    "fine_tune": lambda source: NeuralNetworkFineTuneRepurposer(source, "1", num_epochs=2, **COMMON),
    "frozen part cached": lambda source: NeuralNetworkFineTuneRepurposer(
        source, "1", num_epochs=2, learning_rates={"new": 0.1, "*": 0}, **COMMON
    ),
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


class Failing(Dataset):
    """Fails at row 13, as often as it is told to."""

    def __init__(self, fail: Callable[[], None]) -> None:
        self.fail = fail
        self.is_whole = False

    def __len__(self) -> int:
        return N_ROWS

    def __getitem__(self, row: int) -> tuple[np.ndarray, int]:
        if row == 13 and not self.is_whole:
            self.fail()
        return X[row], int(LABELS[row])


def press_a_key() -> None:
    """Interrupt the main process, as Ctrl-C does, from wherever this is called."""
    os.kill(os.getpid() if get_worker_info() is None else os.getppid(), signal.SIGINT)


def die() -> None:
    os._exit(9)


def no_server() -> None:
    raise ConnectionError("the server is down")


FAULTS: dict[str, tuple[Callable[[], None], int, type[BaseException], str | None]] = {
    "a key": (press_a_key, 0, KeyboardInterrupt, None),
    "a key beside workers": (press_a_key, 1, KeyboardInterrupt, None),
    "a worker that dies": (die, 1, ValueError, "a worker process of the DataLoader of Failing died, so row"),
    "a dataset that raises": (no_server, 0, ConnectionError, "row 13 of the DataLoader of Failing cannot be read"),
    "a dataset that raises in a worker": (no_server, 1, ConnectionError, "row 13 of the DataLoader of Failing cannot"),
}


def state_of(source: nn.Module) -> list[Any]:
    """What could be left changed of a network: weights, modes, switches, hooks."""
    weights = [weight.tolist() for weight in source.state_dict().values()]
    switches = [weight.requires_grad for weight in source.parameters()]
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in source.modules()]
    return [weights, switches, [module.training for module in source.modules()], hooks]


@pytest.mark.parametrize(
    ("kind", "fault"),
    [("lr", "a key"), ("frozen part cached", "a key"), *(("fine_tune", fault) for fault in FAULTS)],
)
def test_a_training_that_breaks_off_leaves_what_was_learned_and_a_second_try_works(kind: str, fault: str) -> None:
    fail, n_workers, error, said = FAULTS[fault]
    source, data = network(), Failing(fail)
    state = state_of(source)
    repurposer = MAKERS[kind](source).repurpose(X, 2 - LABELS)
    before, learned = repurposer.predict_probability(X), dict(vars(repurposer))
    with pytest.raises(error, match=said):
        repurposer.repurpose(DataLoader(data, batch_size=4, num_workers=n_workers))
    assert vars(repurposer) == learned
    assert np.array_equal(repurposer.predict_probability(X), before)
    assert state_of(source) == state
    data.is_whole = True
    repurposer.repurpose(DataLoader(data, batch_size=4, num_workers=n_workers))
    clean = MAKERS[kind](network()).repurpose(DataLoader(data, batch_size=4))
    assert np.array_equal(repurposer.predict_probability(X), clean.predict_probability(X))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("asked", ["prediction", "extraction"])
def test_a_prediction_or_extraction_that_breaks_off_can_be_tried_again(asked: str, fault: str) -> None:
    fail, n_workers, error, said = FAULTS[fault]
    source, data = network(), Failing(fail)
    repurposer, handler = LrRepurposer(source, ["1"], c=1.0, **COMMON).repurpose(X, LABELS), ModelHandler(source)

    def answer(given: object) -> np.ndarray:
        return repurposer.predict_probability(given) if asked == "prediction" else handler.extract(given, ["1"]).matrix

    state, right = state_of(source), answer((X, LABELS))
    with pytest.raises(error, match=said):
        answer(DataLoader(data, batch_size=4, num_workers=n_workers))
    assert state_of(source) == state
    data.is_whole = True
    assert np.array_equal(answer(DataLoader(data, batch_size=4, num_workers=n_workers)), right)


def test_an_image_that_turns_out_truncated_is_named_and_a_second_try_works(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(8):
        file = tmp_path / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 99, (16, 16, 3), np.uint8) + np.uint8(99 * (number % 2))).save(file)
    broken = tmp_path / "b" / "5.png"
    whole = broken.read_bytes()

    def transform(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image, np.float32)[0, 0, [0, 1, 2, 0]])

    for kind, make in MAKERS.items():
        repurposer = make(network()).set_params(transform=transform)
        broken.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=r"5\.png") as caught:
            repurposer.repurpose(tmp_path)
        assert "truncated" in str(caught.value), kind
        assert not hasattr(repurposer, "target_model_")
        broken.write_bytes(whole)
        assert repurposer.repurpose(tmp_path).score(tmp_path) >= 0
