"""`rank_sources`: which network, which layer, before anything is trained."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from model_handler.errors import nearest
from model_handler.extraction.pooling import Pooling, check_pooling
from model_handler.network.ambient_modes import undisturbed
from model_handler.network.device import check_device
from repurpose.data.labels import label_array
from repurpose.parameters import is_one_of, is_whole, mistakes_found
from repurpose.seeding import RandomState, draw_seed
from repurpose.selection.ranking.candidates import Candidate, Candidates, named_candidates
from repurpose.selection.ranking.extraction import AUTO, Extraction, Layers, extract, pooling_name
from repurpose.selection.ranking.given_data import GivenData
from repurpose.selection.ranking.judge import LR_COLUMNS, Judged, judge
from repurpose.selection.ranking.nested import Nest
from repurpose.selection.ranking.ranking_table import nested_notes, ranked_rows
from repurpose.selection.ranking.task import Task
from repurpose.selection.results.tables import ResultTable, as_table

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["rank_sources"]

logger = logging.getLogger(__name__)


@undisturbed()
def rank_sources(
    candidates: Candidates,
    data: object = None,
    y: object = None,
    *,
    layers: Layers = AUTO,
    pooling: Pooling | Sequence[Pooling] = ("avg",),
    groups: ArrayLike | None = None,
    nested: bool = False,
    lr: str | None = "five-fold",
    every_layer: bool = False,
    max_rows: int = 2000,
    transform: Callable[[Any], torch.Tensor] | None = None,
    device: str | torch.device = "auto",
    batch_size: int = 32,
    num_workers: int = 0,
    random_state: RandomState = None,
    cache_dir: str | PathLike[str] | None = None,
    cache_key: str | None = None,
    verbose: bool | None = None,
) -> "DataFrame | ResultTable":
    """Rank sources for labelled data, best first, by how well their features predict rows left out.

    Each network runs once over the rows, for all its layers. A Gaussian process on each layer then says, in closed form
    and at one kernel, how likely the labels of rows are that are left out (the kernel alone has seen them): one
    of each class at a time, by the same five dealings for all candidates. Rows are in the order of that loss (nats).

    The first row's score is optimistic: it is the best of many, chosen by the rows that it is measured on, and more so
    the more candidates, layers and poolings there are and the fewer rows. `nested` gives an honest one. Candidates
    within two errors of the first row are not told apart by these rows; then take the smaller network. See
    docs/selection.md for how each score misleads.

    Parameters
    ----------
    candidates : list of str, nn.Module or Source, or mapping of names to these or to Features
        Names of sources, such as "efficientnet-lite0", and networks. A `Features` stands for an extraction done before,
        of the same rows. What cannot be loaded or run is a row that says why, in the column `error`.
    data, y
        Labelled data as in `Repurposer.repurpose`; no data where each candidate is a `Features` with labels, or beside
        `y`. A loader must not shuffle.
    layers : "auto", None, list of str or mapping of candidates to lists of str
        The layers to judge: by default up to eight over the depth of each network; with None the one that a Repurposer
        takes where none is named. Of a `Features`, by default all, with None the last one.
    pooling : str, callable, or several
        How outputs of more than two axes become rows; each layer is judged in each. As in `ModelHandler.extract`.
    groups : array-like of shape (n_samples,), optional
        The patient, camera or document of each row: rows of a group are left out together, and drawn together by the
        bootstrap. Of more than `max_rows` rows the subset is one of rows, and may leave a part of a group.
    nested : bool
        Whether the choice is made anew without each of five folds, and judged on the fold by a `GpRepurposer` trained
        without it. Takes about six times the time of scoring; extraction is the same.
    lr : "five-fold", "alo" or None
        The log loss of logistic regression at C = 1: by five folds, or by approximate leave-one-out, one Newton step
        from one fit (Rad and Maleki 2020, arXiv:1801.10243), which is NaN with a warning for more than 4,000
        coefficients; None to save its time.
    every_layer : bool
        Whether each layer in each pooling has a row; by default each source has one, with its best layer.
    max_rows : int
        Of more rows, a stratified subset is taken: before the network runs, where labels are known without reading
        (not for a Dataset or loader).
    transform, device, batch_size, num_workers, verbose
        As in `ModelHandler`.
    cache_dir, cache_key
        As in `ModelHandler.extract`. Of a subset (`max_rows`), features are kept where there is a `cache_key`.
    random_state : int, RandomState or None
        Draws the subset, the dealings and the bootstrap. With a seed, and up to `max_rows` rows, neither the order of
        the rows nor the names of the classes changes the scores: rows are dealt by the features of the first candidate.

    Returns
    -------
    DataFrame, or ResultTable without pandas
        `source`, `layer`, `pooling`; `gp_log_loss` (nats a row); `difference` and `difference_error`, how much more
        that is than in the first row, and the standard error of this by bootstrap of rows; `nested_log_loss`, where
        asked for: of the source, its layer chosen without the rows; `lr_log_loss_5fold` or `lr_log_loss_alo` (nats a
        row); `class_mean_accuracy`, of the nearest class mean, leave-one-out; `logme` (You et al. 2021,
        arXiv:2102.11005; nats a row, larger is better); `h_score` (regularised: Ibrahim et al. 2021, arXiv:2110.06893;
        larger is better); `parameters` and `size_rank` (1 for the most); `imagenet_accuracy` (published top-1, %) and
        `imagenet_rank`, NaN where unknown; `extraction_seconds`, `extraction_mb` (of all features of the source),
        `scoring_seconds`; `error`.
        Its `attrs`: `n_rows` judged by, `n_rows_read`, `n_dealings`, and with `nested` the honest `nested_log_loss` of
        choosing the first row, `nested_log_loss_error` (by bootstrap of the rows, for the five choices as they were
        made) and `nested_choices`, one a fold.

    Raises
    ------
    TypeError, ValueError
        For parameters, data, labels or groups that cannot be used, and where no class has two examples (or groups);
        before any network runs where labels are known by then.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose.selection import rank_sources
    >>> _ = torch.manual_seed(0)
    >>> networks = {"wide": nn.Linear(2, 16), "blind": nn.Sequential(nn.Linear(2, 1), nn.ReLU())}
    >>> table = rank_sources(networks, make_blobs(60, random_state=8), random_state=0)
    >>> list(table["source"]), list(table["layer"])
    (['wide', 'blind'], ['linear', '0'])
    """
    poolings = [pooling] if isinstance(pooling, str) or callable(pooling) else list(pooling)
    named = named_candidates(candidates)
    _check(named, layers, poolings, lr, max_rows, device)
    seed = draw_seed(random_state)
    given = GivenData.of(data, y, groups, max_rows, np.random.RandomState(seed))
    options = {"transform": transform, "device": device, "batch_size": batch_size}
    options |= {"num_workers": num_workers, "verbose": verbose}
    cache = {"cache_dir": cache_dir, "cache_key": given.cache_key(cache_key)}
    ranking = _Ranking(given, max_rows, seed, nested)
    judged = []
    for candidate in named:
        try:
            extraction = extract(candidate, given, layers, poolings, cache, **options)
        except Exception as error:  # whatever a network, a library or a file raises is the row of this candidate
            judged.append(_failed(candidate, error))
            continue
        # The labels are judged here: what is wrong with them is wrong for all candidates.
        task, nest = ranking.dealt(extraction)
        try:
            ranking.check_same_rows(extraction)
            judged.append(judge(candidate, extraction, ranking.labels, task, nest, lr=lr, every_layer=every_layer))
        except Exception as error:
            judged.append(_failed(candidate, error))
    return ranking.table(judged)


class _Ranking:
    """What the first candidate that runs settles for all: labels, rows, dealings."""

    def __init__(self, given: GivenData, max_rows: int, seed: int, nested: bool) -> None:
        self.given = given
        self.max_rows = max_rows
        self.seed = seed
        self.nested = nested
        self.labels = np.empty(0)
        self.task: Task | None = None
        self.nest: Nest | None = None

    def dealt(self, extraction: Extraction) -> tuple[Task, Nest | None]:
        """Return the rows as they are dealt, the first time. Raises ValueError for labels or groups of no use."""
        if self.task is None:
            matrix = next(iter(extraction.features.values())).matrix
            groups = self.given.groups_beside(len(matrix))
            random_state = np.random.RandomState(self.seed)
            labels = label_array(self.given.labels_beside(extraction.labels))
            task = Task.of(matrix, labels, groups, self.max_rows, random_state)
            self.nest = Nest.of(task, self.seed) if self.nested else None
            self.task, self.labels = task, labels
        return self.task, self.nest

    def check_same_rows(self, extraction: Extraction) -> None:
        """Raise ValueError for rows other than those of the first candidate, which nothing could be paired with."""
        labels = self.given.labels_beside(extraction.labels)
        if not np.array_equal(self.labels, labels):
            raise ValueError(
                f"its {len(labels)} rows have other labels than the {len(self.labels)} of the first "
                "candidate; every candidate must see the same rows in the same order"
            )

    def table(self, judged: Sequence[Judged]) -> "DataFrame | ResultTable":
        notes: dict[str, Any] = {}
        if (task := self.task) is not None:
            notes |= {"n_dealings": len(task.dealings), "n_rows": int(task.left_out.sum())}
            notes["n_rows_read"] = len(self.labels)
        if self.nest is not None:
            notes |= nested_notes(judged, self.nest, self.seed)
        return as_table(ranked_rows(judged, self.task, self.nest, self.seed), notes)


def _failed(candidate: Candidate, error: Exception) -> Judged:
    logger.info("%s cannot be ranked", candidate.name, exc_info=error)
    return Judged(candidate, error=f"{type(error).__name__}: {error}")


def _check(
    candidates: Sequence[Candidate],
    layers: Layers,
    poolings: Sequence[Pooling],
    lr: object,
    max_rows: object,
    device: str | torch.device,
) -> None:
    """Raise ValueError listing every parameter that cannot be used."""
    checks = [partial(check_pooling, each) for each in poolings]
    mistakes = mistakes_found(*checks, partial(check_device, device))
    names = [candidate.name for candidate in candidates]
    if isinstance(layers, str) and layers != AUTO:
        mistakes.append(f'layers must be "auto", None, or a list of layers such as [{layers!r}], got {layers!r}')
    if isinstance(layers, Mapping):
        mistakes += [
            f"layers are given for {name!r}, which is no candidate; nearest: {nearest(str(name), names)}"
            for name in layers
            if name not in names
        ]
    if not poolings or len(set(map(pooling_name, poolings))) < len(poolings):
        mistakes.append(f"pooling must be one or several poolings of different names, got {poolings!r}")
    if lr is not None and not is_one_of(lr, list(LR_COLUMNS)):
        mistakes.append(f"lr must be one of {list(LR_COLUMNS)} or None, got {lr!r}")
    if not is_whole(max_rows, 4):
        mistakes.append(f"max_rows must be a whole number of at least 4, got {max_rows!r}")
    if mistakes:
        raise ValueError("\n".join(mistakes))
