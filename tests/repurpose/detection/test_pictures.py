"""Pictures of every kind of data, true boxes or none."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset, TensorDataset

from repurpose.detection import detection_rows
from repurpose.detection.pictures import Pictures, ShownRows

ARRAY = np.zeros((6, 8, 3), np.uint8)
TARGET = {"boxes": [[0, 0, 4, 5]], "labels": ["cat"]}


@pytest.mark.parametrize(
    ("data", "n"),
    [
        (ARRAY, 1),
        (Image.fromarray(ARRAY), 1),
        (torch.zeros(3, 6, 8), 1),
        (torch.zeros(2, 3, 6, 8), 2),
        (np.zeros((2, 6, 8, 3), np.uint8), 2),
        ([ARRAY, torch.zeros(3, 6, 8), Image.fromarray(ARRAY)], 3),
        ([(ARRAY, TARGET)], 1),
        (([ARRAY, ARRAY], [TARGET, TARGET]), 2),
        (detection_rows([(ARRAY, TARGET)]), 1),
        ([(ARRAY, {"boxes": [[5, 5, 1, 1]], "labels": []})], 1),  # nothing is read of targets
        (TensorDataset(torch.zeros(2, 3, 6, 8), torch.zeros(2)), 2),
        (TensorDataset(torch.zeros(2, 3, 6, 8)), 2),
        (Subset([(ARRAY, 7), (ARRAY, 3)], [1]), 1),
    ],
)
def test_each_kind_gives_its_pictures(data, n):
    pictures = Pictures(data)
    sizes = [tuple(p.shape[1:]) if isinstance(p, torch.Tensor) else p.size[::-1] for p in pictures]
    assert sizes == [(6, 8)] * len(pictures) == [(6, 8)] * n


def test_a_folder_a_file_and_a_list_of_files_are_read(tmp_path):
    for name in ("b.png", "a.png"):
        Image.fromarray(np.full((6, 8, 3), ord(name[0]), np.uint8)).save(tmp_path / name)
    files = [tmp_path / "b.png", tmp_path / "a.png"]
    shades = [np.asarray(picture)[0, 0, 0] for data in (tmp_path, files[0], files) for picture in Pictures(data)]
    assert shades == [ord("a"), ord("b"), ord("b"), ord("b"), ord("a")]


@pytest.mark.parametrize("data", [[], torch.zeros(0, 3, 6, 8)])
def test_data_without_a_picture_are_refused(data):
    with pytest.raises(ValueError, match="empty"):
        Pictures(data)


def test_true_boxes_are_those_of_the_picture_that_was_shown():
    class Shifted(Dataset):
        """Another box in another picture at each reading."""

        reads = 0

        def __len__(self) -> int:
            return 2

        def __getitem__(self, number):
            self.reads += 1
            picture = np.full((9, 9, 3), self.reads, np.uint8)
            return picture, {"boxes": [[0, 0, self.reads, 4]], "labels": ["cat"]}

    rows = ShownRows(detection_rows(Shifted()))
    widths = [truth.boxes[0, 2] for truth in rows.truths()]  # none is shown yet
    shown = [np.asarray(picture)[0, 0, 0] for picture in Pictures(rows)]
    assert [truth.boxes[0, 2] for truth in rows.truths()] == shown != widths
