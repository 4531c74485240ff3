"""Arrays are taken as they are; what networks cannot take is refused with its place and its fix."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix, dok_matrix
from torch.utils.data import Dataset

from model_handler import Features
from model_handler.data import as_batches, look_through
from model_handler.data.arrays import as_array, refuse_masked

X = np.arange(12, dtype=np.float32).reshape(4, 3)
Y = np.array([0, 1, 0, 1])


def masked(*places):
    array = np.ma.masked_array(X.copy(), mask=np.zeros(X.shape, bool))
    for place in places:
        array[place] = np.ma.masked
    return array


class Rows(Dataset):
    """Items that need no class of the module: they are read in this process."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def test_arrays_and_tensors_are_not_copied():
    tensor = torch.ones(2, 3)
    assert as_array(X, "X") is X
    assert as_array(tensor, "X").data_ptr() == tensor.data_ptr()


@pytest.mark.parametrize(
    "data",
    [
        masked((2, 1), (2, 2), (3, 0)),
        (masked((2, 1), (2, 2), (3, 0)), Y),
        list(masked((2, 1), (2, 2), (3, 0))),
        ((X, masked((2, 1), (2, 2), (3, 0))),),
        {"a": X, "b": masked((2, 1), (2, 2), (3, 0))},
        (X, np.ma.masked_array(Y, mask=[False, False, True, True])),
    ],
    ids=["alone", "labelled", "a list of rows", "a part", "a part by name", "labels"],
)
def test_masked_values_are_counted_and_the_first_row_is_named(data):
    with pytest.raises(
        ValueError, match=r"(has|have) [23] masked values in 2 of 4 rows, the first in row 2; .*\.filled\(0\)"
    ):
        list(as_batches(data))


def test_masks_of_items_and_features_are_refused_too():
    with pytest.raises(ValueError, match=r"Rows: an item has 1 masked value in 1 of 1 rows"):
        list(as_batches(Rows([(row, 0) for row in masked((2, 1))])))
    with pytest.raises(ValueError, match="layer 'a' has 1 masked value in 1 of 4 rows, the first in row 3"):
        Features({"a": masked((3, 0))})


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors")
def test_masked_tensors_are_refused_whether_or_not_anything_is_masked():
    tensor = torch.masked.masked_tensor(torch.ones(2, 3), torch.ones(2, 3).bool())
    with pytest.raises(ValueError, match=r"masked tensor.*X\.to_tensor\(0\)"):
        as_array(tensor, "X")


def test_a_mask_that_hides_nothing_is_none():
    refuse_masked(masked(), "X")
    assert np.array_equal(next(iter(as_batches(masked()))).inputs, X)


def test_tables_name_the_column_and_the_row():
    table = pd.DataFrame(X, columns=["a", "b", "c"])
    assert np.array_equal(as_array(table.astype("Float32"), "X"), X)
    missing = table.astype("Float32").mask(table == 7)
    with pytest.raises(ValueError, match=r"missing values in 1 of 4 rows, the first in row 2, column 'b' .*fillna"):
        next(iter(as_batches(missing)))
    with pytest.raises(ValueError, match=r"missing values in 4 of 4 rows, the first in row 0, column 'd' \(None\)"):
        as_array(table.assign(d=None), "X")
    texts = table.assign(city=["x", "y", "x", "y"], state=pd.Categorical(["1", "2", "1", "2"]))
    with pytest.raises(ValueError, match=r"text in 4 of 4 rows.*'city' \('x'\); the columns are \['city', 'state'\]"):
        next(iter(as_batches((texts, Y))))


def test_what_is_missing_or_text_in_arrays_of_objects_is_placed():
    array = X.astype(object)
    assert as_array(array, "X").dtype == np.float64
    array[1, 2] = None
    with pytest.raises(ValueError, match="missing values in 1 of 4 rows, the first in row 1, column 2"):
        as_array(array, "X")
    array[1, 2] = "5"
    with pytest.raises(ValueError, match=r"text in 1 of 4 rows, the first in row 1, column 2 \('5'\)"):
        as_array(array, "X")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (csr_matrix(X), r"sparse \(csr_matrix\).*X\.toarray\(\)"),
        (dok_matrix(X), r"sparse \(dok_matrix\).*X\.toarray\(\)"),
        (torch.tensor(X).to_sparse(), r"no dense tensor \(sparse_coo\).*to_dense\(\)"),
        (np.zeros(3, dtype=[("a", "f4"), ("b", "f4")]), r"records with the fields \['a', 'b'\].*structured_to"),
        (np.zeros((3, 2), dtype="M8[s]"), "must hold numbers, got an array of dtype datetime64"),
        (Rows([("hello", 0)]), "holds strings: text needs a network that reads it"),
        (Rows([(csr_matrix(X[:1]), 0)]), r"Rows: an item is sparse"),
    ],
)
def test_other_layouts_are_type_errors_with_the_fix(value, message):
    for read in (as_batches, lambda data: look_through(data, batch_size=2)):
        with pytest.raises(TypeError, match=message):
            list(read(value))


@pytest.mark.filterwarnings("ignore:.*quantiz", "ignore:The PyTorch API of nested tensors")
def test_tensors_without_numbers_of_their_own_are_refused():
    tensor = torch.tensor(X)
    with pytest.raises(ValueError, match="on the device 'meta'"):
        as_array(tensor.to("meta"), "X")
    with pytest.raises(ValueError, match="Complex data not supported"):
        as_array(tensor.to(torch.complex64), "X")
    with pytest.raises(TypeError, match=r"nested.*to_padded_tensor\(0\)"):
        as_array(torch.nested.nested_tensor([tensor[0], tensor[1]]), "X")
    with pytest.raises(TypeError, match=r"quantized tensor.*X\.dequantize\(\)"):
        as_array(torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), "X")
