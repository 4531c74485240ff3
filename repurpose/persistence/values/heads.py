"""Serialization of scikit-learn heads: logistic regression as arrays, whatever the version, all others by skops.

skops names every type inside a file before it makes any. Loading goes on only where each is one that skops trusts by
itself or stands in the short list below; the same question is asked when saving, so that what is saved can be loaded.
"""

import inspect
import math
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeGuard
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from numpy.lib.format import read_array_header_1_0, read_array_header_2_0, read_magic
from sklearn.base import BaseEstimator

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

__all__ = [
    "dump_estimator",
    "is_estimator",
    "is_plain_logistic_regression",
    "load_estimator",
    "put_together",
    "take_apart",
]

# Search trees of nearest neighbours, and calibrated classifiers: types of scikit-learn that hold arrays and estimators.
_TRUSTED = frozenset(
    {
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.metrics._dist_metrics.EuclideanDistance32",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._ball_tree.BallTree32",
        "sklearn.neighbors._ball_tree.BallTree64",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neighbors._kd_tree.KDTree32",
        "sklearn.neighbors._kd_tree.KDTree64",
    }
)
_MOST_JOBS = 1024
_LEARNED = ("classes_", "coef_", "intercept_", "n_features_in_", "n_iter_")


def is_plain_logistic_regression(value: object) -> "TypeGuard[LogisticRegression]":
    """Tell whether `value` is a fitted, dense `LogisticRegression` and no subclass of it."""
    if not isinstance(value, BaseEstimator):
        return False
    from sklearn.linear_model import LogisticRegression

    return type(value) is LogisticRegression and isinstance(getattr(value, "coef_", None), np.ndarray)


def take_apart(model: "LogisticRegression") -> dict[str, dict[str, Any]]:
    """Return the parameters of a `LogisticRegression` that differ from their defaults, and what it learned."""
    defaults = inspect.signature(type(model)).parameters
    changed = {name: value for name, value in model.get_params().items() if value is not defaults[name].default}
    return {"parameters": changed, "learned": {name: getattr(model, name) for name in _LEARNED if hasattr(model, name)}}


def put_together(parts: dict[str, dict[str, Any]]) -> "LogisticRegression":
    """Rebuild the `LogisticRegression` that was taken apart, without parameters that this scikit-learn lacks."""
    from sklearn.linear_model import LogisticRegression

    # Versions of scikit-learn drop parameters; what was learned predicts without them.
    known = inspect.signature(LogisticRegression).parameters
    model = LogisticRegression(**{name: value for name, value in parts["parameters"].items() if name in known})
    for name in _LEARNED:
        if name in parts["learned"]:
            setattr(model, name, parts["learned"][name])
    return model


def is_estimator(value: object) -> TypeGuard[BaseEstimator]:
    """Tell whether `value` is one of scikit-learn's own estimators, which skops knows."""
    return isinstance(value, BaseEstimator) and type(value).__module__.startswith("sklearn.")


def dump_estimator(estimator: BaseEstimator) -> tuple[bytes, list[str]]:
    """Return the estimator as a skops file, and the names of types inside that `load_estimator` would refuse."""
    from skops.io import dumps, get_untrusted_types

    data = dumps(estimator)
    return data, sorted(set(get_untrusted_types(data=data)) - _TRUSTED)


def load_estimator(data: bytes) -> BaseEstimator:
    """Load the estimator of a skops file.

    Raises ValueError, before anything is made, for a type we do not trust or sizes that are not those of the file, and
    for what is no estimator.
    """
    from skops.io import get_untrusted_types, loads

    _check_sizes(data)
    found = get_untrusted_types(data=data)
    if untrusted := sorted(set(found) - _TRUSTED):
        raise ValueError(f"it holds types that are not loaded from files: {', '.join(untrusted)}")
    estimator = loads(data, trusted=found)
    if not is_estimator(estimator):
        raise ValueError(f"it holds a {type(estimator).__name__} in the place of an estimator")
    n_jobs = [value for name, value in estimator.get_params().items() if name.rpartition("__")[2] == "n_jobs"]
    if any(value is not None and abs(value) > _MOST_JOBS for value in n_jobs):
        raise ValueError(f"it holds a {type(estimator).__name__} that would start more than {_MOST_JOBS} threads")
    return estimator


def _check_sizes(data: bytes) -> None:
    """Raise ValueError for a skops file that takes more memory than it has bytes: none that we write is compressed."""
    with ZipFile(BytesIO(data)) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != ZIP_STORED for entry in entries):
            raise ValueError("it holds a compressed file, which may be of any size")
        if sum(entry.file_size for entry in entries) > len(data):
            raise ValueError("it holds files that are larger than it is")
        if len({entry.filename for entry in entries}) < len(entries):
            raise ValueError("it holds two files of one name")
        for entry in entries:
            if entry.filename.endswith(".npy"):
                _check_array(archive.read(entry))


def _check_array(data: bytes) -> None:
    """Raise ValueError for a `.npy` file whose header asks for more numbers than there are, or for objects."""
    stream = BytesIO(data)
    read_header = read_array_header_1_0 if read_magic(stream) == (1, 0) else read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise ValueError(f"it holds an array that says it is of dtype {dtype} and shape {str(shape)[:60]}, and is not")
