"""`WatchingMixin`: an alarm about a stream of rows; `LabellingMixin` inherits it."""

from typing import TYPE_CHECKING, cast

from model_handler.network.ambient_modes import undisturbed
from repurpose.seeding import RandomState, draw_seed, seed_at_prediction

if TYPE_CHECKING:
    from repurpose.labelling.watching.judges import Watched
    from repurpose.labelling.watching.watch import Watch

__all__ = ["WatchingMixin"]


class WatchingMixin:
    """A stream that is watched."""

    @undisturbed()
    def watch(
        self,
        alpha: float = 0.01,
        *,
        method: str = "auto",
        tolerance: float = 0.0,
        least_probability: float | None = None,
        random_state: RandomState = None,
    ) -> "Watch":
        """Return a `Watch`, whose `update` takes unlabelled rows as they come and tells when something has changed.

        As long as all rows of the stream are exchangeable with those to compare with, an alarm comes with a probability
        of `alpha` at most, however long the stream and however often one looks. *Exchangeable* means that no order of
        all these rows is more likely than another: the same mix of classes, preprocessing and duplicates, and no order
        in time. So a stream sorted by class, or frames of one video, raise an alarm, and rightly.

        Rows to compare with are those given to `conformalize`; without, those that one of the five folds of training
        rows holds out, with the head and the detector of this fold, which did not see them. (Of the parameters that a
        search chose, such as C or the layers, the head of a fold keeps those of all rows; and of classes of two rows
        it has seen one or two, so that alarms are false more often. `conformalize` is strictly exact.) Of rows in
        groups, one of each serves. The more rows, the sooner a change is found.

        Two things are watched, each with half of `alpha`: unfamiliarity, and certainty, the largest probability. Where
        the head has no probabilities it is unfamiliarity alone, and for networks that are trained, which keep no rows,
        certainty alone; each then has the whole of `alpha`. `Watch.watched` says which. A `guard` in front that refuses
        rows changes the stream: give `update` all of them. How it works: `repurpose.labelling.watching.martingale`.

        Parameters
        ----------
        alpha : float, default=0.01
            The probability of a false alarm, above 0 and below 1.
        method : str, default="auto"
            By which rows are unfamiliar, as in `unfamiliarity`, but for ``"variance"``.
        tolerance : float, default=0.0
            By how much the share of errors may be larger in the stream, for `Watch.update_labelled`.
        least_probability : float, optional
            The least probability with which a row is chosen to be labelled, where these are not all alike; the nearer
            to the true ones, the better.
        random_state : int, RandomState or None, default=None
            Of the numbers that break ties; None takes that of training.

        Raises
        ------
        NotFittedError
            Before `repurpose`.
        ValueError
            For parameters that cannot be used; and without `conformalize` where no training row can be held out, where
            training rows have weights that differ, for networks, and for methods that adapt to a target.
        NotImplementedError
            Where the head has neither probabilities nor rows of training.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import GpRepurposer
        >>> X, y = make_blobs(200, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 5))
        >>> repurposer = GpRepurposer(network, ["1"], random_state=0).repurpose((X[:60], y[:60]))
        >>> watch = repurposer.conformalize(X[60:120], y[60:120]).watch(alpha=0.01)
        >>> bool(watch.update(X[120:])), bool(watch.update(X[120:] + 10))
        (False, True)
        """
        # Here, since Repurposers import this package before heads are there.
        from repurpose.labelling.watching.arguments import check_alpha, check_least_probability, check_tolerance
        from repurpose.labelling.watching.begin import begin

        check_alpha(alpha)
        check_tolerance(tolerance)
        check_least_probability(least_probability)
        watched = cast("Watched", self)
        watched._check_is_repurposed()
        seed = seed_at_prediction(watched) if random_state is None else draw_seed(random_state)
        return begin(watched, float(alpha), method, float(tolerance), least_probability, seed)
