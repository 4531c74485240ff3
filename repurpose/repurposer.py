"""`Repurposer` has what every method of transfer shares, which is the protocol of a scikit-learn classifier.

Parameters are stored by `__init__` and judged by `repurpose`; what is learned ends in an underscore. How a method
learns is in `meta_model` and `neural_network`; judging labels is in `data`, cloning and pickling in `estimator`, the
look on screen in `display`, saving in `persistence`, what else can be asked about a prediction in `uncertainty`,
what a service needs in `serving`, questions about labels in `labelling`, and what runs elsewhere in `deployment`.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.utils.metadata_routing import UNUSED

from model_handler.data import check_order, refuse_dropped_rows
from model_handler.network.ambient_modes import undisturbed
from model_handler.user_warnings import warn_user
from repurpose.data.class_names import class_names
from repurpose.data.column_names import check_column_names, column_names
from repurpose.data.groups import judged_groups
from repurpose.data.labelled_data import REQUIRES_LABELS, TRUE_LABELS, needed_labels, refuse_unlabelled, with_labels
from repurpose.data.labels import label_array, label_codes
from repurpose.data.one_domain import without_source_data
from repurpose.data.sample_weights import checked_weights, refuse_shuffling, without_weights
from repurpose.deployment.interface import DeploymentMixin
from repurpose.labelling.interface import LabellingMixin
from repurpose.parameters import only_given
from repurpose.persistence.values.schema import (
    Array,
    Maybe,
    Sizes,
    Table,
    sizes_of_classes,
)
from repurpose.serving.interface import ServingMixin
from repurpose.transfer_estimator import TransferEstimator
from repurpose.uncertainty.defaults import CURRENT
from repurpose.uncertainty.interface import UncertaintyMixin

__all__ = ["Repurposer"]


class Repurposer(UncertaintyMixin, ServingMixin, LabellingMixin, DeploymentMixin, ClassifierMixin, TransferEstimator):
    """Base of all Repurposers: a scikit-learn classifier that learns from few examples by reusing a source network.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network to reuse, or its name, such as ``"torchvision/resnet50"``. It is never moved, switched or changed.
    transform : callable, optional
        Preprocessing for folders and single images; a source given by name brings its own.
    device : str or torch.device, default="auto"
        The device on which the network runs.
    batch_size : int, default=32
        Rows in one pass through the network, for data that do not come in batches already.
    num_workers : int, default=0
        Processes that load the data, as in `torch.utils.data.DataLoader`.
    random_state : int, RandomState instance or None, default=None
        Where random numbers come from; the same integer gives the same result, bit for bit. With None, training draws
        from numpy's generator, as in scikit-learn. What is drawn after training comes out the same each time, whatever
        `random_state` is, in every thread and after loading.
    verbose : bool, optional
        Whether to show progress; by default on a terminal or in a notebook, for work of more than a moment.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels seen in training, sorted; the columns of every probability.
    class_names_ : ndarray of str of shape (n_classes,)
        What tables, sets and the command line show for them: the names that a dataset has in its `classes`, as
        torchvision's do, else the labels as text.
    feature_names_in_ : ndarray of str of shape (n_columns,)
        The names of the columns, after training on a table whose columns all have text for a name, such as a pandas
        DataFrame. A table given later must have the same ones in the same order.
    target_model_ : object
        What was trained; `target_model` is another name for it.
    prediction_seed_ : int
        Where `random_state` is no integer, what draws after training come from.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.model_selection import cross_val_score
    >>> from torch import nn
    >>> from repurpose import LrRepurposer
    >>> X, y = make_blobs(30, random_state=8)  # 30 rows of 2 numbers, in 3 classes
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> cross_val_score(LrRepurposer(network, c=1.0), X, y, cv=3)
    array([1., 1., 1.])
    """

    _schema: ClassVar[Table] = {
        "classes_": Array("n_classes", dtypes="b i u f U O"),
        "class_names_": Maybe(Array("n_classes", dtypes="U")),
        "feature_names_in_": Maybe(Array("n_columns", dtypes="U O")),
    }

    # scikit-learn reads these from the class. With metadata routing on, groups given to a cross-validation keep rows
    # together inside of training, too.
    __metadata_request__score = {"data": UNUSED}  # noqa: RUF012
    __metadata_request__fit = {"groups": True}  # noqa: RUF012

    @without_source_data
    @without_weights
    def repurpose(self, data: object, y: object = None, *, groups: ArrayLike | None = None) -> Self:
        """Learn the task that labelled data show; an earlier result stays as it was if this fails.

        Parameters
        ----------
        data : DataLoader, Dataset, pair of arrays or tensors, ImageFolderData, path of a folder, or Features
            Inputs with one label each; without labels where `y` gives them. Of a table, such as a pandas DataFrame of
            paths of images and their labels, the pair of columns: ``repurposer.repurpose((df.path, df.label))``.
        y : array-like of shape (n_samples,), optional
            Labels beside an array, a list or a `Features`, whose own labels it replaces.
        groups : array-like of shape (n_samples,), optional
            Which rows belong together, such as those of a patient, a camera or near-duplicates: labels of any kind, in
            the order of the data. Rows of a group are held out together, wherever rows are held out.

        Raises
        ------
        TypeError, ValueError
            For parameters, data or labels that cannot be used; every mistake among the parameters is listed.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import LrRepurposer
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> LrRepurposer(network).repurpose(make_blobs(30, random_state=8)).classes_
        array([0, 1, 2])
        """
        return self._learn_by(self._learn, data, y, groups)

    @undisturbed()
    def predict_label(self, data: object, abstain_below: float | None = None) -> np.ndarray:
        """Predict the most likely label of each row: (n_samples,), dtype as `classes_`. Labels in the data are ignored.

        With `abstain_below`, from 0 to 1, rows whose largest probability is below it get None in place of a label, in
        an array of dtype object.

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import SvmRepurposer
        >>> X, y = make_blobs(30, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> SvmRepurposer(network).repurpose((X, y)).predict_label(X[:6])
        array([2, 2, 2, 2, 0, 0])
        """
        if abstain_below is not None:
            return self._labels_or_none(data, abstain_below)
        codes, _ = self._predict_codes(self._judged(data))
        return self.classes_[codes]

    @undisturbed()
    def predict_probability(self, data: object) -> np.ndarray:
        """Predict the probability of each class: (n_samples, n_classes), columns as in `classes_`, rows summing to 1.

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import SvmRepurposer
        >>> X, y = make_blobs(30, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> probabilities = SvmRepurposer(network).repurpose((X, y)).predict_probability(X[:6])
        >>> probabilities.shape, probabilities.argmax(axis=1)
        ((6, 3), array([2, 2, 2, 2, 0, 0]))
        """
        return self._predict_probabilities(self._judged(data))

    @undisturbed()
    def score(self, data: object, y: object = None, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy on labelled data, from one pass through the network.

        `sample_weight` (n_samples,) tells how many times each row counts, in the order of the data. A label that was
        never seen in training counts as wrong, with a warning that names it. Raises ValueError for data without labels,
        for weights that cannot be, and for weights beside a loader that shuffles.

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import SvmRepurposer
        >>> X, y = make_blobs(30, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> SvmRepurposer(network).repurpose((X, y)).score((X, y))
        1.0
        """
        self._check_is_repurposed()
        refuse_dropped_rows(data)
        self._check_columns(data)
        labelled = with_labels(data, y)
        needs = f"score {TRUE_LABELS}"
        refuse_unlabelled(labelled, needs)
        if (weights := checked_weights(sample_weight)) is not None:
            refuse_shuffling(data)
        predicted, labels = self._predict_codes(labelled)
        truth, unseen_labels = label_codes(label_array(needed_labels(labels, needs)), self.classes_)
        if unseen_labels:
            counts = ", ".join(f"{label!r} ({count} rows)" for label, count in unseen_labels.most_common(10))
            warn_user(
                f"{unseen_labels.total()} of {len(truth)} rows have labels never seen in training, which count as "
                f"wrong: {counts}{', ...' if len(unseen_labels) > 10 else ''}",
            )
        return float(np.average(predicted == truth, weights=checked_weights(weights, len(truth))))

    @without_source_data
    @without_weights
    def fit(self, X: object, y: object = None, *, groups: ArrayLike | None = None) -> Self:
        """Do the same as `repurpose`, under scikit-learn's name."""
        return self.repurpose(X, y, **only_given(groups=groups))

    def predict(self, X: object) -> np.ndarray:
        """Do the same as `predict_label`, under scikit-learn's name."""
        return self.predict_label(X)

    def predict_proba(self, X: object) -> np.ndarray:
        """Do the same as `predict_probability`, under scikit-learn's name."""
        return self.predict_probability(X)

    @undisturbed()
    def _learn_by(self, learn: Callable[..., object], data: object, y: object, groups: ArrayLike | None = None) -> Self:
        """Judge the parameters and bring data and labels together, then learn: all of it or nothing.

        `learn` takes the data, and the codes of their `groups` where there are any. It may return other data, by which
        classes are named.
        """
        self._check_parameters()
        labelled = with_labels(data, y)
        self._check_has_labels(labelled)
        codes = judged_groups(labelled, groups)
        with self._learning(data):
            for name, value in CURRENT.items():
                setattr(self, name, value)
            naming = learn(labelled, **only_given(groups=codes))
            self.class_names_ = class_names(labelled if naming is None else naming, self.classes_)
            if (names := column_names(labelled)) is not None:
                self.feature_names_in_ = names
            if codes is not None:
                self._tell_of_groups()
        return self

    def _tell_of_groups(self) -> None:
        """Give a UserWarning where groups of the training that has just ended cannot be held out."""

    def _check_has_labels(self, data: object) -> None:
        """Raise ValueError, before anything is read, for training data that can have no labels."""
        refuse_unlabelled(data, f"{type(self).__name__} {REQUIRES_LABELS}")

    def _learn(self, data: object) -> object:
        """Learn from labelled data, setting `classes_`, `target_model_` and what else the method learns.

        Other data may be returned, by which classes are named.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot learn; use a method such as LrRepurposer")

    def _predict_codes(self, data: object) -> tuple[np.ndarray, object]:
        """Predict the index in `classes_` of each row, (n_samples,), and give the labels found in the data, or None."""
        raise NotImplementedError(f"{type(self).__name__} cannot predict; use a method such as LrRepurposer")

    def _predict_probabilities(self, data: object) -> np.ndarray:
        """Return the probability of each class: (n_samples, n_classes)."""
        raise NotImplementedError(f"{type(self).__name__} cannot predict; use a method such as LrRepurposer")

    def _sizes_of(self, learned: Mapping[str, Any]) -> Sizes:
        """Return the sizes that shapes in `_schema` have names for. Raises ValueError where they cannot be known."""
        return sizes_of_classes(learned.get("classes_"))

    def _take_from_file(self, learned: Mapping[str, Any]) -> None:
        super()._take_from_file(learned)
        if "class_names_" not in learned:  # saved before there were names
            self.class_names_ = class_names(None, self.classes_)

    def _judged(self, data: object) -> object:
        """Return the data to predict, after the checks that come before any work."""
        self._check_is_repurposed()
        check_order(data)
        self._check_columns(data)
        self._warn_of_random_rows(data, "predictions differ from call to call. Give the data without it")
        return data

    def _check_columns(self, data: object) -> None:
        check_column_names(data, vars(self).get("feature_names_in_"), type(self).__name__)
