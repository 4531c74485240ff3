"""Heads of the folds are what the same Repurposer learns from the other rows."""

import numpy as np

from repurpose import Features, SvmRepurposer
from tests.repurpose.examples import blob_features, identity_network, lr


def test_heads_of_folds_are_trained_with_the_seed() -> None:
    found = SvmRepurposer(identity_network(), ["0"], c=0.1, random_state=2).repurpose(blob_features())
    first = next(found.heads_of_folds())
    kept = found.training_rows()[found.folds_ != 0]
    features = Features({"0": kept.matrix}, found.classes_[kept.codes])
    by_hand, other = (
        SvmRepurposer(identity_network(), ["0"], c=0.1, random_state=seed).repurpose(features) for seed in (2, 0)
    )
    assert np.array_equal(first.held_out, np.flatnonzero(found.folds_ == 0))
    assert first.head.sharpness_ == by_hand.sharpness_ != other.sharpness_


def test_what_a_search_chose_once_serves_all_folds() -> None:
    found = lr(c="auto", random_state=0).repurpose(blob_features())
    assert {each.head.c_ for each in found.heads_of_folds()} == {found.c_}
    assert not any("c_scores_" in learned for learned in found.fold_heads_)
