import io
import warnings
import zipfile
from typing import Any

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from repurpose.persistence.values import heads
from tests.repurpose.examples import blobs


def test_logistic_regression_comes_back_from_its_parts_without_warnings() -> None:
    X, y = blobs()
    model = LogisticRegression(C=0.3, class_weight={0: 2.0}).fit(X, y)
    parts = heads.take_apart(model)
    parts["parameters"]["gone_since"] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        twin = heads.put_together(parts)
    assert (twin.C, twin.class_weight) == (0.3, {0: 2.0})
    assert np.array_equal(twin.predict_proba(X), model.predict_proba(X))


def test_sparse_and_subclassed_logistic_regressions_are_not_taken_apart() -> None:
    class Own(LogisticRegression):
        pass

    X, y = blobs()
    assert not heads.is_plain_logistic_regression(LogisticRegression().fit(X, y).sparsify())
    assert not heads.is_plain_logistic_regression(Own().fit(X, y))
    assert not heads.is_estimator(Own())


@pytest.mark.parametrize(
    "estimator",
    [
        KNeighborsClassifier(3),
        KNeighborsClassifier(3, algorithm="brute"),
        KNeighborsClassifier(3, algorithm="ball_tree"),
        SVC(),
        GaussianNB(),
        LinearDiscriminantAnalysis(),
    ],
)
def test_known_estimators_come_back_from_skops(estimator: Any) -> None:
    X, y = blobs()
    data, strangers = heads.dump_estimator(estimator.fit(X, y))
    assert strangers == []
    assert np.array_equal(heads.load_estimator(data).predict(X), estimator.predict(X))


def test_an_estimator_with_a_type_not_trusted_is_refused_before_anything_is_made() -> None:
    data, strangers = heads.dump_estimator(DecisionTreeClassifier().fit([[0], [1]], [0, 1]))
    assert strangers == ["sklearn.tree._tree.Tree"]
    with pytest.raises(ValueError, match=r"types that are not loaded from files: sklearn\.tree\._tree\.Tree"):
        heads.load_estimator(data)


def zip_of(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return made.getvalue()


def entries_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_file_that_takes_more_memory_than_it_has_bytes_is_refused_unread() -> None:
    entries = entries_of(heads.dump_estimator(KNeighborsClassifier(3).fit(*blobs()))[0])
    with pytest.raises(ValueError, match="a compressed file"):
        heads.load_estimator(zip_of({**entries, "zeros.npy": bytes(10**6)}, zipfile.ZIP_DEFLATED))
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + b"\n"
    lying = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    name = next(name for name in entries if name.endswith(".npy"))
    with pytest.raises(ValueError, match=r"says it is of dtype float64 and shape \(1000000000000,\), and is not"):
        heads.load_estimator(zip_of({**entries, name: lying}))


def test_what_is_no_estimator_or_starts_thousands_of_threads_is_refused() -> None:
    from skops.io import dumps

    with pytest.raises(ValueError, match="a dict in the place of an estimator"):
        heads.load_estimator(dumps({"a": 1}))
    with pytest.raises(ValueError, match="more than 1024 threads"):
        heads.load_estimator(dumps(KNeighborsClassifier(3, n_jobs=10**6).fit(*blobs())))
