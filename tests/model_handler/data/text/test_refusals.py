"""Text is refused where no network reads it; what looks like a path is told from it."""

import tempfile
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, StackDataset

from model_handler.data import ImageFolderData, as_batches, look_through
from model_handler.data.text.paths import looks_like_path

REVIEWS = ["I loved it, every minute.", "It was awful"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cats/1", True),
        ("cats/1.png", True),
        ("my cat.JPG", True),
        ("photo.heic", True),
        ("labels.csv", True),
        ("/nowhere/cat", True),
        (f"{tempfile.gettempdir()}/my cat", True),  # the folder is there
        ("good", False),
        ("good.", False),
        ("Good and/or bad", False),
        ("see example.com for more", False),
        ("a\nb.png", False),
        ("x" * 300, False),
        ("", False),
    ],
)
def test_paths_are_told_from_text_by_their_looks(text: str, expected: bool) -> None:
    assert looks_like_path(text) is expected


@pytest.mark.parametrize(
    "data",
    [
        REVIEWS,
        (REVIEWS, [0, 1]),
        ["good", "bad"],
        ["word " * 200] * 2,
        np.array(REVIEWS),
        np.array(REVIEWS, dtype=object),
        pd.Series(REVIEWS, index=[7, 3]),
        pd.Series([REVIEWS[0], pd.NA]),
        pd.DataFrame({"text": REVIEWS}),
        np.array([REVIEWS]),
        {"text": REVIEWS},
        {"text": REVIEWS, "labels": [0, 1]},
        StackDataset(REVIEWS, [0, 1]),
        DataLoader(StackDataset(REVIEWS, [0, 1]), batch_size=2),
        REVIEWS[0],
        "word " * 200,
        "one\ntwo",
        b"I loved it",
        [b"I loved it", b"bad"],
        np.array([b"I loved it", b"bad"]),
    ],
    ids=lambda data: type(data).__name__,
)
def test_text_in_every_wrapping_is_told_what_reads_it(data: Any) -> None:
    for read in (lambda: list(as_batches(data, transform=torch.tensor)), lambda: look_through(data, batch_size=2)):
        with pytest.raises((TypeError, ValueError), match="text needs a network that reads it"):
            read()


@pytest.mark.parametrize("labels", [["cat", "dog"], [0, 1]])
def test_a_table_of_images_is_told_how_its_columns_are_given(labels: list[Any]) -> None:
    table = pd.DataFrame({"label": labels, "file": ["cats/1.png", "dogs/1.JPG"]})
    told = (
        r"column 'file' holds paths of images: give this column alone, df\['file'\], or .* \(df\['file'\], df\[...\]\)$"
    )
    with pytest.raises(TypeError, match=told):
        as_batches(table)


def test_bytes_of_an_image_file_say_how_they_are_opened() -> None:
    with pytest.raises(TypeError, match=r"PIL\.Image\.open\(io\.BytesIO\(data\)\)"):
        as_batches(b"\x89PNG")


@pytest.mark.parametrize(
    "data", [["a.png", "b c.jpg"], ["a.png", "I loved it"], "photos", "my photos/x.jpg", "", "x" * 300]
)
def test_what_may_be_a_path_is_said_to_lead_nowhere(data: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"lead to no file|there is no file or folder"):
        as_batches(data, transform=torch.tensor)


def test_a_folder_with_too_long_a_name_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        ImageFolderData("x" * 300)
