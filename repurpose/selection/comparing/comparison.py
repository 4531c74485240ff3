"""`compare_methods` says on the user's own data whether frozen features are enough, or an adapter or fine-tuning pays.

The features of all layers come from one extraction; every method is judged by the same folds, in `folds`, the cheapest
first, as long as the `budget` lasts.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from torch import nn

from model_handler import Features, ModelHandler, Source
from model_handler.data import look_through, reading_options
from model_handler.default_layer import default_layer
from model_handler.errors import nearest
from model_handler.extraction.pooling import Pooling
from model_handler.user_warnings import warn_user
from repurpose.data.groups import given_groups, group_codes
from repurpose.data.kinds import is_features, is_image_folder, kind_of
from repurpose.data.labelled_data import needed_labels, refuse_unlabelled, with_labels
from repurpose.data.labels import encode_labels
from repurpose.meta_model import LrRepurposer
from repurpose.parameters import is_positive
from repurpose.selection.comparing.budget import Budget, NotRun, in_words
from repurpose.selection.comparing.folds import Answers, Task, of_head, of_network
from repurpose.selection.comparing.methods import HEADS, METHODS, NETWORKS
from repurpose.selection.results.paired import paired_error, selection_folds
from repurpose.selection.results.tables import as_table

if TYPE_CHECKING:
    from pandas import DataFrame

    from repurpose.selection.results.tables import ResultTable

__all__ = ["compare_methods"]

_NEEDS = "compare_methods needs one label a row"
_PROBED = 32  # rows, by which the time of an extraction is estimated


def compare_methods(
    data: object,
    source: nn.Module | Source | str,
    y: object = None,
    *,
    budget_seconds: float,
    methods: Sequence[str] | None = None,
    groups: ArrayLike | None = None,
    pooling: Pooling = "auto",
    training: Mapping[str, Any] | None = None,
    random_state: int | np.random.RandomState | None = None,
    **options: Any,
) -> "DataFrame | ResultTable":
    """Compare heads on frozen features, an adapter and fine-tuning on the same held-out rows, within a budget.

    Frozen features are not always best (MulTaBench, arXiv:2605.10616), and which method is depends on the data: this
    measures it on them. The methods are logistic regression and a Gaussian process on the last layer, the same on
    layers that each training chooses (`feature_layer_names="auto"`), an `AdapterRepurposer` (LoRA), and a
    `NeuralNetworkFineTuneRepurposer` with its defaults, up to that last layer. They are tried in this order, the
    cheapest first, and judged by five folds, the same for all of them. Features are extracted once.

    A method that would not be done within the budget is a row that says how long it needs, which is known after its
    first fold, and of the networks after their first three steps; so the call may take that much longer. A method that
    cannot run, such as an adapter for a network without a layer to adapt, is a row that says why.

    The first row is the best of several on these rows, so that its score is optimistic.

    Parameters
    ----------
    data, y : labelled data, as in `Repurposer.repurpose`
        Their rows must have numbers: arrays, lists, folders, tables and map-style datasets have, a DataLoader has not.
    source : nn.Module, Source or str
        The network to reuse, or its name.
    budget_seconds : float
        How long this may take.
    methods : sequence of str, optional
        Only these, of "lr, last layer", "gp, last layer", "lr, chosen layers", "gp, chosen layers", "adapter" and
        "fine-tuning".
    groups : array of shape (n_samples,), optional
        The group of each row, such as a patient: no group is on both sides of a fold.
    pooling : str or callable, default="auto"
        How maps and tokens become a row, as in `ModelHandler.extract`.
    training : dict, optional
        Parameters of the adapter and of fine-tuning, such as ``{"num_epochs": 20}``.
    random_state : int, RandomState or None
    **options
        Parameters that all Repurposers have: `device`, `batch_size`, `num_workers`, `transform`, `verbose`.

    Returns
    -------
    DataFrame, or `ResultTable` without pandas
        The best first, then what was not run. `log_loss` (nats) and `accuracy` of the held-out rows; `difference`, the
        log loss above that of the first row, and `difference_error`, its standard error by bootstrap of rows (of whole
        groups, where there are groups); `train_seconds` of one fold and `predict_seconds` of all rows, extraction
        included; `note`, why a method was not run.

    Raises
    ------
    TypeError, ValueError
        For data without labels or without numbers of rows, for a `Features`, which no network can be trained on, for an
        unknown method, a budget that is no positive number, and where no class has two examples. Where no method can
        run whatever the budget, the reason of the first is raised.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose.selection import compare_methods
    >>> X, y = make_blobs(60, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> table = compare_methods((X, y), network, budget_seconds=60, methods=["lr, last layer", "fine-tuning"])
    >>> list(table["method"]), list(table.columns)[:3]
    (['lr, last layer', 'fine-tuning'], ['method', 'log_loss', 'accuracy'])
    """
    wanted = _checked_methods(methods)
    if not is_positive(budget_seconds):
        raise ValueError(f"budget_seconds must be a positive number of seconds, got {budget_seconds!r}")
    budget = Budget(float(budget_seconds))
    labelled = _checked_data(data, y)
    if is_image_folder(labelled) and labelled.transform is not None:
        options = {"transform": labelled.transform, **options}
    options = {"pooling": pooling, **options}
    handler = LrRepurposer(source, **options).source_model_handler  # traced once, for all that is extracted
    task = _task(labelled, source, handler, groups, random_state, options, dict(training or {}))
    outcomes = _Comparison(task, handler, budget, wanted).outcomes()
    reasons = [outcome for outcome in outcomes.values() if isinstance(outcome, Exception)]
    if len(reasons) == len(outcomes):
        if not (needed := [reason.seconds for reason in reasons if isinstance(reason, NotRun)]):
            raise reasons[0]
        warn_user(
            f"budget_seconds={budget_seconds:g} is too little for any of the methods: the cheapest needs about "
            f"{in_words(min(needed))}"
        )
    return as_table(_rows(outcomes, task))


class _Comparison:
    """The methods on one task, which share what is extracted."""

    def __init__(self, task: Task, handler: ModelHandler, budget: Budget, wanted: Sequence[str]) -> None:
        self._task = task
        self._budget = budget
        self._wanted = wanted
        self._handler = handler

    def outcomes(self) -> dict[str, Answers | Exception]:
        """Judge the methods that are wanted, the cheapest first; the reason where one was not run or cannot run."""
        found: dict[str, Answers | Exception] = {}
        for name in self._wanted:
            try:
                found[name] = self._judged(name)
            except Exception as reason:
                found[name] = reason
        return found

    def _judged(self, name: str) -> Answers:
        if name in NETWORKS:
            return of_network(self._task, NETWORKS[name], self._last, self._seconds_a_row, self._budget)
        features = self._features  # of the candidates and of the last layer, which may be no candidate
        layers = self._candidates if HEADS[name].chooses_layers else [self._last]
        return of_head(self._task, HEADS[name], features.select(layers), self._seconds_a_row, self._budget)

    @cached_property
    def _last(self) -> str:
        return default_layer(self._handler)

    @cached_property
    def _candidates(self) -> list[str]:
        return self._handler.candidate_layers(data=self._task.data_of(self._task.held_out[:2]))

    @cached_property
    def _seconds_a_row(self) -> float:
        """The seconds in which a row runs through the network, by some rows after two that are not counted."""
        rows = np.arange(min(_PROBED, len(self._task.codes)))
        self._extracted(self._task.data_of(rows[:2]))
        start = self._budget.clock()
        self._extracted(self._task.data_of(rows))
        return (self._budget.clock() - start) / len(rows)

    @cached_property
    def _features(self) -> Features:
        needed = self._seconds_a_row * len(self._task.codes)
        self._budget.refuse_more_than_left(needed, needed)
        return self._extracted(self._task.data)

    def _extracted(self, data: object) -> Features:
        chooses = [HEADS[name].chooses_layers for name in self._wanted if name in HEADS]
        layers = self._candidates if any(chooses) else []
        if not layers or not all(chooses):
            try:
                layers = list(dict.fromkeys([*layers, self._last]))
            except ValueError:  # a network without a last layer to take: the methods that need one say so
                if not layers:
                    raise
        return self._handler.extract(data, layers, pooling=self._task.options["pooling"])


def _checked_methods(methods: Sequence[str] | None) -> list[str]:
    if methods is None:
        return list(METHODS)
    given = [methods] if isinstance(methods, str) else list(methods)
    if not given:
        raise ValueError(f"methods is empty; name some of {list(METHODS)}, or leave it out for all")
    if unknown := [name for name in given if name not in METHODS]:
        raise ValueError(
            f"there is no method {unknown[0]!r}; the nearest of {list(METHODS)} are {nearest(str(unknown[0]), METHODS)}"
        )
    return [name for name in METHODS if name in given]


def _checked_data(data: object, y: object) -> Any:
    labelled = with_labels(data, y)
    if is_features(labelled):
        raise TypeError(
            "compare_methods trains networks too, which take inputs and not the Features of their layers; give the "
            "data itself"
        )
    refuse_unlabelled(labelled, _NEEDS)
    return labelled


def _task(
    data: Any,
    source: nn.Module | Source | str,
    handler: ModelHandler,
    groups: ArrayLike | None,
    random_state: int | np.random.RandomState | None,
    options: dict[str, Any],
    training: dict[str, Any],
) -> Task:
    """Read the labels and deal the folds. Raises TypeError for data whose rows have no numbers."""
    seen = look_through(
        data, **reading_options(handler.transform, handler.batch_size, handler.num_workers, handler.device)
    )
    if seen.rows is None:
        raise TypeError(
            f"a {kind_of(data)} has an order of its own, and folds ask for rows by number; give its dataset, or arrays "
            "(X, y)"
        )
    encoded = encode_labels(needed_labels(seen.labels, _NEEDS))
    rng = check_random_state(random_state)
    given: Any = given_groups(data) if groups is None else groups
    codes_of_groups = None if given is None else group_codes(given, len(encoded.codes))
    folds = selection_folds(encoded.codes, rng, codes_of_groups)
    seed = int(rng.randint(2**31 - 1))
    return Task(source, data, encoded.classes, encoded.codes, folds, codes_of_groups, seed, options, training)


def _rows(outcomes: Mapping[str, Answers | Exception], task: Task) -> list[dict[str, Any]]:
    """Make the rows of the table, the best first."""
    ran = {name: found for name, found in outcomes.items() if isinstance(found, Answers)}
    ranked = sorted(ran, key=lambda name: ran[name].losses.mean())
    groups = None if task.groups is None else task.groups[task.held_out]
    rows = []
    for name in ranked:
        differences = ran[name].losses - ran[ranked[0]].losses
        rows.append(
            {
                "method": name,
                "log_loss": float(ran[name].losses.mean()),
                "accuracy": float(ran[name].is_right.mean()),
                "difference": float(differences.mean()),
                "difference_error": paired_error(differences, np.random.RandomState(task.seed), groups),
                "train_seconds": ran[name].train_seconds,
                "predict_seconds": ran[name].predict_seconds,
                "note": "",
            }
        )
    numbers = ("log_loss", "accuracy", "difference", "difference_error", "train_seconds", "predict_seconds")
    for name, reason in outcomes.items():
        if isinstance(reason, Exception):
            said = str(reason) if isinstance(reason, NotRun) else f"{type(reason).__name__}: {reason}"
            rows.append({"method": name, **dict.fromkeys(numbers, nan), "note": said})
    return rows
