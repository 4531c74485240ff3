"""`LabelErrorsMixin`: the question which labels are wrong; `LabellingMixin` inherits it."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from model_handler import Features
from model_handler.errors import first_few, with_fix
from model_handler.network.ambient_modes import undisturbed
from model_handler.user_warnings import warn_user
from repurpose.data.groups import can_be_held_out, why_none_held_out
from repurpose.labelling.errors.label_table import label_table
from repurpose.uncertainty.comparisons import ReferenceRows, out_of_fold_probabilities
from repurpose.uncertainty.out_of_fold import Fold

if TYPE_CHECKING:
    from pandas import DataFrame

    from repurpose.selection.results.tables import ResultTable

__all__ = ["LabelErrorsMixin"]

_OTHER_ROWS = "give rows that were not used in training: find_label_errors(data)"


class LabelErrorsMixin:
    """Labels that are likely wrong, with those that fit better."""

    classes_: np.ndarray
    class_names_: np.ndarray
    training_rows: Callable[[], ReferenceRows]
    heads_of_folds: Callable[[], Iterator[Fold]]
    _calibrated: Callable[[np.ndarray], np.ndarray]
    _check_defines: Callable[[str, str], None]
    _check_is_repurposed: Callable[[], None]
    _labelled: Callable[..., tuple[Features, np.ndarray]]
    _predict_probabilities: Callable[[object], np.ndarray]

    @undisturbed()
    def find_label_errors(self, data: object = None, y: object = None) -> "DataFrame | ResultTable":
        """Return labelled rows by how badly their labels fit, the worst first, each beside the label that fits best.

        Without `data`, the rows of training, each judged as if it had not been seen. `GpRepurposer` up to 5,000 rows,
        or with ``n_inducing=None``, leaves them out in closed form: one row of each class at a time (of rows in groups,
        one group of each), since a row that is left out alone makes its own class scarcer, and the mean over five ways
        to deal them. It is exact for the kernel, centre, prior mean and temperature of training, which have seen all
        rows. Every other head is trained again without each of five folds, each row being in one of them: five
        trainings the first time, as for `predict_set`. Probabilities are calibrated where `calibrate` was called.

        Parameters
        ----------
        data : as in `repurpose`, optional
            Other labelled rows, which the whole head judges; they must not have been used in training.
        y : array-like of shape (n_samples,), optional
            Labels beside the inputs of `data`.

        Returns
        -------
        DataFrame, or ResultTable without pandas
            ``row``, its position in the data, from 0; among training rows those of weight 0 do not count, and of
            methods with source data those rows come first. ``given``, its label; ``suggested``, the most likely label,
            which may be the same; ``probability`` of the given label, by which rows are sorted; and
            ``estimated_false_alarms``: were the given labels of all rows down to this one called wrong, which share of
            that would be wrong itself, namely the mean of their probabilities. Its `attrs` are ``judged_by``, one of
            ``"closed form"``, ``"folds"`` and ``"head"``, and ``not_judged``, the rows that are not in the table.

        Raises
        ------
        NotFittedError
            Before `repurpose`.
        ValueError
            Where no training row can be left out, or none was kept, as for networks that are trained: these need
            `data`. For labels never seen in training.
        NotImplementedError
            Where the head has no probabilities.

        Warns
        -----
        UserWarning
            For training rows that cannot be judged, such as the only row of a class, and for `data` with rows of
            training.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import GpRepurposer
        >>> X, y = make_blobs(30, random_state=8)
        >>> y[4] = 1  # it was 0
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 5))
        >>> table = GpRepurposer(network, ["0"]).repurpose((X, y)).find_label_errors()
        >>> [int(table[name][0]) for name in ("row", "given", "suggested")]
        [4, 1, 0]
        """
        self._check_is_repurposed()
        self._check_defines("_predict_probability_from_features", "probabilities")
        if data is not None:
            return self._judge_other_rows(data, y)
        if y is not None:
            raise ValueError("y are the labels beside data, and there are no data; leave y out for the training rows")
        training = self.training_rows()
        can_be = can_be_held_out(training.codes, training.groups)
        if not can_be.any():
            raise with_fix(
                ValueError,
                f"{why_none_held_out(training.groups)}, so that no label can be judged",
                python=_OTHER_ROWS,
                shell="give two images or more of a class",
            )
        self._tell_of_rows_not_judged(training, np.flatnonzero(~can_be))
        judged_by, probabilities = "closed form", self._left_out_in_closed_form()
        if probabilities is None:
            judged_by, probabilities = "folds", self._left_out_by_folds(training)
        judged = np.isfinite(probabilities).all(axis=1)
        probabilities[judged] = self._calibrated(probabilities[judged])
        return label_table(training.codes, probabilities, self.classes_, judged_by)

    def _left_out_in_closed_form(self) -> np.ndarray | None:
        """Hook, optional: probabilities of each training row as if unseen: (n_rows, n_classes), NaN where it cannot be.

        Not calibrated. None where there is no closed form.
        """
        return None

    def _left_out_by_folds(self, training: ReferenceRows) -> np.ndarray:
        folds = list(self.heads_of_folds())
        found = np.full((len(training), len(self.classes_)), np.nan)
        probabilities, _ = out_of_fold_probabilities(folds, training)
        found[np.concatenate([fold.held_out for fold in folds])] = probabilities
        return found

    def _judge_other_rows(self, data: object, y: object) -> "DataFrame | ResultTable":
        hint = ", or mend labels that are misspelt"
        features, codes = self._labelled(data, y, "find_label_errors", hint=hint)
        known = {row.tobytes() for row in vars(self).get("training_features_", ())}
        if n_known := sum(row.tobytes() in known for row in features.matrix):
            advice = "leave data out to judge the rows of training, each as if it had not been seen"
            said = f"{n_known} of {len(codes)} rows were used in training, so that their labels seem to fit"
            warn_user(with_fix(UserWarning, said, python=advice))
        return label_table(codes, self._predict_probabilities(features), self.classes_, "head")

    def _tell_of_rows_not_judged(self, training: ReferenceRows, rows: np.ndarray) -> None:
        """Give a UserWarning for rows that cannot be left out without leaving none of a class."""
        if not len(rows):
            return
        shown = first_few([f"{row} ({self.class_names_[training.codes[row]]!s})" for row in rows.tolist()], 5)
        kind = "row" if training.groups is None else "group"
        said = f"rows that are, or whose {kind} is, the only one of a class cannot be judged: {shown}"
        if training.groups is None:
            said = f"the only row of a class cannot be judged, as nothing would be left of the class: row {shown}"
        advice = f"give another {kind} of the class"
        warn_user(with_fix(UserWarning, said, python=advice, shell=advice))
