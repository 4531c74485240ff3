"""How strange new rows are beside familiar ones, as a share of these."""

from collections.abc import Iterable
from math import floor

import numpy as np

from repurpose.uncertainty.comparisons import ReferenceRows, Scorer
from repurpose.uncertainty.conformal import Comparison, p_values

__all__ = ["FamiliarRows", "is_too_unfamiliar"]

_ROUNDING = 1e-12  # 1 - 0.1 is a little less than 0.9


def is_too_unfamiliar(share: np.ndarray, max_unfamiliarity: float) -> np.ndarray:
    """Tell of each row whether it is stranger than too many familiar rows; NaN is not.

    The limit itself is too much, so that of fresh familiar rows a share of 1 - `max_unfamiliarity` at most is refused.
    """
    return share >= max_unfamiliarity - _ROUNDING


class FamiliarRows:
    """Scores of familiar rows, by judges that did not see them, to compare those of new rows with.

    They are computed once, so that a request costs its own rows alone; the p-values are those of
    `unfamiliarity_p_value`.
    """

    def __init__(self, judges: Iterable[tuple[Scorer, ReferenceRows]]) -> None:
        judges = list(judges)
        self._judges = [(score, score(rows.matrix), rows.shares) for score, rows in judges]
        self._counted = "rows" if all(rows.groups is None for _, rows in judges) else "groups"

    def check_can_refuse(self, max_unfamiliarity: float) -> None:
        """Raise ValueError where there are so few familiar rows that no row at all could be refused."""
        # Shares of groups sum to whole numbers but for their last digits.
        n_rows = round(sum(Comparison(scores, scores, shares).n_reference for _, scores, shares in self._judges), 9)
        if is_too_unfamiliar(np.array(n_rows / (n_rows + 1)), max_unfamiliarity):
            return
        raise ValueError(
            f"max_unfamiliarity={max_unfamiliarity:g} would refuse nothing, since there are only {n_rows:g} familiar "
            f"{self._counted} to compare with: give at most {floor(1000 * n_rows / (n_rows + 1)) / 1000:g}, or more "
            f"{self._counted} to conformalize"
        )

    def p_values(self, matrix: np.ndarray) -> np.ndarray:
        """Return the p-value of rows of features (n_rows, n_features), as `unfamiliarity_p_value` has it: (n_rows,)."""
        return p_values(Comparison(scores, score(matrix), shares) for score, scores, shares in self._judges)

    def share_less_strange(self, matrix: np.ndarray) -> np.ndarray:
        """Return 1 - the p-value of rows of features (n_rows, n_features): (n_rows,)."""
        return 1 - self.p_values(matrix)
