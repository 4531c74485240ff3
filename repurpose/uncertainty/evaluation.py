"""An evaluation measures a repurposer's answers on labelled data, with intervals, and prints as a table.

The 95 % intervals show how far the measures depend on which rows were at hand for the evaluation; the seed of
training is not in them. Shares and rank statistics have intervals of their own (`intervals`), since no bootstrap of
rows that all agree can say what others would do. Those of means hold 95 % of the values that `n_bootstrap` draws of as
many rows, with replacement, give.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from repurpose.uncertainty import metrics
from repurpose.uncertainty.class_report import MEASURES_HEAD, ClassReport, html_table, measures_text
from repurpose.uncertainty.intervals import (
    auroc_interval,
    bootstrap_interval,
    fpr95_interval,
    largest_unseen_share,
    share_interval,
)

__all__ = ["Answers", "Evaluation", "evaluate_answers"]

_TITLES = {
    "accuracy": "accuracy",
    "log_loss": "log loss (nats)",
    "brier": "Brier score",
    "ece": "calibration error (ECE)",
    "classwise_ece": "classwise calibration error",
    "aurc": "area under risk-coverage (AURC)",
    "set_coverage": "coverage of sets",
    "set_size": "size of sets",
    "auroc": "AUROC, unfamiliar inputs",
    "fpr95": "FPR95, unfamiliar inputs",
}
_EXACT, _SCORE, _DRAWN = "Clopper-Pearson", "Newcombe", "bootstrap"
_SHARES = ("accuracy", "set_coverage")
_NO_SHARES = {"log_loss": np.inf, "brier": 2.0, "set_size": np.inf}  # all others are at most 1


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers of a repurposer about labelled rows, and what was true; None for what it cannot say.

    Attributes
    ----------
    codes, predicted : ndarray of shape (n_samples,)
        True and predicted classes.
    probabilities : ndarray of shape (n_samples, n_classes) or None
    members : bool ndarray of shape (n_samples, n_classes) or None
        The sets of labels.
    familiar, unfamiliar : ndarray of shape (n_samples,), (n_unfamiliar,) or None
        How strange the rows, and the inputs known to be strange, seem.
    """

    codes: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray | None = None
    members: np.ndarray | None = None
    familiar: np.ndarray | None = None
    unfamiliar: np.ndarray | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Measures of a repurposer on labelled data; None for what it cannot know, or was not asked.

    Attributes
    ----------
    n_samples, n_unfamiliar : int
        How many rows were judged.
    accuracy : float
    log_loss, brier : float or None
        Means over the rows, in nats and from 0 to 2; lower is better.
    ece, classwise_ece : float or None
        Calibration errors over 15 bins, of the predicted class and of every class.
    aurc : float or None
        Mean error rate over all shares of rows that one would answer, the most confident first.
    set_coverage, set_size : float or None
        How many sets hold the true label, and how many labels they hold.
    auroc, fpr95 : float or None
        How well `unfamiliarity` finds the unfamiliar inputs.
    per_class : ClassReport
        Recall, precision and number of rows of each class, and the confusion table.
    intervals, interval_methods : dict of str to (float, float), dict of str to str
        The 95 % interval of each measure above, and how it was made.
    wanted_coverage : float or None
        The coverage the sets were asked for.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import GpRepurposer
    >>> X, y = make_blobs(60, random_state=1)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> evaluation = GpRepurposer(network, ["0"]).repurpose((X[:30], y[:30])).evaluate((X[30:], y[30:]))
    >>> evaluation.accuracy, evaluation.per_class.counts
    (1.0, array([12, 11,  7]))
    """

    n_samples: int
    n_unfamiliar: int
    accuracy: float
    log_loss: float | None
    brier: float | None
    ece: float | None
    classwise_ece: float | None
    aurc: float | None
    set_coverage: float | None
    set_size: float | None
    auroc: float | None
    fpr95: float | None
    per_class: ClassReport
    intervals: dict[str, tuple[float, float]]
    interval_methods: dict[str, str]
    wanted_coverage: float | None

    def __repr__(self) -> str:
        return f"{measures_text(self._heading(), _TITLES.values(), self._rows())}\n\n{self.per_class!r}"

    def _repr_html_(self) -> str:
        return html_table(self._heading(), MEASURES_HEAD, [*self._rows()]) + self.per_class._repr_html_()

    def _heading(self) -> str:
        beside = f", {self.n_unfamiliar} unfamiliar inputs" if self.n_unfamiliar else ""
        return f"Evaluation on {self.n_samples} row{'s' if self.n_samples > 1 else ''}{beside}"

    def _rows(self) -> Iterator[tuple[str, str, str, str]]:
        for name, title in _TITLES.items():
            value = getattr(self, name)
            if value is not None:
                wanted = f" (asked: {self.wanted_coverage:g})" if name == "set_coverage" else ""
                low, high = self.intervals[name]
                yield title + wanted, f"{value:.4f}", f"{low:.4f} to {high:.4f}", self.interval_methods[name]


def evaluate_answers(
    answers: Answers,
    *,
    class_names: Sequence[str],
    wanted_coverage: float | None,
    n_bootstrap: int,
    random_state: np.random.RandomState,
) -> Evaluation:
    """Compute all measures that the answers allow, with intervals; `n_bootstrap` draws make those without a formula."""
    losses = _losses(answers)
    measure = _measures(answers, losses)
    values = measure(np.ones(len(answers.codes)))
    draws = [measure(_draw(len(answers.codes), random_state)) for _ in range(n_bootstrap)]
    intervals = {
        name: (bootstrap_interval([draw[name] for draw in draws], value, _NO_SHARES.get(name, 1.0)), _DRAWN)
        for name, value in values.items()
    }
    if len(answers.codes) == 1:  # drawn again and again it is always the same, and tells nothing of others
        intervals = {name: ((0.0, _NO_SHARES.get(name, 1.0)), "nothing: a single row") for name in values}
    intervals |= _exact_intervals(losses, values, len(class_names))
    if answers.familiar is not None and answers.unfamiliar is not None:
        values["auroc"], values["fpr95"] = metrics.auroc_and_fpr95(answers.familiar, answers.unfamiliar)
        sizes = len(answers.familiar), len(answers.unfamiliar)
        intervals["auroc"] = auroc_interval(values["auroc"], *sizes), _SCORE
        limits = fpr95_interval(answers.familiar, answers.unfamiliar, n_bootstrap, random_state)
        intervals["fpr95"] = limits, f"{_EXACT}, threshold drawn"
    measured = {name: values.get(name) for name in _TITLES}
    return Evaluation(
        n_samples=len(answers.codes),
        n_unfamiliar=0 if answers.unfamiliar is None else len(answers.unfamiliar),
        per_class=ClassReport.of(answers.codes, answers.predicted, class_names),
        intervals={name: intervals[name][0] for name in _TITLES if name in intervals},
        interval_methods={name: intervals[name][1] for name in _TITLES if name in intervals},
        wanted_coverage=None if answers.members is None else wanted_coverage,
        **measured,  # type: ignore[arg-type]  # accuracy is always there
    )


def _losses(answers: Answers) -> dict[str, np.ndarray]:
    """Return the terms of the measures that are means over rows: (n_samples,) each."""
    codes, rows = answers.codes, np.arange(len(answers.codes))
    losses = {"accuracy": (answers.predicted == codes).astype(np.float64)}
    if answers.probabilities is not None:
        probabilities = answers.probabilities.astype(np.float64)
        losses["log_loss"] = metrics.log_losses(probabilities, codes)
        losses["brier"] = metrics.brier_losses(probabilities, codes)
    if answers.members is not None:
        losses["set_coverage"] = answers.members[rows, codes].astype(np.float64)
        losses["set_size"] = answers.members.sum(axis=1).astype(np.float64)
    return losses


def _measures(answers: Answers, losses: dict[str, np.ndarray]) -> Callable[[np.ndarray], dict[str, float]]:
    """Return a function of the weights of rows (n_samples,); what does not depend on them is computed here."""
    if answers.probabilities is not None:
        probabilities = answers.probabilities.astype(np.float64)
        confidences, hits = probabilities.max(axis=1), losses["accuracy"]

    def measure(weights: np.ndarray) -> dict[str, float]:
        values = {name: float(each @ weights / weights.sum()) for name, each in losses.items()}
        if answers.probabilities is not None:
            values["ece"] = metrics.calibration_error(confidences, hits, weights)
            values["classwise_ece"] = metrics.classwise_calibration_error(probabilities, answers.codes, weights)
            values["aurc"] = metrics.area_under_risk_coverage(confidences, 1 - hits, weights)
        return values

    return measure


def _exact_intervals(
    losses: dict[str, np.ndarray], values: dict[str, float], n_classes: int
) -> dict[str, tuple[tuple[float, float], str]]:
    """Return intervals of shares, and of what no bootstrap moves since all rows agree; each with its method."""
    n_rows = len(losses["accuracy"])
    shares = [name for name in _SHARES if name in losses]
    intervals = {name: share_interval(int(losses[name].sum()), n_rows) for name in shares}
    unseen = largest_unseen_share(n_rows)
    if "aurc" in values and values["accuracy"] in (0, 1):
        # Unseen errors: no worse than ranked at random. Unseen right answers: at best ranked before all others.
        ranked_first = 1 - unseen + unseen * np.log(unseen)
        intervals["aurc"] = (0.0, unseen) if values["accuracy"] else (float(ranked_first), 1.0)
    if "set_size" in losses and np.ptp(losses["set_size"]) == 0:
        size = values["set_size"]
        intervals["set_size"] = size * (1 - unseen), size + unseen * (n_classes - size)
    return {name: (limits, _EXACT) for name, limits in intervals.items()}


def _draw(n_rows: int, random_state: np.random.RandomState) -> np.ndarray:
    """Return how often each row comes among `n_rows` draws with replacement."""
    return np.bincount(random_state.randint(n_rows, size=n_rows), minlength=n_rows)
