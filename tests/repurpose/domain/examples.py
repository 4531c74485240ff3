"""Two domains that tests of this folder share: clouds of points, and the same ones scaled, turned and moved."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import ortho_group

from repurpose import load
from repurpose.domain import DomainRepurposer
from repurpose.domain.domains import Domains
from tests.repurpose.examples import blobs, identity_network, lr

Pair = tuple[np.ndarray, np.ndarray]


def two_domains(n_samples: int = 40, n_features: int = 4) -> tuple[Pair, Pair]:
    """Source and target, each (X, y) with three classes; the target is the other half, in other units."""
    X, y = blobs(2 * n_samples, n_features)
    turn = ortho_group.rvs(n_features, random_state=3)
    moved = ((X[n_samples:] - X.mean(0)) @ turn * np.linspace(1, 3, n_features) + 2).astype(np.float32)
    return (X[:n_samples], y[:n_samples]), (moved, y[n_samples:])


def domains_of(source: np.ndarray, target: np.ndarray, codes: np.ndarray | None = None) -> Domains:
    """What a method gets of bare rows: one source domain, and a target without labels."""
    n_source = len(source)
    return Domains(
        source=source.astype(np.float32),
        target=target.astype(np.float32),
        source_codes=np.arange(n_source) % 2 if codes is None else codes,
        target_codes=np.full(len(target), -1),
        source_domains=np.zeros(n_source, np.int64),
        source_weights=np.ones(n_source),
        classes=np.arange(2),
        names=("source",),
        widths={"0": source.shape[1]},
    )


def quick(cls: Callable[..., Any], /, **options: Any) -> Any:
    """A method on the rows themselves, with a head that searches for nothing."""
    return cls(identity_network(), ["0"], **{"random_state": 0, "head": lr(), **options})


class MethodContract:
    """What every method on features promises; inherit, and define `make`."""

    make: Callable[..., DomainRepurposer]
    judges_by_source = False

    def test_it_learns_without_a_label_of_the_target_and_answers_the_same_once_loaded(self, tmp_path: Any) -> None:
        source, (X, _) = two_domains()
        repurposer = quick(self.make)
        assert repurposer.repurpose(X, source_data=source) is repurposer
        assert (repurposer.n_target_rows_, repurposer.n_target_labels_) == (40, 0)
        assert repurposer.source_domains_ == {"source": 40}
        repurposer.save_repurposer(tmp_path / "saved")
        loaded = load(tmp_path / "saved", source_model=identity_network())
        assert type(loaded) is type(repurposer)
        assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
        if self.judges_by_source:
            assert np.array_equal(loaded.predict_set(X, 0.7).members, repurposer.predict_set(X, 0.7).members)
        else:
            with pytest.raises(ValueError, match=r"nothing about another domain; call conformalize"):
                loaded.predict_set(X)
        with pytest.raises(ValueError, match=r"nothing about another domain; call conformalize"):
            loaded.unfamiliarity_p_value(X)

    def test_labelled_rows_of_the_target_train_the_head_and_judge_its_sets(self, tmp_path: Any) -> None:
        source, target = two_domains()
        repurposer = quick(self.make).repurpose(target, source_data=source)
        assert (repurposer.training_domains_ == -1).sum() == 40
        assert len(repurposer.training_domains_) == len(repurposer.training_features_)
        sets = repurposer.predict_set(target[0], 0.8)
        assert sum(len(rows) for _, rows in repurposer._heads_with_unseen_rows()) == 40
        repurposer.save_repurposer(tmp_path / "saved")
        loaded = load(tmp_path / "saved", source_model=identity_network())
        assert np.array_equal(loaded.predict_set(target[0], 0.8).members, sets.members)
        strange = repurposer.unfamiliarity_p_value(target[0] + 100)
        assert np.array_equal(loaded.unfamiliarity_p_value(target[0] + 100), strange)
        assert (strange == 1 / 41).all()

    def test_the_same_seed_gives_the_same_bits(self) -> None:
        source, (X, _) = two_domains()
        first, second = (quick(self.make).repurpose(X, source_data=source).predict_probability(X) for _ in range(2))
        assert np.array_equal(first, second)
