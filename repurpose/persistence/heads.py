"""Serialization of scikit-learn heads: logistic regression as arrays, whatever the version, all others by skops.

skops names every type inside a file before it makes any. Loading goes on only where each is one that skops trusts by
itself or stands in the short list below; the same question is asked when saving, so that what is saved can be loaded.
"""

import inspect
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
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
    """Load the estimator of a skops file. Raises ValueError, before anything is made, for a type we do not trust."""
    from skops.io import get_untrusted_types, loads

    found = get_untrusted_types(data=data)
    if untrusted := sorted(set(found) - _TRUSTED):
        raise ValueError(f"it holds types that are not loaded from files: {', '.join(untrusted)}")
    return loads(data, trusted=found)
