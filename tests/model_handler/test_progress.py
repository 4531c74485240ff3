"""A bar appears where someone is watching slow work, counts rows, and leaves standard output alone."""

import io
import logging
import sys
from types import SimpleNamespace

import pytest

from model_handler import progress
from model_handler.progress import track


class Clock:
    """A clock that work moves on by hand."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def open_terminal(monkeypatch):
    """Put a terminal in the place of standard error; not a fixture, since pytest puts its own there before the call."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    return terminal


def work(clock, n_items, seconds, **options):
    for item in track([SimpleNamespace(n_rows=4) for _ in range(n_items)], description="Working", **options):
        clock.now += seconds
        assert item.n_rows == 4


def test_the_items_come_through_unchanged():
    items = [object(), object()]
    assert list(track(items, description="Working", total=2)) == items


def test_slow_work_on_a_terminal_shows_rows_and_rate(clock, monkeypatch, capsys):
    terminal = open_terminal(monkeypatch)
    work(clock, 5, seconds=1.0, total=20)
    shown = terminal.getvalue()
    assert "Working" in shown
    assert "20/20 rows" in shown
    assert "4.0 rows/s" in shown
    assert capsys.readouterr().out == ""


def test_quick_work_shows_nothing(clock, monkeypatch):
    terminal = open_terminal(monkeypatch)
    work(clock, 5, seconds=0.2, total=20)
    assert terminal.getvalue() == ""


def test_no_terminal_shows_nothing(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    work(clock, 5, seconds=1.0, total=20)
    assert stream.getvalue() == ""


def test_verbose_false_shows_nothing(clock, monkeypatch):
    terminal = open_terminal(monkeypatch)
    work(clock, 5, seconds=1.0, total=20, verbose=False)
    assert terminal.getvalue() == ""


def test_verbose_true_shows_the_bar_from_the_start_even_without_a_terminal(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    work(clock, 5, seconds=0.0, total=20, verbose=True)
    assert "20/20 rows" in stream.getvalue()


def test_an_upper_bound_ends_full_and_an_unknown_total_is_counted(clock, monkeypatch):
    terminal = open_terminal(monkeypatch)
    work(clock, 5, seconds=1.0, total=30)
    work(clock, 3, seconds=1.0, total=None)
    assert "20/20 rows" in terminal.getvalue()
    assert "12/12 rows" in terminal.getvalue()


def test_items_without_rows_count_for_one(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    list(track(range(3), description="Working", total=3, verbose=True))
    assert "3/3 rows" in stream.getvalue()


@pytest.fixture
def closed(monkeypatch):
    """How often a bar was closed."""
    calls = []
    close = progress._Bar.close
    monkeypatch.setattr(progress._Bar, "close", lambda bar: (calls.append(bar), close(bar))[1])
    return calls


def test_an_error_of_the_consumer_closes_the_bar(monkeypatch, closed):
    open_terminal(monkeypatch)

    def consume():
        return [1 / item for item in track(range(3), description="Working", total=3, verbose=True)]

    with pytest.raises(ZeroDivisionError):
        consume()
    assert len(closed) == 1


def test_an_error_of_the_items_closes_the_bar(monkeypatch, closed):
    open_terminal(monkeypatch)

    def items():
        yield 1
        raise OSError("gone")

    tracked = track(items(), description="Working", total=3, verbose=True)
    with pytest.raises(OSError, match="gone"):
        list(tracked)
    assert len(closed) == 1


def test_breaking_off_closes_the_bar(monkeypatch, closed):
    open_terminal(monkeypatch)
    for _ in track(range(3), description="Working", total=3, verbose=True):
        break
    assert len(closed) == 1


def test_prints_inside_the_loop_stay_on_standard_output(monkeypatch, capsys):
    open_terminal(monkeypatch)
    for item in track(range(2), description="Working", total=2, verbose=True):
        print("seen", item)
    assert capsys.readouterr().out == "seen 0\nseen 1\n"


def test_a_notebook_shows_a_bar_only_with_widgets(clock, monkeypatch):
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    for has_widgets in (True, False):
        monkeypatch.setattr(progress, "find_spec", lambda name, found=has_widgets: found or None)
        assert progress._bar_is_visible() is has_widgets


def test_the_end_is_logged(clock, caplog):
    with caplog.at_level(logging.INFO, "model_handler"):
        work(clock, 2, seconds=1.0, total=None)
    assert caplog.messages == ["Working: 8 rows in 2.0 s"]


def test_rich_is_not_needed_without_a_bar(monkeypatch):
    for name in ("rich", "rich.console", "rich.progress"):
        monkeypatch.setitem(sys.modules, name, None)
    assert list(track([1], description="Working", total=1)) == [1]
    with pytest.raises(ImportError):
        list(track([1], description="Working", total=1, verbose=True))


def test_a_note_is_made_for_a_bar_only_and_no_oftener_than_it_is_read(clock, monkeypatch):
    open_terminal(monkeypatch)
    for verbose, n_made in ((False, 0), (True, 3)):
        made = []
        with progress.Progress("Working", 40, verbose) as bar:
            for _ in range(10):
                bar.advance(4, lambda made=made: (made.append(1), "loss 1")[1])
                clock.now += progress.BETWEEN_NOTES / 4
        assert len(made) == n_made


def estimated(clock, caplog, seconds, *, n_steps=40, verbose=False):
    """What is said of a whole whose steps take such times, the last of them for all further ones, and after which."""
    caplog.clear()
    said_after = None
    shown = progress.Progress("Working", 4 * n_steps, verbose, "20 epochs")
    with caplog.at_level(logging.INFO, "model_handler"), shown as bar:
        for step in range(n_steps):
            clock.now += seconds[min(step, len(seconds) - 1)]
            bar.advance(4)
            said_after = said_after or (step + 1 if caplog.messages else None)
    return caplog.messages, said_after


def test_long_work_is_estimated_once_by_the_steps_behind_the_first(clock, caplog):
    messages, said_after = estimated(clock, caplog, [9.0, 7.5])
    assert messages == ["Working: about 5 minutes for 20 epochs on this machine"]  # 9 + 39 * 7.5 = 301.5
    assert said_after == 2
    assert estimated(clock, caplog, [5.0, 1.0])[1] == 3  # one second tells little


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (10, ""),
        (29, ""),
        (31, "30 seconds"),
        (88, "90 seconds"),
        (100, "2 minutes"),
        (5500, "1.5 hours"),
        (1e5, "28 hours"),
    ],
)
def test_an_estimate_is_for_long_work_and_as_exact_as_it_can_be(clock, caplog, seconds, said):
    messages, _ = estimated(clock, caplog, [seconds / 40])
    assert messages == ([f"Working: about {said} for 20 epochs on this machine"] if said else [])


def test_a_bar_shows_the_estimate_and_the_log_then_does_not(clock, caplog, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    monkeypatch.setenv("COLUMNS", "160")
    messages, _ = estimated(clock, caplog, [7.5], verbose=True)
    assert messages == []
    assert "Working, about 5 minutes for 20 epochs" in stream.getvalue()


def test_work_without_a_name_or_a_total_is_not_estimated(clock, caplog):
    with caplog.at_level(logging.INFO, "model_handler"):
        for total, work in ((None, "20 epochs"), (400, "")):
            with progress.Progress("Working", total, False, work) as bar:
                for _ in range(5):
                    clock.now += 10
                    bar.advance(4)
    assert caplog.messages == []
