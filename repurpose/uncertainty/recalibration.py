"""What a Repurposer learns of its own answers from labelled rows: a temperature, and rows that sets are judged by."""

from collections.abc import Callable
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from model_handler import Features
from model_handler.data import refuse_dropped_rows
from model_handler.errors import nearest
from model_handler.network.ambient_modes import undisturbed
from model_handler.user_warnings import warn_user
from repurpose.data.groups import check_n_groups, judged_groups
from repurpose.data.labelled_data import TRUE_LABELS, needed_labels, refuse_unlabelled, with_labels
from repurpose.data.labels import label_array, label_codes
from repurpose.threads import threads_for
from repurpose.uncertainty import calibration
from repurpose.uncertainty.checks import check_choice
from repurpose.uncertainty.comparisons import out_of_fold_probabilities
from repurpose.uncertainty.reference import ReferenceMixin

__all__ = ["CalibrationMixin"]

_CONFORMAL = ("conformal_features_", "conformal_codes_", "conformal_groups_")


class CalibrationMixin(ReferenceMixin):
    """`calibrate` and `conformalize`, and the reading of labelled rows of known classes."""

    classes_: np.ndarray
    _check_columns: Callable[[object], None]

    @undisturbed()
    def calibrate(self, data: object = None, y: object = None, *, method: str = "temperature") -> Self:
        """Make probabilities agree with frequencies, here and in all that follows from them; in place.

        A calibration replaces the one before; `repurpose` forgets it.

        Parameters
        ----------
        data : as in `repurpose`, optional
            Labelled rows that were not used in training. Without, the training rows serve, each judged by a head
            trained without its fold: that head saw fewer rows, and with few of them is too uncertain to tell how
            certain this one should be. On digits the log loss of `LrRepurposer` rather rose by it at 2 and 5 labels a
            class, fell by .001 to .003 at 50, and with 1,000 images stayed within .001 of what it was: there it has
            nothing to do (`benchmarks/temperature.py`), and nothing is calibrated by default. A fine-tuned network
            needs `data` and gains by them: 200 rows lowered its log loss by .12 after 5 epochs, where it was too
            uncertain, and by .05 after 25, where it was too certain.
        y : array-like of shape (n_samples,), optional
        method : {"temperature", "vector"}, default="temperature"
            One number for all logits, which changes no predicted label, or a factor and an offset for each class.

        Raises
        ------
        ValueError
            For labels never seen in training, and with ``"vector"`` for a class without a row in `data`.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import GpRepurposer
        >>> X, y = make_blobs(60, random_state=1)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = GpRepurposer(network, ["0"]).repurpose((X[:30], y[:30])).calibrate(X[30:], y[30:])
        >>> repurposer.calibration_.temperature < 1  # it was always right, and less certain than that
        True
        """
        check_choice("method", method, calibration.METHODS)
        self._check_is_repurposed()
        self._check_defines("_predict_probability_from_features", "probabilities")
        if data is None:
            probabilities, rows = out_of_fold_probabilities(self.heads_of_folds(), self.training_rows())
            codes, weights = rows.codes, rows.weights
        else:
            features, codes = self._labelled(data, y, "calibrate")
            probabilities, weights = self.head_probabilities(features.matrix), None
        absent = self._absent(codes) if method == "vector" else ""
        if absent:
            raise ValueError(
                f'method="vector" needs rows of every class, and there are none of {absent}; give some, or use '
                'method="temperature"'
            )
        with threads_for(len(codes)):
            self.calibration_ = calibration.fit_calibration(probabilities, codes, method, weights=weights)
        vars(self).pop("reference_answers_", None)  # of other probabilities
        return self

    @undisturbed()
    def conformalize(self, data: object, y: object = None, *, groups: ArrayLike | None = None) -> Self:
        """Keep labelled rows by which `predict_set` and `unfamiliarity_p_value` judge from now on; in place.

        They must not have been used for training or by `calibrate`. With them the promise of `predict_set` holds
        exactly. Their features are saved with the rest. None as data goes back to judging by the training rows.
        `groups` (n_samples,) tell which of them belong together, as in `repurpose`, and must be none of training: each
        group then counts as one row.

        Raises ValueError for labels never seen in training, and for groups that cannot be used. A class without a row
        gives a UserWarning: coverage is promised for data in which the classes are as frequent as here.

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import GpRepurposer
        >>> X, y = make_blobs(60, random_state=1)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = GpRepurposer(network, ["0"]).repurpose((X[:30], y[:30])).conformalize(X[30:], y[30:])
        >>> repurposer.predict_set(X[:2]).sizes
        array([1, 1])
        """
        self._check_is_repurposed()
        if data is None:
            for name in _CONFORMAL:
                vars(self).pop(name, None)
            return self
        of_rows = judged_groups(data, groups)
        features, codes = self._labelled(data, y, "conformalize")
        if of_rows is not None:
            check_n_groups(of_rows, len(codes))
        if absent := self._absent(codes):
            warn_user(
                f"there is no row of {absent} among the {len(codes)} given to conformalize; sets promise coverage for "
                "data like these, in which that is never the true label",
            )
        vars(self).pop("conformal_groups_", None)
        self.conformal_features_, self.conformal_codes_ = features.matrix, codes
        if of_rows is not None:
            self.conformal_groups_ = of_rows
        return self

    def _labelled(self, data: object, y: object, purpose: str, hint: str = "") -> tuple[Features, np.ndarray]:
        """Return features and codes of labelled data. Raises ValueError without labels, or with labels never seen."""
        refuse_dropped_rows(data)
        self._check_columns(data)
        labelled = with_labels(data, y)
        needs = f"{purpose} {TRUE_LABELS}"
        refuse_unlabelled(labelled, needs)
        features = self._features_for_head(labelled)
        codes, unseen_labels = label_codes(label_array(needed_labels(features.labels, needs)), self.classes_)
        if unseen_labels:
            known = {str(label): label for label in self.classes_.tolist()}
            hints = [
                f"{label!r} ({n} rows; nearest: {[known[name] for name in nearest(str(label), known)]})"
                for label, n in unseen_labels.items()
            ]
            raise ValueError(
                f"{purpose} was given labels that were never seen in training: {', '.join(hints[:5])}"
                f"{', ...' if len(hints) > 5 else ''}; leave those rows out{hint}"
            )
        return features, codes

    def _absent(self, codes: np.ndarray) -> str:
        """Return the first classes without a row, as text; empty if there is none."""
        absent = self.classes_[np.bincount(codes, minlength=len(self.classes_)) == 0].tolist()
        return ", ".join(map(repr, absent[:5])) + (", ..." if len(absent) > 5 else "")
