from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from repurpose.domain import DomainNetworkRepurposer
from tests.repurpose.domain.networks.examples import MeansRepurposer, quick, two_domains


def task_of(target: Any, labels: Any = None, cls: Any = DomainNetworkRepurposer, **options: Any) -> Any:
    source, _ = two_domains()
    array = None if labels is None else np.array(labels, object)
    given = {"source_data": source, **options.pop("given", {})}
    return quick(cls, **options)._prepare_task(target, labels=array, seed=3, **given)


def held_out(task: Any) -> list[int]:
    return [int(row) for batch in task.evaluation.batches.epoch(0) for row in batch.rows]


@pytest.mark.parametrize(("cls", "n_used"), [(DomainNetworkRepurposer, 12), (MeansRepurposer, 40)])
def test_labelled_rows_of_the_target_are_held_out(cls: Any, n_used: int) -> None:
    _, (X, y) = two_domains()
    labels = [int(label) if place < 12 else None for place, label in enumerate(y)]
    task = task_of((X, np.arange(40)), labels, cls=cls, validation_fraction=0.5)
    assert task.evaluation.domain == "target"
    held = held_out(task)
    assert len(held) == 6
    assert max(held) < 12
    assert sorted([*held, *task.batches.streams["target"].rows]) == list(range(n_used))
    assert task.batches.streams["source"].n_rows == 24


@pytest.mark.parametrize("labels", [None, [0, 1, 2] + [None] * 37])
def test_where_no_labelled_row_can_be_spared_rows_of_the_source_judge(labels: Any) -> None:
    _, (X, _) = two_domains()
    data = X if labels is None else (X, np.arange(40))
    task = task_of(data, labels, validation_fraction=0.5)
    assert task.evaluation.domain == "source"
    assert sorted([*held_out(task), *task.batches.streams["source"].rows]) == list(range(24))


def test_of_several_source_domains_each_gives_its_share() -> None:
    (Xs, ys), (X, _) = two_domains()
    sources = {"a": (Xs[:18], ys[:18]), "b": (Xs[18:], ys[18:])}
    task = task_of(X, validation_fraction=1 / 3, given={"source_data": sources})
    batches = task.evaluation.batches
    assert {name: stream.n_rows for name, stream in batches.streams.items()} == {"a": 6, "b": 3}
    assert (batches.n_rows, batches.n_batches, batches.max_batch_size) == (9, 2, 6)
    seen = torch.cat([batch.targets for batch in batches.epoch(0)])
    assert torch.bincount(seen).tolist() == [3, 3, 3]


def test_a_left_out_class_is_neither_learned_from_nor_judged_by() -> None:
    _, (X, y) = two_domains()
    sure = y < 2
    labels = y[sure].tolist()
    with pytest.warns(UserWarning, match="8 of 24 source rows are left out"):
        task = task_of((X[sure], np.arange(len(labels))), labels)
    assert task.batches.streams["source"].n_rows == 16


def test_data_that_cannot_be_split_is_refused_with_what_to_give() -> None:
    (Xs, ys), (X, _) = two_domains()
    loader = DataLoader(TensorDataset(Xs, ys), batch_size=8)
    with pytest.raises(ValueError, match="validation_fraction cannot split a DataLoader"):
        task_of(X, validation_fraction=0.5, given={"source_data": loader})
    with pytest.raises(ValueError, match="validation_data and validation_fraction are both given"):
        task_of(X, validation_fraction=0.5, given={"validation_data": (X[:4], [0, 1, 2, 0])})


@pytest.mark.parametrize(("cls", "n_used"), [(DomainNetworkRepurposer, 12), (MeansRepurposer, 40)])
def test_groups_of_the_target_are_held_out_with_their_rows_without_a_label(cls: Any, n_used: int) -> None:
    _, (X, y) = two_domains()
    labels = [int(label) if place < 12 else None for place, label in enumerate(y)]
    groups = np.arange(40) % 6
    task = task_of((X, np.arange(40)), labels, cls=cls, validation_fraction=0.5, given={"groups": groups})
    held, learned = held_out(task), task.batches.streams["target"].rows.tolist()
    assert task.evaluation.domain == "target"
    assert held
    assert not set(groups[held]) & set(groups[learned])
    assert sorted(learned) == [row for row in range(n_used) if groups[row] not in set(groups[held])]
    with pytest.raises(ValueError, match="the data have 40 rows and groups has 6"):
        task_of(X, given={"groups": np.arange(6)})
