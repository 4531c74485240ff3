"""Warnings point at the line of the user's code that called the library, however deep inside it they are given."""

import sys
import warnings

__all__ = ["warn_user"]

# Of the last one are the frames of decorators such as `undisturbed`.
_NOT_THE_USERS = ("model_handler", "repurpose", "contextlib")


def warn_user(warning: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Give a warning at the innermost line of code that is not the library's; `category` is that of a text."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _NOT_THE_USERS:
        frame, level = frame.f_back, level + 1
    warnings.warn(warning, category, stacklevel=level)
