import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from repurpose.training.data.batches import TrainingBatches, split_rows
from tests.model_handler.data.text.networks import text_source
from tests.repurpose.training.examples import CLASSES, batches, rows


def numbers(given: TrainingBatches, epoch: int) -> list[int]:
    return np.concatenate([batch.rows for batch in given.epoch(epoch)]).tolist()


def test_each_epoch_has_an_order_of_its_own_which_the_seed_gives_again() -> None:
    first, second = numbers(batches(), 0), numbers(batches(), 1)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert numbers(batches(), 1) == second
    assert numbers(batches(seed=1), 0) != first


def test_rows_come_with_their_own_inputs_and_labels() -> None:
    X, y = rows()
    for batch in batches().epoch(0):
        assert np.array_equal(batch.inputs.numpy(), X[batch.rows])
        assert np.array_equal(batch.targets.numpy(), y[batch.rows])


def test_text_labels_become_codes_of_the_sorted_classes() -> None:
    X, y = rows()
    names = np.array(["pear", "apple", "fig"])[y]
    given = batches((X, names))
    given.classes = np.unique(names)
    for batch in given.epoch(0):
        assert np.array_equal(given.classes[batch.targets.numpy()], names[batch.rows])


def test_a_loader_keeps_its_batches_and_its_order() -> None:
    X, y = rows()
    loader = DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(y)), batch_size=20)
    given = TrainingBatches(loader, CLASSES, rows=None, n_rows=50, n_batches=3, max_batch_size=20, seed=0, batch_size=7)
    read = list(given.epoch(0))
    assert [batch.n_rows for batch in read] == [20, 20, 10]
    assert torch.equal(torch.cat([batch.inputs for batch in read]), torch.from_numpy(X))


def test_a_last_row_alone_joins_the_batch_before_it() -> None:
    assert [batch.n_rows for batch in batches(batch_size=7).epoch(0)] == [7, 7, 7, 7, 7, 7, 8]
    assert [batch.n_rows for batch in batches(rows(1), batch_size=7).epoch(0)] == [1]


def test_labels_that_are_no_classes_are_named() -> None:
    X, y = rows()
    with pytest.raises(ValueError, match="not among the classes: 9"):
        list(batches((X, np.where(y == 2, 9, y))).epoch(0))


def test_a_split_takes_the_same_share_of_each_class_and_leaves_one_to_learn_from() -> None:
    codes = np.repeat([0, 1, 2], [40, 20, 1])
    learning, validation = split_rows(codes, 0.25, seed=3)
    assert sorted([*learning, *validation]) == list(range(61))
    assert np.bincount(codes[validation], minlength=3).tolist() == [10, 5, 0]
    again = split_rows(codes, 0.25, seed=3)
    assert np.array_equal(again[1], validation)
    assert not np.array_equal(split_rows(codes, 0.25, seed=4)[1], validation)


def test_a_split_keeps_groups_together_and_says_where_none_is_small_enough() -> None:
    codes, groups = np.repeat([0, 1], 40), np.random.default_rng(0).permutation(np.arange(80) // 4)
    learning, validation = split_rows(codes, 0.25, 3, groups)
    assert sorted([*learning, *validation]) == list(range(80))
    assert not set(groups[learning]) & set(groups[validation])
    assert all(0.1 < share < 0.4 for share in np.bincount(codes[validation]) / 40)
    with pytest.raises(ValueError, match=r"validation_fraction=0.25 of 80 rows in 2 groups leaves none"):
        split_rows(codes, 0.25, 3, np.arange(80) % 2)


def test_a_split_without_a_row_to_validate_by_is_refused() -> None:
    with pytest.raises(ValueError, match=r"validation_fraction=0.01 of 10 rows leaves none"):
        split_rows(np.arange(10) % 2, 0.01, seed=0)


def test_batches_of_one_row_stay_so() -> None:
    assert [batch.n_rows for batch in batches(rows(5), batch_size=1).epoch(0)] == [1] * 5


@pytest.mark.parametrize("n_rows", [1, 2, 7, 8, 9, 14, 15])
@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_there_are_as_many_batches_as_announced(n_rows: int, batch_size: int) -> None:
    given = batches(rows(n_rows), batch_size=batch_size)
    assert len(list(given.epoch(0))) == given.n_batches


def test_a_last_text_alone_joins_the_batch_before_it_whatever_their_lengths() -> None:
    source, texts = text_source(), ["good", "bad", "a very bad film"]
    given = TrainingBatches(
        (texts, [0, 1, 1]),
        np.array([0, 1]),
        rows=np.arange(3),
        n_rows=3,
        max_batch_size=2,
        seed=None,
        batch_size=2,
        transform=source.transform,
    )
    (batch,) = given.epoch(0)
    assert batch.inputs["attention_mask"].sum(dim=1).tolist() == [3, 3, 6]
    with torch.no_grad():
        alone = source.network(**source.transform(texts[:1])).pooler_output
        joined = source.network(**batch.inputs).pooler_output
    assert torch.allclose(joined[:1], alone, atol=1e-6)
