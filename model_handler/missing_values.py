"""Which values stand for one that is missing: None, NaN, NaT and pandas' NA."""

__all__ = ["is_missing"]


def is_missing(value: object) -> bool:
    """Return whether a value is None, or NaN, NaT or pandas' NA, the only ones that differ from themselves."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas' NA refuses to be true or false
        return True
    except (ValueError, RuntimeError):  # an array or a tensor has many answers
        return False
