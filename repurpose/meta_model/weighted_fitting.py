"""`fit` and `repurpose` take `sample_weight` on the classes whose heads can weigh rows, and on no other.

scikit-learn reads from the signature of a class's `fit` whether it takes weights (`has_fit_parameter`, metadata
routing, `CalibratedClassifierCV`, `BaggingClassifier`, `AdaBoostClassifier`), so the signature must say what the head
can do: a class has the parameter where its hook `_train_model_from_features` has one of that name.
"""

from collections.abc import Callable
from inspect import signature
from typing import Any, Self

from numpy.typing import ArrayLike

from repurpose.data.one_domain import without_source_data
from repurpose.parameters import only_given
from repurpose.repurposer import Repurposer

__all__ = ["WeightedFitting", "takes", "takes_weights"]


class WeightedFitting:
    """Gives each subclass `repurpose` and `fit` as its hook allows; methods that a subclass wrote itself stay."""

    _learn: Callable[..., object]
    _learn_by: Callable[..., Self]
    _train_model_from_features: Callable[..., Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        _let_take_weights(cls, "repurpose", takes_weights(cls._train_model_from_features))
        _let_take_weights(cls, "fit", takes_weights(cls.repurpose))
        super().__init_subclass__(**kwargs)  # where scikit-learn reads the signatures

    @without_source_data
    def repurpose(
        self,
        data: object,
        y: object = None,
        *,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Learn the task that labelled data show; an earlier result stays as it was if this fails.

        Parameters
        ----------
        data : DataLoader, Dataset, pair of arrays or tensors, ImageFolderData, path of a folder, or Features
            Inputs with one label each; without labels where `y` gives them. Of a table, such as a pandas DataFrame of
            paths of images and their labels, the pair of columns: ``repurposer.repurpose((df.path, df.label))``.
        y : array-like of shape (n_samples,), optional
            Labels beside an array, a list or a `Features`, whose own labels it replaces.
        sample_weight : array-like of shape (n_samples,), optional
            How many times each row counts, in the order of the data: 0 is a row that is not there, a whole number k is
            the same row k times. The scale matters as the number of rows does: weights that sum to 1, as those of
            `AdaBoostClassifier`, say no more than a single row. A class whose rows all have weight 0 is not among
            `classes_`, with a UserWarning.
        groups : array-like of shape (n_samples,), optional
            Which rows belong together, such as those of a patient, a camera or near-duplicates: labels of any kind, in
            the order of the data. Every choice that `repurpose` makes by rows that it holds out, and every question
            that is answered by such rows, holds out whole groups; one that has all rows of a class never is, with a
            UserWarning. See `docs/uncertainty.md`.

        Raises
        ------
        TypeError, ValueError
            For parameters, data, labels, weights or groups that cannot be used; every mistake among the parameters is
            listed. For weights or groups beside a loader that shuffles.
        """
        return self._learn_by(lambda labelled, **given: self._learn(labelled, sample_weight, **given), data, y, groups)

    @without_source_data
    def fit(
        self,
        X: object,
        y: object = None,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Do the same as `repurpose`, under scikit-learn's name."""
        return self.repurpose(X, y, sample_weight=sample_weight, **only_given(groups=groups))


def takes_weights(function: Callable) -> bool:
    """Return whether a function has a parameter of the name `sample_weight`."""
    return takes(function, "sample_weight")


def takes(function: Callable, name: str) -> bool:
    """Return whether a function has a parameter of that name."""
    return name in signature(function).parameters


def _let_take_weights(cls: type, name: str, takes: bool) -> None:
    with_weights, without = getattr(WeightedFitting, name), getattr(Repurposer, name)
    if getattr(cls, name) in (with_weights, without):
        setattr(cls, name, with_weights if takes else without)
