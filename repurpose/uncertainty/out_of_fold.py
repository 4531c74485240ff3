"""What a head says about training rows that it did not see: the head trained anew without each of five folds.

The folds and the heads are made when they are first needed, from the features that were kept in training, and are then
part of what was learned: saved, loaded and never made again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from model_handler import Features
from model_handler.errors import with_fix
from repurpose.data.folds import deal_folds
from repurpose.fitted import fitted_attributes
from repurpose.seeding import chance_at_prediction, seed_at_prediction
from repurpose.uncertainty import defaults

__all__ = ["NO_FOLDS", "Fold", "fold_heads", "folds_of", "training_features", "training_weights"]

NO_FOLDS = "no class has two training examples, so none can be held out"
_NOT_OF_ONE_HEAD = ("classes_", "feature_layer_names_", "n_features_per_layer_", "n_features_in_")
_TRAINING = ("training_features_", "training_codes_")


@dataclass(frozen=True, eq=False)
class Fold:
    """A head that was trained without the rows `held_out`, indices into the training rows."""

    head: Any
    held_out: np.ndarray


def training_features(repurposer: Any) -> Features:
    """The features and labels of training, as they were. Raises ValueError where they were not kept."""
    if missing := [name for name in _TRAINING if not hasattr(repurposer, name)]:
        reason = repurposer._without_training_rows()
        raise with_fix(
            ValueError,
            f"this {type(repurposer).__name__} has no {' and '.join(missing)}, which this needs",
            python=reason,
            shell="--coverage and --p-values need what `repurpose train` saves: train it again",
            between=": ",
        )
    ends = np.cumsum(list(repurposer.n_features_per_layer_.values()))[:-1]
    layers = np.split(repurposer.training_features_, ends, axis=1)
    values = dict(zip(repurposer.n_features_per_layer_, layers))
    return Features(values, repurposer.classes_[repurposer.training_codes_])


def training_weights(repurposer: Any, rows: Any) -> np.ndarray | None:
    """The weights of some training rows, by a mask, indices or a slice; None where every row counts once."""
    weights = getattr(repurposer, "training_weights_", None)
    return None if weights is None else weights[rows]


def folds_of(repurposer: Any) -> np.ndarray:
    """The fold in which each training row is held out, or -1 for the only one of its class: (n_samples,).

    Dealt once, into `folds_`. Raises ValueError where no class has two examples.
    """
    if not hasattr(repurposer, "folds_"):
        training_features(repurposer)
        folds = deal_folds(repurposer.training_codes_, chance_at_prediction(repurposer))
        if folds is None:
            raise with_fix(
                ValueError,
                NO_FOLDS,
                python="give labelled rows that were not used in training",
                shell="train again with two images or more of a class",
            )
        repurposer.folds_ = folds
    return repurposer.folds_


def fold_heads(repurposer: Any) -> Iterator[Fold]:
    """Each fold with its head, trained once; what the heads learned is kept in `fold_heads_`, a list of dicts."""
    folds = folds_of(repurposer)
    if not hasattr(repurposer, "fold_heads_"):
        features = training_features(repurposer)
        kept = [np.flatnonzero(folds != fold) for fold in range(folds.max() + 1)]
        repurposer.fold_heads_ = [
            _learned(_untrained(repurposer).repurpose(features[rows], **_weights(repurposer, rows))) for rows in kept
        ]
    for fold, learned in enumerate(repurposer.fold_heads_):
        head = _untrained(repurposer)
        vars(head).update({name: vars(repurposer)[name] for name in _NOT_OF_ONE_HEAD}, **learned)
        yield Fold(head, np.flatnonzero(folds == fold))


def _untrained(repurposer: Any) -> Any:
    twin = clone(repurposer).set_params(**repurposer._parameters_of_folds())
    twin.random_state = seed_at_prediction(repurposer)  # so that whoever trains these heads gets the same
    twin.feature_layer_names = list(repurposer.feature_layer_names_)
    return twin


def _weights(repurposer: Any, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What `repurpose` takes beside some training rows: nothing where a head cannot weigh rows."""
    weights = training_weights(repurposer, rows)
    return {} if weights is None else {"sample_weight": weights}


def _learned(head: Any) -> dict[str, Any]:
    left_out = (*_NOT_OF_ONE_HEAD, *_TRAINING, "training_weights_", *defaults.NAMES, "class_names_")
    return {name: value for name, value in fitted_attributes(head).items() if name not in left_out}
