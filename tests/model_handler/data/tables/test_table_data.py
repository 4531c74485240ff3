"""A table is data by the names of its columns; the network that reads it says whether they are texts or images."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from model_handler import TableData, TextTransform
from model_handler.data import as_batches, look_through, named_classes
from tests.model_handler.data.text.networks import words

TRANSFORM = TextTransform(words(), max_length=32)
FRAME = pd.DataFrame({"text": ["good", "a bad film", "the"], "stars": [5, 1, 3], "who": ["x", "y", "x"]})


def grey(image: Any) -> torch.Tensor:
    return torch.tensor(np.asarray(image.convert("L")), dtype=torch.float32).mean()[None]


def test_a_table_in_memory_has_texts_labels_and_groups() -> None:
    data = TableData(FRAME, input="text", label="stars", group="who")
    assert repr(data) == "TableData(the DataFrame: 3 rows; input 'text', label 'stars', group 'who')"
    assert (data.columns, data.labels.tolist(), data.groups.tolist()) == (list(FRAME), [5, 1, 3], ["x", "y", "x"])
    (batch,) = as_batches(data, transform=TRANSFORM)
    assert batch.labels.tolist() == [5, 1, 3]
    assert batch.inputs["attention_mask"].sum(dim=1).tolist() == [3, 5, 3]


def test_rows_are_taken_with_all_that_stands_beside_them() -> None:
    data = TableData(FRAME, input="text", label="stars", group="who")
    for rows in (np.array([2, 0]), [2, 0]):
        taken = data[rows]
        assert (taken.texts(), taken.labels.tolist(), taken.groups.tolist()) == (["the", "good"], [3, 5], ["x", "x"])
    assert data[np.array([False, True, True])].shape == data[1:].shape == (2,)
    assert data[1:][1:].texts() == ["the"]
    with pytest.raises(TypeError, match="give a slice, numbers or a mask of rows"):
        data[1]
    assert data.labelled(np.array(list("abc"))).labels.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="has 3 rows and there are 2 labels"):
        data.labelled(np.array([1, 2]))


def test_paths_are_relative_to_the_table_for_a_network_of_images(tmp_path: Path) -> None:
    for name, value in (("dark", 10), ("light", 200)):
        (tmp_path / "files").mkdir(exist_ok=True)
        Image.new("L", (4, 4), value).save(tmp_path / "files" / f"{name}.png")
    (tmp_path / "t.csv").write_text("image,label\n files/dark.png ,a\nfiles/light.png,b\n")
    data = TableData(tmp_path / "t.csv", input="image", label="label")
    (batch,) = as_batches(data, transform=grey)
    assert (batch.inputs.ravel().tolist(), batch.labels.tolist()) == ([10, 200], ["a", "b"])
    seen = look_through(data, batch_size=2, transform=grey)
    assert (seen.labels.tolist(), seen.rows.tolist()) == (["a", "b"], [0, 1])
    (tmp_path / "files" / "dark.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 paths in the list lead to no file: .*dark\.png"):
        as_batches(data, transform=grey)


def test_texts_for_a_network_of_images_are_refused() -> None:
    with pytest.raises(TypeError, match=r"strings are taken for paths.*text needs a network that reads it"):
        as_batches(TableData(FRAME, input="text"), transform=grey)


@pytest.mark.parametrize(
    ("frame", "options", "kind", "message"),
    [
        (FRAME, {"input": "txt"}, ValueError, r"no column 'txt' \(nearest: 'text'\); its columns are text, stars, who"),
        (FRAME, {"input": "text", "label": "star"}, ValueError, r"no column 'star' \(nearest: 'stars'\).*label="),
        (FRAME[:0], {"input": "text"}, ValueError, "the DataFrame is empty"),
        (FRAME, {"input": 3}, TypeError, "must be names of columns, got 3"),
        (
            {"text": ["a"]},
            {"input": "text"},
            TypeError,
            "path of a CSV or Parquet file, .* got dict",
        ),
        (
            FRAME.assign(stars=[5, None, float("nan")]),
            {"input": "text", "label": "stars"},
            ValueError,
            r"has 2 rows without a stars \(row 1, row 2\); fill them in or delete them",
        ),
    ],
)
def test_what_a_table_lacks_is_named(frame: Any, options: dict, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        TableData(frame, **options)


def test_labels_may_be_missing_where_that_is_said() -> None:
    frame = FRAME.assign(stars=["5", None, " "])
    data = TableData(frame, input="text", label="stars", may_lack_labels=True)
    assert data.labels.tolist() == ["5", None, None]


def test_missing_texts_and_other_things_are_named_where_they_are_read() -> None:
    with pytest.raises(ValueError, match=r"has 1 rows without a text \(row 1\); leave these rows out"):
        as_batches(TableData(FRAME.assign(text=["a", None, ""]), input="text"), transform=TRANSFORM)
    with pytest.raises(TypeError, match="no text in the column 'stars', row 0, but int"):
        as_batches(TableData(FRAME, input="stars"), transform=TRANSFORM)
    with pytest.raises(ValueError, match=r"has 2 rows without a text \(row 1, row 2\); fill them in"):
        as_batches(TableData(FRAME.assign(text=["a.png", None, ""]), input="text"), transform=grey)


def test_a_file_that_is_not_there_has_the_nearest_named(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("text\na\n")
    with pytest.raises(FileNotFoundError, match=r"there is no table .*review\.csv.*; nearest there: reviews\.csv"):
        TableData(tmp_path / "review.csv", input="text")
    with pytest.raises(FileNotFoundError, match=r"is a folder, .*; a folder of images is an ImageFolderData"):
        TableData(tmp_path, input="text")


def test_names_of_classes_come_from_hugging_face_datasets() -> None:
    datasets = pytest.importorskip("datasets", reason="needs the package datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    dataset = datasets.Dataset.from_dict({"text": ["bad", "good"], "label": [0, 1]}, features=features)
    data = TableData(dataset, input="text", label="label")
    assert (data.labels.tolist(), named_classes(data)) == ([0, 1], ("neg", "pos"))
    with pytest.raises(ValueError, match=r"the dataset has no column 'txt' \(nearest: 'text'\)"):
        TableData(dataset, input="txt")
