"""`PredictorMixin`: a Repurposer gives a predictor that engines take to their processes."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from model_handler.errors import first_few
from model_handler.network.ambient_modes import undisturbed
from model_handler.user_warnings import warn_user

if TYPE_CHECKING:
    from repurpose.deployment.predictor.predictor import Predictor

__all__ = ["PredictorMixin"]

_ON_ERROR = ("raise", "null")


class PredictorMixin:
    """A predictor for engines that run it elsewhere; `Repurposer` inherits it."""

    @undisturbed()
    def predictor(
        self: Any,
        coverage: float | None = 0.9,
        *,
        input: str | Sequence[str] | None = None,
        columns: Mapping[str, str | None] | None = None,
        on_error: str = "raise",
        score: str = "lac",
        method: str = "auto",
        path: str | PathLike | None = None,
    ) -> "Predictor":
        """Return a small callable that adds predictions to batches of tables, for Ray Data, Spark and `datasets`.

        It takes a dict of arrays or lists, a pandas DataFrame or an iterator of DataFrames, and returns the same with
        columns added: `label`, `probability` (that of the label), `set` (a list of labels) and `p_value`, as
        `predict_label`, `predict_probability`, `predict_set` and `unfamiliarity_p_value` have them. It holds what is
        saved now; what is trained later does not change it. Each process that it is sent to loads it once.

        Parameters
        ----------
        coverage : float or None, default=0.9
            Of the sets; None leaves them out.
        input : str or sequence of str, optional
            The column of inputs: texts, paths of images, image files as bytes, PIL images, arrays; or the columns of
            numbers that make a row. By default the columns of the table that it was trained on, else the only one.
        columns : mapping of str to str or None, optional
            Other names for columns, by what is in them; None leaves one out. Besides those above there may be
            `probabilities` (of all classes) and `class_name`: ``columns={"label": "predicted", "set": None,
            "probabilities": "probabilities"}``. No column of a table is written over: a name that it has already raises
            ValueError.
        on_error : {"raise", "null"}, default="raise"
            For rows that cannot be read, hold NaN or infinite values, or are not shaped as in training: ``"null"``
            gives None and NaN for them, and the reason in a further column, `error`.
        score, method : str
            As in `predict_set` and `unfamiliarity_p_value`; of networks trained end to end ``"auto"`` is ``"energy"``.
        path : str or path, optional
            Where to save it, for all processes to read, such as a directory that machines share. Without, every copy
            holds the file of `save_repurposer`, and a network that was given as a module.

        Raises
        ------
        NotFittedError
            Before `repurpose`.
        ValueError
            For options that there are not, and for an answer named in `columns` that this repurposer cannot give; what
            is not named there is left out, with a UserWarning that says why.
        ValueError, OSError
            As `save_repurposer`.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import LrRepurposer
        >>> X, y = make_blobs(30, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> predictor = LrRepurposer(network, c=1.0).repurpose((X, y)).predictor(columns={"label": "answer"})
        >>> predictor
        Predictor(LrRepurposer, ... MB a copy; adds answer, probability, set, p_value)
        >>> predictor({"x": X[:3]})["answer"]
        array([2, 2, 2])
        """
        from repurpose.deployment.predictor.answer_columns import DEFAULT, named_answers
        from repurpose.deployment.predictor.predictor import Predictor
        from repurpose.deployment.predictor.saved_model import SavedModel
        from repurpose.serving.row_answers import RowAnswers, SetOptions

        if on_error not in _ON_ERROR:
            raise ValueError(f"on_error must be one of {_ON_ERROR}, got {on_error!r}")
        options = SetOptions(coverage, score, method)
        cannot = RowAnswers(self, options).cannot  # may train the heads of folds, which are then saved
        default = [*DEFAULT, *(["error"] if on_error == "null" else [])]
        if coverage is None:
            default.remove("set")
            cannot["set"] = ValueError("coverage is None")
        named = named_answers(columns, cannot, default)
        if left_out := [answer for answer in default if answer in cannot and answer not in (columns or {})]:
            warn_user(
                f"the predictor gives no {first_few(left_out)}: {cannot[left_out[0]]}. To be told no more, leave it "
                f"out: columns={{{', '.join(f'{answer!r}: None' for answer in left_out)}}}"
            )
        return Predictor(SavedModel.of(self, path), named, input, on_error, type(self).__name__, options)
