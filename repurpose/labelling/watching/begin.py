"""Beginning a watch: what rows are judged by is fixed, and the rows to compare with are counted."""

from repurpose.labelling.watching.judges import Watched, judges_of
from repurpose.labelling.watching.martingale import Martingale
from repurpose.labelling.watching.target_error import TargetError
from repurpose.labelling.watching.watch import Watch
from repurpose.labelling.watching.watch_state import WatchState
from repurpose.seeding import rng_at_prediction

__all__ = ["begin"]


def begin(
    repurposer: Watched, alpha: float, method: str, tolerance: float, least_probability: float | None, seed: int
) -> Watch:
    """Return a watch before any row of the stream; the parameters are those of `Repurposer.watch`."""
    judges = judges_of(repurposer, method)
    martingales = {
        name: Martingale.against(judges.grid(name, rng_at_prediction(repurposer)), judges.reference_scores(name))
        for name in judges.scorers
    }
    state = WatchState(
        fingerprint=judges.fingerprint(),
        alpha=alpha,
        method=judges.method,
        seed=seed,
        n_resets=0,
        martingales=martingales,
        source_errors=judges.n_reference_errors(),
        source_rows=len(judges.reference),
        tolerance=tolerance,
        target=TargetError.at_start(None if least_probability is None else float(least_probability)),
    )
    return Watch(repurposer, judges, state)
