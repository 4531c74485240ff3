"""Counts add up, in the format that Prometheus reads."""

import re

from repurpose.deployment.server.metrics import Metrics
from repurpose.serving.row_counts import RowCounts


def test_requests_are_counted_by_status_and_seconds() -> None:
    metrics = Metrics()
    for status, seconds in ((200, 0.004), (200, 0.005), (422, 0.3), (503, 99.0)):
        metrics.add(status, seconds)
    text = metrics.text(RowCounts(seen=5, accepted=3, refused={"range": 2, "shape": 0}))
    assert 'repurpose_requests_total{status="200"} 2\n' in text
    assert 'repurpose_rows_total{verdict="range"} 2\n' in text
    buckets = dict(re.findall(r'_bucket\{le="(.*?)"\} (\d+)', text))
    assert (buckets["0.005"], buckets["0.25"], buckets["0.5"], buckets["30.0"], buckets["+Inf"]) == (*"2233", "4")
    assert "repurpose_request_seconds_sum 99.309000\nrepurpose_request_seconds_count 4\n" in text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r'[a-z_]+(\{[a-z]+="[^"]+"\})? [\d.]+', line) for line in lines)
