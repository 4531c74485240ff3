import numpy as np
import pytest
from sklearn.decomposition import PCA

from repurpose.domain import SubspaceAlignmentRepurposer
from tests.repurpose.domain.examples import MethodContract, domains_of, quick, two_domains

rng = np.random.default_rng(0)


class TestMethod(MethodContract):
    make = SubspaceAlignmentRepurposer


def test_rows_are_those_of_the_paper_with_the_axes_of_scikit_learn() -> None:
    source, target = (rng.normal(size=(40, 6)) * [5, 4, 3, 2, 1, 0.5] @ rng.normal(size=(6, 6)) for _ in range(2))
    repurposer = quick(SubspaceAlignmentRepurposer, n_components=3)
    moved, _ = repurposer._adapt_source(domains_of(source, target))
    units = [(rows - rows.mean(0)) / rows.std(0) for rows in (source, target)]
    of_source, of_target = (PCA(3).fit(rows).components_.T for rows in units)
    signs = np.sign((repurposer.target_axes_ * of_target).sum(axis=0))  # an axis has no direction
    expected = units[0] @ of_source @ of_source.T @ of_target * signs
    assert np.allclose(moved, expected, atol=1e-4)
    assert np.allclose(repurposer._adapt_rows(target), units[1] @ of_target * signs, atol=1e-4)


def test_the_dimension_is_the_least_that_keeps_nine_tenths_of_the_variance_and_fits_the_rows() -> None:
    target = rng.normal(size=(50, 8)) @ rng.normal(size=(8, 8))
    units = (target - target.mean(0)) / target.std(0)
    kept = np.cumsum(PCA().fit(units).explained_variance_ratio_)
    repurposer = quick(SubspaceAlignmentRepurposer)
    repurposer._adapt_source(domains_of(rng.normal(size=(30, 8)), target))
    k = repurposer.target_axes_.shape[1]
    assert kept[k - 1] >= 0.9 > kept[k - 2]
    repurposer._adapt_source(domains_of(rng.normal(size=(30, 8)), target[:3]))
    assert repurposer.target_axes_.shape[1] <= 2


@pytest.mark.parametrize(("n", "message"), [(0, "whole number of at least 1"), (5, "give at most 4")])
def test_a_dimension_that_cannot_be_is_refused(n: int, message: str) -> None:
    source, (X, _) = two_domains()
    with pytest.raises(ValueError, match=message):
        quick(SubspaceAlignmentRepurposer, n_components=n).repurpose(X, source_data=source)
