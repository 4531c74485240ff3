"""Which images `train` can hold out."""

from collections import Counter

import numpy as np
import pytest

from repurpose import Features, LrRepurposer
from repurpose.cli.held_out import _why_none, report_held_out
from tests.repurpose.examples import identity_network
from tests.repurpose.grouped_rows import grouped_features


@pytest.mark.parametrize(
    ("counts", "part", "reason"),
    [
        ({"a": 8, "b": 8}, 0.2, None),
        ({"a": 8, "b": 8, "c": 1, "d": 3}, 0.2, None),
        ({"a": 8, "b": 8}, 0, "--holdout 0"),
        ({"a": 8}, 0.2, "only one class, 'a', has labels"),
        ({"a": 8, "b": 1}, 0.2, "too few images, 1 in class 'b' and 2 to hold out"),
        ({"a": 2, "b": 3}, 0.2, "too few images, 2 in class 'a' and 1 to hold out"),
        ({"a": 4, "b": 4, "c": 4}, 0.1, "too few images, 4 in class 'c' and 2 to hold out"),
        ({"a": 4, "b": 4, "c": 4}, 0.9, "too few images, 4 in class 'c' and 11 to hold out"),
    ],
)
def test_two_classes_of_four_images_are_enough_for_them(
    counts: dict[str, int], part: float, reason: str | None
) -> None:
    assert _why_none(Counter(counts), part) == reason


def test_groups_are_held_out_whole_and_unlabelled_rows_of_theirs_with_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    features, groups = grouped_features(n_groups=10, per_group=6)
    labels = [None if row % 7 == 0 else "ab"[label] for row, label in enumerate(np.asarray(features.labels))]
    trained_on: list[np.ndarray] = []

    class Noting(LrRepurposer):
        def repurpose(self, data: Features, y: object = None, **given: object) -> "Noting":  # type: ignore[override]
            trained_on.append(np.asarray(given["groups"]))
            known = np.array([label is not None for label in y])  # type: ignore[attr-defined]
            return super().repurpose(data[known], [label for label in y if label])  # type: ignore[attr-defined]

    report_held_out(Noting(identity_network(), ["0"], c=1.0), features, labels, 0.3, 0, groups=groups)
    said = capsys.readouterr().out
    kept = set(trained_on[0])
    held = [row for row in range(60) if groups[row] not in kept and labels[row] is not None]
    assert f"held-out {len(held)} images of {10 - len(kept)} groups:" in said
    assert len(trained_on[0]) == sum(group in kept for group in groups)
    assert 2 <= 10 - len(kept) <= 4


@pytest.mark.parametrize(
    ("n_groups", "reason"), [(2, "every group is too large to be held out, or has all images of a class")]
)
def test_groups_that_cannot_be_held_out_are_no_measurement(
    n_groups: int, reason: str, capsys: pytest.CaptureFixture
) -> None:
    features, groups = grouped_features(n_groups=n_groups)
    labels = ["ab"[label] for label in np.asarray(features.labels)]
    report_held_out(LrRepurposer(identity_network(), ["0"]), features, labels, 0.3, 0, groups=groups)
    assert f"no held-out measurement: {reason}" in " ".join(capsys.readouterr().out.split())
