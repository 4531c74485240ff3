"""Every kind of data becomes the same batches; every mistake gets a message that says what to do."""

import io
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.sparse import csr_matrix
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)
from torchvision.transforms import ToTensor
from torchvision.transforms.functional import to_tensor

from model_handler.data.batches import as_batches, check_order
from model_handler.features import Features

RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 3))
Y = np.arange(10) % 3
PIXELS = RNG.integers(0, 256, size=(5, 6, 8, 3), dtype=np.uint8)


class Items(Dataset):
    """A map-style dataset over a list; a class of the module, so that workers can receive it."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Stream(IterableDataset):
    def __init__(self, n, length=None):
        self.n = n
        self.length = length

    def __iter__(self):
        return ((torch.full((2,), float(i)), i) for i in range(self.n))

    def __len__(self):
        if self.length is None:
            raise TypeError("no length")
        return self.length


def inputs_of(batches):
    return torch.cat([batch.inputs for batch in batches])


def labels_of(batches):
    return np.concatenate([batch.labels for batch in batches])


def save_images(folder, pixels=PIXELS):
    paths = [folder / f"{index}.png" for index in range(len(pixels))]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    return paths


class TestLoaders:
    def test_a_loader_keeps_its_own_batches(self):
        loader = DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), batch_size=4)
        batches = as_batches(loader, batch_size=3)
        assert [batch.n_rows for batch in batches] == [4, 4, 2]
        assert batches.n_rows == 10
        np.testing.assert_array_equal(inputs_of(batches).numpy(), X)
        np.testing.assert_array_equal(labels_of(batches), Y)

    def test_float64_tensors_are_kept_as_they_are(self):
        batch = next(iter(as_batches(DataLoader(TensorDataset(torch.from_numpy(X))))))
        assert batch.inputs.dtype == torch.float64
        assert batch.labels is None

    def test_text_labels_become_a_str_array(self):
        loader = DataLoader(Items([(torch.zeros(2), name) for name in ["cat", "dog", "owl"]]), batch_size=2)
        assert [batch.labels.tolist() for batch in as_batches(loader)] == [["cat", "dog"], ["owl"]]
        assert labels_of(as_batches(loader)).dtype.kind == "U"

    def test_inputs_of_two_parts_with_a_label(self):
        loader = DataLoader(Items([((torch.full((2,), i), torch.ones(1)), i) for i in range(3)]), batch_size=3)
        batch = next(iter(as_batches(loader)))
        assert isinstance(batch.inputs, tuple)
        assert [part.shape for part in batch.inputs] == [(3, 2), (3, 1)]
        assert batch.labels.tolist() == [0, 1, 2]

    def test_inputs_of_two_parts_without_a_label(self):
        loader = DataLoader(Items([((torch.zeros(2), torch.ones(1)),)] * 3), batch_size=3)
        batch = next(iter(as_batches(loader)))
        assert [part.shape for part in batch.inputs] == [(3, 2), (3, 1)]
        assert batch.labels is None

    def test_in_a_dict_the_key_labels_is_the_label(self):
        loader = DataLoader(Items([{"input_ids": torch.arange(4), "labels": i} for i in range(3)]), batch_size=3)
        batch = next(iter(as_batches(loader)))
        assert list(batch.inputs) == ["input_ids"]
        assert batch.labels.tolist() == [0, 1, 2]

    def test_a_mapping_that_is_no_dict_will_do(self):
        from collections import UserDict

        def collate(items):
            return UserDict(input_ids=torch.stack(items), labels=torch.ones(len(items)))

        batch = next(iter(as_batches(DataLoader(Items([torch.arange(4)] * 2), batch_size=2, collate_fn=collate))))
        assert isinstance(batch.inputs, dict)
        assert batch.labels.dtype == np.float32

    def test_labels_given_twice_are_refused(self):
        loader = DataLoader(Items([({"a": torch.zeros(2), "labels": 1}, 1)]))
        with pytest.raises(ValueError, match="labels twice"):
            list(as_batches(loader))

    def test_a_triple_says_how_to_write_it(self):
        loader = DataLoader(TensorDataset(torch.zeros(4, 2), torch.zeros(4, 2), torch.zeros(4)))
        with pytest.raises(ValueError, match=r"tuple of 3.*write \(\(a, b\), label\)"):
            list(as_batches(loader))

    def test_an_unusable_part_is_named(self):
        loader = DataLoader(Items([{"ids": torch.arange(2), "text": "hello"}]))
        with pytest.raises(TypeError, match="input 'text'"):
            list(as_batches(loader))

    def test_an_empty_loader_is_refused_at_once(self):
        with pytest.raises(ValueError, match="DataLoader of TensorDataset is empty"):
            as_batches(DataLoader(TensorDataset(torch.zeros(0, 3))))

    def test_a_loader_that_turns_out_empty_is_refused(self):
        batches = as_batches(DataLoader(Stream(0)))
        assert batches.n_rows is None
        with pytest.raises(ValueError, match="DataLoader of Stream is empty"):
            list(batches)

    def test_drop_last_that_leaves_nothing_says_so(self):
        with pytest.raises(ValueError, match="drop_last=True leaves nothing of its 3 rows at batch_size=4"):
            as_batches(DataLoader(TensorDataset(torch.zeros(3, 2)), batch_size=4, drop_last=True))

    def test_labels_in_some_batches_only_are_refused(self):
        loader = DataLoader(Items([{"a": torch.zeros(2), "labels": 1}, {"a": torch.zeros(2)}]))
        with pytest.raises(ValueError, match="labels in some batches and none in others"):
            list(as_batches(loader))

    def test_as_many_labels_as_rows_are_asked_of_each_batch(self):
        loader = DataLoader(Items([0, 1]), batch_size=2, collate_fn=lambda items: (torch.zeros(3, 2), items))
        with pytest.raises(ValueError, match="3 rows of inputs and 2 labels"):
            list(as_batches(loader))

    def test_two_dimensional_labels_are_left_to_the_caller(self):
        loader = DataLoader(TensorDataset(torch.zeros(4, 2), torch.zeros(4, 3)), batch_size=4)
        assert next(iter(as_batches(loader))).labels.shape == (4, 3)

    @pytest.mark.parametrize(
        ("loader", "n_rows"),
        [
            (DataLoader(Items([0] * 10), batch_size=4, drop_last=True), 8),
            (DataLoader(Items([0] * 10), sampler=SubsetRandomSampler([1, 2, 3])), 3),
            (DataLoader(Items([0] * 10), batch_sampler=[[0, 1], [2]]), 3),
            (DataLoader(Items([0] * 10), batch_sampler=BatchSampler(range(6), 4, True)), 4),
            (DataLoader(Items([torch.zeros(4, 2)] * 10), batch_size=None), None),
            (DataLoader(Stream(5)), None),
            (DataLoader(Stream(5, length=5), batch_size=2), 5),
            (DataLoader(Stream(5, length=5), batch_size=2, drop_last=True), 4),
        ],
    )
    def test_the_number_of_rows_is_known_where_it_can_be(self, loader, n_rows):
        assert as_batches(loader).n_rows == n_rows

    def test_a_loader_without_batching_gives_whole_batches(self):
        loader = DataLoader(Items([(torch.zeros(4, 2), torch.arange(4))] * 2), batch_size=None)
        assert [batch.n_rows for batch in as_batches(loader)] == [4, 4]

    @pytest.mark.parametrize(
        "items",
        [
            [(torch.zeros(2), 1)] * 3,
            [(torch.zeros(2, 3), "cat")] * 3,
            [(np.zeros(2), torch.tensor(1))] * 3,
            [torch.zeros(2)] * 3,
            [{"a": torch.zeros(2), "labels": 1}] * 3,
        ],
    )
    def test_a_loader_that_gives_single_rows_is_asked_for_a_batch_size(self, items):
        with pytest.raises(ValueError, match=r"batch_size=None and its dataset gives single rows.*batch_size=32"):
            list(as_batches(DataLoader(Items(items), batch_size=None)))

    def test_data_without_a_length_that_goes_on_and_on_is_told_once(self, monkeypatch):
        monkeypatch.setattr("model_handler.data.batch.MANY_ROWS", 6)
        with pytest.warns(
            UserWarning, match=r"DataLoader of Stream states no length and has given 8 rows so far"
        ) as said:
            assert len(list(as_batches(DataLoader(Stream(20), batch_size=4)))) == 5
        assert len(said) == 1

    def test_data_without_a_length_that_never_ends_is_refused_when_it_has_gone_on_for_long(self, monkeypatch):
        monkeypatch.setattr("model_handler.data.batch.MOST_ROWS", 10)
        given = as_batches(DataLoader(Stream(1000), batch_size=4))
        with pytest.raises(ValueError, match=r"Stream states no length and has given 12 rows.* no end: give .*__len__"):
            list(given)
        assert len(list(as_batches(DataLoader(Stream(1000, length=1000), batch_size=4)))) == 250

    def test_an_end_that_comes_too_late_is_an_error_where_a_length_is_stated(self):
        with pytest.raises(ValueError, match="more rows than the 6 of its length"):
            list(as_batches(Stream(9, length=6), batch_size=4))

    @pytest.mark.filterwarnings("ignore:Length of IterableDataset", "ignore:workers of the DataLoader")
    def test_workers_that_repeat_rows_are_found_out(self):
        loader = DataLoader(Stream(6, length=6), batch_size=3, num_workers=2)
        with pytest.raises(ValueError, match=r"more rows than the 6 .* get_worker_info"):
            list(as_batches(loader))


class TestOrder:
    @pytest.mark.parametrize(
        "loader",
        [
            DataLoader(Items([0] * 4), shuffle=True),
            DataLoader(Items([0] * 4), sampler=SubsetRandomSampler([0, 1])),
            DataLoader(Items([0] * 4), sampler=WeightedRandomSampler([0.5] * 4, 4)),
            DataLoader(Items([0] * 4), batch_sampler=BatchSampler(SubsetRandomSampler([0, 1]), 2, False)),
        ],
    )
    def test_a_shuffling_loader_warns(self, loader):
        with pytest.warns(UserWarning, match="follow its order.*shuffle=False"):
            check_order(loader)

    def test_lost_rows_are_refused(self):
        with pytest.raises(ValueError, match="drop_last=False"):
            check_order(DataLoader(Items([0] * 4), drop_last=True))

    @pytest.mark.parametrize("data", [DataLoader(Items([0] * 4)), DataLoader(Stream(3)), X, (X, Y), "folder", None])
    def test_everything_else_passes_in_silence(self, data):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_order(data)


class TestDatasets:
    def test_a_dataset_is_read_in_order_in_batches_of_the_size_asked_for(self):
        batches = as_batches(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), batch_size=4)
        assert [batch.n_rows for batch in batches] == [4, 4, 2]
        np.testing.assert_array_equal(inputs_of(batches).numpy(), X)
        assert batches.n_rows == 10

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_items_that_are_pil_images_go_through_the_transform(self, num_workers):
        items = Items([(Image.fromarray(image), f"class {i}") for i, image in enumerate(PIXELS)])
        batches = as_batches(items, transform=ToTensor(), batch_size=2, num_workers=num_workers)
        torch.testing.assert_close(inputs_of(batches), torch.stack([to_tensor(image) for image in PIXELS]))
        assert labels_of(batches).tolist() == [f"class {i}" for i in range(5)]

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_pil_items_without_a_transform_say_what_to_pass(self, num_workers):
        items = Items([(Image.fromarray(PIXELS[0]), 1)])
        with pytest.raises(
            ValueError, match=r"the dataset Items: its items are PIL images; .*pass transform="
        ) as caught:
            list(as_batches(items, num_workers=num_workers))
        assert "worker process" not in str(caught.value)

    def test_unlabelled_items_and_numpy_items_in_the_default_dtype(self):
        batch = next(iter(as_batches(Items(list(X)))))
        assert batch.inputs.dtype == torch.float32
        assert batch.labels is None

    def test_items_of_two_shapes_are_named_with_the_fix(self):
        items = Items([Image.fromarray(PIXELS[0]), Image.fromarray(PIXELS[0][:3])])
        with pytest.raises(ValueError, match=r"items 0 and 1 .*\(3, 6, 8\) and \(3, 3, 8\); put a resize"):
            list(as_batches(items, transform=ToTensor()))

    def test_an_iterable_dataset_is_read_once_a_pass(self):
        batches = as_batches(Stream(5), batch_size=2)
        assert batches.n_rows is None
        assert labels_of(batches).tolist() == labels_of(batches).tolist() == [0, 1, 2, 3, 4]

    def test_an_empty_dataset_is_refused(self):
        with pytest.raises(ValueError, match="dataset Items is empty"):
            as_batches(Items([]))

    def test_reading_leaves_the_global_generator_alone(self):
        state = torch.get_rng_state()
        list(as_batches(TensorDataset(torch.zeros(4, 2))))
        list(as_batches(list(PIXELS), transform=ToTensor()))
        assert torch.equal(state, torch.get_rng_state())


class TestArrays:
    def test_float_arrays_come_in_the_default_dtype(self):
        batches = as_batches((X, Y), batch_size=4)
        assert [batch.n_rows for batch in batches] == [4, 4, 2]
        assert batches.n_rows == 10
        torch.testing.assert_close(inputs_of(batches), torch.from_numpy(X).float())
        np.testing.assert_array_equal(labels_of(batches), Y)

    @pytest.mark.parametrize("dtype", ["float16", "float32", ">f8", "longdouble"])
    def test_every_floating_dtype_is_read(self, dtype):
        batch = next(iter(as_batches(X.astype(dtype))))
        assert batch.inputs.dtype == torch.float32
        np.testing.assert_allclose(batch.inputs.numpy(), X, rtol=1e-3)

    @pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
    def test_integers_and_booleans_stay(self, dtype):
        batch = next(iter(as_batches(np.ones((4, 2), dtype))))
        assert batch.inputs.dtype == getattr(torch, dtype)

    def test_read_only_reversed_and_strided_arrays_give_their_rows_without_a_warning(self):
        frozen = X.astype(np.float32)
        frozen.flags.writeable = False
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for array in (frozen, frozen[::-1], frozen[::2, ::-1]):
                np.testing.assert_array_equal(next(iter(as_batches(array))).inputs.numpy(), array)

    def test_tensors_that_learn_are_detached(self):
        assert not next(iter(as_batches(torch.ones(2, 2, requires_grad=True)))).inputs.requires_grad

    def test_lists_of_rows_frames_and_lists_of_tensors_are_arrays(self):
        expected = torch.from_numpy(X).float()
        tensors = list(expected)
        for data in (X.tolist(), list(X), pd.DataFrame(X), X.astype(object), tensors):
            torch.testing.assert_close(inputs_of(as_batches(data)), expected)

    def test_a_dict_of_arrays_with_the_key_labels(self):
        data = {"ids": np.arange(6).reshape(3, 2), "mask": [[1, 0]] * 3, "labels": ["a", "b", "a"]}
        batch = next(iter(as_batches(data)))
        assert {key: tuple(part.shape) for key, part in batch.inputs.items()} == {"ids": (3, 2), "mask": (3, 2)}
        assert batch.labels.tolist() == ["a", "b", "a"]

    def test_a_dict_in_a_pair_and_parts_in_a_pair(self):
        by_name = next(iter(as_batches(({"a": X, "b": X}, Y))))
        assert list(by_name.inputs) == ["a", "b"]
        several = next(iter(as_batches(((X, X[:, :1]), Y), batch_size=4)))
        assert [tuple(part.shape) for part in several.inputs] == [(4, 3), (4, 1)]
        assert several.labels.tolist() == Y[:4].tolist()

    def test_parts_without_labels_come_in_a_tuple_of_one(self):
        batch = next(iter(as_batches(((X, X),))))
        assert len(batch.inputs) == 2
        assert batch.labels is None

    def test_parts_of_different_lengths_are_named(self):
        with pytest.raises(ValueError, match=r"same number of rows, got \{\"'a'\": 10, \"'b'\": 9\}"):
            as_batches({"a": X, "b": X[:9]})

    @pytest.mark.parametrize(
        ("labels", "expected"),
        [
            (list(range(10)), "int64"),
            (torch.arange(10, dtype=torch.int32), "int32"),
            (torch.ones(10, dtype=torch.bfloat16), "float32"),
            (list(torch.arange(10)), "int64"),
            (pd.Series(list("abcabcabca"), index=range(5, 15)), "<U1"),
            (pd.Series(pd.Categorical(list("abcabcabca"))), "<U1"),
            (np.array(list("abcabcabca"), dtype=object), "<U1"),
            (np.arange(10).astype(object), "int64"),
            (np.linspace(0, 1, 10), "float64"),
            ([True, False] * 5, "bool"),
        ],
    )
    def test_labels_of_every_kind(self, labels, expected):
        given = as_batches((X, labels), batch_size=4)
        assert labels_of(given).dtype == expected
        values = labels.float() if isinstance(labels, torch.Tensor) else labels
        assert labels_of(given).tolist() == [label.item() if hasattr(label, "item") else label for label in values]

    @pytest.mark.parametrize("labels", [["a", 1] * 5, ["a", None] * 5, [None] * 10, [[1], [1, 2]] * 5])
    def test_labels_that_are_neither_text_nor_numbers_are_refused(self, labels):
        with pytest.raises(ValueError, match="labels must be"):
            as_batches((X, labels))

    @pytest.mark.parametrize("labels", ["cat", 3, {"a": 1}, torch.tensor(1)])
    def test_labels_that_are_no_sequence_are_refused(self, labels):
        with pytest.raises(TypeError, match="one label a row"):
            as_batches((X, labels))

    def test_lengths_that_differ_are_both_named(self):
        with pytest.raises(ValueError, match="X has 10 rows and y has 9 labels"):
            as_batches((X, Y[:9]))

    def test_no_labels_in_a_pair_are_refused(self):
        with pytest.raises(TypeError, match="give X alone"):
            as_batches((X, None))

    def test_a_triple_is_refused(self):
        with pytest.raises(ValueError, match=r"write \(\(a, b\), label\)"):
            as_batches((X, X, Y))

    def test_one_axis_of_floats_is_ambiguous(self):
        with pytest.raises(ValueError, match="Reshape your data"):
            as_batches(X[0])
        assert as_batches(np.arange(4)).n_rows == 4  # a token id a row

    @pytest.mark.parametrize("data", [X[:0], [], (X[:0], Y[:0])])
    def test_no_rows_are_refused(self, data):
        with pytest.raises(ValueError, match="empty"):
            as_batches(data)

    def test_ragged_rows_say_how_a_pair_is_written(self):
        with pytest.raises(ValueError, match=r"differ in shape.*tuple \(X, y\)"):
            as_batches([X, Y])

    def test_complex_sparse_and_text_arrays_are_refused(self):
        with pytest.raises(ValueError, match="Complex data not supported"):
            as_batches(X + 1j)
        with pytest.raises(TypeError, match=r"sparse.*toarray"):
            as_batches(csr_matrix(X))
        with pytest.raises(TypeError, match="must hold numbers"):
            as_batches(np.array([["a", "b"]]))
        with pytest.raises(TypeError, match=r"argument must be .* string.* number"):
            as_batches(np.array([[{"a": 1}, 2]], dtype=object))

    @pytest.mark.parametrize(
        "data", [None, 3, 2.5, nn.ReLU(), Features({"a": X}), io.BytesIO(), [None], {1, 2}, iter([])]
    )
    def test_other_types_are_refused_with_a_list_of_what_is_accepted(self, data):
        with pytest.raises(TypeError, match=r"cannot read .*DataLoader.*ImageFolderData"):
            as_batches(data)

    def test_what_can_be_read_once_alone_says_what_to_give(self):
        loader = DataLoader(Items([(torch.zeros(2), 1)]))
        for data in ((row for row in X), iter(loader), map(abs, X)):
            with pytest.raises(TypeError, match=r"gives its rows only once: give .* the DataLoader itself"):
                as_batches(data)
        with pytest.raises(TypeError, match=r"a list of tuple: .*DataLoader\(list, batch_size=None\)"):
            as_batches([(X, Y), (X, Y)])

    def test_batches_are_taken_as_they_are_and_judged_before_they_come(self):
        batches, seen = as_batches(X, batch_size=4), []
        assert as_batches(batches) is batches
        assert [batch.n_rows for batch in batches.judged(lambda inputs: seen.append(tuple(inputs.shape)))] == [4, 4, 2]
        assert seen == [(4, 3), (4, 3), (2, 3)]

    def test_a_loader_in_a_pair_is_refused(self):
        with pytest.raises(TypeError, match="DataLoader brings its own labels"):
            as_batches((DataLoader(Items([0])), Y))

    @pytest.mark.parametrize(
        "options", [{"batch_size": 0}, {"batch_size": 2.5}, {"batch_size": True}, {"num_workers": -1}]
    )
    def test_a_bad_size_is_named(self, options):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must be a whole number"):
            as_batches(X, **options)


class TestImages:
    expected = torch.stack([to_tensor(image) for image in PIXELS])

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_paths_pil_images_arrays_and_bytes_give_the_same_rows(self, tmp_path, num_workers):
        paths = save_images(tmp_path)
        kinds = [
            paths,
            [str(path) for path in paths],
            np.array([str(path) for path in paths]),
            pd.Series([str(path) for path in paths]),
            [Image.fromarray(image) for image in PIXELS],
            list(PIXELS),
            PIXELS,
            torch.from_numpy(PIXELS),
        ]
        for data in kinds if num_workers == 0 else kinds[:1] + kinds[-1:]:
            batches = as_batches((data, Y[:5]), transform=ToTensor(), batch_size=2, num_workers=num_workers)
            assert [batch.n_rows for batch in batches] == [2, 2, 1]
            torch.testing.assert_close(inputs_of(batches), self.expected)
            assert labels_of(batches).tolist() == Y[:5].tolist()

    def test_one_image_is_one_row(self, tmp_path):
        path = save_images(tmp_path)[0]
        for data in (path, str(path), Image.fromarray(PIXELS[0]), PIXELS[0], torch.from_numpy(PIXELS[0])):
            (batch,) = as_batches(data, transform=ToTensor())
            torch.testing.assert_close(batch.inputs, self.expected[:1])

    @pytest.mark.parametrize("shape", [(6, 8), (6, 8, 1), (6, 8, 4)])
    def test_grey_and_transparent_bytes_become_rgb(self, shape):
        (batch,) = as_batches(np.full(shape, 100, np.uint8), transform=ToTensor())
        assert batch.inputs.shape == (1, 3, 6, 8)
        assert torch.all(batch.inputs == 100 / 255)

    def test_a_stack_of_grey_images_is_a_batch_of_images(self):
        batch = next(iter(as_batches(PIXELS[..., 0], transform=ToTensor())))
        assert batch.inputs.shape == (5, 3, 6, 8)
        torch.testing.assert_close(batch.inputs[:, 1], torch.from_numpy(PIXELS[..., 0] / 255).float())

    def test_sixteen_bit_grey_is_scaled_rather_than_clipped(self, tmp_path):
        levels = np.array([[0, 256 * 50], [256 * 200, 65535]], dtype=np.uint16)
        Image.fromarray(levels).save(tmp_path / "deep.png")
        (batch,) = as_batches(tmp_path / "deep.png", transform=ToTensor())
        assert (batch.inputs[0, 0] * 255).round().tolist() == [[0, 50], [200, 255]]

    def test_float_arrays_are_preprocessed_already(self):
        (batch,) = as_batches(np.ones((2, 3, 4, 4)), transform=lambda image: 1 / 0)
        assert batch.inputs.shape == (2, 3, 4, 4)

    @pytest.mark.parametrize(
        "data", [PIXELS, PIXELS[0], list(PIXELS), Image.fromarray(PIXELS[0]), torch.from_numpy(PIXELS)]
    )
    def test_images_without_a_transform_say_what_to_pass(self, data):
        with pytest.raises(ValueError, match=r"pass transform=.*or use a named source"):
            as_batches(data)

    def test_other_bytes_without_a_transform_go_to_the_network(self):
        (batch,) = as_batches(PIXELS.transpose(0, 3, 1, 2))
        assert batch.inputs.dtype == torch.uint8

    @pytest.mark.parametrize("data", [PIXELS.transpose(0, 3, 1, 2), torch.from_numpy(PIXELS[0].transpose(2, 0, 1))])
    def test_channels_first_are_refused_with_the_fix(self, data):
        with pytest.raises(ValueError, match=r"channels first.*permute\(1, 2, 0\)"):
            as_batches(data, transform=ToTensor())

    @pytest.mark.parametrize("n_channels", [2, 5])
    def test_other_numbers_of_channels_are_named(self, n_channels):
        data = np.zeros((2, 6, 6, n_channels), np.uint8)
        with pytest.raises(ValueError, match=rf"shape \(2, 6, 6, {n_channels}\) are no images.* 1, 3 or 4 channels"):
            as_batches(data, transform=ToTensor())

    def test_a_missing_path_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no file or folder '.*nowhere'"):
            as_batches(tmp_path / "nowhere", transform=ToTensor())
        with pytest.raises(FileNotFoundError, match=r"1 of 2 paths .*gone\.png"):
            as_batches([save_images(tmp_path)[0], tmp_path / "gone.png"], transform=ToTensor())

    def test_a_folder_in_a_pair_is_refused(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="the path of a folder goes alone"):
            as_batches((tmp_path, [1]), transform=ToTensor())

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_an_unreadable_file_is_named(self, tmp_path, num_workers):
        paths = save_images(tmp_path)
        paths[3].write_bytes(b"no image")
        with pytest.raises(ValueError, match=r"3\.png cannot be read as an image.*take it out of the list") as caught:
            list(as_batches(paths, transform=ToTensor(), num_workers=num_workers))
        assert "worker process" not in str(caught.value)

    def test_a_transform_that_gives_no_tensor_is_refused(self):
        with pytest.raises(TypeError, match="must turn a PIL image into a tensor, but gave Image"):
            list(as_batches(PIXELS, transform=lambda image: image))

    def test_an_error_inside_the_transform_comes_through(self):
        with pytest.raises(ZeroDivisionError):
            list(as_batches(PIXELS, transform=lambda image: 1 / 0))

    def test_images_of_two_shapes_are_named_with_the_fix(self, tmp_path):
        paths = save_images(tmp_path)
        Image.fromarray(PIXELS[0][:3]).save(paths[2])
        message = r"0\.png has \(3, 6, 8\) and .*2\.png has \(3, 3, 8\); put a resize"
        with pytest.raises(ValueError, match=message):
            list(as_batches(paths, transform=ToTensor()))

    def test_a_stranger_in_a_list_of_images_is_named_by_its_row(self):
        with pytest.raises(TypeError, match="row 1 of the list of images is float"):
            as_batches([Image.fromarray(PIXELS[0]), 2.5], transform=ToTensor())

    def test_arrays_need_no_image_library(self, monkeypatch):
        for name in ("PIL", "PIL.Image", "torchvision"):
            monkeypatch.setitem(sys.modules, name, None)
        assert as_batches((X, Y), transform=len).n_rows == as_batches(Items(list(X)), transform=len).n_rows
