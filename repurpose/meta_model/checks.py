"""Checks of layer names, widths of features and what hooks return, where head, network and user meet."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from model_handler import Features

if TYPE_CHECKING:
    from repurpose.meta_model.meta_model_repurposer import MetaModelRepurposer

__all__ = [
    "check_answers",
    "check_widths",
    "checked_codes",
    "checked_probabilities",
    "checked_samples",
    "checked_variances",
    "layer_name_mistakes",
    "width_of_layers",
]

_MAX_WIDTH = 10_000_000  # 40 MB a row: more features than any network has weights behind

_TOO_WIDE = (
    'feature_layer_names="auto" cannot go with pooling="flatten", which makes hundreds of thousands of features of an '
    'early layer; use pooling="auto", or name the layers'
)


def layer_name_mistakes(names: object, pooling: object, *, required: bool) -> list[str]:
    """List what is wrong with `feature_layer_names`, a sentence each; whether the network has them is not asked here.

    None is none of them where the class of a user has `required` the parameter.
    """
    if names is None and not required:
        return []
    # Its type first, since an array compares with a text entry by entry.
    if isinstance(names, str) and names == "auto":
        too_wide = isinstance(pooling, str) and pooling == "flatten"
        return [_TOO_WIDE] if too_wide else []
    if isinstance(names, str):
        return [
            f'feature_layer_names must be a list of layer names, got the string {names!r}; write ["{names}"], or '
            '"auto" to have layers chosen'
        ]
    if not isinstance(names, (Sequence, np.ndarray)):
        return [f'feature_layer_names must be a list of layer names such as ["avgpool"], got {names!r}']
    if len(names) == 0:
        return [
            'feature_layer_names is empty; name at least one layer, such as ["avgpool"] '
            "(ModelHandler(source_model).layer_names lists them)"
        ]
    mistakes = [f"a layer name must be text, got {name!r}" for name in names if not isinstance(name, str)]
    repeated = [name for name, count in Counter(map(str, names)).items() if count > 1]
    return mistakes + [f"feature_layer_names names {name!r} more than once" for name in repeated]


def width_of_layers(widths: object) -> int:
    """Add up how many features each layer gives. Raises ValueError for what are no such numbers, as from a file."""
    # `type`, since True is an int to isinstance.
    if not isinstance(widths, dict) or not all(type(width) is int and width >= 0 for width in widths.values()):
        raise ValueError("its layers have no numbers of features")
    if (width := sum(widths.values())) > _MAX_WIDTH:
        raise ValueError(f"its layers have {width:,} features")
    return width


def check_widths(features: Features, expected: Mapping[str, int], class_name: str) -> None:
    """Raise ValueError unless every layer gives as many features as in training."""
    now = {name: array.shape[1] for name, array in features.values.items()}
    if changed := [name for name in expected if now[name] != expected[name]]:
        details = "; ".join(
            f"layer {name!r} gave {expected[name]} in training and gives {now[name]}" for name in changed
        )
        raise ValueError(
            f"X has {sum(now.values())} features, but {class_name} is expecting {sum(expected.values())} features as "
            f"input: {details}. Inputs, network and pooling must be as they were in training"
        )


def checked_probabilities(probabilities: ArrayLike, n_rows: int, n_classes: int, hook: str) -> np.ndarray:
    """Return what the hook gave as an array (n_rows, n_classes), or raise ValueError naming the hook."""
    array = np.asarray(probabilities)
    if array.shape != (n_rows, n_classes):
        raise ValueError(
            f"{hook} must return an array of shape (n_samples, n_classes) = {(n_rows, n_classes)}, "
            f"got shape {array.shape}"
        )
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise ValueError(f"{hook} must return finite numbers; {_bad_rows(array)} of {n_rows} rows hold something else")
    # Wide enough for rows that were rounded to half precision.
    if (array < -1e-6).any() or (np.abs(array.sum(axis=1, dtype=np.float64) - 1) > 1e-2).any():
        raise ValueError(f"{hook} must return probabilities: no negative numbers, and rows that sum to 1")
    return array


def checked_samples(draws: ArrayLike, shape: tuple[int, int, int], hook: str) -> np.ndarray:
    """Return what the hook gave as an array (n_draws, n_rows, n_classes), or raise ValueError naming the hook."""
    array = np.asarray(draws)
    if array.shape != shape:
        raise ValueError(
            f"{hook} must return an array of shape (n_samples, n_rows, n_classes) = {shape}, got shape {array.shape}"
        )
    n_draws, n_rows, n_classes = shape
    return checked_probabilities(array.reshape(-1, n_classes), n_draws * n_rows, n_classes, hook).reshape(shape)


def checked_variances(variances: ArrayLike, n_rows: int, hook: str) -> np.ndarray:
    """Return what the hook gave as float64 (n_rows,), or raise ValueError naming the hook."""
    array = np.asarray(variances)
    if array.shape != (n_rows,) or array.dtype.kind not in "iuf" or not (np.isfinite(array) & (array >= 0)).all():
        raise ValueError(
            f"{hook} must return a finite number of at least 0 for each row, shape ({n_rows},); got dtype "
            f"{array.dtype} and shape {array.shape}"
        )
    return array.astype(np.float64)


def checked_codes(codes: ArrayLike, n_rows: int, n_classes: int, hook: str) -> np.ndarray:
    """Return what the hook gave as codes of shape (n_rows,), or raise ValueError naming the hook."""
    array = np.asarray(codes)
    whole = array.dtype.kind in "biu" or (array.dtype.kind == "f" and np.array_equal(array, np.floor(array)))
    if array.shape != (n_rows,) or not whole or (n_rows and not 0 <= array.min() <= array.max() < n_classes):
        raise ValueError(
            f"{hook} must return one code a row, from 0 to {n_classes - 1} (classes_ turns them into labels), "
            f"as an array of shape ({n_rows},); got dtype {array.dtype} and shape {array.shape}"
        )
    return array.astype(np.int64)


def _bad_rows(array: np.ndarray) -> int:
    return int((~np.isfinite(array)).any(axis=1).sum()) if array.dtype.kind == "f" else len(array)


def check_answers(repurposer: "MetaModelRepurposer", row: np.ndarray) -> None:
    """Ask a head about one row (1, n_features), all that its class defines. Raises what the head raises."""
    codes = repurposer._predict_label_from_features(row)
    checked_codes(codes, 1, len(repurposer.classes_), "its head")
    if repurposer._defines("_predict_probability_from_features"):
        repurposer._calibrated(repurposer.head_probabilities(row))
    if repurposer._defines("_predict_samples_from_features"):
        repurposer.head_samples(row, 1, np.random.RandomState(0))
    if repurposer._defines("_predict_variance_from_features"):
        repurposer.head_variances(row)
