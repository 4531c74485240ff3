import torch

from repurpose.deployment.answers import answers_of
from tests.repurpose.examples import blob_features, blobs, lr


def test_answers_of_rows_that_moved_a_little_lie_within_what_is_foretold() -> None:
    rows = torch.from_numpy(blobs(300, seed=3)[0])
    moved = rows + 1e-4 * torch.randn(rows.shape, generator=torch.Generator().manual_seed(0))
    for repurposer in (
        lr().repurpose(blob_features()),
        lr().repurpose(blob_features()).conformalize(blob_features(seed=2)),
    ):
        answers = answers_of(repurposer, allow_empty=True)
        found = answers.within(rows, 1e-3)
        for _, _, in_set, p_value in (answers(rows), answers(moved)):
            assert (in_set >= found.surely).all()
            assert (in_set <= found.possibly).all()
            assert ((found.least <= p_value) & (p_value <= found.most)).all()
        assert (found.surely == found.possibly).float().mean() > 0.95
        assert (found.most - found.least).mean() < 0.05


def test_a_row_of_reference_may_count_itself_or_not() -> None:
    reference = blob_features(seed=2)
    answers = answers_of(lr().repurpose(blob_features()).conformalize(reference))
    found = answers.within(torch.from_numpy(reference.matrix), 1e-8)
    assert torch.allclose(found.most - found.least, torch.tensor(1 / 61, dtype=torch.float64))
