"""Intervals of measures of detection, by drawing images again: a measure is a function of how often each was drawn."""

from collections.abc import Callable, Mapping

import numpy as np

from repurpose.uncertainty.intervals import bootstrap_interval, largest_unseen_share

__all__ = ["intervals_of"]

Measures = Mapping[str, np.ndarray]  # each of shape () or (n_classes,), from 0 to 1, NaN where it is not defined
_DRAWN, _AGREEING, _SINGLE = "bootstrap of images", "images agree: Clopper-Pearson", "nothing: a single image"


def intervals_of(
    measure: Callable[[np.ndarray], Measures],
    values: Measures,
    n_telling: Measures,
    n_images: int,
    n_draws: int,
    random_state: int,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the 95 % interval of each measure, shape (..., 2), and how it was made.

    `measure` takes how often each image was drawn, (n_images,); `values` are those of each once, and `n_telling` how
    many images tell something of each. Draws for which a measure is not defined, such as those without the class, are
    left out of its interval.
    """
    rng = np.random.RandomState(random_state)
    draws = [measure(np.bincount(rng.randint(n_images, size=n_images), minlength=n_images)) for _ in range(n_draws)]
    intervals, methods = {}, {}
    for name, value in values.items():
        drawn = np.array([draw[name] for draw in draws]).reshape(n_draws, -1)
        given = zip(drawn.T, np.atleast_1d(value), np.atleast_1d(n_telling[name]))
        found = [_interval(each, float(of), int(n)) for each, of, n in given]
        intervals[name] = np.array([limits for limits, _ in found]).reshape(*np.shape(value), 2)
        methods[name] = found[0][1]
    return intervals, methods


def _interval(draws: np.ndarray, value: float, n_telling: int) -> tuple[tuple[float, float], str]:
    """Return the interval of one measure, of its draws (n_draws,), and how it was made."""
    if np.isnan(value):
        return (np.nan, np.nan), ""
    if n_telling == 1:  # drawn again and again it is always the same, and tells nothing of others
        return (0.0, 1.0), _SINGLE
    draws = draws[~np.isnan(draws)]
    if len(draws) and np.ptp(draws) > 0:
        return bootstrap_interval(draws.tolist(), value, 1.0), _DRAWN
    # All images agree. As large a share of others as may be unseen could do worst, or best.
    unseen = largest_unseen_share(n_telling)
    return (value * (1 - unseen), value + unseen * (1 - value)), _AGREEING
