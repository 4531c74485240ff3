"""How many components a method keeps: as many as are asked for, else as few as hold a share of what there is."""

import numpy as np

from repurpose.parameters import is_whole

__all__ = ["check_n_components", "n_components_for", "n_components_mistakes"]


def n_components_mistakes(n_components: object) -> list[str]:
    """List what is wrong with the parameter `n_components`, a sentence each."""
    if n_components is None or is_whole(n_components, 1):
        return []
    return [f"n_components must be a whole number of at least 1, or None, got {n_components!r}"]


def check_n_components(n_components: int | None, most: int) -> None:
    """Raise ValueError for more components than there are, `most`."""
    if n_components is not None and n_components > most:
        raise ValueError(f"n_components={n_components} is more than these rows and features have; give at most {most}")


def n_components_for(values: np.ndarray, share: float) -> int:
    """Return how many of the `values` (n,), the largest first, hold at least that share of their sum."""
    sums = np.cumsum(np.maximum(values, 0))
    return min(len(values), 1 + int(np.searchsorted(sums, share * sums[-1])))
