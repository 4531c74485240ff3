import numpy as np
import torch
from torch import nn

from repurpose import LrRepurposer
from repurpose.selection.tuning.description import describe_tuning
from repurpose.selection.tuning.space import judged_space
from repurpose.selection.tuning.tuned_data import tuned_data
from tests.repurpose.selection.tuning.heads import blobs, small_network

SPACE = {"c": (0.1, 1.0)}


def described(repurposer: LrRepurposer, labelled: object = None, space: dict[str, object] = SPACE) -> dict[str, str]:
    labelled = blobs() if labelled is None else labelled
    judged = judged_space(space, repurposer)
    return describe_tuning(repurposer, labelled, tuned_data(repurposer, labelled, judged, None), judged, "accuracy", 3)


def test_the_same_is_described_alike_whatever_it_runs_on() -> None:
    first = described(LrRepurposer(small_network()))
    assert first == described(LrRepurposer(small_network(), device="cpu", verbose=False, num_workers=0))
    assert all(isinstance(text, str) for text in first.values())


def test_each_difference_has_its_name() -> None:
    first = described(LrRepurposer(small_network()))
    rows, labels = blobs()
    others = {
        "parameters": described(LrRepurposer(small_network(), batch_size=7)),
        "labels": described(LrRepurposer(small_network()), (rows, labels[::-1])),
        "inputs": described(LrRepurposer(small_network()), (rows + 1, labels)),
        "space": described(LrRepurposer(small_network()), space={"c": (0.1, 2.0)}),
    }
    for name, other in others.items():
        assert {key for key in first if first[key] != other[key]} == {name}


def test_rows_that_draw_anew_when_they_are_read_are_not_compared() -> None:
    rng = np.random.RandomState(0)
    images = [rng.randint(0, 255, (4, 4, 3)).astype(np.uint8) for _ in range(8)]

    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 4))
    repurposer = LrRepurposer(network, ["1"], transform=lambda image: torch.tensor(rng.rand(3, 4, 4)).float())
    assert described(repurposer, (images, [0, 1] * 4))["inputs"] == "random"
