"""The joint posterior beside one that is written out with dense inverses."""

import numpy as np
import pytest
import torch

from repurpose.labelling.suggesting.latent import JointLatent
from tests.repurpose.labelling.suggesting.examples import N_LABELLED, POOL, X, Y, posterior, trained

ROWS, LABELS, AT = X[:N_LABELLED], Y[:N_LABELLED], POOL[:8]


@pytest.mark.parametrize("c", [0, 1, 2])
def test_means_and_covariances_are_those_of_a_dense_solve(c: int) -> None:
    latent = JointLatent.of(trained().target_model_, AT)
    mean, covariance = posterior(ROWS, LABELS, AT, c)
    torch.testing.assert_close(latent.means[:, c], mean)
    torch.testing.assert_close(latent.covariance(c), covariance)
    for row in range(len(AT)):
        torch.testing.assert_close(latent.covariances_with(row)[:, c], covariance[:, row])


def test_what_all_classes_share_knows_no_label() -> None:
    latent = JointLatent.of(trained().target_model_, AT)
    torch.testing.assert_close(latent.shared, posterior(ROWS, LABELS, AT, None)[1])


def test_variances_and_the_average_over_the_classes_are_those_of_the_covariances() -> None:
    latent = JointLatent.of(trained().target_model_, AT)
    dense = torch.stack([posterior(ROWS, LABELS, AT, c)[1] for c in range(3)])
    torch.testing.assert_close(latent.average_covariance(), dense.mean(dim=0))
    torch.testing.assert_close(latent.variances, dense.diagonal(dim1=1, dim2=2).T)


def test_draws_have_that_covariance() -> None:
    latent = JointLatent.of(trained().target_model_, AT)
    drawn = latent.deviations(20_000, np.random.RandomState(0))
    for c in range(3):
        expected = latent.covariance(c)
        # of 20,000 draws a covariance is known to about a hundredth of the variances
        assert (torch.cov(drawn[:, :, c].T) - expected).abs().max() < 0.05 * expected.diagonal().max()


def test_equal_rows_can_be_drawn() -> None:
    drawn = JointLatent.of(trained().target_model_, AT[[0, 0, 1]]).deviations(5, np.random.RandomState(0))
    assert drawn.isfinite().all()
    torch.testing.assert_close(drawn[:, 0], drawn[:, 1], rtol=0, atol=0.01)
