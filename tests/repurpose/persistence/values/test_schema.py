from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from repurpose.persistence.values.schema import (
    Array,
    By,
    Dict,
    Either,
    Items,
    Maybe,
    Nothing,
    Number,
    Object,
    Table,
    Text,
    Truth,
    Whole,
    check_learned,
    check_table,
    sizes_of_classes,
)


@dataclass
class Leaf:
    values: np.ndarray

    _schema: ClassVar[Table] = {"values": Array("n")}


class Base:
    _schema: ClassVar[Table] = {"classes_": Array("n_classes", dtypes="U"), "fold_heads_": Maybe(Items(Dict(Text())))}


class Ours(Base):
    __module__ = "repurpose.somewhere"

    _schema: ClassVar[Table] = {"target_model_": Object(Leaf), "scale_": Maybe(Number(above=0))}


class Users(Ours):
    __module__ = "elsewhere"


FITTING: list[tuple[Any, Any]] = [
    (Array("n", 3), np.zeros((2, 3))),
    (Array("n", dtypes="float32", tensor=True), torch.zeros(2)),
    (Array("m", dtypes="i", least=-1, below="n"), np.array([-1, 1])),
    (Array(dtypes="U O"), np.array("a")),
    (Array("m"), np.zeros(0)),
    (Whole(1, "n"), np.int64(2)),
    (Number(least=0), 0),
    (Number(above=0), np.float32(0.5)),
    (Text("a", "b"), "b"),
    (Truth(), np.True_),
    (Either(Nothing(), Array("n")), None),
    (Items(Array("width", "n"), apart=True), [np.zeros((1, 2)), np.zeros((5, 2))]),
    (Items(Text(), kind=tuple, n="n"), ("a", "b")),
    (Dict(Text(), Whole()), {"a": 1}),
    (Object(Leaf), Leaf(np.zeros(2))),
    (Object("Leaf", {"values": Array(2)}), Leaf(np.zeros(2))),
    (By(lambda value: None), object()),
]


@pytest.mark.parametrize(("schema", "value"), FITTING)
def test_what_fits_passes(schema: Any, value: Any) -> None:
    check_table({"it": schema}, {"it": value}, {"n": 2})


def refuse(value: object) -> None:
    raise ValueError("never")


NOT_FITTING: list[tuple[Any, Any, str]] = [
    (Array("n", 3), np.zeros((3, 3)), r"shape \(3, 3\), where an array of dtype float64 and shape \(2, 3\)"),
    (Array("n"), np.zeros(2, np.float32), "dtype float32"),
    (Array("n"), [0.0, 0.0], "a list of 2"),
    (Array("n"), torch.zeros(2, dtype=torch.float64), "Tensor of dtype torch.float64"),
    (Array("n", tensor=True), np.zeros(2), "a tensor of dtype float64"),
    (Array("n"), np.array([0, np.nan]), "holds other numbers, where .* finite"),
    (Array("n"), np.array([0, np.inf]), "holds other numbers"),
    (Array("n"), np.array([0, -np.inf]), "holds other numbers"),
    (Array("n", least=0), np.array([0.0, -1]), "at least 0"),
    (Array("n", dtypes="i", below="n"), np.array([0, 2]), "below n"),
    (Whole(1, "n"), 3, "a whole number from 1 to 2"),
    (Whole(), True, "a whole number"),
    (Whole(), 1.0, "a whole number"),
    (Number(), float("nan"), "a finite number"),
    (Number(), True, "a finite number"),
    (Number(above=0), 0, "a finite number above 0"),
    (Text("a"), "b", r"one of \['a'\]"),
    (Text(), 1, "text"),
    (Truth(), 1, "True or False"),
    (Either(Nothing(), Array("n")), 1, "None was expected; its it is 1, where an array"),
    (Items(Text(), n="n"), ["a"], "a list of 2"),
    (Items(Text()), ("a",), "a list was"),
    (Items(Text()), ["a", 1], r"its it\[1\] is 1, where text"),
    (Dict(Text(), Whole()), {"a": -1}, r"its it\['a'\] is -1"),
    (Dict(Text()), {1: 1}, "its it: a name is 1"),
    (Object(Leaf), Base(), "a Base, where a Leaf"),
    (Object(Leaf), Leaf(np.zeros(3)), r"its it\.values"),
    (By(refuse), 1, "its it: never"),
]


@pytest.mark.parametrize(("schema", "value", "said"), NOT_FITTING)
def test_what_does_not_fit_is_named_with_what_was_expected(schema: Any, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_table({"it": schema}, {"it": value}, {"n": 2})


def test_a_size_of_unknown_length_is_one_length_everywhere() -> None:
    table = {"rows": Array("n_rows", 2), "codes": Array("n_rows")}
    check_table(table, {"rows": np.zeros((4, 2)), "codes": np.zeros(4)}, {})
    with pytest.raises(ValueError, match=r"its codes is .* shape \(3,\), where .* \(4\)"):
        check_table(table, {"rows": np.zeros((4, 2)), "codes": np.zeros(3)}, {})


def test_of_our_classes_nothing_is_missing_and_nothing_more_is_there() -> None:
    learned: dict[str, Any] = {"classes_": np.array(["a", "b"]), "target_model_": Leaf(np.zeros(1))}
    check_learned(Ours, learned, {"n_classes": 2})
    with pytest.raises(ValueError, match="its target_model_ is missing"):
        check_learned(Ours, {"classes_": learned["classes_"]}, {"n_classes": 2})
    with pytest.raises(ValueError, match="its more_ is nothing that is learned"):
        check_learned(Ours, {**learned, "more_": 1}, {"n_classes": 2})


def test_heads_of_folds_are_as_the_head_but_for_sizes_of_their_own() -> None:
    learned: dict[str, Any] = {"classes_": np.array(["a", "b"]), "target_model_": Leaf(np.zeros(1))}
    check_learned(Ours, {**learned, "fold_heads_": [{"target_model_": Leaf(np.zeros(7))}]}, {"n_classes": 2})
    with pytest.raises(ValueError, match=r"its fold_heads_\[1\]\.target_model_ is missing"):
        check_learned(Ours, {**learned, "fold_heads_": [{"target_model_": Leaf(np.zeros(1))}, {}]}, {"n_classes": 2})


def test_a_users_class_may_have_another_head_and_more() -> None:
    learned: dict[str, Any] = {"classes_": np.array(["a", "b"]), "target_model_": "anything", "more_": 1}
    check_learned(Users, learned, {"n_classes": 2})
    with pytest.raises(ValueError, match="its classes_ is 1"):
        check_learned(Users, {**learned, "classes_": 1}, {"n_classes": 2})


def test_sizes_that_follow_from_the_classes() -> None:
    assert sizes_of_classes(np.array([3, 5])) == {"n_classes": 2, "n_logits": 1, "n_latent": 1}
    assert sizes_of_classes(np.arange(4)) == {"n_classes": 4, "n_logits": 4, "n_latent": 3}
    for classes in (np.array([1, 1]), np.array([1]), np.zeros((2, 2)), [1, 2]):
        with pytest.raises(ValueError, match="its classes_ are"):
            sizes_of_classes(classes)
