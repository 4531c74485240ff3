"""Counts of requests and rows and how long answers took, in the text format of Prometheus (version 0.0.4)."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from repurpose.serving.row_counts import RowCounts

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds


class Metrics:
    """What a service saw since it began; written and read by the one thread that runs its event loop."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.waiting = 0
        self._seconds = 0.0
        self._n_within = [0] * (len(_BOUNDS) + 1)

    def add(self, status: int, seconds: float) -> None:
        """Count a request that was answered with a status after some seconds."""
        self.statuses[status] += 1
        self._seconds += seconds
        self._n_within[bisect_left(_BOUNDS, seconds)] += 1

    def text(self, rows: RowCounts) -> str:
        """Return all of it, with the rows that the guard counted."""
        return "\n".join([*self._of_requests(), *_of_rows(rows), ""])

    def _of_requests(self) -> Iterator[str]:
        yield from _head("repurpose_requests_total", "counter", "Requests for predictions, by status.")
        yield from (f'repurpose_requests_total{{status="{status}"}} {n}' for status, n in sorted(self.statuses.items()))
        yield from _head("repurpose_requests_waiting", "gauge", "Requests that are being answered or wait for it.")
        yield f"repurpose_requests_waiting {self.waiting}"
        name = "repurpose_request_seconds"
        yield from _head(name, "histogram", "Seconds from the headers of a request to its answer.")
        total = 0
        for bound, n in zip((*map(str, _BOUNDS), "+Inf"), self._n_within):
            total += n
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self._seconds:.6f}"
        yield f"{name}_count {total}"


def _of_rows(rows: RowCounts) -> Iterator[str]:
    yield from _head("repurpose_rows_total", "counter", "Rows, by what the guard said of them.")
    yield f'repurpose_rows_total{{verdict="accepted"}} {rows.accepted}'
    yield from (f'repurpose_rows_total{{verdict="{reason}"}} {n}' for reason, n in rows.refused.items())


def _head(name: str, kind: str, said: str) -> Iterator[str]:
    yield f"# HELP {name} {said}"
    yield f"# TYPE {name} {kind}"
