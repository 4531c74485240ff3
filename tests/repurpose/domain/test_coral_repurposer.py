import numpy as np
import pytest

from repurpose.domain import CoralRepurposer, DomainRepurposer
from repurpose.domain.coral_repurposer import coral_map
from repurpose.domain.distributions.standardization import Standardization, covariance
from tests.repurpose.domain.examples import MethodContract, domains_of, quick, two_domains

rng = np.random.default_rng(0)


class TestMethod(MethodContract):
    make = CoralRepurposer


@pytest.mark.parametrize("n_rows", [12, 200])  # fewer rows than features, too
def test_the_map_gives_the_source_the_covariance_of_the_target(n_rows: int) -> None:
    source, target = (
        Standardization.of(rows).apply(rows)
        for rows in (rng.normal(size=(n_rows, 20)) @ rng.normal(size=(20, 20)) for _ in range(2))
    )
    of_source, of_target = covariance(source), covariance(target)
    A = coral_map(of_source, of_target, 1.0)
    wanted = of_target + np.eye(20)
    assert np.abs(A.T @ (of_source + np.eye(20)) @ A - wanted).max() < 1e-6 * np.abs(wanted).max()


def test_adapted_rows_are_the_standardised_source_times_the_map() -> None:
    source, target = rng.normal(2, 3, (30, 4)).astype(np.float32), rng.normal(-1, 2, (25, 4)).astype(np.float32)
    repurposer = quick(CoralRepurposer, regularization=0.1)
    moved, weights = repurposer._adapt_source(domains_of(source, target))
    units = [(rows - rows.mean(0)) / rows.std(0) for rows in (source.astype(float), target.astype(float))]
    A = coral_map(*(np.cov(rows.T, bias=True) for rows in units), 0.1)
    assert np.allclose(moved, units[0] @ A, atol=1e-5)
    assert np.allclose(repurposer._adapt_rows(target), units[1], atol=1e-5)
    assert (weights == 1).all()


def test_a_change_of_units_costs_the_head_alone_much_and_coral_little() -> None:
    (Xs, ys), _ = two_domains()
    target = Xs * [1, 5, 2, 3] + 30
    by_coral, by_head = (
        quick(cls).repurpose(target, source_data=(Xs, ys)) for cls in (CoralRepurposer, DomainRepurposer)
    )
    assert by_coral.score(target, ys) >= by_head.score(Xs, ys) - 0.05
    assert by_head.score(target, ys) < by_head.score(Xs, ys) - 0.2


def test_a_regularization_that_cannot_be_is_refused() -> None:
    source, (X, _) = two_domains()
    with pytest.raises(ValueError, match="regularization must be a positive finite number, got nan"):
        quick(CoralRepurposer, regularization=float("nan")).repurpose(X, source_data=source)
