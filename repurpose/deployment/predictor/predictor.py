"""`Predictor`: a callable that adds the answers of a saved repurposer to tables, for engines that run it elsewhere.

Engines are not known here: Ray Data, Spark and `datasets` all call a function with a batch of rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from model_handler.data.decoding import UnreadableImageError
from model_handler.data.text.text_transform import reads_text
from repurpose.deployment.predictor.answer_columns import check_are_free, columns_of
from repurpose.deployment.predictor.input_column import data_of, input_columns
from repurpose.deployment.predictor.saved_model import SavedModel
from repurpose.serving.input_schema import learned_schema
from repurpose.serving.row_answers import RowAnswers, SetOptions
from repurpose.serving.screening import screen

__all__ = ["Predictor"]

_FIX = 'predictor(on_error="null") answers the others, and says why beside it'


@dataclass(frozen=True, eq=False, repr=False)
class Predictor:
    """Adds answers to a batch of rows, as `Repurposer.predictor` makes it, which documents the options.

    It may be pickled, and called by any number of threads; each process loads the model once. What it is given comes
    back in kind, with more columns: a dict of arrays or of lists, a pandas DataFrame (its index is kept), or an
    iterator of DataFrames, of which one at a time is read.

    Attributes
    ----------
    model : SavedModel
        What travels with every copy: `model.n_bytes` says how much that is.
    columns : dict of str to str
        The answers that are given, each with the name of its column.
    input : str, sequence of str, or None
    on_error : {"raise", "null"}
    kind : str
        The class of the repurposer.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import LrRepurposer
    >>> X, y = make_blobs(30, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> predictor = LrRepurposer(network, c=1.0).repurpose((X, y)).predictor(input="point")
    >>> answered = predictor({"number": [7, 8], "point": [[-8.5, -8.6], [6.3, 8.7]]})
    >>> list(answered), answered["label"]
    (['number', 'point', 'label', 'probability', 'set', 'p_value'], [2, 0])
    """

    model: SavedModel
    columns: dict[str, str]
    input: str | Sequence[str] | None
    on_error: str
    kind: str
    _options: SetOptions = field(repr=False)

    def __call__(self, batch: Any) -> Any:
        """Return the batch in kind, with the columns of the answers.

        Raises
        ------
        ValueError
            Where the input is not among the columns, naming the nearest; where an answer would be written over a
            column; and, with ``on_error="raise"``, for rows that cannot be read, that hold NaN, or that are none of
            this model.
        TypeError
            For a batch of another kind.
        """
        if isinstance(batch, Mapping):
            return self._with_answers(batch)
        if hasattr(batch, "iloc") and hasattr(batch, "columns"):
            return self._frame_with_answers(batch)
        if isinstance(batch, Iterator):
            return map(self, batch)
        raise TypeError(
            f"a batch is a dict of arrays or lists, a pandas DataFrame or an iterator of DataFrames, got "
            f"{type(batch).__name__}" + _hint(batch)
        )

    def __repr__(self) -> str:
        where = "" if self.model.path is None else f" beside {self.model.path}"
        size = f"{self.model.n_bytes / 1e6:.3g} MB a copy{where}"
        return f"Predictor({self.kind}, {size}; adds {', '.join(self.columns.values())})"

    def _with_answers(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a copy of a dict, or of what is like one, such as those of `datasets`, which decode when asked."""
        cells, columns = self._added_to(list(batch), batch)
        answered: Any = copy(batch) if hasattr(batch, "__setitem__") else dict(batch)
        for name, column in columns.items():
            answered[name] = column.tolist() if isinstance(cells[0], (list, tuple)) else column
        return answered

    def _frame_with_answers(self, frame: Any) -> Any:
        _, columns = self._added_to(list(frame.columns), frame)
        return frame.assign(**{name: list(column) if column.ndim > 1 else column for name, column in columns.items()})

    def _added_to(self, names: list[str], table: Any) -> tuple[list[Any], dict[str, np.ndarray]]:
        """Return the input columns of a table, and the columns of their answers by name."""
        check_are_free(self.columns, names)
        answers = self.model.answers(self._options)
        inputs = input_columns(names, self.input, vars(answers.repurposer).get("feature_names_in_"))
        cells = [table[name] for name in inputs]
        made = self._answers_to(cells, answers)
        return cells, {name: made[answer] for answer, name in self.columns.items()}

    def _answers_to(self, cells: list[Any], answers: RowAnswers) -> dict[str, np.ndarray]:
        repurposer = answers.repurposer
        n_rows = len(cells[0])
        data, unreadable = data_of(cells, reads_text=reads_text(repurposer._reading()["transform"]))
        if self.on_error == "null":
            return self._answers_or_null(data, unreadable, n_rows, answers)
        for row, reason in unreadable.items():
            raise UnreadableImageError(f"row {row} of the batch: {reason}; {_FIX}")
        found = answers.of(answers.read(data)) if n_rows else None
        return columns_of(found, list(self.columns), repurposer.classes_, repurposer.class_names_)

    def _answers_or_null(
        self, data: Any, unreadable: dict[int, str], n_rows: int, answers: RowAnswers
    ) -> dict[str, np.ndarray]:
        """Return columns that have None and NaN, and the reason in a column for it, where a row cannot be answered."""
        repurposer = answers.repurposer
        errors, rows, features = np.full(0, None, dtype=object), np.arange(0), None
        if n_rows:
            objections, features = screen(repurposer, data, learned_schema(vars(repurposer)), unreadable)
            errors, rows = objections.details, np.flatnonzero(objections.accepted)
        found = None if features is None else answers.of(features)
        made = columns_of(found, list(self.columns), repurposer.classes_, repurposer.class_names_)
        spread = {answer: _spread(column, rows, n_rows) for answer, column in made.items()}
        return {**spread, "error": errors}


def _spread(column: np.ndarray, rows: np.ndarray, n_rows: int) -> np.ndarray:
    """Put the entries of a column at these rows of a longer one, whose others are NaN, or None where no number is."""
    of_numbers = column.dtype.kind == "f"
    whole = np.full((n_rows, *column.shape[1:]), np.nan if of_numbers else None, dtype=float if of_numbers else object)
    whole[rows] = column
    return whole


def _hint(batch: object) -> str:
    if type(batch).__module__.startswith("pyarrow"):
        return '; of an engine that can give others, ask for batch_format="numpy"'
    return "; rows alone are predicted by predict_label" if isinstance(batch, (list, np.ndarray)) else ""
