"""Rows of every kind of labelled data, taken by number, are the rows that indexing gives."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from model_handler import ImageFolderData
from repurpose.data.row_subsets import labelled_rows

ROWS = np.array([3, 0])
X, Y = np.arange(8.0).reshape(4, 2), np.array(["a", "b", "a", "b"])
TABLE = pd.DataFrame(X, index=[9, 8, 7, 6])


@pytest.mark.parametrize(
    "inputs", [X, torch.from_numpy(X), X.tolist(), TABLE], ids=["array", "tensor", "list", "table"]
)
def test_inputs_and_labels_go_together(inputs: object) -> None:
    taken, labels = labelled_rows((inputs, Y.tolist()), ROWS)
    assert np.array_equal(np.asarray(taken), [[6, 7], [0, 1]])
    assert labels.tolist() == ["b", "a"]


def test_inputs_of_several_parts_and_by_name_are_taken_part_by_part() -> None:
    (first, second), labels = labelled_rows(((X, ["p", "q", "r", "s"]), Y), ROWS)
    assert (first[:, 0].tolist(), second, labels.tolist()) == ([6, 0], ["s", "p"], ["b", "a"])
    named = labelled_rows({"ids": X, "labels": Y}, ROWS)
    assert (named["ids"][:, 1].tolist(), named["labels"].tolist()) == ([7, 1], ["b", "a"])


def test_datasets_and_folders_give_their_rows(tmp_path: Path) -> None:
    subset = labelled_rows(TensorDataset(torch.from_numpy(X), torch.arange(4)), ROWS)
    assert [(row.tolist(), int(label)) for row, label in subset] == [([6, 7], 3), ([0, 1], 0)]
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    paths, labels = labelled_rows(ImageFolderData(tmp_path), ROWS)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["b/2.png", "a/1.png"]
    assert labels.tolist() == ["b", "a"]


def test_rows_of_a_loader_have_no_numbers() -> None:
    with pytest.raises(TypeError, match="rows of a DataLoader cannot be taken by number"):
        labelled_rows(DataLoader(TensorDataset(torch.from_numpy(X), torch.arange(4))), ROWS)
