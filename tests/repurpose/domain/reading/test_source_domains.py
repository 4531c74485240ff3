from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from model_handler import Features
from repurpose.domain.reading.source_domains import agreed_classes, naming_data, refuse_cut, source_domains
from repurpose.domain.reading.target_labels import judge_labels


def agreed(labels: dict[str, list], of_target: list[Any]) -> Any:
    arrays = {name: np.array(values) for name, values in labels.items()}
    return agreed_classes(arrays, judge_labels(of_target, np.concatenate([*arrays.values()]), len(of_target)))


def test_a_source_row_of_a_class_that_is_not_learned_has_no_code() -> None:
    with pytest.warns(UserWarning, match="2 of 6 source rows are left out.*: 5"):
        found = agreed({"a": [0, 5, 1], "b": [5, 1, 1]}, [1, 0, 1])
    assert found.classes.tolist() == [0, 1]
    assert found.codes.tolist() == [0, -1, 1, -1, 1, 1]
    assert found.left_out == (5,)


def test_without_every_label_of_the_target_all_classes_are_learned() -> None:
    found = agreed({"a": [0, 5, 1]}, [7, None, 1])
    assert found.classes.tolist() == [0, 1, 5, 7]
    assert (found.codes.tolist(), found.left_out) == ([0, 2, 1], ())


def test_no_source_data_is_an_error_that_says_what_to_give() -> None:
    for nothing in (None, {}):
        with pytest.raises(ValueError, match=r"CoralRepurposer needs source_data.*source_data=\(X, y\)"):
            source_domains(nothing, "CoralRepurposer")
    with pytest.raises(ValueError, match="source_data 'b' requires labels"):
        source_domains({"a": (np.ones((2, 2)), [0, 1]), "b": {"x": np.ones((2, 2))}}, "CoralRepurposer")


@pytest.mark.parametrize("names", [("target",), (1, "1")])
def test_names_that_would_be_taken_for_each_other_are_refused(names: tuple) -> None:
    with pytest.raises(ValueError, match="need names that differ as text, none of them 'target'"):
        source_domains({name: (np.ones((2, 2)), [0, 1]) for name in names}, "CoralRepurposer")


def test_a_dict_with_labels_is_one_domain() -> None:
    assert list(source_domains({"x": np.ones((2, 2)), "labels": [0, 1]}, "CoralRepurposer")) == ["source"]


def named(names: list[str] | None) -> Features:
    return Features({"0": np.ones((2, 3))}, [0, 1], names)


def test_classes_are_named_by_the_target_else_by_the_first_source_domain_that_does() -> None:
    target, source, nameless = named(["x", "y"]), named(["x", "y", "z"]), named(None)
    assert naming_data({"a": source}, target, np.arange(2)) is target
    assert naming_data({"a": nameless, "b": source}, nameless, np.arange(2)) is source
    assert naming_data({"a": nameless}, nameless, np.arange(2)) is nameless
    assert naming_data({"a": source}, target, np.array(["x", "y"])) is target


def test_names_that_differ_for_one_label_are_told() -> None:
    with pytest.warns(UserWarning, match=r"several names for the label 1: {'target': 'y', 'a': 'u'}.*same labels to"):
        naming_data({"a": named(["x", "u"])}, named(["x", "y"]), np.arange(2))


def test_features_that_scikit_learn_cut_with_the_target_are_refused_and_others_are_not() -> None:
    labelled = Features({"0": np.random.default_rng(0).normal(size=(9, 3))}, np.arange(9) % 2)
    part, _ = train_test_split(labelled, test_size=3, random_state=0)
    with pytest.raises(ValueError, match=r"6 rows that scikit-learn took.*probably cut.*give source_data={\"source\""):
        refuse_cut(part, 6)
    for data, n_target in ((part, 5), ({"source": part}, 6), (labelled, 9), (labelled[:6], 6)):
        refuse_cut(data, n_target)


def test_a_dataset_that_scikit_learn_made_a_list_of_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"source_data 'source' requires labels.*a list has none. .*scikit-learn cut"):
        source_domains([(np.ones(3), 0), (np.zeros(3), 1)], "CoralRepurposer")
