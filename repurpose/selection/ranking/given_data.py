"""The data of a ranking, judged once for all candidates, and a part of them that every candidate is judged by."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from model_handler import ModelHandler
from model_handler.data import Batches, as_batches, reading_options, refuse_dropped_rows, shuffling_sampler
from repurpose.data.groups import given_groups, group_codes
from repurpose.data.kinds import is_image_folder
from repurpose.data.labelled_data import REQUIRES_LABELS, given_labels, needed_labels, refuse_unlabelled, with_labels
from repurpose.data.labels import encode_labels, label_array
from repurpose.meta_model.gp.subset import stratified_subset

__all__ = ["GivenData"]

_NEEDS = f"rank_sources {REQUIRES_LABELS}"


@dataclass(frozen=True, eq=False)
class GivenData:
    """Labelled data, of which `rows` are read.

    Attributes
    ----------
    data : as in `Repurposer.repurpose`, or None
        With their labels; None where every candidate is a `Features`.
    labels : ndarray of shape (n_samples,) or None
        Of all rows, where they are known before the data are read.
    rows : int ndarray of shape (n_rows,) or None
        The places of the rows to read among these labels, growing; None for all of them.
    numbers : int ndarray of shape (n_rows,) or None
        The same rows by the numbers that reading goes by: a folder counts the images that it skipped too.
    groups : int ndarray of shape (n_samples,) or None
        The group of each row.
    """

    data: Any
    labels: np.ndarray | None
    rows: np.ndarray | None
    numbers: np.ndarray | None
    groups: np.ndarray | None

    @classmethod
    def of(
        cls, data: object, y: object, groups: Any, max_rows: int, random_state: np.random.RandomState
    ) -> "GivenData":
        """Judge the data before any network runs. Raises TypeError or ValueError as `Repurposer.repurpose` does."""
        labelled = None if data is None else with_labels(data, y)
        if labelled is not None:
            refuse_unlabelled(labelled, _NEEDS)
            _refuse_own_order(labelled)
        known = labelled.labels if is_image_folder(labelled) else given_labels(labelled)
        known = y if data is None else known
        labels = None if known is None else label_array(known)
        if groups is None:
            groups = given_groups(labelled)
        codes = None if labels is None else encode_labels(labels).codes
        of_group = None if groups is None else group_codes(groups, None if labels is None else len(labels))
        if codes is None or len(codes) <= max_rows:
            return cls(labelled, labels, None, None, of_group)
        by_class = np.argsort(codes, kind="stable")
        rows = np.sort(by_class[stratified_subset(codes[by_class], max_rows, random_state)])
        numbers = labelled.rows[rows] if is_image_folder(labelled) else rows
        return cls(labelled, labels, rows, numbers, of_group)

    def read_for(self, handler: ModelHandler) -> Any:
        """Return what the handler extracts: the data, or the batches of the rows that are read."""
        if self.data is None:
            raise ValueError("there are no data to run this network on; give rank_sources data beside the candidates")
        return self.data if self.rows is None else self._batches(handler)

    def cache_key(self, key: str | None) -> str | None:
        """Return a key of the rows that are read, by one of the data: another subset is other data."""
        if key is None or self.rows is None:
            return key
        return f"{key}; rows {sha256(self.rows.astype(np.int64).tobytes()).hexdigest()}"

    def labels_beside(self, found: np.ndarray | None) -> np.ndarray:
        """Return the labels of the rows that were read: those found with them, or those that were known before."""
        known = self.labels if self.labels is None or self.rows is None else self.labels[self.rows]
        return needed_labels(known if found is None else found, _NEEDS)

    def groups_beside(self, n_rows: int) -> np.ndarray | None:
        """Return the groups of the `n_rows` rows that were read. Raises ValueError for another number of groups."""
        if self.groups is None:
            return None
        of_rows = self.groups if self.rows is None else self.groups[self.rows]
        if len(of_rows) != n_rows:
            raise ValueError(f"{n_rows} rows were read and groups has {len(of_rows)}; every row needs one group")
        return of_rows

    def _batches(self, handler: ModelHandler) -> Batches:
        options = reading_options(handler.transform, handler.batch_size, handler.num_workers, handler.device)
        return as_batches(self.data, rows=self.numbers, **options)


def _refuse_own_order(data: object) -> None:
    """Raise ValueError for a `DataLoader` whose rows differ from one reading to the next."""
    refuse_dropped_rows(data)
    if shuffling_sampler(data) is not None:
        raise ValueError(
            "the DataLoader shuffles, so that the losses of candidates could not be compared row by row; set "
            "shuffle=False, or give arrays"
        )
