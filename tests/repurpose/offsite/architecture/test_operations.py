"""The tables of operations: all that is in them is there, none of it can do harm, and each is found by its name."""

import operator

import pytest
import torch

from model_handler import UnsafeFileError
from repurpose.offsite.architecture.operations import METHODS, function_named, method_of, name_of_function


def test_functions_are_found_by_name_and_back() -> None:
    for function in (torch.flatten, torch.nn.functional.gelu, operator.add, torch.cat):
        name = name_of_function(function)
        assert name is not None
        found = function_named(name)
        assert found is not None
        assert name_of_function(found) == name
    assert name_of_function(torch.load) is None
    assert name_of_function(print) is None


def test_no_method_of_the_table_leaves_tensors() -> None:
    assert all(hasattr(torch.Tensor, name) for name in METHODS)
    assert {name for name in METHODS if name.startswith("_")} == {"__getitem__"}
    harmful = {
        "apply_",
        "map_",
        "numpy",
        "tolist",
        "item",
        "share_memory_",
        "register_hook",
        "storage",
        "data_ptr",
        "set_",
    }
    assert not METHODS & harmful


def test_a_method_of_anything_but_a_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match="called on a str"):
        method_of("text", "split")


def test_operators_of_sizes_compute_what_they_do() -> None:
    for name, values in (("mul", (3, 4)), ("pow", (2, 5)), ("floordiv", (7, 2)), ("add", ((1, 2), (3,)))):
        function = function_named(f"operator.{name}")
        assert function is not None
        assert function(*values) == getattr(operator, name)(*values)
    power = function_named("operator.pow")
    assert power is not None
    with pytest.raises(UnsafeFileError, match="pow by 1000"):
        power(9, 1000)
