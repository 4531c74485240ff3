"""Every row is dealt to one process in each epoch, and each process has as many batches as any other."""

import numpy as np
import pytest

from model_handler.data import Share
from repurpose.training.data.batches import TrainingBatch, TrainingBatches
from repurpose.training.distributed.sharded_batches import ShardedBatches, zero_weight_batch
from tests.repurpose.training.examples import batches, rows


@pytest.mark.parametrize("n_processes", [1, 2, 3, 5])
@pytest.mark.parametrize("n_rows", [1, 2, 3, 7, 8, 24, 25, 26, 31, 48])
@pytest.mark.parametrize("seed", [0, None])
def test_every_row_counts_once_and_batches_are_those_of_one_process(n_rows, n_processes, seed):
    data = rows(48)[0][:n_rows], rows(48)[1][:n_rows]
    dealt_to = [
        ShardedBatches(batches(data, batch_size=4, seed=seed), Share(r, n_processes)) for r in range(n_processes)
    ]
    shares = [list(process.epoch(3)) for process in dealt_to]
    whole = list(batches(data, batch_size=4 * n_processes, seed=seed).epoch(3))
    assert {len(share) for share in shares} == {len(whole)} == {process.n_batches for process in dealt_to}
    for number, batch in enumerate(whole):
        dealt = [share[number] for share in shares]
        counted = np.concatenate([part.rows for part in dealt if not part.zero_weight])
        assert sorted(counted) == sorted(batch.rows)
        if len(batch.rows) > 1:
            assert min(part.n_rows for part in dealt) >= 2 or n_processes == 1


def test_a_batch_that_no_process_has_cannot_be_repeated_with_weight_zero():
    with pytest.raises(ValueError, match="fewer batches than there are processes"):
        zero_weight_batch(None)


def test_a_share_has_targets_of_the_kind_that_the_batches_have():
    class Boxes(TrainingBatches):
        rows_are_unchanged = False

        def make_batch(self, batch):
            return TrainingBatch(
                batch.inputs, [{"boxes": row[None, :4]} for row in batch.inputs], batch.n_rows, batch.rows
            )

    plain = batches(rows(8), batch_size=2)
    whole = Boxes(plain.data, plain.classes, rows=plain.rows, n_rows=8, max_batch_size=2, seed=0, batch_size=2)
    shares = [ShardedBatches(whole, Share(rank, 2)) for rank in range(2)]
    assert [share.rows_are_unchanged for share in shares] == [False, False]
    for share in shares:
        for batch in share.epoch(0):
            assert np.array_equal(batch.targets[1]["boxes"][0], rows(8)[0][batch.rows[1]])
