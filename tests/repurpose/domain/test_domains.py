from typing import Any

import numpy as np
import pytest

from model_handler import Features
from repurpose.domain.domains import bring_together
from repurpose.domain.reading.target_labels import judge_labels

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
