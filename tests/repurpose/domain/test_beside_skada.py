"""Methods on features beside skada's, an independent library, on the same rows."""

import warnings

import numpy as np
import pytest
from sklearn import config_context

from repurpose.domain import CoralRepurposer, ImportanceWeightedRepurposer
from repurpose.domain.distributions.kernels import gaussian_kernel, median_width
from repurpose.domain.distributions.kliep import fit_mixture
from repurpose.domain.distributions.standardization import Standardization
from tests.repurpose.domain.examples import domains_of, quick

with warnings.catch_warnings(), config_context():  # skada turns scikit-learn's routing of metadata on for everyone
    warnings.simplefilter("ignore")
    skada = pytest.importorskip("skada", reason='skada is not installed: pip install -e ".[bench]"')

N_SOURCE, N_TARGET = 60, 50
DOMAINS = np.repeat([1, -2], [N_SOURCE, N_TARGET])  # skada's names: a target's is negative


@pytest.fixture
def domains() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(3, 3))
    source = rng.normal(size=(N_SOURCE, 3)) @ mixing
    target = (rng.normal(size=(N_TARGET, 3)) * [0.7, 1.0, 1.3]) @ mixing + 0.3
    return source.astype(np.float32), target.astype(np.float32)


def test_kernel_means_are_matched_as_skada_does(domains: tuple[np.ndarray, np.ndarray]) -> None:
    source, target = domains
    repurposer = quick(ImportanceWeightedRepurposer, regularization=0.0)  # skada has no regularization
    repurposer._adapt_source(domains_of(source, target))
    both = np.concatenate([source, target])
    rows = Standardization.of(both).apply(both)  # skada takes rows as they are
    theirs = skada.KMMReweightAdapter(gamma=1 / (2 * median_width(rows) ** 2), solver="scipy", tol=1e-10, max_iter=5000)
    weights = theirs.fit(rows, sample_domain=DOMAINS).source_weights_
    assert np.allclose(repurposer.importance_weights_, weights / weights.mean(), atol=2e-3)


def test_the_mixture_of_kernels_is_at_least_as_likely_as_that_of_skada(domains: tuple[np.ndarray, np.ndarray]) -> None:
    """skada goes up the gradient in steps of 1e-16 or so, and ends near where it began; the condition is the same."""
    source, target = domains
    theirs = skada.KLIEPReweightAdapter(gamma=0.5, random_state=0)
    theirs.fit(np.concatenate(domains), sample_domain=DOMAINS)
    of_source, of_target = (gaussian_kernel(rows, theirs.centers_, 1.0) for rows in (source, target))
    ours = fit_mixture(of_target, of_source.mean(axis=0))
    assert np.isclose((of_source @ ours).mean(), 1)
    assert np.isclose((of_source @ theirs.alpha_).mean(), 1)
    assert np.log(of_target @ ours).mean() > np.log(of_target @ theirs.alpha_).mean()


def test_correlations_are_aligned_as_skada_does(domains: tuple[np.ndarray, np.ndarray]) -> None:
    """skada shrinks a covariance C to (1 - s) C + s I where the mean variance is 1: of s = 1/2, half of C + I."""
    source, target = (Standardization.of(rows).apply(rows) for rows in domains)  # it does not scale the domains
    ours, _ = quick(CoralRepurposer, regularization=1.0)._adapt_source(domains_of(*domains))
    rows = np.concatenate([source, target])
    theirs = skada.CORALAdapter(reg=0.5).fit_transform(rows, sample_domain=DOMAINS)
    assert np.allclose(ours, theirs[:N_SOURCE], atol=1e-5)
