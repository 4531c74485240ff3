"""Layers are chosen by the labels of training alone: those that suit a task, alone or together.

A combination is judged by a Gaussian process on it (`gp`), whichever head is trained later: what it says of left-out
examples comes in closed form, without the fits of a cross-validation, and its evidence weighs the layers of a
combination against each other. A layer has to help by both. The losses of ten left-out examples, as there are with two
labels a class, fall by luck; the evidence, which charges a wider combination for what it could have explained and need
not, makes too much of layers where classes overlap. Neither alone was as good, nor a sum of both.
`benchmarks/layers.py` measures what choosing gains. Which layers there are to choose among is for
`ModelHandler.candidate_layers` to say.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model_handler import Features
from model_handler.errors import with_fix
from model_handler.user_warnings import warn_user
from repurpose.data.groups import why_none_held_out
from repurpose.meta_model.gp.calibration import deal_groups
from repurpose.meta_model.gp.kernel import Products
from repurpose.meta_model.gp.left_out import learn_to_judge, left_out_losses, rows_by_class
from repurpose.meta_model.gp.rows import LayerRows
from repurpose.meta_model.gp.subset import class_sizes
from repurpose.threads import threads_for

__all__ = ["LayerChoice", "choose_layers", "distinct_layers"]

logger = logging.getLogger(__name__)

_MAX_LAYERS = 3
_MAX_EXAMPLES = 200  # beyond, the choice hardly gets better, and its time grows with their cube
# In standard errors of the difference between two losses: more lost a part of the gain, less was no better.
_CLEARLY = 0.5
# In nats, odds of 20 to 1. Without a margin, or by two standard errors of the loss, the last layer left by chance; with
# two labels a class that cost up to a nat a row. By this one it stays in real networks, and a layer of noise leaves.
_TO_LEAVE = 3.0

Layers = tuple[str, ...]


@dataclass(frozen=True)
class LayerChoice:
    """The layers taken, in the order of the candidates, and the mean log loss (nats) of each combination tried."""

    names: list[str]
    scores: dict[Layers, float]


def choose_layers(
    features: Features,
    codes: np.ndarray,
    random_state: np.random.RandomState,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> LayerChoice:
    """Return up to three layers of `features` by which left-out examples are best predicted.

    The last layer comes first, and the layer that lowers the loss most joins it, as long as that is by more than half a
    standard error of the paired differences and the evidence rises too. In the end the last layer leaves where the
    others lower the loss as clearly without it and have an evidence larger by 3 nats. So at most 2 n - 1 combinations
    of n layers are judged, on a stratified subset of 200 examples where there are more: about .3 seconds of one core
    for eight layers and 100 examples, and for any number at most some 3. Of layers with the same features the last one
    counts. Neither the order of the rows nor the names of the classes matter. Where no class has two examples, a
    UserWarning says so and the last layer is taken.

    Parameters
    ----------
    features : Features
        The features of training examples at the candidates, in order of depth.
    codes : ndarray of shape (n_samples,)
        Classes as 0..n_classes-1, each of them present.
    random_state : RandomState
        Draws the subset and deals examples into groups to leave out.
    weights : ndarray of shape (n_samples,), optional
        How often each example counts, for the processes and in the means of losses. For the standard error it is the
        number of different examples that counts, by Kish's effective sample size: repeats make nothing more certain.
    groups : int ndarray of shape (n_samples,), optional
        Examples of one group are left out together, and the standard error is that of sums over groups.
    """
    names = distinct_layers(features)
    if len(names) == 1:
        return LayerChoice(names, {})
    judge = _Judge.of(features.select(names), codes, random_state, weights, groups)
    if not judge.left_out:
        advice = with_fix(
            UserWarning,
            f"{why_none_held_out(groups)}, so that the choice of layers takes {names[-1]!r}, the last one",
            python='give more examples of a class, or the layers by name instead of "auto"',
            shell="give more images of a class, or --layer NAME instead of --layer auto",
        )
        warn_user(advice)
        return LayerChoice(names[-1:], {})
    best: Layers = (names[-1],)
    while len(best) < min(_MAX_LAYERS, len(names)):
        wider = [tuple(name for name in names if name in (*best, other)) for other in names if other not in best]
        candidate = min(wider, key=judge.score)
        if not judge.prefers(candidate, best):
            break
        best = candidate
    without_last = best[:-1]
    if without_last and judge.prefers(without_last, best, margin=_TO_LEAVE):
        best = without_last
    scores = {layers: judge.score(layers) for layers in judge.verdicts}
    logger.info(
        "layers %s chosen by a left-out log loss of %.4f, of %d combinations", list(best), scores[best], len(scores)
    )
    return LayerChoice(list(best), scores)


def distinct_layers(features: Features) -> list[str]:
    """List the layers without those whose features a later one has too, as the end of a network and its average do."""
    arrays = list(features.values.items())
    return [
        name
        for number, (name, array) in enumerate(arrays)
        if not any(
            array.shape == later.shape and np.allclose(array, later, rtol=1e-4) for _, later in arrays[number + 1 :]
        )
    ]


@dataclass(frozen=True, eq=False)
class _Verdict:
    """The log loss (nats) of each left-out example, (n_left_out,), and the log evidence (nats) of a combination."""

    losses: np.ndarray
    evidence: float


@dataclass(frozen=True, eq=False)
class _Judge:
    """Verdicts by combination of layers, each reached when first asked for.

    Rows are sorted by class; the sets of `left_out` are left out one after the other, one example of each class at most
    in each, or one of the `groups` (n_samples,) of each class.
    """

    names: Sequence[str]
    products: Products
    sizes: list[int]
    left_out: list[Tensor]
    verdicts: dict[Layers, _Verdict]
    repeats: Tensor | None
    groups: np.ndarray | None

    @classmethod
    @threads_for(_MAX_EXAMPLES)
    def of(
        cls,
        features: Features,
        codes: np.ndarray,
        random_state: np.random.RandomState,
        weights: np.ndarray | None,
        groups: np.ndarray | None = None,
    ) -> "_Judge":
        order, codes = rows_by_class(features.matrix, codes, _MAX_EXAMPLES, random_state, weights)
        sizes = class_sizes(codes)
        matrix, weights = features.matrix[order], None if weights is None else weights[order]
        rows = LayerRows.fit(matrix, features.indices_per_layer, weights, unit_norm=True).transform(matrix)
        groups = None if groups is None else groups[order]
        left_out = deal_groups(sizes, random_state, groups)
        repeats = None if weights is None else torch.from_numpy(weights)
        return cls(features.layer_names, Products.between(rows, rows), sizes, left_out, {}, repeats, groups)

    @property
    def counts(self) -> np.ndarray | None:
        """How often each left-out example counts, (n_left_out,)."""
        return None if self.repeats is None else self.repeats[torch.cat(self.left_out)].numpy()

    def score(self, layers: Layers) -> float:
        return float(np.average(self._verdict(layers).losses, weights=self.counts))

    def prefers(self, layers: Layers, others: Layers, margin: float = 0.0) -> bool:
        """Return whether `layers` have the larger evidence, by more than `margin`, and clearly the lower loss."""
        more = self._verdict(layers).evidence - self._verdict(others).evidence
        return more > margin and self.gain(layers, others) > _CLEARLY

    def gain(self, layers: Layers, others: Layers) -> float:
        """Return by how many standard errors `layers` lower the mean loss of `others`; 0 where all are the same."""
        gains, counts = self._verdict(others).losses - self._verdict(layers).losses, self.counts
        mean = np.average(gains, weights=counts)
        if self.groups is not None:
            error = self._error_over_groups(self.groups, gains - mean)
        elif counts is None:
            error = gains.std(ddof=1) / len(gains) ** 0.5
        else:
            n_different = counts.sum() ** 2 / np.square(counts).sum()
            error = (np.average((gains - mean) ** 2, weights=counts) / max(n_different - 1, 1e-9)) ** 0.5
        return float(mean / error) if error > 0 else 0.0

    def _error_over_groups(self, groups: np.ndarray, residuals: np.ndarray) -> float:
        """Return the standard error of a mean whose `residuals` (n_left_out,) come in groups, by the sum of each."""
        weighted = residuals if self.counts is None else residuals * self.counts
        total = len(residuals) if self.counts is None else self.counts.sum()
        _, of_row = np.unique(groups[torch.cat(self.left_out).numpy()], return_inverse=True)
        sums = np.bincount(of_row, weighted)
        return float((np.square(sums).sum() * len(sums) / max(len(sums) - 1, 1e-9)) ** 0.5 / total)

    @threads_for(_MAX_EXAMPLES)
    def _verdict(self, layers: Layers) -> _Verdict:
        if layers not in self.verdicts:
            numbers = [self.names.index(name) for name in layers]
            products = Products(
                [self.products.inner[number] for number in numbers],
                [self.products.squares[number] for number in numbers],
            )
            posterior = learn_to_judge(products, self.sizes, self.repeats).posterior
            self.verdicts[layers] = _Verdict(left_out_losses(posterior, self.left_out), posterior.log_evidence)
        return self.verdicts[layers]
