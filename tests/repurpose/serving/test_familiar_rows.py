"""Shares of familiar rows are those of `unfamiliarity_p_value`, and limits that could refuse nothing are refused."""

import re
from typing import Any

import numpy as np
import pytest

from repurpose.serving.familiar_rows import FamiliarRows
from tests.repurpose.examples import blobs, lr
from tests.repurpose.grouped_rows import grouped_features

X, Y = blobs(40)
NEW = np.concatenate([blobs(30, seed=1)[0], 50 * np.ones((2, 4), dtype=np.float32)])


def familiar_to(repurposer: Any, method: str = "mixed_mahalanobis") -> FamiliarRows:
    return FamiliarRows(repurposer._scorers_with_unseen_rows(method))


@pytest.mark.parametrize("method", ["mixed_mahalanobis", "energy"])
def test_a_share_is_what_the_p_value_leaves(method: str) -> None:
    conformal = lr().repurpose((X, Y)).conformalize(*blobs(25, seed=2))
    for repurposer in (lr().repurpose((X, Y)), conformal, lr().repurpose((X, Y), sample_weight=np.arange(40) % 3)):
        share = familiar_to(repurposer, method).share_less_strange(NEW)
        assert np.array_equal(share, 1 - repurposer.unfamiliarity_p_value(NEW, method))


def test_a_limit_that_could_refuse_nothing_is_refused_with_one_that_can() -> None:
    """Of 30 rows and the new one, no share is above 30 / 31 = 0.9677."""
    familiar = familiar_to(lr().repurpose((X, Y)).conformalize(*blobs(30, seed=2)))
    for limit in (0.0, 0.5, 0.967):
        familiar.check_can_refuse(limit)
    said = (
        "max_unfamiliarity=0.968 would refuse nothing, since there are only 30 familiar rows to compare with: give at "
    )
    with pytest.raises(ValueError, match=re.escape(f"{said}most 0.967, or more rows to conformalize")):
        familiar.check_can_refuse(0.968)
    nine = familiar_to(lr().repurpose((X, Y)).conformalize(*blobs(9, seed=2)))
    nine.check_can_refuse(0.9)  # 9 / 10, however it is rounded
    with pytest.raises(ValueError, match=r"give at most 0\.9,"):
        nine.check_can_refuse(0.91)


def test_groups_count_as_one_row_here_too() -> None:
    features, groups = grouped_features(n_groups=9)
    repurposer = lr().repurpose(features, groups=groups)
    new = grouped_features(5)[0].matrix
    familiar = familiar_to(repurposer)
    assert np.array_equal(familiar.share_less_strange(new), 1 - repurposer.unfamiliarity_p_value(new))
    familiar.check_can_refuse(0.9)  # 9 / 10
    with pytest.raises(ValueError, match=r"only 9 familiar groups to compare with: give at most 0\.9, or more groups"):
        familiar.check_can_refuse(0.91)
