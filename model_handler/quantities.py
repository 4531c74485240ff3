"""Large numbers in a form that people read, such as 25.6 M, for tables and pictures."""

__all__ = ["readable"]


def readable(number: int, unit: str = "") -> str:
    """Return the number with three digits and a prefix: 999, 25.6 k, 4.09 G."""
    for exponent, prefix in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 0.9995 * 10**exponent:
            value = number / 10**exponent
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {prefix}{unit}"
    return f"{number} {unit}".rstrip()
