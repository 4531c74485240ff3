from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from model_handler import Features
from repurpose.domain.domains import bring_together, naming_data, refuse_cut, source_domains
from repurpose.domain.target_labels import judge_labels

rng = np.random.default_rng(0)


def rows(n: int, width: int = 3) -> Features:
    return Features({"0": rng.normal(size=(n, width))})


def brought(labels: dict[str, Any], of_target: Any, n_target: int = 4, **options: Any) -> Any:
    sources = {name: rows(len(own)) for name, own in labels.items()}
    arrays = {name: np.asarray(own) for name, own in labels.items()}
    judged = judge_labels(of_target, np.concatenate(list(arrays.values())), n_target)
    return bring_together(sources, arrays, rows(n_target, **options), judged)


def test_several_domains_count_alike_whatever_their_sizes() -> None:
    domains = brought({"a": [0, 1], "b": [0, 1, 0, 1, 0, 1]}, None)
    assert domains.names == ("a", "b")
    assert np.allclose(np.bincount(domains.source_domains, domains.source_weights), [4, 4])
    assert domains.source_weights.mean() == 1


def test_a_labelled_target_decides_which_classes_there_are() -> None:
    with pytest.warns(UserWarning, match="1 of 3 source rows are left out.*2"):
        domains = brought({"a": [0, 1, 2]}, [0, 1, 3, 3])
    assert domains.classes.tolist() == [0, 1, 3]
    assert domains.source_codes.tolist() == [0, 1]
    assert domains.target_codes.tolist() == [0, 1, 2, 2]


def test_a_partly_labelled_target_adds_its_classes() -> None:
    domains = brought({"a": [0, 1, 2]}, [1, None, 3, None])
    assert domains.classes.tolist() == [0, 1, 2, 3]
    assert domains.target_codes.tolist() == [1, -1, 3, -1]
    assert domains.labelled.tolist() == [0, 2]


@pytest.mark.filterwarnings("ignore:.*source rows are left out")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"of_target": [7, 8, 7, 8]}, r"classes of the domains do not meet: the source has 0, 1, the target 7, 8"),
        ({"of_target": ["x", None, "y", "x"]}, "different kinds: {'a': 'numbers', 'target': 'text'}"),
        ({"of_target": None, "width": 5}, r"other features: {'0': 3} in 'a', {'0': 5} in the target"),
        ({"of_target": None, "n_target": 1}, "the domain 'target' has 1 row"),
        ({"of_target": [0, 9, 0, 9]}, "1 of 2 source rows has a class of the target, 0, 9: how domains differ"),
    ],
)
def test_domains_that_cannot_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        brought({"a": [0, 1]}, **options)


def test_rows_that_are_all_the_same_are_refused() -> None:
    judged = judge_labels(None, np.array([0, 1]), 3)
    with pytest.raises(ValueError, match="all 3 rows of the domain 'target' have the same features"):
        bring_together({"a": rows(2)}, {"a": np.array([0, 1])}, Features({"0": np.ones((3, 3))}), judged)


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
    labelled = Features(rows(9).values, np.arange(9) % 2)
    part, _ = train_test_split(labelled, test_size=3, random_state=0)
    with pytest.raises(ValueError, match=r"6 rows that scikit-learn took.*probably cut.*give source_data={\"source\""):
        refuse_cut(part, 6)
    for data, n_target in ((part, 5), ({"source": part}, 6), (labelled, 9), (labelled[:6], 6)):
        refuse_cut(data, n_target)


def test_a_dataset_that_scikit_learn_made_a_list_of_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"source_data 'source' requires labels.*a list has none. .*scikit-learn cut"):
        source_domains([(np.ones(3), 0), (np.zeros(3), 1)], "CoralRepurposer")
