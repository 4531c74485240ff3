"""Whether a place answers is found out soon, and what it raises comes through."""

import time
from collections.abc import Callable
from email.message import Message
from urllib.error import HTTPError, URLError

import pytest

from model_handler.sources import fetching


def test_what_a_place_says_or_raises_comes_through() -> None:
    assert fetching.within(5, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        fetching.within(5, lambda: 1 // 0)


def test_who_does_not_answer_is_given_up() -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no answer within 0.05 seconds"):
        fetching.within(0.05, lambda: time.sleep(2))
    assert time.monotonic() - start < 1


def raising(error: Exception) -> Callable:
    def ask(*_: object, **__: object) -> None:
        raise error

    return ask


def test_a_place_that_refuses_the_question_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "urlopen", raising(HTTPError("https://x", 403, "no", Message(), None)))
    fetching.reach("https://x")
    monkeypatch.setattr(fetching, "urlopen", raising(URLError("no route")))
    with pytest.raises(OSError, match="no route"):
        fetching.reach("https://x")
