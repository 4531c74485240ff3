"""What trials learn from and are scored on: labelled rows that can be taken by number, as features or as they came.

Heads are tuned on features, which the network computes once for all trials; networks on the rows themselves.
"""

from abc import ABC, abstractmethod
from inspect import signature
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, IterableDataset

from model_handler.data import look_through
from repurpose.data.groups import given_groups, group_codes, groups_option
from repurpose.data.kinds import inputs_of, is_features, is_image_folder, kind_of
from repurpose.data.labelled_data import REQUIRES_LABELS, given_labels, needed_labels
from repurpose.data.labels import encode_labels, label_array
from repurpose.data.row_subsets import labelled_rows
from repurpose.meta_model.meta_model_repurposer import MetaModelRepurposer
from repurpose.neural_network.neural_network_repurposer import NeuralNetworkRepurposer
from repurpose.parameters import only_given
from repurpose.repurposer import Repurposer
from repurpose.selection.tuning.extractions import Extractions
from repurpose.selection.tuning.scoring import Scorer
from repurpose.selection.tuning.space import Drawn, Space

__all__ = ["TunedData", "tuned_data"]


class TunedData(ABC):
    """Labelled rows: `labels` and `codes`, 0..n_classes-1, (n_rows,), and their `groups`, int (n_rows,) or None."""

    def __init__(self, labels: object, groups: Any) -> None:
        self.labels = label_array(labels)
        self.codes = encode_labels(labels).codes
        self.groups = None if groups is None else group_codes(groups, len(self.codes))

    def fit(self, repurposer: Repurposer, drawn: Drawn, rows: np.ndarray, **more: Any) -> None:
        """Train on some rows, in place; `more` goes to `repurpose`."""
        repurposer.repurpose(self.take(drawn, rows), **groups_option(self.groups, rows), **more)

    def score(self, scorer: Scorer, repurposer: Repurposer, drawn: Drawn, rows: np.ndarray) -> float:
        """Return the score of a trained Repurposer on some rows."""
        return float(scorer(repurposer, inputs_of(self.take(drawn, rows)), self.labels[rows]))

    @abstractmethod
    def take(self, drawn: Drawn, rows: np.ndarray) -> Any:
        """Return some rows with their labels, for a trial of these parameters."""

    @abstractmethod
    def fit_all(self, repurposer: Repurposer, drawn: Drawn) -> None:
        """Train on all rows, in place, as `repurpose` with the data themselves does."""


def tuned_data(repurposer: Repurposer, labelled: object, space: Space, groups: Any) -> TunedData:
    """Return the rows that trials of this Repurposer take of labelled data.

    Raises TypeError for a Repurposer that is no classifier of one domain, ValueError for data whose rows cannot be
    taken by number, where a network is tuned, and for groups that do not fit.
    """
    if "source_data" not in signature(repurposer.repurpose).parameters:
        groups = given_groups(labelled) if groups is None else groups
        if (given := given_labels(labelled)) is not None:
            encode_labels(given)  # judged before the network runs, as are groups
            if groups is not None:
                group_codes(groups, len(given))
        if isinstance(repurposer, MetaModelRepurposer):
            return _FeatureData(Extractions(repurposer, labelled, space), groups)
        if isinstance(repurposer, NeuralNetworkRepurposer):
            return _RawData(repurposer, labelled, groups)
    raise TypeError(
        f"tune takes a Repurposer that learns from labelled rows of one domain, such as LrRepurposer or "
        f"NeuralNetworkFineTuneRepurposer, and {type(repurposer).__name__} is none"
    )


class _FeatureData(TunedData):
    """Rows of features."""

    def __init__(self, extractions: Extractions, groups: Any) -> None:
        self._extractions = extractions
        super().__init__(needed_labels(extractions.labels, f"tune {REQUIRES_LABELS}"), groups)

    def take(self, drawn: Drawn, rows: np.ndarray) -> Any:
        return self._extractions.features(drawn)[rows]

    def fit_all(self, repurposer: Repurposer, drawn: Drawn) -> None:
        repurposer.repurpose(self._extractions.features(drawn), **only_given(groups=self.groups))
        self._extractions.note_rows(repurposer, drawn)


class _RawData(TunedData):
    """Rows as they came."""

    def __init__(self, repurposer: NeuralNetworkRepurposer, data: Any, groups: Any) -> None:
        if is_features(data):
            raise TypeError(f"{type(repurposer).__name__} trains a network; give the data itself, and no Features")
        if isinstance(data, (DataLoader, IterableDataset)):
            raise ValueError(f"rows of a {kind_of(data)} cannot be held out by number; give its dataset, or arrays")
        self._data = data
        seen = look_through(data, **repurposer._reading())
        super().__init__(needed_labels(seen.labels, f"tune {REQUIRES_LABELS}"), groups)

    def fit(self, repurposer: Repurposer, drawn: Drawn, rows: np.ndarray, **more: Any) -> None:
        if is_image_folder(self._data) and self._data.transform is not None:
            repurposer.transform = self._data.transform  # rows are taken as paths, which have none
        super().fit(repurposer, drawn, rows, **more)

    def take(self, drawn: Drawn, rows: np.ndarray) -> Any:
        return labelled_rows(self._data, rows)

    def fit_all(self, repurposer: Repurposer, drawn: Drawn) -> None:
        repurposer.repurpose(self._data, **only_given(groups=self.groups))
