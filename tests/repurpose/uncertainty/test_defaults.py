"""What was saved goes on answering by the defaults of its training, or by those before any were written down."""

from typing import Any

import numpy as np
from torch import nn

from model_handler import Features
from repurpose import LrRepurposer, load


def rows(n_samples: int, n_classes: int, seed: int) -> Features:
    rng = np.random.default_rng(seed)
    codes = np.arange(n_samples) % n_classes
    means = np.random.default_rng(0).normal(size=(n_classes, 4))
    return Features({"0": (means[codes] + rng.normal(size=(n_samples, 4))).astype(np.float32)}, codes)


def trained(n_classes: int) -> LrRepurposer:
    return LrRepurposer(nn.Identity(), ["0"], c=1.0, random_state=0).repurpose(rows(60, n_classes, seed=1))


def test_the_default_method_is_that_of_training_and_the_one_before_where_none_was_saved(tmp_path: Any) -> None:
    new = rows(100, 3, seed=2)
    trained(3).save_repurposer(tmp_path / "now")
    for expected in ("mixed_mahalanobis", "mahalanobis"):
        loaded = load(tmp_path / "now", source_model=nn.Identity())
        if expected == "mahalanobis":
            del loaded.unfamiliarity_method_  # as in what earlier versions saved
        assert np.array_equal(loaded.unfamiliarity(new), loaded.unfamiliarity(new, expected))
        assert np.array_equal(loaded.unfamiliarity_p_value(new), loaded.unfamiliarity_p_value(new, expected))
        assert np.array_equal(loaded.predict_uncertainty(new).unfamiliarity, loaded.unfamiliarity(new, expected))
        ours, asked = (loaded.evaluate(new[:50], new[50:], method=each, n_bootstrap=2) for each in ("auto", expected))
        assert ours.auroc == asked.auroc
        loaded.save_repurposer(tmp_path / expected)
        again = load(tmp_path / expected, source_model=nn.Identity())
        assert np.array_equal(again.unfamiliarity(new), loaded.unfamiliarity(new, expected))


def test_sets_by_raps_have_the_cost_of_ranks_of_training_and_the_one_before_where_none_was_saved() -> None:
    known, new = rows(40, 8, seed=3), rows(30, 8, seed=4)
    repurposer = trained(8).conformalize(known)
    found = {}
    for n_free, cost in ((5, 0.01), (2, 0.1)):
        if n_free == 2:
            del repurposer.rank_cost_  # as in what earlier versions saved

        def strangeness(row: np.ndarray, code: int, n_free: int = n_free, cost: float = cost) -> float:
            likelier = row[row > row[code]]
            return likelier.sum() + row[code] / 2 + cost * max(0, len(likelier) + 1 - n_free)

        reference = [strangeness(*each) for each in zip(repurposer.predict_probability(known), known.labels)]
        expected = [
            [(1 + sum(other >= strangeness(row, code) for other in reference)) / 41 > 0.3 for code in range(8)]
            for row in repurposer.predict_probability(new)
        ]
        found[n_free] = repurposer.predict_set(new, 0.7, "raps", allow_empty=True).members
        assert np.array_equal(found[n_free], expected)
    assert not np.array_equal(found[5], found[2])
