import numpy as np
import pytest

from repurpose import LaplaceRepurposer
from repurpose.meta_model.laplace import KroneckerCovariance, WholeCovariance
from tests.repurpose.examples import blobs, identity_network
from tests.repurpose.hard_rows import new_rows
from tests.repurpose.in_onnxruntime import computed, in_onnxruntime


def laplace() -> LaplaceRepurposer:
    return LaplaceRepurposer(identity_network(), ["0"], c=1.0)


@pytest.mark.parametrize(
    ("n_rows", "n_features", "n_classes", "kind"),
    [
        (60, 4, 3, WholeCovariance),
        (60, 4, 2, WholeCovariance),
        (30, 40, 3, WholeCovariance),
        (90, 40, 30, KroneckerCovariance),
    ],
)
def test_it_gives_the_variances_of_the_repurposer(n_rows: int, n_features: int, n_classes: int, kind: type) -> None:
    X, y = blobs(n_rows, n_features=n_features, n_classes=n_classes)
    repurposer, rows = laplace().repurpose((X, y)), new_rows(X)
    assert isinstance(repurposer.posterior_.covariance, kind)
    assert np.allclose(computed(repurposer._onnx_variance(), rows), repurposer.head_variances(rows), rtol=1e-11)


def test_onnxruntime_computes_the_same_of_more_features_than_rows() -> None:
    X, y = blobs(30, n_features=40)
    repurposer, rows = laplace().repurpose((X, y)), new_rows(X)
    (found,) = in_onnxruntime(repurposer._onnx_variance(), rows)
    assert np.allclose(found, repurposer.head_variances(rows), rtol=1e-10)
