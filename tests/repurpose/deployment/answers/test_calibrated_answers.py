import numpy as np
import torch

from repurpose.deployment.answers import answers_of
from tests.repurpose.examples import blob_features, blobs, lr


def test_closeness_finds_the_rows_whose_answers_rounding_may_change() -> None:
    """A row moved by less than its distance to the nearest score keeps its set and its p-value."""
    rows = torch.from_numpy(blobs(300, seed=3)[0])
    moved = rows + 1e-4 * torch.randn(rows.shape, generator=torch.Generator().manual_seed(0))
    for repurposer in (
        lr().repurpose(blob_features()),
        lr().repurpose(blob_features()).conformalize(blob_features(seed=2)),
    ):
        answers = answers_of(repurposer)
        before, after, near = answers(rows), answers(moved), answers.closeness(rows)
        assert near.labels.shape == (300, 3)
        assert near.rows.shape == (300,)
        assert not (before[2] != after[2])[near.labels > 1e-3].any()
        assert not (before[3] != after[3])[near.rows > 1e-3].any()
        assert ((before[3] - after[3]).abs() < 2.5 / 61).all()


def test_rows_of_reference_are_at_no_distance() -> None:
    reference = blob_features(seed=2)
    answers = answers_of(lr().repurpose(blob_features()).conformalize(reference))
    near = answers.closeness(torch.from_numpy(reference.matrix))
    assert np.abs(near.rows.numpy()).max() < 1e-8
