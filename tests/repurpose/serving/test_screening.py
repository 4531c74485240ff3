"""Rows that cannot be read are refused alone, where rows can be read alone."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from model_handler import Features
from repurpose import LrRepurposer
from repurpose.serving.screening import screen
from tests.repurpose.examples import blobs, lr

X, Y = blobs()
PIXELS = np.random.default_rng(0).integers(0, 255, size=(6, 5, 7, 3), dtype=np.uint8)


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


@pytest.fixture(scope="module")
def of_images() -> LrRepurposer:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return LrRepurposer(network, ["2"], c=1.0, transform=as_tensor).repurpose((list(PIXELS), [0, 1] * 3))


def reasons(repurposer: Any, data: object) -> list[str | None]:
    return screen(repurposer, data, None)[0].reasons.tolist()


def test_features_of_accepted_rows_are_those_of_the_data_in_their_order() -> None:
    repurposer = lr(batch_size=8).repurpose((X, Y))
    data = X[:30].copy()
    data[[2, 3, 9, *range(16, 24)], 1] = np.nan
    found, features = screen(repurposer, data, None)
    good = np.isfinite(data).all(axis=1)
    assert np.array_equal(found.accepted, good)
    assert features is not None
    assert np.array_equal(features.matrix, data[good])  # of a network that changes nothing


def test_no_features_are_computed_where_every_row_is_refused() -> None:
    found, features = screen(lr().repurpose((X, Y)), np.full((3, 4), np.inf), None)
    assert found.reasons.tolist() == ["not finite"] * 3
    assert features is None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([[1.0, 2.0, 3.0, 4.0], None, [1.0, 2.0, 3.0, 4.0]], [None, "unreadable", None]),
        ([["1", "b", "c", "d"], [1.0, 2.0, 3.0, 4.0]], ["unreadable", None]),
        ([[1.0, None, 3.0, 4.0], [10**400, 2, 3, 4]], ["unreadable", "unreadable"]),
        (np.array([[1, 2, 3, 4], [1, "b", 3, 4]], dtype=object), [None, "unreadable"]),
        (np.ma.array(np.ones((2, 4)), mask=[[0] * 4, [0, 1, 0, 0]]), [None, "unreadable"]),
        (([[1.0, 2.0, 3.0, 4.0], None], ["cat", "dog"]), [None, "unreadable"]),
    ],
)
def test_what_is_no_row_is_refused_alone(data: object, expected: list[str | None]) -> None:
    assert reasons(lr().repurpose((X, Y)), data) == expected


def test_an_image_that_is_broken_is_refused_alone(of_images: LrRepurposer, tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(stream, "png")
    (tmp_path / "whole.png").write_bytes(stream.getvalue())
    (tmp_path / "cut.png").write_bytes(stream.getvalue()[:-40])
    names = [tmp_path / name for name in ("whole.png", "cut.png", "absent.png", "whole.png")]
    found, features = screen(of_images, names, None)
    assert found.reasons.tolist() == [None, "unreadable", "unreadable", None]
    assert "cut.png" in found.details[1]
    assert "absent.png" in found.details[2]
    assert features is not None
    assert np.array_equal(
        features.matrix, np.repeat(of_images.get_features_from_source_model([PIXELS[0]]).matrix, 2, 0)
    )


def test_what_cannot_be_read_row_by_row_raises_as_in_prediction() -> None:
    repurposer = lr().repurpose((X, Y))
    loader = DataLoader([(torch.zeros(3, 4), "x")], batch_size=None)
    for data in (None, np.empty((0, 4)), [], loader, (row for row in X), {"a": np.array(["x"])}):
        with pytest.raises((TypeError, ValueError)) as expected:
            repurposer.predict_label(data)
        with pytest.raises(expected.type) as found:
            screen(repurposer, data, None)
        assert str(found.value) == str(expected.value)


def test_inputs_that_the_network_cannot_compute_are_refused_in_its_words() -> None:
    repurposer = LrRepurposer(nn.Sequential(nn.Linear(4, 3)), ["0"], c=1.0).repurpose((X, Y))
    found, features = screen(repurposer, np.ones((3, 4), dtype=np.int64), None)
    assert found.reasons.tolist() == ["failed"] * 3
    assert "layer '0', Linear(in_features=4" in found.details[0]
    assert features is None


def test_rows_whose_features_are_not_finite_are_refused() -> None:
    network = nn.Sequential(nn.Linear(4, 3))
    nn.init.constant_(network[0].weight, 2.0)
    repurposer = LrRepurposer(network, ["0"], c=1.0).repurpose((X, Y))
    data = X[:4].copy()
    data[[1, 3]] = 3e38  # finite, and twice that is not
    found, features = screen(repurposer, data, None)
    assert found.reasons.tolist() == [None, "not finite", None, "not finite"]
    assert features is not None
    assert len(features) == 2
    assert found.details[1] == "the network gives NaN or infinite values for it"


def test_features_are_judged_by_their_values_alone() -> None:
    repurposer = lr().repurpose((X, Y))
    matrix = X[:3].copy()
    matrix[1, 0] = np.nan
    found, features = screen(repurposer, Features({"0": matrix}), None)
    assert found.reasons.tolist() == [None, "not finite", None]
    assert features is not None
    assert np.array_equal(features.matrix, X[[0, 2]])
