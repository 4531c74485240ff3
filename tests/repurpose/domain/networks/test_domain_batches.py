from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from repurpose.domain.networks.domain_batches import DomainBatches, DomainStream
from repurpose.domain.reading.target_labels import LabelCodes

CLASSES = np.arange(3)


def stream(X: Any, labels: Any = None, *, seed: int | None = 0, batch_size: int = 4, **options: Any) -> DomainStream:
    data = X if labels is None else (X, labels)
    n_rows = len(next(iter(X.values()))) if isinstance(X, dict) else len(X)
    how = {"rows": np.arange(n_rows), "n_rows": n_rows, "max_batch_size": batch_size, "batch_size": batch_size}
    return DomainStream(data, CLASSES, seed=seed, **{"codes_of": LabelCodes(CLASSES).of, **how, **options})


def numbered(start: int, n: int) -> torch.Tensor:
    return torch.arange(start, start + n, dtype=torch.float32)[:, None]


def test_an_epoch_is_as_long_as_the_longest_and_the_shorter_one_is_repeated_in_other_orders() -> None:
    batches = DomainBatches({"target": stream(numbered(0, 8)), "source": stream(numbered(100, 24), [0, 1, 2] * 8)})
    assert (batches.n_batches, batches.n_rows, batches.max_batch_size) == (6, 48, 8)
    orders = []
    for epoch in range(2):
        given = list(batches.epoch(epoch))
        assert len(given) == 6
        rows = torch.cat([batch.inputs[~batch.targets["is_source"], 0] for batch in given])
        orders += [passed.tolist() for passed in rows.split(8)]
        of_source = torch.cat([batch.inputs[batch.targets["is_source"], 0] for batch in given])
        assert sorted(of_source.tolist()) == list(range(100, 124))
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert len({tuple(order) for order in orders}) == 6
    again = [batch.inputs for batch in batches.epoch(1)]
    assert all(torch.equal(a, batch.inputs) for a, batch in zip(again, given))


def test_rows_are_mixed_so_that_each_piece_has_both_domains() -> None:
    batches = DomainBatches({"target": stream(numbered(0, 4), seed=None), "source": stream(numbered(100, 4), [0] * 4)})
    (batch,) = batches.epoch(0)
    assert batch.targets["is_source"].tolist() == [False, True] * 4
    for piece in batch.pieces(2):
        assert piece.targets["is_source"].tolist() == [False, True]


def test_targets_say_what_is_known_of_each_row() -> None:
    target = stream(numbered(0, 4), np.array([2, np.nan, np.nan, 1]), seed=None)
    batches = DomainBatches({"target": target, "source": stream(numbered(100, 8), [0, 1] * 4, seed=None)})
    first, second = batches.epoch(3)
    assert first.inputs[:, 0].tolist() == [0, 100, 1, 101, 2, 102, 3, 103]
    assert first.targets["codes"].tolist() == [2, 0, -1, 1, -1, 0, 1, 1]
    assert first.targets["weights"].tolist() == [1] * 8
    assert set(first.targets["progress"].tolist()) == {3}
    assert set(second.targets["progress"].tolist()) == {3.5}


def test_several_source_domains_count_alike_whatever_their_sizes() -> None:
    streams = {"target": stream(numbered(0, 4)), "a": stream(numbered(10, 6), [0] * 6, batch_size=6)}
    (batch,) = DomainBatches({**streams, "b": stream(numbered(20, 2), [1] * 2, batch_size=6)}).epoch(0)
    for first in (10, 20):
        own = (batch.inputs[:, 0] >= first) & (batch.inputs[:, 0] < first + 10)
        assert float(batch.targets["weights"][own].sum()) == pytest.approx(4)  # half of 8 rows
    assert batch.targets["is_source"].sum() == 8


def test_source_rows_whose_class_is_left_out_are_not_in_a_batch() -> None:
    source = stream(numbered(100, 4), [0, 7, 1, 7], codes_of=LabelCodes(CLASSES, [7]).of)
    (batch,) = DomainBatches({"target": stream(numbered(0, 4)), "source": source}).epoch(0)
    assert sorted(batch.inputs[batch.targets["is_source"], 0].tolist()) == [100, 102]
    assert sorted(batch.targets["codes"].tolist()) == [-1] * 4 + [0, 1]


def test_a_last_row_alone_joins_the_batch_before_it() -> None:
    batches = DomainBatches({"target": stream(numbered(0, 9)), "source": stream(numbered(100, 5), [0] * 5)})
    assert [int((~batch.targets["is_source"]).sum()) for batch in batches.epoch(0)] == [4, 5]
    assert [int(batch.targets["is_source"].sum()) for batch in batches.epoch(0)] == [5, 5]


def test_texts_of_other_lengths_are_filled_up_where_the_mask_is_0() -> None:
    def texts(n: int, length: int) -> dict[str, torch.Tensor]:
        return {
            "input_ids": torch.full((n, length), 5),
            "attention_mask": torch.ones(n, length, dtype=torch.int64),
            "age": torch.full((n, 1), 30.0),
        }

    labelled = {**texts(2, 5), "labels": [0, 1]}
    batches = DomainBatches({"target": stream(texts(2, 3)), "source": stream(labelled, n_rows=2, rows=np.arange(2))})
    (batch,) = batches.epoch(0)
    of_source = batch.targets["is_source"]
    assert batch.inputs["attention_mask"][~of_source].tolist() == [[1, 1, 1, 0, 0]] * 2
    assert batch.inputs["input_ids"][~of_source].tolist() == [[5, 5, 5, 0, 0]] * 2
    assert batch.inputs["attention_mask"][of_source].tolist() == [[1] * 5] * 2
    assert batch.inputs["age"].shape == (4, 1)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (torch.zeros(4, 2), r"\{'target': \(1,\), 'source': \(2,\)\}"),
        (torch.zeros(4, 1, dtype=torch.int64), r"of \['torch.float32', 'torch.int64'\]"),
    ],
)
def test_rows_that_are_no_batch_together_are_refused_with_both_shapes(source: torch.Tensor, message: str) -> None:
    batches = DomainBatches({"target": stream(numbered(0, 4)), "source": stream(source, [0] * 4)})
    with pytest.raises(ValueError, match=message):
        next(batches.epoch(0))


def test_a_stream_without_batches_is_an_error_and_no_endless_loop() -> None:
    class Empty(DomainStream):
        def epoch(self, number: int) -> Iterator[Any]:
            return iter(())

    how = {"rows": None, "n_rows": 4, "n_batches": 1, "max_batch_size": 4, "batch_size": 4, "seed": 0}
    empty = Empty(numbered(0, 4), CLASSES, codes_of=LabelCodes(CLASSES).of, **how)
    with pytest.raises(ValueError, match="the domain 'target' gave no batch"):
        list(DomainBatches({"source": stream(numbered(0, 8), [0] * 8), "target": empty}).epoch(0))
