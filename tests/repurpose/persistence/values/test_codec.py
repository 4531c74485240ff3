import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from repurpose.persistence.values.codec import Codec, UnsavableError
from repurpose.persistence.values.parts import storable


def test_what_is_encoded_is_json_that_every_reader_takes() -> None:
    codec = Codec()
    node = codec.encode({"a": [float("nan"), np.float64(0.1), np.str_("x"), np.array([1])]}, "key")
    text = json.dumps(node, allow_nan=False)
    assert list(codec.arrays) == ["key.a.3#0"]
    back = codec.decode(json.loads(text))["a"]
    assert np.isnan(back[0])
    assert back[1:3] == [0.1, "x"]
    assert back[3].tolist() == [1]


def test_floats_come_back_to_the_last_bit() -> None:
    codec = Codec()
    value = 0.1 + 0.2
    assert codec.decode(json.loads(json.dumps(codec.encode(value, "key")))) == value


def test_arrays_that_are_not_contiguous_come_back_right() -> None:
    array = np.arange(24.0).reshape(4, 6)
    for view in (array.T, array[::2, ::-1], array[1:3, 2], array.astype(">f4"), np.array(3.0), np.empty((0, 2))):
        codec = Codec()
        back = codec.decode(codec.encode(view, "key"))
        assert np.array_equal(back, view)
        assert back.shape == view.shape


def test_text_of_a_strange_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="text of the dtype 'V8'"):
        Codec().decode({"type": "texts", "dtype": "V8", "shape": [1], "items": ["a"]})


def test_an_object_without_a_word_is_named() -> None:
    with pytest.raises(UnsavableError, match=r"an object of type builtins\.set"):
        Codec().encode({1}, "key")


def test_names_with_dots_do_not_mix_up_arrays() -> None:
    value = {"a.b": np.zeros(2), "a": {"b": np.ones(2)}}
    codec = Codec()
    decoded = codec.decode(codec.encode(value, "key"))
    assert decoded["a.b"].tolist() == [0, 0]
    assert decoded["a"]["b"].tolist() == [1, 1]


def test_a_storable_part_comes_back_with_parts_inside_and_others_are_refused() -> None:
    @storable
    @dataclass(frozen=True, eq=False)
    class Leaf:
        values: np.ndarray

    @storable
    @dataclass(frozen=True, eq=False)
    class Branch:
        leaf: Leaf
        tensors: list[torch.Tensor]

    codec = Codec()
    branch = Branch(Leaf(np.arange(3)), [torch.ones(2, dtype=torch.float64)])
    node = json.loads(json.dumps(codec.encode(branch, "key")))
    back = codec.decode(node)
    assert type(back) is Branch
    assert back.leaf.values.tolist() == [0, 1, 2]
    assert torch.equal(back.tensors[0], branch.tensors[0])
    with pytest.raises(ValueError, match="holds a 'Twig', which this version does not know"):
        codec.decode({**node, "class": "Twig"})
    with pytest.raises(ValueError, match=r"holds a Leaf of \['leaf', 'tensors'\] where \['values'\] were expected"):
        codec.decode({**node, "class": "Leaf"})

    @dataclass(frozen=True)
    class Plain:
        value: int = 1

    with pytest.raises(UnsavableError, match="Plain"):
        codec.encode(Plain(), "key")


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_tensors_come_back_conjugated_ones_too(dtype: torch.dtype) -> None:
    codec, value = Codec(), torch.tensor([[1 + 2j, -0.5j]], dtype=dtype).conj()
    back = codec.decode(json.loads(json.dumps(codec.encode(value, "key"))))
    assert back.dtype == dtype
    assert back.tolist() == [[1 - 2j, 0.5j]]


def test_a_sparse_tensor_is_refused_by_its_layout() -> None:
    with pytest.raises(UnsavableError, match=r"torch\.float32 and layout torch\.sparse_coo"):
        Codec().encode(torch.eye(2).to_sparse(), "key")


def test_a_random_state_that_would_read_foreign_memory_is_refused() -> None:
    codec = Codec()
    node = codec.encode(np.random.RandomState(3), "key")
    assert Codec(dict(codec.arrays)).decode(node).randint(10**6) == np.random.RandomState(3).randint(10**6)
    node["state"]["items"][2] = 10**9
    with pytest.raises(ValueError, match="an impossible state"):
        codec.decode(node)


def test_an_array_is_named_once_and_none_is_left_over() -> None:
    codec = Codec()
    node = codec.encode([np.arange(3), np.arange(4)], "key")
    with pytest.raises(ValueError, match=r"names 'key\.0#0' twice"):
        Codec(dict(codec.arrays)).decode([node[0], node[0]])
    one = Codec(dict(codec.arrays))
    one.decode(node[0])
    with pytest.raises(ValueError, match=r"holds 'key\.1#1', which nothing in it names"):
        one.check_all_used()


LIES = {
    "more names": {"type": "tuple", "items": [], "more": 1},
    "fewer names": {"type": "array", "key": "a"},
    "an order": {"type": "array", "key": "a", "order": "K"},
    "an array for a number": {"type": "scalar", "key": "a", "order": "C"},
    "text for a tensor": {"type": "tensor", "array": "a"},
    "other bits": {"type": "bfloat16", "array": {"type": "array", "key": "a", "order": "C"}},
    "a finite float": {"type": "float", "value": "1.0"},
    "text for a tuple": {"type": "tuple", "items": "ab"},
    "a list for a dict": {"type": "dict", "items": []},
    "names that are lists": {"type": "pairs", "items": [[[1], 2]]},
    "a name twice": {"type": "pairs", "items": [["a", 1], ["a", 2]]},
    "wide text": {"type": "texts", "dtype": "<U20000000", "shape": [1], "items": ["a"]},
}


@pytest.mark.parametrize("lie", LIES)
def test_what_encode_never_writes_is_refused(lie: str) -> None:
    with pytest.raises(ValueError, match=r"it holds|an array of"):
        Codec({"a": np.arange(2.0)}).decode(LIES[lie])


def test_texts_with_room_for_more_are_counted_together() -> None:
    wide = {"type": "texts", "dtype": "<U2400000", "shape": [1], "items": ["a"]}  # 9.6 MB, of which a file has 40
    assert len(Codec().decode([wide] * 4)) == 4
    with pytest.raises(ValueError, match=r"an array of 1 texts, each with room for 2,400,000 characters"):
        Codec().decode([wide] * 5)
    with pytest.raises(UnsavableError, match=r"room for 2,400,000 characters"):
        Codec().encode([np.zeros(1, "<U2400000")] * 5, "key")
