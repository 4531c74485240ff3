"""What a trained repurposer's answers are worth on labelled data: measures with intervals, printed as a table.

The intervals hold 95 % of the values that `n_bootstrap` draws of as many rows, with replacement, give (Efron's
percentile bootstrap), moved by the difference between their mean and the value: calibration errors of a draw are larger
on average than those of the rows it came from. They show how far the measures depend on which rows were at hand for the
evaluation; chance in training is not in them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape

import numpy as np

from repurpose.uncertainty import metrics

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
_NO_SHARES = {"log_loss": np.inf, "brier": 2.0, "set_size": np.inf}  # all others are at most 1


@dataclass(frozen=True, eq=False)
class Answers:
    """What a repurposer said about labelled rows, and what was true; None for what it cannot say.

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
    intervals : dict of str to (float, float)
        The 95 % bootstrap interval of each measure above.
    wanted_coverage : float or None
        The coverage the sets were asked for.
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
    intervals: dict[str, tuple[float, float]]
    wanted_coverage: float | None

    def __repr__(self) -> str:
        width = max(map(len, _TITLES.values()))
        rows = [f"{title:<{width}}  {value:>8}  {interval}" for title, value, interval in self._rows()]
        return "\n".join([self._heading(), f"{'':<{width}}  {'value':>8}  95 % interval", *rows])

    def _repr_html_(self) -> str:
        rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in self._rows())
        head = "<tr><th></th><th>value</th><th>95 % interval</th></tr>"
        return f"<table><caption>{escape(self._heading())}</caption>{head}{rows}</table>"

    def _heading(self) -> str:
        beside = f", {self.n_unfamiliar} unfamiliar inputs" if self.n_unfamiliar else ""
        return f"Evaluation on {self.n_samples} rows{beside}"

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        for name, title in _TITLES.items():
            value = getattr(self, name)
            if value is not None:
                wanted = f" (asked: {self.wanted_coverage:g})" if name == "set_coverage" else ""
                low, high = self.intervals[name]
                yield title + wanted, f"{value:.4f}", f"{low:.4f} to {high:.4f}"


def evaluate_answers(
    answers: Answers, *, wanted_coverage: float | None, n_bootstrap: int, random_state: np.random.RandomState
) -> Evaluation:
    """All measures that the answers allow, with intervals from `n_bootstrap` draws."""
    n_samples = len(answers.codes)
    n_unfamiliar = 0 if answers.unfamiliar is None else len(answers.unfamiliar)
    measure = _measures(answers)
    values = measure(np.ones(n_samples), np.ones(n_unfamiliar))
    draws = [measure(_draw(n_samples, random_state), _draw(n_unfamiliar, random_state)) for _ in range(n_bootstrap)]
    intervals = {name: _interval(name, [draw[name] for draw in draws], value) for name, value in values.items()}
    measured = {name: values.get(name) for name in _TITLES}
    return Evaluation(
        n_samples=n_samples,
        n_unfamiliar=n_unfamiliar,
        intervals=intervals,
        wanted_coverage=None if answers.members is None else wanted_coverage,
        **measured,  # type: ignore[arg-type]  # accuracy is always there
    )


def _measures(answers: Answers) -> Callable[[np.ndarray, np.ndarray], dict[str, float]]:
    """A function of the weights of rows and of unfamiliar inputs; what does not depend on them is computed here."""
    codes, rows = answers.codes, np.arange(len(answers.codes))
    hits = (answers.predicted == codes).astype(np.float64)
    of_rows = {"accuracy": hits}
    if answers.probabilities is not None:
        probabilities = answers.probabilities.astype(np.float64)
        confidences = probabilities.max(axis=1)
        of_rows["log_loss"] = metrics.log_losses(probabilities, codes)
        of_rows["brier"] = metrics.brier_losses(probabilities, codes)
    if answers.members is not None:
        of_rows["set_coverage"] = answers.members[rows, codes].astype(np.float64)
        of_rows["set_size"] = answers.members.sum(axis=1).astype(np.float64)

    def measure(weights: np.ndarray, unfamiliar_weights: np.ndarray) -> dict[str, float]:
        values = {name: float(each @ weights / weights.sum()) for name, each in of_rows.items()}
        if answers.probabilities is not None:
            values["ece"] = metrics.calibration_error(confidences, hits, weights)
            values["classwise_ece"] = metrics.classwise_calibration_error(probabilities, codes, weights)
            values["aurc"] = metrics.area_under_risk_coverage(confidences, 1 - hits, weights)
        if answers.familiar is not None and answers.unfamiliar is not None:
            values["auroc"], values["fpr95"] = metrics.auroc_and_fpr95(
                answers.familiar, answers.unfamiliar, weights, unfamiliar_weights
            )
        return values

    return measure


def _draw(n_rows: int, random_state: np.random.RandomState) -> np.ndarray:
    """How often each row comes among `n_rows` draws with replacement."""
    return np.bincount(random_state.randint(n_rows, size=n_rows), minlength=n_rows) if n_rows else np.empty(0)


def _interval(name: str, draws: list[float], value: float) -> tuple[float, float]:
    low, high = np.percentile(draws, [2.5, 97.5]) - (np.mean(draws) - value)
    return max(float(low), 0.0), min(float(high), _NO_SHARES.get(name, 1.0))
