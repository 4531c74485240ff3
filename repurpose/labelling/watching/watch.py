"""`Watch`: a test of whether a stream of rows is still like the rows that a Repurposer knows, which may go on for ever.

What it rests on is in `martingale`; which rows it compares with, and by which scores, in `judges`.
"""

from dataclasses import replace
from math import log
from os import PathLike, fspath
from threading import Lock
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike

from model_handler.files.regular_files import read_file
from model_handler.files.whole_files import write_whole
from model_handler.network.ambient_modes import undisturbed
from repurpose.axes import axes_or_new
from repurpose.labelling.watching.arguments import check_alpha, checked_probabilities
from repurpose.labelling.watching.judges import Judges, Watched, judges_of
from repurpose.labelling.watching.labelled_rows import errors_of
from repurpose.labelling.watching.martingale import cells_of
from repurpose.labelling.watching.target_error import TargetError, largest_error
from repurpose.labelling.watching.watch_report import WatchReport
from repurpose.labelling.watching.watch_state import MOST_BYTES, WatchState, read_state, state_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Watch"]

_OF_ROWS, _OF_LABELS, _OF_ORDER = 0, 1, 2  # what random numbers are for
_TAKING_OVER = Lock()  # of no watch alone, so that a watch can be copied; scores are computed before
_SAME_SHARE = 0.02  # of the rows to compare with may lie in other cells, by the last digits of another machine


class Watch:
    """A stream that is watched, as `Repurposer.watch` makes it, which documents what an alarm means.

    Its state is a small text, whatever came: no row is kept. A call that raises an error leaves it as it was. In
    threads no row is lost, and rows of a call stay together. After the repurposer has learned anything else, `update`
    and `update_labelled` raise ValueError.

    Attributes
    ----------
    alpha : float
        The probability of a false alarm, at any time, of rows without labels; and again that of labelled ones.
    watched : tuple of str
        ``"unfamiliarity"`` and ``"certainty"``, or the one of them that there is. Each gets its share of alpha.
    n_reference : int
        How many rows the stream is compared with: those given to `conformalize`, or those that one fold holds out.
    report : WatchReport
        What is known now.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import LrRepurposer
    >>> X, y = make_blobs(300, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> repurposer = LrRepurposer(network, c=1.0, random_state=0).repurpose((X[:100], y[:100]))
    >>> watch = repurposer.conformalize(X[100:200], y[100:200]).watch(alpha=0.01)
    >>> watch
    Watch(unfamiliarity and certainty beside 100 rows, alpha=0.01; 0 rows so far, no alarm)
    >>> if watch.update(X[200:] + 30.0):
    ...     print(watch.report.message[:24])
    ...
    Alarm by unfamiliarity a
    """

    def __init__(self, repurposer: Watched, judges: Judges, state: WatchState) -> None:
        self._repurposer, self._judges, self._state = repurposer, judges, state

    @classmethod
    def from_json(cls, text: str | bytes, repurposer: Watched) -> Self:
        """Resume from the text that `to_json` gave, with the repurposer that was watched.

        Raises CorruptFileError for another text, FormatVersionError for one of a newer version, ValueError with
        another repurposer, or one that has learned something else since, and TypeError for what is no text.

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import LrRepurposer, Watch
        >>> X, y = make_blobs(100, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = LrRepurposer(network, c=1.0, random_state=0).repurpose((X[:50], y[:50]))
        >>> watch = repurposer.watch()
        >>> watch.update(X[50:]).n_rows, Watch.from_json(watch.to_json(), repurposer).report.n_rows
        (50, 50)
        """
        if not isinstance(text, (str, bytes)):
            raise TypeError(f"from_json reads the text that to_json gave; got {type(text).__name__}")
        return cls._resumed(text.encode() if isinstance(text, str) else text, "the text", repurposer)

    @classmethod
    def load(cls, path: str | PathLike[str], repurposer: Watched) -> Self:
        """Resume from the file that `save` wrote, with the repurposer that was watched; raises as `from_json` does.

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import LrRepurposer, Watch
        >>> X, y = make_blobs(100, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = LrRepurposer(network, c=1.0, random_state=0).repurpose((X[:50], y[:50]))
        >>> repurposer.watch(alpha=0.05).save("watch.json")
        >>> Watch.load("watch.json", repurposer).alpha
        0.05
        """
        return cls._resumed(read_file(path, most_bytes=MOST_BYTES), fspath(path), repurposer)

    @property
    def alpha(self) -> float:
        """The probability of a false alarm."""
        return self._state.alpha

    @property
    def watched(self) -> tuple[str, ...]:
        """What is watched."""
        return tuple(self._state.martingales)

    @property
    def n_reference(self) -> int:
        """How many rows the stream is compared with."""
        return self._state.source_rows

    @property
    def report(self) -> WatchReport:
        """What is known now."""
        state, target = self._state, self._state.target
        limits = dict.fromkeys(state.martingales, self._limit)
        largest = {name: martingale.largest for name, martingale in state.martingales.items()}
        rows = {name: martingale.alarm_row for name, martingale in state.martingales.items()}
        n_labelled = int(target.n_rows.sum())
        if n_labelled:
            limits["error"], largest["error"], rows["error"] = self._limit_of_errors, target.largest, target.alarm_row
        lower, upper = target.limits(state.alpha / 2)
        return WatchReport(
            n_rows=state.n_rows,
            alarm_rows={name: row for name, row in rows.items() if row is not None},
            log10_evidence={name: value / log(10) for name, value in largest.items()},
            log10_limit={name: value / log(10) for name, value in limits.items()},
            n_labelled=n_labelled,
            error=target.estimate,
            error_lower=lower,
            error_upper=upper,
            error_allowed=self._error_allowed,
        )

    def __repr__(self) -> str:
        kind = "rows" if self._judges.came_from == "conformalize" else "rows of a fold"
        alarm = "ALARM" if self.report else "no alarm"
        return (
            f"Watch({' and '.join(self.watched)} beside {self.n_reference} {kind}, alpha={self.alpha:g}; "
            f"{self._state.n_rows} rows so far, {alarm})"
        )

    @undisturbed()
    def update(self, data: object) -> WatchReport:
        """Take further rows of the stream, in the order in which they came, and say whether there is an alarm.

        The report is true where there is one, now or before: an alarm stays until `reset`. `data` are as in
        `predict_label`; labels are not looked at. However rows are parted into calls, the result is the same, but for
        the last digits that a network's batches may change. Raises ValueError as `predict_label` does, as for rows
        with NaN or of another width.

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import LrRepurposer
        >>> X, y = make_blobs(100, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> watch = LrRepurposer(network, c=1.0, random_state=0).repurpose((X[:50], y[:50])).watch()
        >>> watch.update(X[50:]).alarm_rows
        {}
        """
        self._check_still_stands()
        matrix = self._repurposer._features_for_head(self._repurposer._judged(data)).matrix
        scores = {name: self._judges.scorers[name](matrix) for name in self.watched}
        with _TAKING_OVER:
            state = self._state
            taus = _uniform(state, _OF_ROWS, 2 * state.n_rows, 2 * len(matrix)).reshape(-1, 2)
            followed = {
                name: martingale.follow(scores[name], taus[:, column], self._limit)
                for column, (name, martingale) in enumerate(state.martingales.items())
            }
            self._state = replace(state, martingales=followed)
            return self.report

    @undisturbed()
    def update_labelled(self, data: object, y: object = None, *, probabilities: ArrayLike | None = None) -> WatchReport:
        """Take labelled rows of the stream and say whether there are more errors than the rows to compare with allow.

        It is a test of its own, with an alpha of its own: rows may have changed harmlessly, and labels may have changed
        where rows look as before. They count for `update` only where they are given to it too.

        An alarm means that the share of errors is larger in the stream than in the population of the rows to compare
        with, by more than the `tolerance` of `Repurposer.watch`. Without `conformalize` the errors are, here and there,
        those of the head that was trained without the fold.

        Parameters
        ----------
        data, y : as in `conformalize`
            A random sample of the stream, drawn without a look at what is predicted; or rows each chosen with a known
            probability. Rows of one call are taken in a random order, so that folders may be sorted by class. Labels
            never seen in training are errors, with a UserWarning.
        probabilities : array-like of shape (n_rows,), optional
            With which each of these rows was chosen, where `watch(least_probability=...)` says how small they can be:
            rows count by their inverse.

        Raises
        ------
        ValueError, TypeError
            For rows as `update`, without labels or with known ones that are spelt otherwise, such as "1" for 1, and
            for probabilities that cannot be used.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import LrRepurposer
        >>> X, y = make_blobs(300, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = LrRepurposer(network, c=1.0, random_state=0).repurpose((X[:100], y[:100]))
        >>> watch = repurposer.conformalize(X[100:200], y[100:200]).watch()
        >>> watch.update_labelled(X[200:], (y[200:] + 1) % 3).alarm_rows
        {'error': ...}
        """
        self._check_still_stands()
        least = self._state.target.least_probability
        given = checked_probabilities(data, probabilities, least)
        errors = errors_of(self._repurposer, self._judges, data, y)
        weights = np.ones(len(errors))
        if given is not None and least is not None:
            if len(given) != len(errors):
                raise ValueError(f"the data have {len(errors)} rows and probabilities has {len(given)}")
            weights = least / given
        with _TAKING_OVER:
            state = self._state
            n_before = int(state.target.n_rows.sum())
            taus, places = (_uniform(state, purpose, n_before, len(errors)) for purpose in (_OF_LABELS, _OF_ORDER))
            order = places.argsort()  # a sample that comes sorted by class would have its errors together
            followed = state.target.follow(
                errors[order], weights[order], taus, self._error_allowed, self._limit_of_errors
            )
            self._state = replace(state, target=followed)
            return self.report

    def reset(self, alpha: float | None = None) -> Self:
        """Begin a new test, with a new alpha, of the same rows to compare with and those that come; in place.

        An alarm is one about the stream or about these rows. Where the latter are at fault, the next test has them
        too: after an alarm that was looked into and is accepted, give rows of now to `conformalize`, and `watch` anew.
        Raises ValueError unless `alpha`, by default that of before, is above 0 and below 1.

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import LrRepurposer
        >>> X, y = make_blobs(100, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> watch = LrRepurposer(network, c=1.0, random_state=0).repurpose((X[:50], y[:50])).watch()
        >>> bool(watch.update(X[50:] + 30)), bool(watch.reset(alpha=0.05).report)
        (True, False)
        """
        if alpha is not None:
            check_alpha(alpha)
        with _TAKING_OVER:
            state = self._state
            self._state = replace(
                state,
                alpha=state.alpha if alpha is None else float(alpha),
                n_resets=state.n_resets + 1,
                martingales={name: martingale.begun_again() for name, martingale in state.martingales.items()},
                target=TargetError.at_start(state.target.least_probability),
            )
        return self

    def to_json(self) -> str:
        """Return the state as a text of at most 20 kB, from which `from_json` resumes.

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import LrRepurposer
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = LrRepurposer(network, c=1.0, random_state=0).repurpose(make_blobs(50, random_state=8))
        >>> len(repurposer.watch().to_json()) < 20_000
        True
        """
        return state_text(self._state)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the state to a file, whole or not at all; `load` resumes from it.

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import LrRepurposer
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = LrRepurposer(network, c=1.0, random_state=0).repurpose(make_blobs(50, random_state=8))
        >>> repurposer.watch().save("watch.json")
        """
        write_whole(path, [self.to_json().encode()])

    def plot(self, *, ax: "Axes | None" = None) -> "Axes":
        """Plot the evidence against exchangeability by rows of the stream, at 128 of them at most, and the limit.

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import LrRepurposer
        >>> X, y = make_blobs(100, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> watch = LrRepurposer(network, c=1.0, random_state=0).repurpose((X[:50], y[:50])).watch()
        >>> _ = watch.update(X[50:])
        >>> [line.get_label() for line in watch.plot().lines]
        ['unfamiliarity', 'certainty', 'alarm']
        """
        ax = axes_or_new(ax)
        for name, martingale in self._state.martingales.items():
            curve = martingale.curve
            rows = curve.stride * np.arange(1, len(curve.values) + 1)
            (line,) = ax.plot(rows, np.array(curve.values) / log(10), label=name)
            if martingale.alarm_row is not None:
                ax.axvline(martingale.alarm_row, linestyle=":", color=line.get_color(), label="_alarm row")
        ax.axhline(self._limit / log(10), linestyle="--", color="0.5", label="alarm")
        ax.set(xlabel="rows of the stream", ylabel="log10 of the evidence")
        ax.legend()
        return ax

    @property
    def _limit(self) -> float:
        return log(len(self._state.martingales) / self._state.alpha)

    @property
    def _limit_of_errors(self) -> float:
        return log(2 / self._state.alpha)

    @property
    def _error_allowed(self) -> float:
        state = self._state
        return min(largest_error(state.source_errors, state.source_rows, state.alpha / 2) + state.tolerance, 1.0)

    def _check_still_stands(self) -> None:
        if not self._judges.still_stand(self._repurposer):
            raise ValueError(
                "the repurposer has learned something else since watch() was called, and scores must be fixed before "
                "the stream: call watch() again"
            )

    @classmethod
    def _resumed(cls, text: bytes | bytearray, what: str, repurposer: Watched) -> Self:
        state = read_state(text, what)
        judges = judges_of(repurposer, state.method)
        same = judges.fingerprint() == state.fingerprint and set(judges.scorers) == set(state.martingales)
        if not (same and all(_is_same(judges, name, state) for name in state.martingales)):
            raise ValueError(
                f"{what} is of another repurposer, or of this one before it learned something else: load it with the "
                "one that was watched, as it was saved then"
            )
        return cls(repurposer, judges, state)


def _is_same(judges: Judges, name: str, state: WatchState) -> bool:
    """Tell whether the rows to compare with have the scores that they had."""
    martingale = state.martingales[name]
    cells = cells_of(martingale.grid, judges.reference_scores(name))
    moved = np.abs(np.bincount(cells, minlength=len(martingale.reference)) - martingale.reference).sum() // 2
    return bool(moved <= max(1, _SAME_SHARE * state.source_rows))


def _uniform(state: WatchState, purpose: int, n_before: int, n: int) -> np.ndarray:
    """Return numbers from 0 to 1, the ones after the first `n_before` of this test, so that no call shifts them."""
    bits = np.random.PCG64(np.random.SeedSequence((state.seed, state.n_resets, purpose))).advance(n_before)
    return np.random.Generator(bits).random(n)
