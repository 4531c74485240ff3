"""`MetaModelRepurposer` trains a head on the features that a network computes at some of its layers.

Subclasses supply the head through three hooks, under the names they had in Xfer. Features come from
`feature_repurposer`.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from torch import nn

from model_handler import Features
from repurpose.data.feature_rows import check_rows
from repurpose.data.folds import N_FOLDS
from repurpose.data.groups import check_n_groups, groups_of_present_rows, warn_of_whole_classes
from repurpose.data.kinds import is_image_folder
from repurpose.data.labelled_data import REQUIRES_LABELS, given_labels, needed_labels
from repurpose.data.labels import encode_labels
from repurpose.data.row_names import files_in_folder, naming_rows
from repurpose.data.row_shapes import SeenShapes
from repurpose.data.sample_weights import checked_counts, present_rows, refuse_shuffling
from repurpose.meta_model import checks
from repurpose.meta_model.feature_repurposer import FeatureRepurposer
from repurpose.meta_model.layer_choice import choose_layers
from repurpose.meta_model.outliers import bring_back_outliers
from repurpose.meta_model.sharded.interface import ShardedTraining
from repurpose.meta_model.weighted_fitting import WeightedFitting, takes
from repurpose.persistence.values.schema import Array, Dict, Items, Maybe, Number, Table, Text
from repurpose.threads import threads_for

__all__ = ["MetaModelRepurposer"]

_HEAD, _STATE = "target_model_", "head_state_"  # in the place of the first, files have what `_head_state` gave

_ONE_DRAW = (
    "a head learns from a single draw of each row. Give the data with the transform of prediction; augmentation is for "
    "networks: NeuralNetworkFineTuneRepurposer(..., augmentation=...)"
)


def _has_probability_hook(repurposer: "MetaModelRepurposer") -> bool:
    return repurposer._defines("_predict_probability_from_features")


class MetaModelRepurposer(ShardedTraining, WeightedFitting, FeatureRepurposer):
    """Base of the methods that train a head on features of the source network.

    Training rows with values far beyond all others, such as a cell of 1e6 from a sensor that failed, are brought into
    the range of the others first, with a UserWarning that names them (`repurpose.meta_model.outliers`).

    A subclass defines `_train_model_from_features` and at least one of `_predict_probability_from_features` and
    `_predict_label_from_features`, stores its own parameters in `__init__` and forwards the others with ``**kwargs``.
    If the first has a parameter `sample_weight`, so have `repurpose` and `fit` of the class; otherwise they have none.
    A head that is neither numbers, nor an estimator of scikit-learn, nor a network of torch's own layers is saved where
    `_head_state` and `_load_head_state` are defined too, and exported as ONNX where `_onnx_head` is.
    On up to 2,000 rows the hooks run with one thread of torch and BLAS (`repurpose.threads`); one that wants more for
    much work sets them itself.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network to reuse, or its name.
    feature_layer_names : list of str, "auto" or None, default=None
        The layers whose outputs are the features, side by side in this order. None takes the one that the source
        names or that the last linear layer reads (`ModelHandler.default_layer`), and of a `Features` given as data all
        of its layers; `feature_layer_names_` says which. ``"auto"`` chooses one to three among
        those that `ModelHandler.candidate_layers` proposes (of a `Features` given as data, among its layers) by the
        log loss of left-out training examples and the evidence of a Gaussian process, as
        `repurpose.meta_model.layer_choice` has it. The candidates, at most eight, come from one extraction, which goes
        no deeper than the last of them; at most 15 combinations are judged, on 200 examples at most. It is part of
        every `repurpose`, and so of every fold of a cross-validation.
    pooling : str or callable, default="auto"
        How an output of more than two axes becomes a row: ``"auto"``, ``"flatten"``, ``"avg"``, ``"max"``, ``"cls"``
        or a callable, as in `ModelHandler.extract`.
    precision : str, default="float32"
        ``"bfloat16"`` computes the features in it, which some processors do several times faster; see `ModelHandler`.
    cache_dir, cache_key : optional
        A directory that keeps features for the next fit or prediction, in this process or another, and what to know
        data by that cannot be known otherwise; see `ModelHandler.extract`. They are of this machine: a saved Repurposer
        does not have them, and after loading they are None until they are set.
    **kwargs
        The parameters of `Repurposer`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels seen in training, sorted.
    target_model_ : object
        What `_train_model_from_features` returned.
    feature_layer_names_ : list of str
        The layers the head was trained on.
    layer_scores_ : dict of tuple of str to float
        With ``feature_layer_names="auto"``, the log loss (nats) of left-out training examples for each combination of
        layers that was judged; empty where there was nothing to choose.
    row_shape_ : tuple of int or None, or a list or dict of such
        The shape of one row of the inputs in training, None for sizes that differed; of several parts each. There is
        none after training on `Features`.
    n_features_per_layer_ : dict of str to int
        How many features each of them gave.
    n_features_in_ : int
        The width of the matrix the head was trained on.
    training_features_, training_codes_, ...
        What questions about uncertainty need, as in `repurpose.uncertainty.interface.UncertaintyMixin`.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from torch import nn
    >>> from repurpose import MetaModelRepurposer
    >>> class KnnRepurposer(MetaModelRepurposer):
    ...     def __init__(self, source_model, feature_layer_names=None, n_neighbors=5, **kwargs):
    ...         super().__init__(source_model, feature_layer_names, **kwargs)
    ...         self.n_neighbors = n_neighbors
    ...     def _train_model_from_features(self, features, labels, feature_indices_per_layer):
    ...         return KNeighborsClassifier(self.n_neighbors).fit(features, labels)
    ...     def _predict_probability_from_features(self, features):
    ...         return self.target_model.predict_proba(features)
    ...
    >>> X, y = make_blobs(30, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> KnnRepurposer(network, n_neighbors=3).repurpose((X, y)).score((X, y))
    1.0
    """

    _keeps_classes_without_rows = False  # whether the head can know classes of which there are no rows

    _schema: ClassVar[Table] = {
        "layer_scores_": Maybe(Dict(Items(Text(), kind=tuple), Number(finite=False))),
        "training_features_": Maybe(Array("n_rows", "n_features", dtypes="float32")),
        "training_codes_": Maybe(Array("n_rows", dtypes="i u", least=0, below="n_classes")),
        "training_weights_": Maybe(Array("n_rows", least=0)),
        "training_groups_": Maybe(Array("n_rows", dtypes="i", least=0)),
        "training_files_": Maybe(Array("n_rows", dtypes="U")),
        "folds_": Maybe(Array("n_rows", dtypes="i", least=-1, below=N_FOLDS)),
        "fold_heads_": Maybe(Items(Dict(Text()))),
    }

    @available_if(_has_probability_hook)
    def predict_proba(self, X: object) -> np.ndarray:
        """Do the same as `predict_probability`, under scikit-learn's name; absent without a probability hook."""
        return self.predict_probability(X)

    def _train_model_from_features(
        self, features: np.ndarray, labels: np.ndarray, feature_indices_per_layer: Mapping[str, np.ndarray]
    ) -> Any:
        """Hook: train and return the head.

        `features` are raw float32 rows (n_samples, n_features), without gross outliers (`outliers`), `labels` are codes
        0..n_classes-1 of shape (n_samples,), and `feature_indices_per_layer` gives the columns of each layer.
        `classes_` is set already. A head that can weigh rows takes a further parameter, `sample_weight`: float64
        (n_samples,), all above 0, or None where every row counts once. One that holds rows out takes `groups`: int
        (n_samples,), rows of which are to be held out together, or None.
        """
        raise NotImplementedError(self._missing_hook("_train_model_from_features"))

    def _predict_probability_from_features(self, features: np.ndarray) -> np.ndarray:
        """Hook: the probabilities (n_samples, n_classes) of raw float32 rows (n_samples, n_features)."""
        raise NotImplementedError(
            self._missing_hook("_predict_probability_from_features")
            + ", without which there are no probabilities; predict_label works where the label hook is defined"
        )

    def _predict_label_from_features(self, features: np.ndarray) -> np.ndarray:
        """Hook, optional: the codes (n_samples,) of raw float32 rows; by default the most likely class."""
        return self.head_probabilities(features).argmax(axis=1)

    def _predict_samples_from_features(
        self, features: np.ndarray, n_samples: int, random_state: np.random.RandomState
    ) -> np.ndarray:
        """Hook, optional: class probabilities by draws from the head's posterior, (n_samples, n_rows, n_classes).

        All random numbers come from `random_state`, which comes in the same state for each part of many rows, so that
        draws of parameters are the same for all of them.
        """
        raise NotImplementedError(self._missing_hook("_predict_samples_from_features"))

    def _predict_variance_from_features(self, features: np.ndarray) -> np.ndarray:
        """Hook, optional: the variance of the head's latent function at each row, over all classes: (n_rows,)."""
        raise NotImplementedError(self._missing_hook("_predict_variance_from_features"))

    def _head_state(self) -> Any:
        """Hook, optional: what a file holds in the place of the head, from which `_load_head_state` makes it again.

        Arrays, tensors, and what JSON has a word for: numbers, text, lists, dicts. The head is `target_model_`.
        """
        raise NotImplementedError(self._missing_hook("_head_state"))

    def _load_head_state(self, state: Any) -> Any:
        """Hook, optional: the head of what `_head_state` returned; `classes_` and all else that was learned is set."""
        raise NotImplementedError(self._missing_hook("_load_head_state"))

    def _onnx_head(self) -> nn.Module | None:
        """Hook, optional: features (n, n_features) to what the probability hook gives, as a module of plain torch."""
        return None

    def _learn_whole(self, data: object, sample_weight: ArrayLike | None, groups: np.ndarray | None) -> None:
        self._check_hooks()
        weights = checked_counts(sample_weight)
        name_of = naming_rows(data, weights)
        if weights is not None:
            refuse_shuffling(data)
            groups = None if groups is None else groups_of_present_rows(groups, weights)
            data, weights = present_rows(data, weights)
        given = given_labels(data)
        encoded = None if given is None else encode_labels(given)  # judged before the network runs
        if groups is not None and weights is None and encoded is not None:
            check_n_groups(groups, len(encoded.codes))
        if is_image_folder(data):
            encode_labels(data.labels)  # and again once it is known which images can be read
        self._warn_of_random_rows(data, _ONE_DRAW)
        seen = SeenShapes()
        features = self._extract(data, self._layers_to_extract(data), seen.note)
        files = files_in_folder(data)
        if weights is not None:
            n_rows = len(features)
            files = files if files is None else files[weights > 0]
            features, weights = present_rows(features, weights)
            encoded = encoded if len(features) == n_rows else None
        if encoded is None:
            encoded = encode_labels(needed_labels(features.labels, f"{type(self).__name__} {REQUIRES_LABELS}"))
        if groups is not None:
            check_n_groups(groups, len(features))
        check_rows(features, encoded.codes, name_of)
        features = bring_back_outliers(features, encoded.codes, weights, name_of)
        self._note_training()
        self.classes_ = encoded.classes
        if seen.shapes is not None:
            self.row_shape_ = seen.shapes
        if files is not None:
            self.training_files_ = files
        self._train(features, encoded.codes, None if weights is None or (weights == 1).all() else weights, groups)

    def _learn_rows(
        self, features: Features, weights: np.ndarray | None = None, groups: np.ndarray | None = None
    ) -> Self:
        """Do as `repurpose` with some rows of another training, whose groups have been judged and told of."""
        return self._learn_by(lambda rows: self._learn(rows, weights, groups), features, None)

    def _without_outliers(
        self, features: Features, codes: np.ndarray, weights: np.ndarray | None, name_of: Callable[[int], str]
    ) -> Features:
        return bring_back_outliers(features, codes, weights, name_of)

    def _tell_of_groups(self) -> None:
        warn_of_whole_classes(self.training_codes_, self.training_groups_, self.classes_)

    def _train(
        self,
        features: Features,
        codes: np.ndarray,
        weights: np.ndarray | None,
        groups: np.ndarray | None,
        train: Callable[..., Any] | None = None,
    ) -> None:
        """Choose layers where that is wanted, and train the head, by its hook or `train`; weights are above 0."""
        if self._chooses_layers:
            choice = choose_layers(features, codes, check_random_state(self.random_state), weights, groups)
            self.layer_scores_ = choice.scores
            features = features.select(choice.names)
        self.feature_layer_names_ = features.layer_names
        self.n_features_per_layer_ = {name: array.shape[1] for name, array in features.values.items()}
        self.n_features_in_ = features.shape[1]
        self.training_features_, self.training_codes_ = features.matrix, codes
        if weights is not None:
            self.training_weights_ = weights
        if groups is not None:
            self.training_groups_ = groups
        hook = self._train_model_from_features if train is None else train
        further = {"sample_weight": weights, "groups": groups}
        options = {name: value for name, value in further.items() if takes(hook, name)}
        with threads_for(len(features)):
            self.target_model_ = hook(features.matrix, codes, features.indices_per_layer, **options)

    def _predict_codes(self, data: object) -> tuple[np.ndarray, object]:
        features = self._features_for_head(data)
        if hasattr(self, "calibration_") and not self.calibration_.keeps_order:
            return self._calibrated(self.head_probabilities(features.matrix)).argmax(axis=1), features.labels
        with self._threads_for(features.matrix):
            codes = self._predict_label_from_features(features.matrix)
        hook = f"{type(self).__name__}._predict_label_from_features"
        return checks.checked_codes(codes, len(features), len(self.classes_), hook), features.labels

    def _predict_probabilities(self, data: object) -> np.ndarray:
        if not _has_probability_hook(self):  # before any work
            self._predict_probability_from_features(np.empty((0, 0), np.float32))
        return self._calibrated(self.head_probabilities(self._features_for_head(data).matrix))

    def _learned_for_file(self) -> dict[str, Any]:
        learned = super()._learned_for_file()
        if not self._defines("_head_state") and not self._defines("_load_head_state"):
            return learned
        for hook in ("_head_state", "_load_head_state"):
            if not self._defines(hook):
                raise ValueError(f"{self._missing_hook(hook)} too, or it cannot be saved and loaded")
        if "fold_heads_" in learned:
            folds = [self.with_learned(of_fold) for of_fold in learned["fold_heads_"]]
            learned["fold_heads_"] = [
                _with_state(of_fold, head._head_state()) for of_fold, head in zip(learned["fold_heads_"], folds)
            ]
        return _with_state(learned, self._head_state())

    def _take_from_file(self, learned: Mapping[str, Any]) -> None:
        super()._take_from_file({name: value for name, value in learned.items() if name != _STATE})
        if _STATE not in learned:
            return
        self._take_head(learned[_STATE])
        if "fold_heads_" in learned:
            self.fold_heads_ = [self._fold_with_head(of_fold) for of_fold in learned["fold_heads_"]]

    def _take_head(self, state: Any) -> None:
        hook = f"{type(self).__name__}._load_head_state"
        try:
            head = self._load_head_state(state)
        except Exception as error:  # of a user's code, which knows nothing of files
            raise ValueError(f"{hook} makes no head of what was saved: {type(error).__name__}: {error}") from error
        if head is not None:  # else the hook set it, as the attribute that it is
            self.target_model_ = head
        elif not hasattr(self, _HEAD):
            raise ValueError(f"{hook} returned None, and set no {_HEAD}")

    def _fold_with_head(self, learned: Mapping[str, Any]) -> dict[str, Any]:
        """Return what was learned without a fold, with the head that its state makes."""
        rest = {name: value for name, value in learned.items() if name != _STATE}
        of_fold = self.with_learned(rest)
        of_fold._take_head(learned[_STATE])
        return {**rest, _HEAD: of_fold.target_model_}

    def _check_restored(self) -> None:
        super()._check_restored()
        if mistakes := self._parameter_mistakes():  # heads of folds may be trained with them
            raise ValueError("; ".join(mistakes))
        row = np.zeros((1, self._head_width()), np.float32)
        checks.check_answers(self, row)
        folds, heads = vars(self).get("folds_"), vars(self).get("fold_heads_", [])
        if heads and (folds is None or len(heads) != folds.max() + 1):
            raise ValueError(f"its {len(heads)} fold_heads_ and its folds_ do not go together")
        for learned in heads:
            checks.check_answers(self.with_learned(learned), row)
        self._checked_method("auto")

    def head_probabilities(self, matrix: np.ndarray) -> np.ndarray:
        hook = f"{type(self).__name__}._predict_probability_from_features"
        with self._threads_for(matrix):
            probabilities = self._predict_probability_from_features(matrix)
        return checks.checked_probabilities(probabilities, len(matrix), len(self.classes_), hook)

    def head_samples(self, matrix: np.ndarray, n_draws: int, random_state: np.random.RandomState) -> np.ndarray:
        hook = f"{type(self).__name__}._predict_samples_from_features"
        with self._threads_for(matrix):
            draws = self._predict_samples_from_features(matrix, n_draws, random_state)
        return checks.checked_samples(draws, (n_draws, len(matrix), len(self.classes_)), hook)

    def head_variances(self, matrix: np.ndarray) -> np.ndarray:
        hook = f"{type(self).__name__}._predict_variance_from_features"
        with self._threads_for(matrix):
            variances = self._predict_variance_from_features(matrix)
        return checks.checked_variances(variances, len(matrix), hook)

    def _threads_for(self, matrix: np.ndarray) -> AbstractContextManager[None]:
        """Return the threads of a hook that predicts, by these rows and those of training, which some heads compare."""
        return threads_for(len(matrix), len(getattr(self, "training_codes_", matrix)))

    def _head_width(self) -> int:
        """Return how many features a row has that the head takes."""
        return checks.width_of_layers(self.n_features_per_layer_)

    def _check_hooks(self) -> None:
        if not self._defines("_train_model_from_features"):
            raise NotImplementedError(self._missing_hook("_train_model_from_features"))
        prediction = ("_predict_probability_from_features", "_predict_label_from_features")
        if not any(map(self._defines, prediction)):
            raise NotImplementedError(self._missing_hook(" or ".join(prediction)))

    def _defines(self, hook: str) -> bool:
        return getattr(type(self), hook) is not getattr(MetaModelRepurposer, hook)

    def _missing_hook(self, hook: str) -> str:
        return f"{type(self).__name__} must define {hook}"


def _with_state(learned: Mapping[str, Any], state: Any) -> dict[str, Any]:
    """Return what was learned with a state in the place of the head."""
    return {**{name: value for name, value in learned.items() if name != _HEAD}, _STATE: state}
