"""Every Repurposer answers the same questions about uncertainty, whatever its head.

A head answers through hooks (`MetaModelRepurposer`); everything else is computed here from their answers and from the
features of training. Each method runs the data through the network once, and takes a `Features` in place of data.
"""

from collections.abc import Callable, Iterable, Iterator
from math import ceil
from typing import Any, ClassVar, TypeVar

import numpy as np

from model_handler import Features
from model_handler.errors import with_fix
from model_handler.network.ambient_modes import undisturbed
from model_handler.user_warnings import warn_user
from repurpose.persistence.values.schema import Array, Items, Maybe, Number, Object, Table, Text
from repurpose.seeding import rng_at_prediction
from repurpose.threads import threads_for
from repurpose.uncertainty.calibration import Calibration
from repurpose.uncertainty.checks import check_are_inputs, check_choice, check_count, check_coverage, check_threshold
from repurpose.uncertainty.comparisons import METHODS, KnownLabels, compare_unfamiliarity, known_labels
from repurpose.uncertainty.conformal import p_values
from repurpose.uncertainty.decomposition import Uncertainty, decompose, entropy
from repurpose.uncertainty.defaults import default_of
from repurpose.uncertainty.evaluation import Answers, Evaluation, evaluate_answers
from repurpose.uncertainty.prediction_sets import SCORES, PredictionSets
from repurpose.uncertainty.recalibration import CalibrationMixin

__all__ = ["UncertaintyMixin", "full_sets"]

_Told = TypeVar("_Told", bound=Exception)

_METHODS = ("auto", *METHODS)
_ROUNDING = 1e-12  # 1 - 0.9 is a little less than 0.1


class UncertaintyMixin(CalibrationMixin):
    """Uncertainty, sets of labels, unfamiliarity, calibration and evaluation; `Repurposer` inherits them.

    Attributes
    ----------
    training_features_, training_codes_ : float32 ndarray (n_samples, n_features), int ndarray (n_samples,)
        The rows of training, outliers in the range of the others, and their classes: for distances, and for training
        the head without some of them. They are saved too, 5 kB a row for 1,280 features; deleting them costs only what
        is computed from them. Features given to `repurpose` are not copied.
    training_weights_ : float64 ndarray of shape (n_samples,)
        Where `sample_weight` was given: how many times each of these rows counts, here as in training. Rows of weight 0
        are not among them.
    training_groups_ : int ndarray of shape (n_samples,)
        Where `groups` were given: the group of each of these rows, which are in one fold. As they are no more certain
        than one row, each group counts as one of the rows that sets and p-values are judged by.
    training_files_ : ndarray of str of shape (n_samples,)
        Where rows were images of a folder: their files in it, such as ``"cat/7.png"``.
    unfamiliarity_method_ : str
        What ``method="auto"`` means for this repurposer: the default when it was trained. Saved with the rest, so that
        its answers stay what they were; without, as saved by versions that did not write it, ``"mahalanobis"``.
    rank_cost_ : tuple of int and float
        How many ranks cost nothing in sets by ``"raps"``, and what each after them costs, kept likewise.
    folds_, fold_heads_ : int ndarray of shape (n_samples,), list of dict
        The fold in which each training row is held out, and what the head trained without each fold learned. Made when
        first needed, in the time of five trainings of the head, and part of what is saved from then on. The seed of
        training deals them, so that they come out the same whenever, and by whichever thread, they are made.
    calibration_ : Calibration
        After `calibrate`: `calibration_.temperature`, or factors and offsets of the classes.
    conformal_features_, conformal_codes_ : float32 ndarray (n_rows, n_features), int ndarray (n_rows,)
        After `conformalize`: its rows and their classes, and in `conformal_groups_` (n_rows,) their groups if given.
    """

    # Of what is learned here.
    _schema: ClassVar[Table] = {
        "unfamiliarity_method_": Maybe(Text(*METHODS)),
        "rank_cost_": Maybe(Items(Number(least=0), kind=tuple, n=2)),
        "calibration_": Maybe(Object(Calibration)),
        "conformal_features_": Maybe(Array("n_conformal", "n_features", dtypes="float32")),
        "conformal_codes_": Maybe(Array("n_conformal", dtypes="i u", least=0, below="n_classes")),
        "conformal_groups_": Maybe(Array("n_conformal", dtypes="i", least=0)),
    }

    class_names_: np.ndarray
    _judged: Callable[[object], object]
    _predict_codes: Callable[[object], tuple[np.ndarray, object]]
    _predict_probabilities: Callable[[Any], np.ndarray]

    @undisturbed()
    def predict_uncertainty(self, data: object, n_draws: int = 200) -> Uncertainty:
        """Return how uncertain the prediction of each row is, and why, in nats; None for what the head cannot know.

        Where the head has posterior draws, `n_draws` of them give the entropies, calibrated as `predict_probability`
        is; elsewhere the probabilities of `predict_probability` give the total alone.

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import GpRepurposer
        >>> X, y = make_blobs(30, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 5))
        >>> uncertainty = GpRepurposer(network).repurpose((X, y)).predict_uncertainty(X)
        >>> uncertainty.total.shape, uncertainty.epistemic.shape
        ((30,), (30,))
        """
        check_count("n_draws", n_draws)
        features, draws = self._features_and_draws(self._judged(data), self._n_distinct_draws(n_draws))
        total = aleatoric = epistemic = variance = unfamiliarity = None
        if draws is not None:
            total, aleatoric, epistemic = (np.concatenate(part) for part in zip(*map(decompose, draws)))
        elif self._defines("_predict_probability_from_features"):
            total = entropy(self._predict_probabilities(features))
        if self._defines("_predict_variance_from_features"):
            variance = self.head_variances(features.matrix)
        if hasattr(self, "training_features_"):
            unfamiliarity = self._scorer(self._checked_method("auto"))(features.matrix)
        return Uncertainty(total, aleatoric, epistemic, variance, unfamiliarity)

    @undisturbed()
    def predict_samples(self, data: object, n: int = 100) -> np.ndarray:
        """Draw class probabilities `n` times from the head's posterior: (n, n_samples, n_classes).

        Calibrated as `predict_probability` is, though their mean need not equal it: a head may weigh its own variance
        otherwise. The same `random_state` gives the same draws. Raises NotImplementedError where the head has none.

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import LaplaceRepurposer
        >>> X, y = make_blobs(30, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> LaplaceRepurposer(network).repurpose((X, y)).predict_samples(X, n=20).shape
        (20, 30, 3)
        """
        check_count("n", n)
        draws = self._features_and_draws(self._judged(data), n)[1]
        if draws is None:
            raise NotImplementedError(self._without_draws(data))
        return np.concatenate(list(draws), axis=1)

    @undisturbed()
    def predict_set(
        self, data: object, coverage: float = 0.9, score: str = "lac", *, allow_empty: bool = False
    ) -> PredictionSets:
        """Predict for each row a set of labels that holds the right one with a probability of at least `coverage`.

        After `conformalize`, by its rows (split conformal): the promise holds exactly, on average over rows and over
        those given to `conformalize`, if both come from one distribution. Without, by the training rows out of their
        folds (cross-conformal, CV+): the proven promise is 1 - 2 (1 - coverage), less a little that vanishes with more
        rows; in practice coverage is near or above what was asked. Neither promises anything for a single class, nor
        for inputs of another kind than the rows it is judged by. With groups (`repurpose`, `conformalize`) it is made
        for one row of a new group, and each group counts as one row.

        Parameters
        ----------
        data : as in `predict_label`
        coverage : float, default=0.9
            Above 0, below 1. With fewer than coverage / (1 - coverage) rows (or groups) to judge by, every set holds
            every class, with a warning.
        score : {"lac", "aps", "raps"}, default="lac"
            ``"lac"`` gives the smallest sets on average, ``"aps"`` larger ones for harder rows, and
            ``"raps"`` keeps these short where there are many classes. See `repurpose.uncertainty.prediction_sets`.
        allow_empty : bool, default=False
            Whether a set may be empty, which says that no label fits. Otherwise it holds the most likely label, and
            coverage may be well above what was asked where the head is more often right than that.

        Raises
        ------
        ValueError
            Where coverage or score cannot be used, or no class has two training examples and `conformalize` was not
            called.
        NotImplementedError
            Where the head has no probabilities.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import GpRepurposer
        >>> X, y = make_blobs(30, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> GpRepurposer(network).repurpose((X, y)).predict_set(X[3:5], coverage=0.9)
        PredictionSets(2 sets for a coverage of 0.9 by lac; labels: 2 of 1)
          0: 2
          1: 0
        """
        check_coverage(coverage)
        check_choice("score", score, SCORES)
        self._check_defines("_predict_probability_from_features", "probabilities")
        features = self._features_for_head(self._judged(data))
        return self._sets(features, self._predict_probabilities(features), coverage, score, allow_empty)

    @undisturbed()
    def unfamiliarity(self, data: object, method: str = "auto") -> np.ndarray:
        """Score how unlike the training rows each row is, larger is stranger: (n_samples,). Only order has a meaning.

        A score for out-of-distribution (OOD) detection.

        Parameters
        ----------
        data : as in `predict_label`
        method : str, default="auto"
            ``"mixed_mahalanobis"``, ``"mahalanobis"``, ``"relative_mahalanobis"`` and ``"knn"`` compare features with
            those of training (`repurpose.uncertainty.unfamiliarity`). ``"energy"`` and ``"variance"`` ask the head: the
            energy of its logits (those of its probabilities, centred in each row), and the variance of its latent
            function. Energy finds classes that were left out, and with `GpRepurposer` inputs of another kind; with
            `LrRepurposer`, `LaplaceRepurposer` and `SvmRepurposer` it may take these for familiar, and was worse than a
            guess on digits. ``"auto"`` is `unfamiliarity_method_`: ``"mixed_mahalanobis"``, unless the repurposer was
            saved by a version that had another default.

        Raises
        ------
        ValueError, NotImplementedError
            For an unknown method, and for one that the head cannot serve.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import GpRepurposer
        >>> X, y = make_blobs(30, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = GpRepurposer(network, ["0"]).repurpose((X, y))
        >>> repurposer.unfamiliarity([[100.0, 100.0]]) > repurposer.unfamiliarity(X).max()
        array([ True])
        """
        method = self._checked_method(method)
        matrix = self._features_for_head(self._judged(data)).matrix
        return self._scorer(method)(matrix)

    @undisturbed()
    def unfamiliarity_p_value(self, data: object, method: str = "auto") -> np.ndarray:
        """Return the share of familiar rows that are at least as strange as each row, 0 to 1: (n_samples,).

        Of fresh familiar rows, one in a hundred has a value of at most .01, on average, where rows were given to
        `conformalize`. Without, the training rows serve, each out of its fold; the proven promise is then two in a
        hundred. 0.6 to 1.0 were found by default, and 0.2 to 0.8 with ``"relative_mahalanobis"``, about whose scores
        the folds disagree most. With m rows to judge by, no value is below 1 / (m + 1).

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import GpRepurposer
        >>> X, y = make_blobs(30, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = GpRepurposer(network, ["0"]).repurpose((X, y))
        >>> repurposer.unfamiliarity_p_value([[100.0, 100.0]]).round(3)  # the least there is: 1 / 31
        array([0.032])
        """
        method = self._checked_method(method)
        matrix = self._features_for_head(self._judged(data)).matrix
        return p_values(compare_unfamiliarity(self._scorers_with_unseen_rows(method), matrix))

    @undisturbed()
    def evaluate(
        self,
        data: object,
        unfamiliar: object = None,
        *,
        y: object = None,
        coverage: float | None = 0.9,
        score: str = "lac",
        method: str = "auto",
        n_bootstrap: int = 1000,
    ) -> Evaluation:
        """Measure quality on labelled data that were not used in training, as a table with 95 % intervals.

        Recall, precision and number of rows of each class, and a confusion table, stand below: `Evaluation.per_class`.

        Parameters
        ----------
        data : as in `repurpose`
            Labelled data, run through the network once.
        unfamiliar : as in `predict_label`, optional
            Inputs that belong to no class: how well `unfamiliarity` tells them from `data`.
        y : array-like of shape (n_samples,), optional
        coverage : float or None, default=0.9
            Of the sets that `predict_set` gives with `score`, whose coverage and size are measured; None leaves them
            out, and with them the trainings that `predict_set` may need. Sets may be empty here.
        score : {"lac", "aps", "raps"}, default="lac"
        method : str, default="auto"
            As in `unfamiliarity`.
        n_bootstrap : int, default=1000
            Draws for the intervals of means; shares and AUROC have formulas (`repurpose.uncertainty.intervals`).

        Raises
        ------
        ValueError
            For labels never seen in training: such rows belong into `unfamiliar`.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import GpRepurposer
        >>> X, y = make_blobs(60, random_state=1)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> GpRepurposer(network, ["0"]).repurpose((X[:30], y[:30])).evaluate(X[30:], y=y[30:])
        Evaluation on 30 rows
        ...
        accuracy                           1.0000  0.8843 to 1.0000  Clopper-Pearson
        ...
        """
        check_count("n_bootstrap", n_bootstrap)
        check_choice("score", score, SCORES)
        check_choice("method", method, _METHODS)
        check_are_inputs(unfamiliar)
        if coverage is not None:
            check_coverage(coverage)
        self._check_is_repurposed()
        if unfamiliar is not None:
            method = self._checked_method(method)
        features, codes = self._labelled(data, y, "evaluate", hint=", or as unfamiliar=")
        predicted, _ = self._predict_codes(features)
        probabilities = members = familiar = strange = None
        if self._defines("_predict_probability_from_features"):
            probabilities = self._predict_probabilities(features)
            if coverage is not None and self._has_reference_rows():
                members = self._sets(features, probabilities, coverage, score, allow_empty=True).members
        if unfamiliar is not None:
            score_rows = self._scorer(method)
            familiar = score_rows(features.matrix)
            strange = score_rows(self._features_for_head(self._judged(unfamiliar)).matrix)
        with threads_for(len(codes)):
            return evaluate_answers(
                Answers(codes, predicted, probabilities, members, familiar, strange),
                class_names=self.class_names_.tolist(),
                wanted_coverage=coverage,
                n_bootstrap=n_bootstrap,
                random_state=rng_at_prediction(self),
            )

    def _labels_or_none(self, data: object, abstain_below: float) -> np.ndarray:
        """Return labels as an object array, with None where the largest probability is below `abstain_below`."""
        check_threshold(abstain_below)
        self._check_defines("_predict_probability_from_features", "probabilities")
        features = self._features_for_head(self._judged(data))
        codes, _ = self._predict_codes(features)
        labels = self.classes_[codes].astype(object)
        labels[self._predict_probabilities(features).max(axis=1) < abstain_below] = None
        return labels

    def _sets(
        self,
        features: Features,
        probabilities: np.ndarray,
        coverage: float,
        score: str,
        allow_empty: bool,
        known: Iterable[KnownLabels] | None = None,
    ) -> PredictionSets:
        """Return the sets of rows; `known` is what `_known_labels` gave for this score, where it was asked before."""
        known = self._known_labels(score) if known is None else known
        comparisons = [each.beside(features.matrix) for each in known]
        n_rows, own = sum(each.n_reference for each in comparisons), self._own_weights(features.matrix)
        if (told := full_sets(UserWarning, coverage, n_rows, own, self._judged_by())) is not None:
            warn_user(told)
        members = p_values(comparisons, own[:, None]) > 1 - coverage + _ROUNDING
        if not allow_empty:
            members[np.arange(len(members)), probabilities.argmax(axis=1)] |= ~members.any(axis=1)
        return PredictionSets(members, self.classes_, probabilities, float(coverage), score, self.class_names_)

    def _known_labels(self, score: str) -> Iterator[KnownLabels]:
        """Yield what the labels of rows are compared with, by each head that did not see these rows in training."""
        rank_cost = default_of(vars(self), "rank_cost_")
        return known_labels(self._heads_with_unseen_rows(), self._calibrated, score, rank_cost)

    def _checked_method(self, method: str) -> str:
        """Return the method that is meant. Raises ValueError for an unknown one, and where the head cannot serve it."""
        check_choice("method", method, _METHODS)
        if method == "auto":
            method = default_of(vars(self), "unfamiliarity_method_")
            check_choice("unfamiliarity_method_", method, METHODS)  # it may come from a file
        if method == "energy":
            self._check_defines("_predict_probability_from_features", "probabilities")
        if method == "variance":
            self._check_defines("_predict_variance_from_features", "latent variance")
        return method


def full_sets(kind: type[_Told], coverage: float, n_rows: float, own: np.ndarray, name: str) -> _Told | None:
    """Return what is to be told where sets hold all classes, as rows count `own` (n_samples,) beside `n_rows` others.

    `name` is what the others are called. None where they are enough to leave a class out.
    """
    share_left_out = 1 - coverage + _ROUNDING
    is_full = own / (n_rows + own) > share_left_out  # the least p-value that there is
    if not is_full.any():
        return None
    if (own != 1).any():
        said = (
            f"the sets of {is_full.sum()} of {len(own)} rows hold every class: they count {own[is_full].min():.3g} or "
            f"more, and all rows to judge by {n_rows:.3g} together, too little for a coverage of {coverage:g}"
        )
        python = "Ask for less, or give labelled rows of the target to conformalize"
        return with_fix(kind, said, python=python, between=". ")
    said = (
        f"a coverage of {coverage:g} needs at least {ceil(1 / share_left_out) - 1} {name} to judge by, and there "
        f"are {n_rows:g}: every set holds every class"
    )
    largest = f"{n_rows / (n_rows + 1):.3f}"
    python = f"Ask for at most {largest}, or give more {name} to conformalize"
    shell = f"Ask for at most --coverage {largest}, or train with more {'images' if name == 'rows' else name}"
    return with_fix(kind, said, python=python, shell=shell, between=". ")
