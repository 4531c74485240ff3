"""What is kept of inputs, and what a file cannot have kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from model_handler import Features
from repurpose.persistence.values.schema import Object
from repurpose.serving.reference_answers import ReferenceAnswers, ReferenceInputs, keep_inputs

READING = {"transform": None, "batch_size": 4, "num_workers": 0, "pin_memory": False}
OF_IMAGES = {**READING, "transform": lambda image: torch.zeros(3)}
ROWS = np.arange(12.0).reshape(6, 2)
# What a file may say and `keep_inputs` never returned, such as paths that would be opened; of two rows.
_OTHER_INPUTS: list[tuple[Any, Any]] = [
    ("photos", False),
    (["a.png", "b.png"], False),
    (np.array(["a.png", "b.png"]), False),
    (("a", "b"), False),
    ((), False),
    (None, False),
    (torch.zeros(3, 1), False),
    ({"a": torch.zeros(2), "b": torch.zeros(3)}, False),
    ([np.zeros((2, 2), np.uint8)] * 2, False),
    ([np.zeros((2, 2, 3), np.uint8)] * 3, False),
    (torch.zeros(2, 1), 0),
    (torch.zeros(2, 1), True),
    ({"a": np.array(["b", "c"])}, True),
    ({}, True),
]


def test_rows_are_kept_as_the_network_gets_them_and_labels_are_not() -> None:
    loader = DataLoader(TensorDataset(torch.from_numpy(ROWS), torch.arange(6)), batch_size=4)
    for data in (ROWS, (ROWS, list("abcdef")), ROWS.tolist()):
        kept = keep_inputs(data, READING).data
        assert isinstance(kept, torch.Tensor)
        assert kept.dtype == torch.float32
        assert np.array_equal(kept.numpy(), ROWS)
    assert torch.equal(keep_inputs(loader, READING).data, torch.from_numpy(ROWS))  # type: ignore[arg-type]


def test_parts_are_kept_by_place_or_name() -> None:
    first, second = torch.arange(6).reshape(3, 2), torch.ones(3, 1)
    (kept,) = keep_inputs(((first, second),), READING).data  # type: ignore[misc]
    assert [torch.equal(*pair) for pair in zip(kept, (first, second))] == [True, True]
    named: Any = keep_inputs({"a": first, "b": second, "labels": [0, 1, 0]}, READING).data
    assert list(named) == ["a", "b"]
    assert torch.equal(named["a"], first)


def test_what_is_kept_does_not_follow_the_users_arrays() -> None:
    rows = torch.zeros(1, 2)
    kept: Any = keep_inputs(rows, READING).data
    rows += 1
    assert not kept.any()


def test_images_are_kept_as_pixels_whatever_they_are_given_as(tmp_path: Path) -> None:
    pixels = [np.random.default_rng(0).integers(0, 255, size=(3 + row, 4, 3), dtype=np.uint8) for row in range(3)]
    images = [Image.fromarray(each) for each in pixels]
    for row, image in enumerate(images):
        image.save(tmp_path / f"{row}.png")
    for data in (pixels, images, sorted(tmp_path.iterdir())):
        kept: Any = keep_inputs(data, OF_IMAGES).data
        assert [np.array_equal(*pair) for pair in zip(kept, pixels)] == [True] * 3
    floats = keep_inputs(ROWS, OF_IMAGES).data
    assert isinstance(floats, torch.Tensor)  # which no transform is for


def test_features_are_kept_by_layer() -> None:
    features = Features({"a": ROWS, "b": ROWS[:, :1]}, labels=list("abcdef"))
    kept: Any = keep_inputs(features, READING).data
    assert kept.layer_names == ["a", "b"]
    assert np.array_equal(kept.matrix, features.matrix)


def test_too_many_rows_and_rows_of_several_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"more than 1,000 rows; a few dozen show a change as well"):
        keep_inputs(np.zeros((1001, 1)), READING)
    with pytest.raises(ValueError, match=r"more than 1,000 rows"):
        keep_inputs(Features({"a": np.zeros((1001, 1))}), READING)
    batches = [(torch.zeros(1, 2), torch.zeros(1)), (torch.zeros(1, 3), torch.zeros(1))]
    with pytest.raises(ValueError, match="the rows differ in shape"):
        keep_inputs(DataLoader(batches, batch_size=None), READING)


def test_what_a_file_cannot_have_kept_is_refused() -> None:
    inputs, codes, rows = ReferenceInputs(torch.zeros(2, 1), False), np.array([0, 1]), np.full((2, 2), 0.5)

    def check(answers: object) -> None:
        Object(ReferenceAnswers).check(answers, "reference_answers_", {"n_classes": 2})

    check(ReferenceAnswers(inputs, codes, rows))
    check(ReferenceAnswers(inputs, codes, None))
    for given in (
        ((torch.zeros(2, 1), torch.zeros(2)), False),
        ({"a": torch.zeros(2, 1)}, False),
        ([np.zeros((2, 2, 3), np.uint8), np.zeros((4, 1, 3), np.uint8)], False),
        ({"a": np.zeros((2, 1), np.float32)}, True),
    ):
        check(ReferenceAnswers(ReferenceInputs(*given), codes, None))
    wrong: list[Any] = [
        {"inputs": inputs},
        ReferenceAnswers(torch.zeros(2, 1), codes, rows),  # type: ignore[arg-type]
        ReferenceAnswers(inputs, np.array([0, 2]), None),
        ReferenceAnswers(inputs, np.array([-1, 0]), None),
        ReferenceAnswers(inputs, np.array([0.0, 1.0]), None),
        ReferenceAnswers(inputs, codes, rows[:, :1]),
        ReferenceAnswers(inputs, codes, rows[:1]),
        ReferenceAnswers(inputs, codes, rows * np.nan),
        ReferenceAnswers(inputs, codes, rows.astype(int)),
        ReferenceAnswers(inputs, codes, rows.tolist()),  # type: ignore[arg-type]
        *(ReferenceAnswers(ReferenceInputs(*given), codes, None) for given in _OTHER_INPUTS),
    ]
    for answers in wrong:
        with pytest.raises(ValueError, match="its reference_answers_"):
            check(answers)
