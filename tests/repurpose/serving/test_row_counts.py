"""Counts add up, in any number of threads."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np

from repurpose.serving.row_counts import RowCounter, RowCounts


def test_threads_lose_no_row_and_whoever_reads_meanwhile_gets_sums_that_are_right() -> None:
    counter, reasons = RowCounter(), np.array([None, "range", None, "shape", "range"], dtype=object)

    def count(_: int) -> RowCounts:
        counter.add(reasons)
        return counter.counts()

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(count, range(500)))
    assert all(counts.seen == counts.accepted + sum(counts.refused.values()) for counts in seen)
    assert all(counts.refused["range"] == 2 * counts.refused["shape"] for counts in seen)
    last = counter.counts()
    assert (last.seen, last.accepted, last.refused["range"], last.refused["unfamiliar"]) == (2500, 1000, 1000, 0)


def test_counts_are_plain_values_of_their_moment() -> None:
    counter = RowCounter()
    before = counter.counts()
    counter.add(np.array([None], dtype=object))
    assert (before.seen, counter.counts().seen) == (0, 1)
    assert json.loads(json.dumps(asdict(before)))["accepted"] == 0
