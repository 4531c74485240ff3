"""What became of an attack: whether code ran, time or memory went, and what was said or answered."""

import resource
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.attacks.saved import Target
from model_handler import CorruptFileError, FormatVersionError, UnsafeFileError
from repurpose.training.checkpoints.checkpoints import OtherTrainingError

_SECONDS, _MEMORY = 20, 200_000_000
_OURS = (CorruptFileError, UnsafeFileError, FormatVersionError)
_DANGEROUS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "subprocess.Popen",
    "pickle.find_class",
    "socket.connect",
)

_executed: list[str] = []
_watched = False


def _watch() -> None:
    """Note every event by which a file could have had code run; such a hook stays for the life of the process."""
    global _watched
    if _watched:
        return
    _watched = True
    dangerous, executed = _DANGEROUS, _executed  # a module loses its names at exit, before the last events

    def hook(event: str, arguments: tuple) -> None:
        if event in dangerous:
            executed.append(event)

    sys.addaudithook(hook)


class _Hang(BaseException):
    pass


@contextmanager
def _time_limit() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise _Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(target: Target, path: Path) -> tuple[str, str]:
    """What became of one attempt, and what was said."""
    _watch()
    _executed.clear()
    is_loaded = False
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with _time_limit(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = target.load(path)
            is_loaded = True
            found = target.ask(loaded)
        if found.said != target.expected.said:
            said, result = "", "silent"
        else:
            said, result = "", "same" if found.state == target.expected.state else "silent state"
    except _Hang:
        said, result = "", "hang"
    except _OURS as error:
        said, result = str(error), "clear" if str(path) in str(error) else "bare"
    except FileNotFoundError as error:
        said, result = str(error), "clear" if str(path) in str(error) else "bare"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also what no handler of a user would catch
        said, result = f"{type(error).__name__}: {error}", "clear" if _is_clear(error, path) else "bare"
        if is_loaded and isinstance(error, ValueError):  # it loaded, and refuses rows that the honest one takes
            result = "silent"
    if _executed:
        return "executed", f"{_executed[0]}; {said}"
    if 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) > _MEMORY:
        return "memory", said
    return result, said


def _is_clear(error: BaseException, path: Path) -> bool:
    """Whether an error of another class is one of those that ask for something, which the file may have made needed."""
    # A checkpoint whose settings were changed is one of another training, which its directory is said to be.
    named = path.parent if isinstance(error, OtherTrainingError) else path
    return type(error) in (ValueError, OtherTrainingError) and str(named) in str(error)
