import numpy as np
import pytest
import torch

from repurpose.domain.distillation.numbered_batches import NumberedBatches
from tests.repurpose.training.examples import batches, rows


def test_targets_are_the_numbers_of_the_rows_in_the_same_order() -> None:
    X, y = rows()
    labelled, numbered = batches(), NumberedBatches.like(batches())
    for epoch in (0, 1):
        for plain, batch in zip(labelled.epoch(epoch), numbered.epoch(epoch), strict=True):
            assert batch.targets.dtype == torch.int64
            assert np.array_equal(batch.targets, plain.rows)
            assert np.array_equal(y[batch.targets], plain.targets)
            assert np.array_equal(X[batch.targets], batch.inputs)
    assert numbered.describe() == labelled.describe()


def test_other_rows_of_the_same_kind_have_numbers_too() -> None:
    some = NumberedBatches.like(batches()).of(rows(), rows=np.array([7, 3]), n_rows=2, options={})
    (batch,) = some.epoch(0)
    assert batch.targets.tolist() == [7, 3]


def test_a_label_that_is_no_class_is_still_refused() -> None:
    X, y = rows()
    y = y.copy()
    y[5] = 9
    with pytest.raises(ValueError, match="labels that are not among the classes: 9"):
        list(NumberedBatches.like(batches((X, y))).epoch(0))
