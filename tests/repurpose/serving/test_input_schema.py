"""What a schema may say, what is learned of it, and which rows it refuses for what."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from repurpose import InputSchema
from repurpose.serving.input_schema import learned_schema, objections_to

ROWS = torch.tensor([[0.0, 1.0], [0.5, 3.0], [float("nan"), 0.0], [-2.0, 0.0], [float("inf"), 9.0]])


def reasons(inputs: Any, schema: Any) -> list[str | None]:
    n_rows = len(inputs if isinstance(inputs, torch.Tensor) else next(iter(dict(enumerate(inputs)).values())))
    return objections_to(inputs, schema, n_rows).reasons.tolist()


def test_a_row_is_refused_for_the_first_thing_that_is_wrong_with_it() -> None:
    good = [None, None, "not finite", None, "not finite"]
    assert reasons(ROWS, None) == good
    assert reasons(ROWS, InputSchema()) == good
    assert reasons(ROWS, InputSchema((2,), "float64")) == good
    assert reasons(ROWS, InputSchema(low=0, high=1)) == [None, "range", "not finite", "range", "not finite"]
    assert reasons(ROWS, InputSchema((3,), "int64", low=0)) == ["shape"] * 5
    assert reasons(ROWS, InputSchema((None,), "int64", low=0)) == ["dtype"] * 5
    assert reasons(ROWS, InputSchema((2, 1))) == ["shape"] * 5


def test_details_say_what_was_found_and_what_was_expected() -> None:
    def details(inputs: Any, schema: Any) -> list[str | None]:
        return objections_to(inputs, schema, 5).details.tolist()

    found = details(ROWS, InputSchema(low=0, high=1))
    assert found == [
        None,
        "a value of 3, above 1",
        "NaN or infinite values",
        "a value of -2, below 0",
        "NaN or infinite values",
    ]
    assert details(ROWS, InputSchema((3, None)))[0] == "a row of shape (2,), where (3, None) is expected"
    assert details(ROWS, InputSchema(dtype=bool))[0] == "values of dtype float32, where bool is expected"
    assert details({"a": ROWS}, {"a": InputSchema(high=1)})[1] == "input 'a': a value of 3, above 1"
    assert details({"a": ROWS}, InputSchema())[0] == "there is input 'a', where a single input is expected"
    assert details((ROWS, ROWS), (InputSchema(),))[0] == "there is part 0, part 1, where part 0 is expected"


def test_only_the_kind_of_a_dtype_counts() -> None:
    kinds = {
        "float32": (torch.float16, torch.bfloat16, torch.float64),
        np.int64: (torch.uint8, torch.int32, torch.uint16),
        torch.bool: (torch.bool,),
        "complex64": (torch.complex128,),
    }
    for expected, dtypes in kinds.items():
        for other in kinds:
            for dtype in dtypes:
                found = reasons(torch.ones((2, 3)).to(dtype), InputSchema(dtype=other))
                assert found == [None if other is expected else "dtype"] * 2


def test_every_part_is_judged() -> None:
    first, second = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[1], [9], [1]])
    schemas = InputSchema((1,), "float32", high=2), InputSchema((1,), "int64", high=5)
    assert reasons((first, second), schemas) == [None, "range", "range"]
    named = {"b": second, "a": first}
    assert objections_to(named, dict(zip("ab", schemas)), 3).reasons.tolist() == [None, "range", "range"]
    for other in (schemas[0], (*schemas, schemas[0]), {"a": schemas[0]}):
        assert objections_to(named, other, 3).reasons.tolist() == ["shape"] * 3


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [(torch.uint16, 0, 7), (torch.bool, 0, 1), (torch.float16, -1.0, 7.0), (torch.uint8, 1, 7)],
)
def test_the_schema_of_data_is_met_by_them_and_by_nothing_beyond(dtype: torch.dtype, low: float, high: float) -> None:
    data = torch.tensor([[low, low], [high, low]]).to(dtype)
    schema = InputSchema.of(data)
    assert schema == InputSchema((2,), dtype, low, high)
    assert reasons(data, schema) == [None, None]
    beyond = torch.tensor([[low - 1.0, low], [high + 1.0, low]]).double()
    assert reasons(beyond, InputSchema(None, None, schema.low, schema.high)) == ["range", "range"]


def test_a_schema_of_a_loader_leaves_open_what_differs() -> None:
    rows = TensorDataset(torch.arange(12.0).reshape(6, 2), torch.zeros(6, dtype=torch.int64))
    assert InputSchema.of(DataLoader(rows, batch_size=4)) == InputSchema((2,), "float32", 0.0, 11.0)
    batches = [(torch.zeros(2, 3, 4), torch.zeros(2)), (torch.ones(1, 3, 5), torch.zeros(1))]
    assert InputSchema.of(DataLoader(batches, batch_size=None)) == InputSchema((3, None), "float32", 0.0, 1.0)


def test_data_of_which_there_is_no_schema_are_refused() -> None:
    with pytest.raises(ValueError, match="have several parts; make a schema of each"):
        InputSchema.of({"a": np.ones((2, 3))})
    with pytest.raises(ValueError, match="hold NaN or infinite values"):
        InputSchema.of(ROWS)
    kinds = [(torch.zeros(2, 3), torch.zeros(2)), (torch.zeros(2, 3, 1), torch.zeros(2))]
    with pytest.raises(ValueError, match=r"of several kinds: of shapes \[\(3,\), \(3, 1\)\] and dtypes \['float32'\]"):
        InputSchema.of(DataLoader(kinds, batch_size=None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": [3, 4]}, r"shape is a tuple of the sizes of one row, None for any, got \[3, 4\]"),
        ({"shape": 3}, "shape is a tuple"),
        ({"shape": (-1,)}, "shape is a tuple"),
        ({"dtype": "float23x"}, "dtype is one of numbers, such as"),
        ({"dtype": "U5"}, "dtype is one of numbers, such as"),
        ({"dtype": object}, "dtype is one of numbers, such as"),
        ({"low": "0"}, "low is a number or None, got '0'"),
        ({"high": float("nan")}, "high is a number or None, got nan"),
        ({"low": 2, "high": 1}, "low=2 is above high=1"),
    ],
)
def test_what_is_no_schema_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InputSchema(**options)


def test_what_training_kept_becomes_a_schema() -> None:
    assert learned_schema({}) is None
    assert learned_schema({"row_shape_": (3, None)}) == InputSchema((3, None))
    assert learned_schema({"row_shape_": [(3,), (4,)]}) == (InputSchema((3,)), InputSchema((4,)))
    assert learned_schema({"row_shape_": {"shape": (3,)}}) == {"shape": InputSchema((3,))}
    image, tokens = {"shape": [8, 3, 4, 4], "dtype": "float32"}, {"shape": [8, 12], "dtype": "int64", "fill": 0}
    known = {"image": InputSchema((3, 4, 4), "float32"), "tokens": InputSchema((None,), "int64")}
    assert learned_schema({"example_inputs_": image}) == known["image"]
    assert learned_schema({"example_inputs_": [image, tokens]}) == tuple(known.values())
    assert learned_schema({"example_inputs_": {"parts": {"image": image, "tokens": tokens}}}) == known
