"""Fetching weights: whether the place can be reached is asked once and soon answered, and what fails is one error."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Thread
from typing import TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from model_handler.errors import with_fix
from model_handler.sources.source import SourceUnavailableError

__all__ = ["SECONDS_TO_ANSWER", "fetching", "quiet_hubs", "random_weights", "reach", "within"]

SECONDS_TO_ANSWER = 8.0  # that a place may take before it counts as out of reach
_HUBS = ("huggingface_hub", "timm", "transformers")  # the loggers that tell of each try
# Of `quiet_hubs`: the levels as they were, and an entry for each thread that is inside.
_QUIET = Lock()
_levels: dict[logging.Logger, int] = {}
_in_quiet: list[None] = []
_T = TypeVar("_T")


@contextmanager
def fetching(name: str, place: str, elsewhere: str, *, what: str = "weights") -> Iterator[None]:
    """Turn what a download raises into one error that says what can be done, and leave out its lines for each try.

    `elsewhere` says how to fetch the files on another machine, and where they belong on this one.
    """
    try:
        with quiet_hubs():
            yield
    except Exception as error:
        if not _is_download_failure(error):
            raise
        raise with_fix(
            SourceUnavailableError,
            f"the {what} of {name!r} could not be fetched from {place} ({_root_cause(error)}). Check the network and "
            f"try again; or fetch them on a machine that has one: {elsewhere}. 'efficientnet-lite0' needs no download",
            python=random_weights(name) if what == "weights" else "",
        ) from error


def reach(url: str) -> None:
    """Ask once whether a file is there. Raises OSError where nothing answers soon."""

    def ask() -> None:
        with suppress(HTTPError):  # it answers, and the download says what is wrong
            urlopen(Request(url, method="HEAD"), timeout=SECONDS_TO_ANSWER).close()

    within(SECONDS_TO_ANSWER + 1, ask)


def within(seconds: float, ask: Callable[[], _T]) -> _T:
    """Return what `ask` returns, or raise what it raises, or TimeoutError after so many seconds.

    Time limits of sockets do not bound the look-up of a host, nor several addresses tried one after the other.
    """
    answers: list[_T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:
            failures.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not answers:
        raise TimeoutError(f"no answer within {seconds:g} seconds")
    return answers[0]


@contextmanager
def quiet_hubs() -> Iterator[None]:
    """Let the loggers of hubs report errors alone in this block.

    Levels belong to the whole process: the first thread that comes in notes them, the last one to leave puts them back.
    """
    with _QUIET:
        if not _levels:
            _levels.update({logger: logger.level for logger in map(logging.getLogger, _HUBS)})
        _in_quiet.append(None)
        for logger in _levels:
            logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        with _QUIET:
            _in_quiet.pop()
            if not _in_quiet:
                for logger, level in _levels.items():
                    logger.setLevel(level)
                _levels.clear()


def random_weights(name: str) -> str:
    """Say how to have the network of that name with random weights."""
    return f"for random weights give load_source({name!r}, pretrained=False) as the source"


def _is_download_failure(error: Exception) -> bool:
    """Return whether a download raised an error.

    OSError covers urllib and files, HTTP clients raise their own, and a bad hash is a RuntimeError of torch's.
    """
    roots = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    clients = {"huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"}
    return isinstance(error, OSError) or bool(roots & clients) or "invalid hash value" in str(error)


def _root_cause(error: BaseException) -> str:
    """Return what went wrong at the bottom of it: where no host was found, the hub's own error tells of its cache."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"
