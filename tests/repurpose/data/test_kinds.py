"""Each kind of data is told apart from the others, and rows are found where they can be asked for by number."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import dok_array
from torch.utils.data import DataLoader, TensorDataset

from model_handler import Features
from repurpose.data import kinds

ROWS = np.arange(6.0).reshape(3, 2)
LOADER = DataLoader(TensorDataset(torch.zeros(3, 2), torch.zeros(3)))


class OurLoader(DataLoader):
    """A loader of another class."""


def test_two_values_are_a_pair_and_one_is_inputs_of_parts() -> None:
    assert kinds.is_pair((ROWS, [0, 1, 2]))
    assert kinds.is_inputs_of_parts(((ROWS, ROWS),))
    assert not kinds.is_pair([ROWS, ROWS])
    assert kinds.inputs_of((ROWS, [0, 1, 2])) is ROWS
    assert kinds.inputs_of([1, 2]) == [1, 2]


def test_a_sparse_matrix_is_no_dict_of_arrays() -> None:
    assert kinds.is_dict_of_arrays({"x": ROWS})
    assert not kinds.is_dict_of_arrays(dok_array((3, 2)))


@pytest.mark.parametrize("data", [LOADER, LOADER.dataset, "a/folder", Path("a/folder")])
def test_loaders_datasets_and_folders_order_their_own_rows(data: object) -> None:
    assert kinds.orders_its_own_rows(data)


@pytest.mark.parametrize("data", [ROWS, [1, 2], Features({"0": ROWS}), {"x": ROWS}, (ROWS, [0, 1, 2])])
def test_arrays_lists_and_features_have_the_order_they_are_given_in(data: object) -> None:
    assert not kinds.orders_its_own_rows(data)


def test_every_loader_is_called_a_loader() -> None:
    assert kinds.kind_of(OurLoader([1])) == "DataLoader"
    assert kinds.kind_of(LOADER.dataset) == "TensorDataset"


def test_rows_are_counted_where_they_can_be() -> None:
    assert [kinds.n_rows_in(data) for data in (ROWS, [1, 2], torch.zeros(4), {"x": ROWS}, LOADER, np.float32(1))] == [
        3,
        2,
        4,
        None,
        None,
        None,
    ]


def test_rows_are_taken_by_number_from_arrays_tensors_and_lists_alone() -> None:
    chosen = np.array([2, 0])
    assert kinds.take_rows(ROWS, chosen).tolist() == [[4, 5], [0, 1]]
    assert kinds.take_rows(torch.arange(3), chosen).tolist() == [2, 0]
    assert kinds.take_rows(["a", "b", "c"], chosen) == ["c", "a"]
    assert kinds.take_rows({"x": ROWS}, chosen) is None


def test_a_row_that_is_a_file_has_its_path_for_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    paths = [str(tmp_path / "a.png"), "a text", Path("b.png")]
    assert [kinds.file_of_row(paths, row) for row in range(3)] == [paths[0], "", "b.png"]
    assert kinds.file_of_row((paths, [0, 1, 2]), 0) == paths[0]
    assert kinds.file_of_row(ROWS, 0) == ""
