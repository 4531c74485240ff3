"""`SuggestingMixin`: which rows to label next; `LabellingMixin` inherits it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from model_handler import Features
from model_handler.network.ambient_modes import undisturbed
from repurpose.uncertainty.checks import check_choice, check_count

if TYPE_CHECKING:
    from pandas import DataFrame

    from repurpose.selection.results.tables import ResultTable

__all__ = ["SuggestingMixin"]


class SuggestingMixin:
    """Suggestions of what to label next."""

    features_to_judge: Callable[[object], Features]
    _judged: Callable[[object], object]
    _check_defines: Callable[[str, str], None]

    @undisturbed()
    def suggest_labels(self, pool: object, n: int = 20, method: str = "auto") -> "DataFrame | ResultTable":
        """Suggest which rows of a pool to label next, in the order in which they were chosen.

        Nothing is learned from the pool. Before there are any labels, `repurpose.suggest_first` suggests some.

        Parameters
        ----------
        pool : as in `predict_label`
            Rows without labels, or with None or NaN where a label is missing: rows that have one are not suggested.
            One extraction, a `Features`, serves any number of questions; ``Features.load(path, mapped=True)`` leaves
            one that is larger than the memory in its file, and it is read in parts.
        n : int, default=20
            How many rows to suggest.
        method : str, default="auto"
            ``"doubt"``, ``"epig"`` and ``"variance"`` are those of a `GpRepurposer`. ``"auto"`` is ``"doubt"`` there,
            else ``"margin"``.

            - ``"doubt"`` takes the row whose label lowers the latent variance most where the head is in doubt: at 400
              other rows of the pool, drawn at random, each weighted by the entropy of its probabilities. The variance
              is that of the posterior, averaged over the classes, and the noise that of a row's own class. At most
              1,500 rows, drawn at random, are candidates.
            - ``"epig"`` takes the row whose label tells most about the labels of 200 other rows of the pool, drawn at
              random (Bickford Smith et al. 2023): their mutual information, by 64 joint draws of the latent functions
              with the variance that probabilities use, `variance_factor_` times that of the posterior. Rows chosen
              before enter by the average over their labels. At most 500 rows are candidates: those of smallest margin,
              and as many spread over the predicted classes.
            - ``"variance"`` takes the row that lowers the latent variance of 400 rows most, with the raw variance of
              the posterior if every row had the noise of another class, so that no label enters; of at most 1,500 rows.
            - ``"margin"`` takes rows whose two likeliest classes are nearly as likely, one of each of `n` clusters.
            - ``"typicality"`` takes rows with the most close neighbours, one of each cluster that has no label yet
              (TypiClust: Hacohen et al. 2022), where rows of training were kept; of at most 10,000 rows.

        Returns
        -------
        DataFrame, or ResultTable without pandas
            `position` in the pool, `score`, the `label` that would be predicted, and the position of the `nearest`
            row of training, where these were kept. The score is in nats for ``"epig"``, a variance for
            ``"variance"``, one times nats for ``"doubt"``, 1 - margin for ``"margin"``, and an inverse distance for
            ``"typicality"``. Its `attrs` have the `method`, how many rows could be chosen (`n_rows`), and
            `expected_log_loss`, the mean entropy of the probabilities over these (nats). Of a `GpRepurposer` that has
            no calibration by vector, and of at most 300 suggestions, they also have `expected_drop`, by how much all
            these labels together are expected to lower that over the rows that are left, with its standard error
            `expected_drop_error`, and `log_loss_then`, the `expected_log_loss` that the next call should find. Labels
            of the rows are drawn from the head's own probabilities, at its kernel; docs/labels.md has how far that is
            from what comes.

        Raises
        ------
        NotFittedError
            Before `repurpose`.
        ValueError, TypeError
            For an empty pool, rows of another width, NaN or infinite values, a pool where every row has a label, `n`
            above the number of rows, or an unknown method.
        NotImplementedError
            Where the head has no probabilities, or the method is not for it.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import GpRepurposer
        >>> X, y = make_blobs(60, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = GpRepurposer(network, ["1"]).repurpose((X[:10], y[:10]))
        >>> suggested = repurposer.suggest_labels(X[10:], 3)
        >>> list(suggested.columns), suggested.attrs["method"]
        (['position', 'score', 'label', 'nearest'], 'doubt')
        """
        # Here, since heads are imported before Repurposers can be asked anything.
        from repurpose.labelling.suggesting.next_labels import METHODS, suggest_labels

        judged = self._judged(pool)
        check_count("n", n)
        check_choice("method", method, METHODS)
        self._check_defines("_predict_probability_from_features", "probabilities")
        return suggest_labels(self, self.features_to_judge(judged), n, method)  # type: ignore[arg-type]
