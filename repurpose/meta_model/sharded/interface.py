"""Heads that learn from shards read them block by block; what a fit asks of few rows comes from a sample of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from model_handler import Features
from repurpose.data.groups import check_n_groups
from repurpose.data.kinds import inputs_of, is_pair, is_sharded
from repurpose.data.labelled_data import REQUIRES_LABELS, needed_labels
from repurpose.data.labels import encode_labels, label_array
from repurpose.data.sample_weights import checked_counts, present_rows
from repurpose.data.scaling import Moments
from repurpose.meta_model.gp.subset import stratified_subset
from repurpose.meta_model.sharded.blocks import ShardedRows, TrainingBlocks
from repurpose.persistence.values.schema import Maybe, Table, Whole

__all__ = ["N_IN_MEMORY", "N_KEPT", "ShardedTraining", "TrainingSample", "learns_in_parts"]

_WHOLE, _IN_PARTS = "_train_model_from_features", "_fit_in_parts"

N_IN_MEMORY = 20_000  # rows: so many are read at once, and learned from as any others
N_KEPT = 5000  # of more rows, for choices, detectors, and sets without `conformalize`


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """Rows drawn from all classes in proportion, as a head gets them: `matrix` is (n_kept, n_features), float32."""

    matrix: np.ndarray
    codes: np.ndarray
    indices_per_layer: Mapping[str, np.ndarray]
    weights: np.ndarray | None
    groups: np.ndarray | None


class ShardedTraining:
    """Lets heads learn from features in shards: where there are more than 20,000 rows, by the hook `_fit_in_parts`.

    Attributes
    ----------
    n_rows_seen_ : int
        How many rows were learned from, where they are more than are kept: from more than 20,000 rows in shards a
        stratified sample of about 5,000 is in `training_features_`. Detectors are fitted to it. Without `conformalize`,
        sets and p-values come from heads trained on folds of it alone: their promise holds, and sets may be larger.
    """

    _schema: ClassVar[Table] = {"n_rows_seen_": Maybe(Whole())}

    classes_: np.ndarray
    feature_layer_names_: list[str]
    random_state: int | np.random.RandomState | None
    _learn_whole: Callable[..., None]
    _layers_to_extract: Callable[[object], list[str]]
    _train: Callable[..., None]
    _note_training: Callable[[], None]
    _without_outliers: Callable[..., Features]

    def _fit_in_parts(self, blocks: TrainingBlocks, moments: Moments, sample: TrainingSample) -> Any:
        """Hook: train and return the head; `moments` are of all rows that count, as the `sample` is."""
        raise NotImplementedError(f"{type(self).__name__} must define _fit_in_parts")

    def _learn(self, data: Any, sample_weight: ArrayLike | None = None, groups: np.ndarray | None = None) -> object:
        """Do as other heads with other data. Of shards return a `Features`, by which classes are named."""
        shards: Any = inputs_of(data)
        if not is_sharded(shards):
            self._learn_whole(data, sample_weight, groups)
            return None
        labels = label_array(needed_labels(data[1] if is_pair(data) else shards.labels, _needs(self)))
        if len(labels) != len(shards):
            raise ValueError(f"the shards have {len(shards)} rows and {len(labels)} labels; every row needs one label")
        if len(shards) <= N_IN_MEMORY:
            whole = Features(shards[:].values, labels, shards.class_names)
            self._learn_whole(whole, sample_weight, groups)
            return whole
        return self._learn_in_parts(shards, labels, sample_weight, groups)

    def _learn_in_parts(
        self, shards: ShardedRows, labels: np.ndarray, sample_weight: ArrayLike | None, groups: np.ndarray | None
    ) -> Features:
        self._check_learns_in_parts()
        weights, present = checked_counts(sample_weight), np.arange(len(labels))
        if weights is not None:
            (present, _), _ = present_rows((present, labels), weights)
        if groups is not None:
            check_n_groups(groups, len(labels))
        encoded, codes = encode_labels(labels[present]), np.full(len(labels), -1)
        codes[present] = encoded.codes
        blocks = TrainingBlocks(shards, self._layers_to_extract(shards), codes, weights, groups)
        order, rng = blocks.rows_by_class(), check_random_state(self.random_state)
        chosen = np.sort(order[stratified_subset(codes[order], max(N_KEPT, 2 * len(encoded.classes)), rng)])
        of_chosen = [None if part is None else part[chosen] for part in (weights, groups)]
        kept = self._without_outliers(blocks.take(chosen), codes[chosen], of_chosen[0], lambda row: str(chosen[row]))
        self._note_training()
        self.classes_ = encoded.classes

        def train(
            matrix: np.ndarray,
            codes: np.ndarray,
            indices_per_layer: Mapping[str, np.ndarray],
            sample_weight: np.ndarray | None,
            groups: np.ndarray | None,
        ) -> Any:
            of_layers = replace(blocks, layer_names=self.feature_layer_names_)
            sample = TrainingSample(matrix, codes, indices_per_layer, sample_weight, groups)
            values = {name: matrix[:, columns] for name, columns in indices_per_layer.items()}
            moments = of_layers.read_moments(Features(values, codes), self._without_outliers)
            return self._fit_in_parts(of_layers, moments, sample)

        self._train(kept, codes[chosen], *of_chosen, train)
        self.n_rows_seen_ = len(blocks)
        return kept

    def _check_learns_in_parts(self) -> None:
        """Raise ValueError, before anything is read, where rows that do not fit cannot be learned from."""
        if not learns_in_parts(self):
            raise ValueError(
                f"{type(self).__name__} learns from all rows at once, and of features in shards from {N_IN_MEMORY:,} "
                "rows at most: give a part of them, features[rows], or all if memory holds them, features[:]; "
                "LrRepurposer and GpRepurposer read them in parts"
            )

    def learn_anew(self) -> dict[str, Any]:
        self._refuse_rows_not_kept("refresh")
        return super().learn_anew()  # type: ignore[misc]

    def _refuse_rows_not_kept(self, what: str) -> None:
        """Raise ValueError where a head learned from more rows than were kept, which `what` would forget."""
        n_seen, n_kept = vars(self).get("n_rows_seen_"), len(vars(self).get("training_codes_", ()))
        if n_seen is not None and n_seen > n_kept:
            raise ValueError(
                f"this {type(self).__name__} learned from {n_seen:,} rows, of which {n_kept:,} are kept; {what} would "
                "forget the others. Call repurpose with all rows"
            )


def learns_in_parts(repurposer: object) -> bool:
    """Return whether the hook that trains heads of this class has one beside it that trains them in parts."""
    owners = [cls for cls in type(repurposer).__mro__ if _WHOLE in vars(cls) or _IN_PARTS in vars(cls)]
    return _IN_PARTS in vars(owners[0])


def _needs(repurposer: object) -> str:
    return f"{type(repurposer).__name__} {REQUIRES_LABELS}"
