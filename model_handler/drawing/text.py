"""Text in pictures: how wide it is in a common sans-serif font, and how it is cut and cleaned."""

import unicodedata

__all__ = ["clean", "shortened", "text_width"]

_NARROW, _MIDDLE, _WIDE = set("ijlI.,:;|!'()[] "), set('frt-/"{}*'), set("mwMW@%—\N{MULTIPLICATION SIGN}")


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Estimate the width of `text` in pixels from above, for fonts as wide as DejaVu Sans (wider than Arial)."""
    return size * sum(map(_advance, text)) * (1.12 if bold else 1.0)


def shortened(text: str, width: float, size: float, *, bold: bool = False) -> str:
    """Leave out the middle of `text` where it is wider than `width`."""
    if text_width(text, size, bold=bold) <= width:
        return text
    kept = len(text) - 1
    while kept > 2 and text_width(text[: kept // 2] + "…" + text[-(kept - kept // 2) :], size, bold=bold) > width:
        kept -= 1
    return text[: kept // 2] + "…" + text[-(kept - kept // 2) :]


def clean(text: str) -> str:
    """Leave out of `text` what no file of text may hold, such as line feeds and lone surrogates."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _advance(letter: str) -> float:
    if letter in _NARROW:
        return 0.4
    if letter in _MIDDLE:
        return 0.5
    if letter in _WIDE or unicodedata.east_asian_width(letter) in "WF":
        return 1.02
    return 0.8 if letter.isupper() else 0.65
