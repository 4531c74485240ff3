"""`TrAdaBoostRepurposer`: boosting that lets go of the source rows which the target contradicts.

Dai, Yang, Xue and Yu (2007), Boosting for transfer learning, ICML. For more than two classes with the factor of Zhu,
Zou, Rosset and Hastie (2009), Multi-class AdaBoost, Statistics and Its Interface 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log, sqrt
from typing import Any, ClassVar

import numpy as np
from torch import nn

from model_handler import Features, Source
from repurpose.data.labels import label_codes
from repurpose.domain.domain_repurposer import DomainRepurposer
from repurpose.domain.domains import Domains
from repurpose.domain.onnx_rows import Votes
from repurpose.domain.target_reference import KEPT_HERE, TARGET, train_head
from repurpose.meta_model.meta_model_repurposer import MetaModelRepurposer
from repurpose.parameters import is_whole
from repurpose.persistence.values.schema import Array, Dict, Maybe, Table, Text
from repurpose.seeding import seed_at_prediction

__all__ = ["TrAdaBoostRepurposer", "VotingHeads", "error_bounds", "reweighted"]

_LEAST_ERROR = 1e-6
_SHARE_OF_GUESSING = 0.998  # of the error of a guess: above it a round would count for nothing
_LEAST_WEIGHT = 1e-12


@dataclass(frozen=True, eq=False)
class VotingHeads:
    """The heads of the later rounds, and the `votes` (n_heads,) of each, all above 0."""

    heads: list[MetaModelRepurposer]
    votes: np.ndarray

    def shares(self, features: np.ndarray, n_classes: int) -> np.ndarray:
        """Return the share of the votes that each class gets: (n_rows, n_classes)."""
        shares = np.zeros((len(features), n_classes))
        for head, vote in zip(self.heads, self.votes / self.votes.sum()):
            shares[np.arange(len(features)), head._predict_label_from_features(features)] += vote
        return shares / shares.sum(axis=1, keepdims=True)


class TrAdaBoostRepurposer(DomainRepurposer):
    """Heads trained one after the other, on source rows that count less each time a head gets them wrong (TrAdaBoost).

    A source row that heads for the target get wrong says something else than the target does; a row of the target that
    they get wrong counts more, as in AdaBoost. In round t of N, with K classes and n_S source rows:

    - eps_t is the weighted share of the target's rows that the head gets wrong, brought into
      [1e-6, .998 (K - 1)/K], and beta_t = eps_t / ((1 - eps_t)(K - 1)); of two classes that is the paper's;
    - wrong source rows are multiplied by beta = 1 / (1 + sqrt(2 ln(n_S) / N)), wrong rows of the target divided by
      beta_t, all others stay as they are.

    The heads of rounds ceil(N/2) to N vote, each with ln(1/beta_t). A probability is a share of the votes: it says how
    far the heads agree, and `calibrate` makes it a frequency. There are no posterior draws, whatever the head.

    Parameters
    ----------
    source_model, feature_layer_names, head
        As in `DomainRepurposer`; the head must take `sample_weight`. It is trained N times.
    n_rounds : int, default=20
        The N.
    **kwargs
        The parameters of `DomainRepurposer`, `MetaModelRepurposer` and `Repurposer`.

    Attributes
    ----------
    target_model_ : VotingHeads
    source_weights_ : float64 ndarray of shape (n_source_rows,)
        What is left of the weight of each source row that took part, from 1 (of several domains, from the weight that
        makes them count alike) down: rows with the largest help most.
    round_errors_ : float64 ndarray of shape (n_rounds,)
        The eps_t.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import LrRepurposer
    >>> from repurpose.domain import TrAdaBoostRepurposer
    >>> X, y = make_blobs(90, random_state=8)
    >>> target, network = (X[45:55], y[45:55]), nn.Sequential(nn.Identity())
    >>> labels = y[:45].copy()
    >>> labels[:5] = (labels[:5] + 1) % 3  # five rows of the source are labelled otherwise
    >>> repurposer = TrAdaBoostRepurposer(network, ["0"], head=LrRepurposer(network, c=1.0))
    >>> repurposer.repurpose(target, source_data=(X[:45], labels)).score(X[55:], y[55:])
    1.0
    >>> repurposer.source_weights_.shape, bool(repurposer.source_weights_[:5].max() < 0.01)
    ((45,), True)
    """

    _weighs_rows = True

    target_model_: VotingHeads

    _schema: ClassVar[Table] = {
        "head_state_": Dict(Text("learned", "votes")),
        "source_weights_": Maybe(Array("n_source_rows", least=0)),
        "round_errors_": Maybe(Array("n_rounds", least=0)),
    }

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        feature_layer_names: Sequence[str] | str | None = None,
        *,
        n_rounds: int = 20,
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, feature_layer_names, **kwargs)
        self.n_rounds = n_rounds

    def learn_from(self, rows: np.ndarray) -> dict[str, Any]:
        training = self.training_rows()
        features = Features(self._training_layers(training), self.classes_[training.codes])
        counts = np.ones(len(training)) if training.weights is None else training.weights
        is_target, groups = self.training_domains_[rows] == TARGET, training[rows].groups
        boosted, _, _ = self._boost(features[rows], counts[rows], is_target, groups, seed_at_prediction(self))
        return {"target_model_": boosted}

    def _train_on(self, domains: Domains) -> None:
        features, weights = self._rows_with_labels(domains)
        self.classes_ = domains.classes
        self.training_features_ = features.matrix
        self.training_codes_ = np.concatenate([domains.source_codes, domains.target_codes[domains.labelled]])
        if not (weights == 1).all():
            self.training_weights_ = weights
        if (groups := domains.groups_of(domains.labelled)) is not None:
            self.training_groups_ = groups
        is_target = self.training_domains_ == TARGET
        self.target_model_, left, self.round_errors_ = self._boost(features, weights, is_target, groups)
        self.source_weights_ = left[: len(domains.source)]

    def _boost(
        self,
        features: Features,
        weights: np.ndarray,
        is_target: np.ndarray,
        groups: np.ndarray | None,
        seed: int | None = None,
    ) -> tuple[VotingHeads, np.ndarray, np.ndarray]:
        """Return what votes, what is left of the weights (n_rows,), and the error of each round (n_rounds,)."""
        codes = label_codes(np.asarray(features.labels), self.classes_)[0]
        n_classes, n_source = len(self.classes_), int((~is_target).sum())
        beta = 1 / (1 + sqrt(2 * log(max(n_source, 1)) / self.n_rounds))
        heads, votes, errors = [], [], []
        for number in range(1, self.n_rounds + 1):
            counts = np.maximum(weights * len(weights) / weights.sum(), _LEAST_WEIGHT)
            head = self._new_head(features.layer_names)
            if seed is not None:
                head.random_state = seed
            train_head(head, features, counts, groups)
            for name in KEPT_HERE:
                head.__dict__.pop(name, None)
            is_wrong = head._predict_codes(features)[0] != codes
            # A fold may hold out the only row of the target.
            share = np.average(is_wrong[is_target], weights=weights[is_target]) if is_target.any() else 0.0
            error = error_bounds(float(share), n_classes)
            beta_t = error / ((1 - error) * (n_classes - 1))
            weights = reweighted(weights, is_wrong, is_target, beta, beta_t)
            errors.append(error)
            if number >= ceil(self.n_rounds / 2):
                heads.append(head)
                votes.append(-log(beta_t))
        return VotingHeads(heads, np.array(votes)), weights, np.array(errors)

    def _predict_probability_from_features(self, features: np.ndarray) -> np.ndarray:
        return self.target_model_.shares(features, len(self.classes_))

    def _predict_label_from_features(self, features: np.ndarray) -> np.ndarray:
        return self._predict_probability_from_features(features).argmax(axis=1)

    def _defines(self, hook: str) -> bool:
        has_none = ("_predict_samples_from_features", "_predict_variance_from_features")
        return (hook.startswith("_predict") and hook not in has_none) or hook in ("_head_state", "_load_head_state")

    def _without_draws(self, data: object) -> str:
        return f"{type(self).__name__} has no posterior draws: its heads vote, and none of them answers alone"

    def _onnx_head(self) -> nn.Module | None:
        heads = [head._onnx_head() for head in self.target_model_.heads]
        found = [head for head in heads if head is not None]
        return Votes(found, self.target_model_.votes) if len(found) == len(heads) else None

    def _onnx_variance(self) -> nn.Module | None:
        return None

    def _head_state(self) -> dict[str, Any]:
        model = self.target_model_
        return {"learned": [head._learned_for_file() for head in model.heads], "votes": model.votes}

    def _load_head_state(self, state: Any) -> Any:
        learned, votes = state["learned"], state["votes"]
        if not isinstance(votes, np.ndarray) or votes.shape != (len(learned),) or not (votes > 0).all():
            raise ValueError("its heads and their votes do not go together")
        return VotingHeads(
            [super(TrAdaBoostRepurposer, self)._load_head_state({"learned": one}) for one in learned], votes
        )

    def _check_domains(self, domains: Domains) -> None:
        super()._check_domains(domains)
        if not len(domains.labelled):
            raise ValueError(
                f"{type(self).__name__} needs labels in the target, by which it finds the source rows that help, and "
                "none of its rows has one; label some, or use CoralRepurposer, which needs none"
            )

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes()
        if not is_whole(self.n_rounds, 1):
            mistakes.append(f"n_rounds must be a whole number of at least 1, got {self.n_rounds!r}")
        return mistakes


def error_bounds(error: float, n_classes: int) -> float:
    """Return an error (0 to 1) brought to where the head that makes it has a vote above 0 and below infinity."""
    return float(np.clip(error, _LEAST_ERROR, _SHARE_OF_GUESSING * (n_classes - 1) / n_classes))


def reweighted(
    weights: np.ndarray, is_wrong: np.ndarray, is_target: np.ndarray, beta: float, beta_t: float
) -> np.ndarray:
    """Return the weights (n_rows,) of the next round: wrong source rows times beta, wrong target rows over beta_t."""
    return weights * np.where(is_wrong, np.where(is_target, 1 / beta_t, beta), 1.0)
