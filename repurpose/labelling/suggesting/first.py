"""`suggest_first` chooses the rows to label before there is any label: one of each cluster of the features."""

from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils import check_random_state

from model_handler import Features
from model_handler.network.ambient_modes import on_cpu
from repurpose.data.feature_rows import check_rows
from repurpose.labelling.suggesting.checks import check_fits
from repurpose.labelling.suggesting.clusters import cluster, directions, scaling_of
from repurpose.labelling.suggesting.typiclust import RowsOfClusters, typiclust
from repurpose.seeding import RandomState
from repurpose.selection.results.tables import as_table
from repurpose.uncertainty.checks import check_choice

if TYPE_CHECKING:
    from pandas import DataFrame

    from repurpose.selection.results.tables import ResultTable

__all__ = ["suggest_first"]


@on_cpu()
def suggest_first(
    features: Features | np.ndarray, n: int = 20, method: str = "typicality", *, random_state: RandomState = 0
) -> "DataFrame | ResultTable":
    """Suggest the rows to label before any label is known: one of each of `n` clusters, from the largest to the least.

    Rows are compared as a `GpRepurposer` does: centred, and of norm 1 layer by layer. k-means divides them into `n`
    clusters, or one for each different row.

    Parameters
    ----------
    features : Features, or array of shape (n_rows, n_features)
        What `get_features_from_source_model` or `ModelHandler.extract` returned of the pool; labels are ignored.
    n : int, default=20
        How many rows to suggest.
    method : str, default="typicality"
        Which row of a cluster: ``"typicality"`` takes the one with the most close neighbours, as TypiClust does
        (Hacohen et al. 2022, arXiv:2202.02794): of at most 500 clusters, which take turns where more rows are wanted,
        those of fewer than 5 rows only when the others have no more. ``"medoids"`` takes the one nearest to the mean.
    random_state : int, RandomState instance or None, default=0
        Where k-means starts.

    Returns
    -------
    DataFrame, or ResultTable without pandas
        `position` of each row in the pool, its `score`, and the `cluster_size`. The score is the inverse of the mean
        distance to the nearest 20 rows of the cluster not chosen before (half of them where that is fewer), or the
        share of all rows that are in the cluster.

    Raises
    ------
    ValueError, TypeError
        For no rows, NaN or infinite values, `n` that is no whole number from 1 to the number of rows, or an unknown
        method.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from repurpose import suggest_first
    >>> X, y = make_blobs(30, random_state=8)
    >>> sorted(y[suggest_first(X, 3)["position"]].tolist())
    [0, 1, 2]
    """
    if not isinstance(features, Features):
        features = Features({"features": features})
    check_rows(features)
    check_fits(n, len(features), "rows")
    check_choice("method", method, ("typicality", "medoids"))
    rows = directions(scaling_of(features.matrix, features.indices_per_layer), features.matrix)
    choose = {"typicality": typiclust, "medoids": _medoids}[method]
    chosen = choose(rows, n, check_random_state(random_state))
    columns = zip(chosen.rows.tolist(), chosen.scores.tolist(), chosen.cluster_sizes.tolist())
    return as_table(
        [{"position": row, "score": score, "cluster_size": size} for row, score, size in columns], {"method": method}
    )


def _medoids(rows: np.ndarray, n: int, random_state: np.random.RandomState) -> RowsOfClusters:
    """Choose the medoid of each of `n` clusters, the largest first; of fewer different rows, equal ones follow."""
    clusters = cluster(rows, n, random_state)
    sizes = np.bincount(clusters.of_row)
    chosen = clusters.medoids(rows)[np.argsort(-sizes, kind="stable")]
    rest = np.setdiff1d(np.arange(len(rows)), chosen)
    chosen = np.concatenate([chosen, rest])[:n]
    of_chosen = sizes[clusters.of_row[chosen]]
    return RowsOfClusters(chosen, of_chosen / len(rows), of_chosen)
