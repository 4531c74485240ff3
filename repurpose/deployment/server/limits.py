"""`Limits` of a service: how large and how slow a request may be, and `Refusal`, which tells its sender."""

import math
from dataclasses import dataclass, fields
from numbers import Real

__all__ = ["Limits", "Refusal"]


@dataclass(frozen=True)
class Limits:
    """What a request may cost; whatever is above it is refused, and costs little.

    Parameters
    ----------
    max_bytes : int
        Of the body, as it is sent.
    max_rows : int
        Images, texts or rows of numbers of a request.
    max_pixels : int
        Of the images of a request together: a file of few bytes may be huge when it is decoded.
    max_aspect : float
        How many times one side of an image may be the other: whatever brings the short side to a size, as most
        preprocessing does, makes the long one so many times longer, and 1 x 20,000 pixels take gigabytes.
    max_waiting, max_bytes_waiting : int
        Requests that are received, wait or are answered, and what their bodies have together; one more is told to come
        back.
    seconds_to_receive : float
        From the first byte of a request to the last of its headers, and again to the last of its body.
    seconds_to_answer : float
        From then until there is an answer.

    Raises
    ------
    ValueError
        For what is no number above 0.

    Examples
    --------
    >>> from repurpose.deployment.server.limits import Limits
    >>> Limits(max_rows=10).max_rows
    10
    """

    max_bytes: int = 20_000_000
    max_rows: int = 1000
    max_pixels: int = 100_000_000
    max_aspect: float = 100.0
    max_waiting: int = 128
    max_bytes_waiting: int = 200_000_000
    seconds_to_receive: float = 10.0
    seconds_to_answer: float = 30.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) < math.inf:
                raise ValueError(f"{each.name} must be a number above 0, got {value!r}")


class Refusal(Exception):
    """A request that is not answered: the status of HTTP, and a message for who sent it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
