import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from repurpose.uncertainty.gaussian import Gaussian


@pytest.mark.parametrize("shape", [(30, 80), (200, 12), (40, 40)])
def test_the_covariance_is_that_of_ledoit_and_wolf(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=shape) @ rng.normal(size=(shape[1], shape[1]))
    centred = rows - rows.mean(axis=0)
    covariance = LedoitWolf(assume_centered=True).fit(centred).covariance_
    new = rng.normal(size=(7, shape[1]))
    expected = np.einsum("ni,ij,nj->n", new, np.linalg.inv(covariance), new)
    assert np.allclose((Gaussian.fit(centred).whiten(new) ** 2).sum(axis=1), expected, rtol=1e-8)
