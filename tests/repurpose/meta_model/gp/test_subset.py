import numpy as np

from repurpose.meta_model.gp.subset import class_sizes, stratified_subset


def test_small_data_are_kept_whole() -> None:
    assert stratified_subset(np.repeat([0, 1], 5), 10, np.random.RandomState(0)).tolist() == list(range(10))


def test_classes_keep_their_proportions_and_two_examples_at_least() -> None:
    codes = np.repeat(np.arange(4), [700, 290, 9, 1])
    kept = stratified_subset(codes, 100, np.random.RandomState(0))
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert class_sizes(codes[kept]) == [70, 29, 2, 1]


def test_of_too_many_classes_some_are_drawn() -> None:
    codes = np.repeat(np.arange(1000), 3)
    kept = stratified_subset(codes, 100, np.random.RandomState(0))
    assert class_sizes(codes[kept]) == [2] * 50
