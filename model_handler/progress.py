"""Progress: a bar for work that takes a while, on standard error and only where someone can see it."""

import logging
import sys
import time
from collections.abc import Callable, Generator, Iterable
from importlib.util import find_spec
from typing import Any, TypeVar

__all__ = ["Progress", "track"]

T = TypeVar("T")
DELAY = 1.5  # seconds of work before a bar is worth showing
BETWEEN_NOTES = 0.125  # seconds; a note may have to wait for a GPU
_MEASURED = 1.5  # seconds of steps behind the first, which is slow, before the rest is estimated by them
_LONG = 30.0  # seconds of work that are worth an estimate

_log = logging.getLogger(__name__)


def track(items: Iterable[T], *, description: str, total: int | None, verbose: bool | None = None) -> Generator[T]:
    """Yield the items one by one, with a progress bar that counts their rows.

    Parameters
    ----------
    items : iterable
        An item counts for its `n_rows`, or for one where it has no such attribute.
    description : str
        What is being done, shown before the bar.
    total : int or None
        The number of rows to come, at most; None if unknown.
    verbose : bool, optional
        True shows the bar from the start, False never. By default it is shown on a terminal or in a notebook with
        ipywidgets, once the work has taken a second and a half.

    The bar is closed when the items end, an error occurs or the iteration is broken off.
    """
    with Progress(description, total, verbose) as progress:
        for item in items:
            yield item
            progress.advance(getattr(item, "n_rows", 1))
        progress.finish()


class Progress:
    """A bar for rows that are counted by `advance`, as `track` shows it, with a note of what goes on.

    Work that will take half a minute or more is estimated as soon as some steps have been measured, where the `work`
    has a name, such as "20 epochs": in the bar, or where there is none in one line of the log. What is counted are
    rows, unless `unit` names others.
    """

    def __init__(
        self, description: str, total: int | None, verbose: bool | None = None, work: str = "", unit: str = "rows"
    ) -> None:
        self._description, self._total, self._unit = description, total, unit
        self._started, self._n_rows = time.monotonic(), 0
        self._work, self._measured_from = work, (0.0, 0)  # when and at which row the first step had ended
        self._shown_note, self._next_note = "", 0.0
        self._note: Callable[[], str] = str
        self._patient = verbose is None and _bar_is_visible()
        self._bar = _Bar(description, total, 0, self._started, unit) if verbose else None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, n_rows: int, note: Callable[[], str] = str) -> None:
        """Count `n_rows` more as done. The note is made for a bar only, as often as it can be read and in the end."""
        self._n_rows, self._note = self._n_rows + n_rows, note
        if self._bar is None and self._patient and time.monotonic() - self._started >= DELAY:
            self._bar = _Bar(self._description, self._total, self._n_rows, self._started, self._unit)
        if self._work:
            self._estimate()
        if self._bar is not None:
            if time.monotonic() >= self._next_note:
                self._shown_note, self._next_note = note(), time.monotonic() + BETWEEN_NOTES
            self._bar.advance_to(self._n_rows, self._shown_note)

    def _estimate(self) -> None:
        """Tell once, when it can be known, how long the work will take."""
        now, (began, n_before) = time.monotonic(), self._measured_from
        if not n_before:
            self._measured_from = now, self._n_rows
            return
        if self._total is None or now - began < _MEASURED:
            return
        left = (self._total - self._n_rows) * (now - began) / (self._n_rows - n_before)
        work, self._work = self._work, ""
        seconds = now - self._started + left
        if seconds < _LONG:
            return
        if self._bar is None:
            _log.info("%s: %s for %s on this machine", self._description, _about(seconds), work)
        else:
            self._bar.describe(f"{self._description}, {_about(seconds)} for {work}")

    def finish(self) -> None:
        """Show that all is done, however much was announced."""
        if self._bar is not None:
            self._bar.advance_to(self._n_rows, self._note())
            self._bar.finish(self._n_rows)
        seconds = time.monotonic() - self._started
        _log.info("%s: %d %s in %.1f s", self._description, self._n_rows, self._unit, seconds)


class _Bar:
    """A bar of rich's: rows done of rows to do, rows a second, time left."""

    def __init__(self, description: str, total: int | None, n_rows: int, started: float, unit: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._started, self._unit = started, unit
        # Without ipywidgets rich would warn in a notebook: write plain text there.
        console = Console(stderr=True, force_jupyter=None if _has_widgets() else False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.fields[of]} " + unit),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            redirect_stdout=False,  # what the user prints meanwhile stays on standard output
        )
        self._task = self._progress.add_task(
            description, total=total, completed=n_rows, of="?" if total is None else total, rate="", note=""
        )
        self._progress.start()

    def advance_to(self, n_rows: int, note: str = "") -> None:
        """Show that so many rows are done, and a note."""
        rate = n_rows / max(time.monotonic() - self._started, 1e-9)
        self._progress.update(
            self._task,
            completed=n_rows,
            rate="" if note else f"{rate:,.0f} {self._unit}/s" if rate >= 10 else f"{rate:.1f} {self._unit}/s",
            note=note,
        )

    def describe(self, description: str) -> None:
        """Change what stands before the bar."""
        self._progress.update(self._task, description=description)

    def finish(self, n_rows: int) -> None:
        """Fill the bar: the total was an upper bound, or unknown."""
        self._progress.update(self._task, completed=n_rows, total=n_rows, of=n_rows)

    def close(self) -> None:
        """Leave the bar as it stands and free the terminal."""
        self._progress.stop()


def _about(seconds: float) -> str:
    """Return a duration as one says it, such as "about 5 minutes"."""
    if seconds < 90:
        return f"about {round(seconds, -1):.0f} seconds"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.0f} hours" if seconds >= 36000 else f"about {seconds / 3600:.1f} hours"


def _bar_is_visible() -> bool:
    """Return whether a bar would be seen and drawn properly: on a terminal, or in a notebook that can draw widgets."""
    return _has_widgets() if _in_notebook() else sys.stderr is not None and sys.stderr.isatty()


def _in_notebook() -> bool:
    interactive: Any = sys.modules.get("IPython")  # a notebook's kernel has imported it
    shell = interactive.get_ipython() if interactive is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def _has_widgets() -> bool:
    return find_spec("ipywidgets") is not None
