"""`UpdatingMixin`: rows and classes come and go without a new training; `Repurposer` inherits it."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.metaestimators import available_if

from model_handler import Features
from model_handler.network.ambient_modes import undisturbed
from model_handler.user_warnings import warn_user
from repurpose.data.changed_rows import ChangedRows
from repurpose.labelling.updating.added_rows import join_rows
from repurpose.labelling.updating.changes import Change, learned_of_change
from repurpose.labelling.updating.positions import checked_positions, positions_of_files
from repurpose.labelling.updating.removed_rows import change_of_removal
from repurpose.persistence.values.schema import Maybe, Table, Text
from repurpose.uncertainty.comparisons import ReferenceRows

__all__ = ["UpdatingMixin"]

_TRAINS, _CHANGES = "_train_model_from_features", "_head_of_changed_rows"
# What speaks of rows or answers that are no more; detectors are fitted again at the next question.
_FORGOTTEN = ("_cached_detectors", "reference_answers_")
_OF_UPDATES = ("update_", "n_updates_", "evidence_drop_", "evidence_per_row_")
# What `update_` says; an update that is not that of all rows is told of once, until `refresh`.
_TOLD = {
    "exact": None,
    "inducing points": "is not updated exactly: inducing points are chosen again, and the rest is a new solve at the "
    "held kernel",
    "warm start": "is not updated exactly: it is fitted again from the coefficients that there were, at the held c_",
}


def _can_change_rows(repurposer: "UpdatingMixin") -> bool:
    """Return whether the head of this class follows its rows: a subclass that trains it otherwise must say how."""
    owners = [cls for cls in type(repurposer).__mro__ if _TRAINS in vars(cls) or _CHANGES in vars(cls)]
    return bool(owners) and _CHANGES in vars(owners[0])


class UpdatingMixin:
    """`add`, `remove` and `refresh`, where the head can follow its rows.

    Attributes
    ----------
    update_ : str
        After `add` or `remove`, what the last one was: ``"exact"``, at held numbers as a new solve of all rows is;
        ``"inducing points"``, a new solve at held numbers through points that were chosen again; or ``"warm start"``.
    """

    _schema: ClassVar[Table] = {"update_": Maybe(Text(*_TOLD))}

    classes_: np.ndarray
    class_names_: np.ndarray
    training_codes_: np.ndarray
    conformal_features_: np.ndarray
    training_rows: Callable[[], ReferenceRows]
    learn_anew: Callable[[], dict[str, Any]]
    with_learned: Callable[[Mapping[str, Any]], Any]
    _keeps_classes_without_rows: bool
    _check_columns: Callable[[object], None]
    _features_for_head: Callable[[object], Features]
    _head_of_changed_rows: Callable[[ChangedRows], dict[str, Any]]
    _training_layers: Callable[[ReferenceRows], dict[str, np.ndarray]]
    _without_outliers: Callable[..., Features]

    @available_if(_can_change_rows)
    @undisturbed()
    def add(
        self,
        data: object,
        y: object = None,
        *,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Learn from further labelled rows, behind those of training, without a new training; in place.

        A label that was not known becomes a class, in its sorted place in `classes_`. All or nothing: an error leaves
        everything as it was.

        Of `GpRepurposer` the result is that of a fit to all rows with these numbers *held*: centre and norms of the
        rows, kernel, `alpha_eps_`, `temperature_`, the kernels of the folds, and the fold of each row that was there
        (new rows come to the fold that has fewest of their class). The prior mean is new, and the heads of the folds
        are updated likewise, where there are any. ``update_ == "exact"`` says so. Beyond 5,000 rows, with inducing
        points or ``svgp=True``, points are chosen again by k-means and the rest is held. `LrRepurposer` and
        `LaplaceRepurposer` are *not exact*: they are fitted again from their coefficients, at the held `c_`.

        Other threads must not ask this object meanwhile: add to a `copy.copy` of it, which leaves it as it is.

        `reference_answers_` are forgotten. A calibration by temperature stays, one by vector is forgotten with a
        UserWarning where classes are new.

        Parameters
        ----------
        data, y : as in `repurpose`
            Rows of one class alone will do.
        sample_weight : array-like of shape (n_new,), optional
            As in `repurpose`; without, each counts once.
        groups : array-like of shape (n_new,), optional
            As in `repurpose`. They are other groups than those of training, whatever their labels.

        Raises
        ------
        NotFittedError
            Before `repurpose`.
        ValueError, TypeError
            For rows of other layers or widths, for labels, weights or groups that cannot be used, and where training
            rows were not kept.

        Warns
        -----
        UserWarning
            Once, where the update is not exact, and of `GpRepurposer` when `refresh` is due (``refresh_due_``).

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import GpRepurposer
        >>> X, y = make_blobs(40, centers=4, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 5))
        >>> repurposer = GpRepurposer(network, ["0"]).repurpose((X[y != 1], y[y != 1]))
        >>> repurposer.add(X[y == 1], y[y == 1]).classes_
        array([0, 1, 2, 3])
        """
        joined = join_rows(self, data, y, sample_weight, groups)
        n_before = len(self.training_rows())
        came_from = np.where(np.arange(len(joined.rows)) < n_before, np.arange(len(joined.rows)), -1)
        classes, new_code = joined.merged.classes, joined.merged.new_code
        return self._follow(Change(joined.rows, came_from, classes, new_code, joined.class_names, joined.files))

    @available_if(_can_change_rows)
    @undisturbed()
    def remove(
        self, rows: ArrayLike | str | PathLike | Sequence[str | PathLike], *, keep_classes: bool = False
    ) -> Self:
        """Forget rows of training, without a new training; in place, all or nothing.

        The result is what `add` describes, for the rows that are left. They move up: position 3 is another row then.

        Removed rows are gone from this object, from the heads of its folds and from what is saved of it afterwards.
        What was learned from them and is held still remembers them: the centre, the kernel and the temperature, which
        `refresh` learns anew; so do versions that were saved before, rows given to `conformalize`, and the files of
        `cache_dir`.

        Parameters
        ----------
        rows : int, array-like of int or bool, or paths
            Positions among the training rows, in their order, or a truth value for each; of an `ImageFolderData`, the
            files, whole or as in `training_files_`.
        keep_classes : bool, default=False
            Whether a class whose last row goes stays in `classes_`, for `GpRepurposer` alone: as likely as the prior
            has it. By default it goes along.

        Raises
        ------
        NotFittedError
            Before `repurpose`.
        ValueError, TypeError
            For unknown rows, a row given twice, and where rows of fewer than two classes would be left.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import GpRepurposer
        >>> X, y = make_blobs(40, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 5))
        >>> repurposer = GpRepurposer(network, ["0"]).repurpose((X, y)).remove([0, 7])
        >>> repurposer.training_codes_.shape, repurposer.update_
        ((38,), 'exact')
        """
        training, files = self.training_rows(), vars(self).get("training_files_")
        found = positions_of_files(rows, files)
        gone = checked_positions(rows if found is None else found, len(training))
        return self._follow(change_of_removal(self, gone, files, keep_classes=keep_classes))

    @available_if(_can_change_rows)
    @undisturbed()
    def refresh(self) -> Self:
        """Learn everything anew from the rows that there are: scaling, kernel, temperature or C; in place.

        As `repurpose` with the features of these rows, their layers included. Rows given to `conformalize` stay; a
        calibration and `reference_answers_` are forgotten, and folds are dealt again. Raises as `repurpose` does, and
        ValueError where training rows were not kept.

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import GpRepurposer
        >>> X, y = make_blobs(40, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 5))
        >>> repurposer = GpRepurposer(network, ["0"]).repurpose((X[:30], y[:30])).add(X[30:], y[30:]).refresh()
        >>> repurposer.training_codes_.shape
        (40,)
        """
        learned = self.learn_anew()
        for name in (*_FORGOTTEN, *_OF_UPDATES, "calibration_", "folds_", "fold_heads_"):
            vars(self).pop(name, None)
        vars(self).update(learned)
        return self

    def _follow(self, change: Change) -> Self:
        """Compute what is learned from the changed rows, and then take it over, in place."""
        learned, no_more = learned_of_change(self, change)
        for note in self._notes_of_update(learned):
            warn_user(note)
        for name in (*_FORGOTTEN, *no_more):
            vars(self).pop(name, None)
        vars(self).update(learned)
        return self

    def _notes_of_update(self, learned: Mapping[str, Any]) -> list[str]:
        """Return what the user is to know of an update that learned this, and was not told by the one before."""
        update = learned["update_"]
        told = None if update == vars(self).get("update_") else _TOLD[update]
        return [] if told is None else [f"{type(self).__name__} {told}"]
