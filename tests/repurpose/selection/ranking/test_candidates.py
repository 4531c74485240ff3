"""Candidates are named by what was given, each name once."""

import numpy as np
import pytest
from torch import nn

from model_handler import Features, Source
from repurpose.selection.ranking.candidates import named_candidates


def test_names_are_those_of_sources_classes_and_keys_numbered_where_they_repeat() -> None:
    given = ["efficientnet-lite0", nn.Linear(2, 2), Source(nn.Linear(2, 2), name="mine"), nn.Linear(3, 3), nn.ReLU()]
    names = [candidate.name for candidate in named_candidates(given)]
    assert names == ["efficientnet-lite0", "Linear", "mine", "Linear (2)", "ReLU"]
    assert [each.name for each in named_candidates({"a": nn.ReLU(), "b": Features({"x": np.eye(2)})})] == ["a", "b"]


def test_published_accuracy_is_that_of_a_source_by_its_own_name_alone() -> None:
    named, keyed, source = named_candidates(
        {
            "mine": "efficientnet-lite0",
            "efficientnet-lite0": nn.ReLU(),
            "x": Source(nn.ReLU(), name="efficientnet-lite2"),
        }
    )
    assert (named.published_accuracy, source.published_accuracy) == (75.1, 77.6)
    assert np.isnan(keyed.published_accuracy)


@pytest.mark.parametrize("alone", ["efficientnet-lite0", nn.ReLU(), Source(nn.ReLU())])
def test_one_candidate_alone_is_no_list(alone: object) -> None:
    with pytest.raises(TypeError, match="a list of sources"):
        named_candidates(alone)  # type: ignore[arg-type]
