"""A budget of seconds: what is left of it, and what a training will take, known after its first steps."""

import time
from collections.abc import Callable

from repurpose.training import Callback
from repurpose.training.state import TrainingState

__all__ = ["Budget", "NotRun", "StepWatch"]

_MEASURED = 2  # steps behind the first, which is slow
FORWARDS_A_STEP = 3  # a forward pass and a backward one, which takes as long as two


class NotRun(Exception):
    """A method that does not fit in what is left; `seconds` is what it needs in all, NaN where nobody knows."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not run: needs about {in_words(seconds)}")
        self.seconds = seconds


class Budget:
    """Seconds that are spent from now on, by a clock that tests may replace."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds = seconds
        self.clock = clock
        self._start = clock()

    @property
    def left(self) -> float:
        """What is left; less than 0 where it was overrun."""
        return self.seconds - (self.clock() - self._start)

    def refuse_more_than_left(self, further: float, in_all: float) -> None:
        """Raise NotRun where `further` seconds do not fit; `in_all` is what the method needs with what it had."""
        if further > self.left:
            raise NotRun(in_all)


class StepWatch(Callback):
    """Ends a training after a few steps where all folds, of so many steps each, would not fit in the budget."""

    def __init__(self, budget: Budget, n_steps: int, n_folds: int) -> None:
        self._budget = budget
        self._n_steps = n_steps * n_folds
        self._after_first = 0.0
        self.needed = 0.0  # seconds of all folds; above 0 where training was ended

    def step(self, state: TrainingState, loss: float) -> bool:
        """Tell whether to end: after the third step, whose time is known then."""
        now = self._budget.clock()
        if state.step <= 1:
            self._after_first = now
        if state.step == 1 + _MEASURED:
            a_step = (now - self._after_first) / _MEASURED
            if a_step * (self._n_steps - state.step) > self._budget.left:
                self.needed = a_step * self._n_steps
        return self.needed > 0


def in_words(seconds: float) -> str:
    """Return seconds as text, of two digits."""
    return f"{float(f'{seconds:.2g}'):,g} s"
