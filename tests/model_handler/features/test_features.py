"""`Features`: arrays a layer that stay together through indexing, selection and a file."""

import pickle
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file
from sklearn.model_selection import KFold, train_test_split
from sklearn.utils import shuffle

from model_handler.errors import CorruptFileError, UnknownLayerError
from model_handler.features import Features
from model_handler.files.array_files import write_arrays

A = np.arange(12, dtype=np.float32).reshape(6, 2)
B = -np.arange(18, dtype=np.float32).reshape(6, 3)
LABELS = np.array(list("xyzxyz"))


@pytest.fixture
def features():
    return Features({"layer1": A, "head": B}, LABELS)


def columns_of(matrix, *widths):
    """Layers laid out as columns of one matrix, as extraction lays them out."""
    ends = np.cumsum(widths)
    return {
        f"layer{index}": matrix[:, end - width : end]
        for index, (width, end) in enumerate(zip(widths, ends, strict=True))
    }


def test_the_shape_and_the_matrix_are_all_layers_side_by_side(features):
    assert features.layer_names == ["layer1", "head"]
    assert features.shape == (6, 5)
    assert len(features) == 6
    np.testing.assert_array_equal(features.matrix, np.hstack([A, B]))


def test_the_indices_of_a_layer_are_its_columns_of_the_matrix(features):
    assert {name: list(columns) for name, columns in features.indices_per_layer.items()} == {
        "layer1": [0, 1],
        "head": [2, 3, 4],
    }
    for name, columns in features.indices_per_layer.items():
        np.testing.assert_array_equal(features.matrix[:, columns], features.values[name])


def test_values_become_float32_and_flat():
    features = Features(
        {"map": np.ones((4, 2, 3, 3)), "one": [1, 2, 3, 4], "tensor": torch.ones(4, 2, requires_grad=True)}
    )
    assert {name: array.shape for name, array in features.values.items()} == {
        "map": (4, 18),
        "one": (4, 1),
        "tensor": (4, 2),
    }
    assert {array.dtype for array in features.values.values()} == {np.dtype("float32")}


def test_a_float32_array_is_not_copied(features):
    assert features.values["layer1"] is A
    assert Features({"a": A}).matrix is A


def test_columns_of_one_matrix_are_joined_without_a_copy():
    matrix = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    joined = Features(columns_of(matrix, 2, 3)).matrix
    assert np.shares_memory(joined, matrix)
    np.testing.assert_array_equal(joined, matrix)


def test_columns_of_a_longer_matrix_are_joined_to_as_many_rows_as_there_are():
    longer = np.array(np.arange(50).reshape(10, 5), dtype=np.float32)
    joined = Features(columns_of(longer[:7], 2, 3)).matrix
    assert np.shares_memory(joined, longer)
    np.testing.assert_array_equal(joined, longer[:7])


@pytest.mark.parametrize(
    "layers",
    [
        lambda matrix: columns_of(matrix[1:], 2, 3),
        lambda matrix: columns_of(matrix[::2], 2, 3),
        lambda matrix: columns_of(matrix[::-1], 2, 3),
        lambda matrix: columns_of(matrix[:, ::-1], 2, 3),
        lambda matrix: dict(reversed(columns_of(matrix, 2, 3).items())),
        lambda matrix: columns_of(np.asfortranarray(matrix), 2, 3),
        lambda matrix: columns_of(matrix[:, 1:], 2, 2),
        lambda matrix: columns_of(matrix[:, :4], 2, 2),
        lambda matrix: {"left": matrix[:, :3], "again": matrix[:, 1:3]},
        lambda matrix: {"same": matrix[:, :2], "twice": matrix[:, :2]},
    ],
)
def test_other_views_of_one_matrix_give_the_same_as_stacking(layers):
    parts = layers(np.array(np.arange(50).reshape(10, 5), dtype=np.float32))
    np.testing.assert_array_equal(Features(parts).matrix, np.hstack(list(parts.values())))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (slice(1, 3), [1, 2]),
        (slice(None, None, -1), [5, 4, 3, 2, 1, 0]),
        ([4, 0], [4, 0]),
        (np.array([3, 3]), [3, 3]),
        (LABELS == "x", [0, 3]),
        ((np.array([2]), ...), [2]),
        ((slice(2), slice(None)), [0, 1]),
        (torch.tensor([1, 5]), [1, 5]),
        (-1, [5]),
        (np.int64(2), [2]),
        ([], []),
    ],
)
def test_rows_are_taken_of_every_layer_and_of_the_labels(features, rows, expected):
    chosen = features[rows]
    np.testing.assert_array_equal(chosen.values["layer1"], A[expected])
    np.testing.assert_array_equal(chosen.matrix, np.hstack([A, B])[expected])
    assert chosen.labels.tolist() == LABELS[expected].tolist()


@pytest.mark.parametrize("rows", ["layer1", (1, 2), (np.array([1]), np.array([0, 1])), None, np.zeros((2, 2), int)])
def test_anything_but_rows_is_refused_as_an_index(features, rows):
    with pytest.raises(TypeError, match="indexed by rows alone"):
        features[rows]


@pytest.mark.parametrize("ask", [np.asarray, np.vstack, np.mean, np.ones(6).dot, lambda f: np.array(f, dtype=float)])
def test_no_array_is_made_in_which_the_layers_would_be_lost(features, ask):
    with pytest.raises(TypeError, match=r"a Features is not an array.*Give .*the inputs themselves.*features\.matrix"):
        ask(features)


def test_scikit_learn_splits_and_shuffles_features(features):
    train, test, y_train, _ = train_test_split(features, features.labels, test_size=2, random_state=0)
    assert (len(train), len(test)) == (4, 2)
    np.testing.assert_array_equal(train.labels, y_train)
    for rows, others in KFold(3).split(features):
        np.testing.assert_array_equal(features[rows].matrix, np.hstack([A, B])[rows])
        assert len(rows) + len(others) == 6
    assert sorted(shuffle(features, random_state=1).values["layer1"][:, 0]) == sorted(A[:, 0])


def test_selecting_keeps_the_order_asked_for(features):
    chosen = features.select(["head", "layer1"])
    assert chosen.layer_names == ["head", "layer1"]
    np.testing.assert_array_equal(chosen.matrix, np.hstack([B, A]))
    assert chosen.labels.tolist() == LABELS.tolist()
    assert features.select(["layer1", "head"]) is features


def test_selecting_lists_every_missing_layer_with_its_nearest(features):
    with pytest.raises(UnknownLayerError, match=r"'layer2' \(nearest: \['layer1'\]\), 'heed' \(nearest: \['head'\]\)"):
        features.select(["layer2", "head", "heed"])


def test_selecting_refuses_text_repeats_and_nothing(features):
    with pytest.raises(TypeError, match=r"write \['head'\]"):
        features.select("head")
    with pytest.raises(ValueError, match="must not repeat"):
        features.select(["head", "head"])
    with pytest.raises(ValueError, match="at least one layer"):
        features.select([])


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        (["cat", "dog"], "<U3"),
        (np.array(["cat", "dog"], dtype=object), "<U3"),
        (pd.Series(["cat", "dog"], index=[7, 8]), "<U3"),
        (torch.tensor([1, 2]), "int64"),
        ([True, False], "bool"),
    ],
)
def test_labels_of_every_kind_become_an_array(labels, dtype, tmp_path):
    features = Features({"a": A[:2]}, labels)
    assert features.labels.dtype == dtype
    features.save(tmp_path / "features.safetensors")
    assert Features.load(tmp_path / "features.safetensors").labels.dtype == dtype


@pytest.mark.parametrize("none", [None, float("nan")])
def test_labels_that_are_missing_are_nan_among_numbers_and_none_among_text(none):
    numbers, texts = (Features({"a": A[:3]}, labels) for labels in ([1, none, 2], ["x", none, "y"]))
    np.testing.assert_array_equal(numbers.labels, [1, np.nan, 2])
    assert texts.labels.tolist() == ["x", None, "y"]
    assert texts[[2, 1]].labels.tolist() == ["y", None]


def test_lengths_that_differ_are_all_named():
    with pytest.raises(ValueError, match=r"same number of rows.*'a': 6, 'b': 5, 'the labels': 2"):
        Features({"a": A, "b": B[:5]}, ["x", "y"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "at least one layer"),
        ({"a": np.float32(1)}, "layer 'a' must have a row for each sample"),
        ({"a": 1j * A}, "Complex data not supported: layer 'a'"),
    ],
)
def test_values_that_cannot_be_features_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Features(values)


@pytest.mark.parametrize("labels", [LABELS, np.arange(6), np.linspace(0, 1, 6), None])
def test_a_file_gives_back_the_same_features(tmp_path, labels):
    matrix = np.hstack([A, B])
    Features(columns_of(matrix, 2, 3), labels).save(tmp_path / "features.safetensors")
    loaded = Features.load(str(tmp_path / "features.safetensors"))
    assert loaded.layer_names == ["layer0", "layer1"]
    np.testing.assert_array_equal(loaded.matrix, matrix)
    if labels is None:
        assert loaded.labels is None
    else:
        assert loaded.labels.dtype == labels.dtype
        assert loaded.labels.tolist() == labels.tolist()


def test_no_rows_and_odd_layer_names_survive_a_file(tmp_path):
    Features({"relu@1": A[:0], "labels": B[:0], "é.0": A[:0]}, LABELS[:0]).save(tmp_path / "empty")
    loaded = Features.load(tmp_path / "empty")
    assert loaded.layer_names == ["relu@1", "labels", "é.0"]
    assert loaded.shape == (0, 7)
    assert loaded.labels.dtype.kind == "U"


def test_labels_that_no_file_can_hold_are_named_by_their_type(tmp_path):
    with pytest.raises(TypeError, match=r"numbers or text to be saved, got .*'date"):
        Features({"a": A[:1]}, np.array(["2020-01-01"], dtype="M8[D]")).save(tmp_path / "x")


def test_other_files_are_refused(tmp_path):
    save_file({"a": A}, tmp_path / "other")
    (tmp_path / "text").write_text("no features")
    with pytest.raises(ValueError, match=r"not one that Features\.save wrote"):
        Features.load(tmp_path / "other")
    with pytest.raises(ValueError, match=r"text is no safetensors file"):
        Features.load(tmp_path / "text")
    with pytest.raises(FileNotFoundError):
        Features.load(tmp_path / "nowhere")


CONTENT = {"features": 2, "layer_names": ["a"], "labels": list("xyzxyz"), "class_names": None}


@pytest.mark.parametrize(
    "changed",
    [
        {"layer_names": ["a", "a"]},
        {"layer_names": ["b"]},
        {"layer_names": []},
        {"layer_names": "a"},
        {"layer_names": [1]},
        {"labels": ["x"]},
        {"labels": [["x"]] * 6},
        {"labels": [1] * 6},
        {"labels": "xyzxyz"},
        {"class_names": [1]},
        {"class_names": {}},
        {"features": 3},
        {"features": None},
    ],
)
def test_a_file_with_right_hashes_that_holds_no_features_is_refused(tmp_path, changed):
    write_arrays(tmp_path / "x", {"value:a": A}, {**CONTENT, **changed})
    with pytest.raises(
        CorruptFileError, match=r"x is (damaged: it holds no whole Features|a safetensors file, but not)"
    ):
        Features.load(tmp_path / "x")
    write_arrays(tmp_path / "x", {"value:a": A}, CONTENT)
    assert Features.load(tmp_path / "x").labels.tolist() == CONTENT["labels"]


@pytest.mark.parametrize(
    "arrays",
    [
        {"value:a": A.astype(np.int64)},
        {"value:a": A[:, 0]},
        {"value:a": A, "labels": np.ones((6, 2))},
        {"value:a": A, "../more": A},
    ],
)
def test_arrays_that_no_features_have_are_refused(tmp_path, arrays):
    write_arrays(tmp_path / "x", arrays, {**CONTENT, "labels": None})
    with pytest.raises(CorruptFileError, match=r"x is damaged: it holds no whole Features"):
        Features.load(tmp_path / "x")


def test_one_long_label_does_not_fill_the_memory(tmp_path):
    n_rows = 20_000
    texts = ["a" * 100_000, *"b" * (n_rows - 1)]
    write_arrays(tmp_path / "x", {"value:a": np.zeros((n_rows, 1), np.float32)}, {**CONTENT, "labels": texts})
    tracemalloc.start()
    with pytest.raises(CorruptFileError, match="a label of 100,000 characters among 20,000: 'aaaa"):
        Features.load(tmp_path / "x")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000  # as texts of one width they would take 8 GB


def test_a_changed_number_is_noticed(tmp_path):
    Features({"a": A}, LABELS).save(tmp_path / "x")
    data = bytearray((tmp_path / "x").read_bytes())
    data[-3] ^= 1
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(CorruptFileError, match=r"x is damaged: its array 'value:a' is not what was written"):
        Features.load(tmp_path / "x")


def test_features_can_be_pickled_after_the_matrix_was_made(features):
    expected = features.matrix
    copy = pickle.loads(pickle.dumps(features))
    np.testing.assert_array_equal(copy.matrix, expected)
    np.testing.assert_array_equal(copy.select(["head"]).matrix, B)


def test_the_repr_tells_sizes_and_not_numbers(features):
    assert repr(features) == "Features(6 rows; layer1: 2, head: 3; with labels)"
    assert repr(Features({"a": A})) == "Features(6 rows; a: 2; no labels)"


def test_values_that_are_no_mapping_are_refused_with_an_example():
    with pytest.raises(
        TypeError, match=r"values must map layer names to arrays, such as \{'avgpool': array\}, got list"
    ):
        Features([[1.0, 2.0]])


def test_saving_makes_the_directories_above(tmp_path):
    features = Features({"a": np.ones((2, 3))})
    features.save(tmp_path / "new" / "deep" / "a.safetensors")
    np.testing.assert_array_equal(Features.load(tmp_path / "new" / "deep" / "a.safetensors").matrix, features.matrix)


@pytest.mark.parametrize("labels", [["a", None, "bcd"], [None, None, None], [1.0, None, 3.0]])
def test_labels_of_which_some_are_missing_come_back_from_a_file(labels, tmp_path):
    Features({"a": A[:3]}, labels).save(tmp_path / "x")
    loaded = Features.load(tmp_path / "x").labels
    assert [None if label != label else label for label in loaded.tolist()] == labels


def test_a_mapped_file_gives_the_same_features_without_their_memory(tmp_path):
    values = np.random.default_rng(0).normal(size=(4000, 250)).astype(np.float32)
    Features({"layer1": values}, np.arange(4000)).save(tmp_path / "large")
    tracemalloc.start()
    mapped = Features.load(tmp_path / "large", mapped=True)
    part = mapped[100:104].matrix
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < values.nbytes / 10
    assert np.array_equal(part, values[100:104])
    assert np.array_equal(mapped.matrix, values)
    assert np.array_equal(mapped.labels, np.arange(4000))
    with pytest.raises(ValueError, match="read-only"):
        mapped.values["layer1"][0, 0] = 1


def test_a_mapped_file_is_judged_as_any_other(tmp_path, features):
    features.save(tmp_path / "small")
    damaged = bytearray((tmp_path / "small").read_bytes())
    damaged[-1] ^= 1
    for name, data in {"damaged": damaged, "empty": b""}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CorruptFileError, match=name):
            Features.load(tmp_path / name, mapped=True)
    with pytest.raises(FileNotFoundError):
        Features.load(tmp_path / "nothing", mapped=True)
