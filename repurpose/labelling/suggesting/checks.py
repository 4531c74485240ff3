"""How many rows to suggest is judged by how many there are."""

from repurpose.uncertainty.checks import check_count

__all__ = ["check_fits"]


def check_fits(n: int, n_rows: int, what: str) -> None:
    """Raise ValueError unless `n` is a whole number from 1 to `n_rows`, the number of rows that are `what`."""
    check_count("n", n)
    if n > n_rows:
        raise ValueError(f"n is {n}, and the pool has only {n_rows} {what}; give an n of at most {n_rows}")
