from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from repurpose.domain import ImportanceWeightedRepurposer, importance_weighted_repurposer
from repurpose.domain.distributions.domain_classifier import effective_sample_size
from tests.repurpose.domain.examples import MethodContract, domains_of, quick, two_domains
from tests.repurpose.examples import KnnRepurposer, identity_network, lr

rng = np.random.default_rng(0)


class TestKmm(MethodContract):
    make = ImportanceWeightedRepurposer


class TestKliep(MethodContract):
    @staticmethod
    def make(*args: Any, **options: Any) -> ImportanceWeightedRepurposer:
        return ImportanceWeightedRepurposer(*args, method="kliep", **options)


@pytest.mark.parametrize("method", ["kmm", "kliep", "classifier"])
def test_weights_rise_with_the_true_ratio_and_are_1_on_average(method: str) -> None:
    source, target = rng.normal(size=(150, 3)), rng.normal(size=(150, 3)) + [1.0, 0.0, 0.0]
    repurposer = quick(ImportanceWeightedRepurposer, method=method)
    rows, weights = repurposer._adapt_source(domains_of(source, target))
    assert np.array_equal(rows, source.astype(np.float32))
    assert weights is repurposer.importance_weights_
    assert np.isclose(weights.mean(), 1, atol=1e-4)
    assert spearmanr(weights, source[:, 0]).statistic > 0.7
    assert repurposer.effective_sample_size_ == effective_sample_size(weights)


def test_the_head_is_trained_with_these_weights() -> None:
    (Xs, ys), (X, _) = two_domains()
    X = Xs[:20] + np.float32(0.1)
    repurposer = quick(ImportanceWeightedRepurposer, method="classifier").repurpose(X, source_data=(Xs, ys))
    by_hand = lr(random_state=0).repurpose(Xs, ys, sample_weight=repurposer.importance_weights_)
    assert np.array_equal(repurposer.predict_probability(X), by_hand.predict_probability(X))


@pytest.mark.parametrize("options", [{"method": "kliep"}, {"method": "classifier"}, {"regularization": 1e4}])
def test_domains_count_alike_where_they_are_alike(options: dict[str, Any]) -> None:
    (Xs, ys), _ = two_domains()
    several = {"a": (Xs[:30], ys[:30]), "b": (Xs[30:], ys[30:])}
    repurposer = quick(ImportanceWeightedRepurposer, **options).repurpose(Xs, source_data=several)
    assert repurposer.source_domains_ == {"a": 30, "b": 10}
    share = repurposer.importance_weights_[30:].sum() / 40
    assert 0.3 < share < 0.51  # half, rather than their share of the rows, which is a quarter


def test_few_rows_that_decide_are_told() -> None:
    source = np.concatenate([rng.normal(size=(100, 2)), rng.normal(size=(2, 2)) + 6])
    with pytest.warns(UserWarning, match=r"102 source rows have an effective sample size of \d\.\d"):
        quick(ImportanceWeightedRepurposer)._adapt_source(domains_of(source, rng.normal(size=(50, 2)) + 6))


def test_what_cannot_be_is_refused() -> None:
    source, (X, _) = two_domains()
    with pytest.raises(ValueError, match=r"method must be one of \['kmm'.*got 'kmn'"):
        quick(ImportanceWeightedRepurposer, method="kmn").repurpose(X, source_data=source)
    with pytest.raises(ValueError, match="regularization must be a finite number of at least 0, got -1"):
        quick(ImportanceWeightedRepurposer, regularization=-1).repurpose(X, source_data=source)
    knn = KnnRepurposer(identity_network(), ["0"])
    with pytest.raises(ValueError, match=r"its head KnnRepurposer cannot.*sample_weight"):
        quick(ImportanceWeightedRepurposer, head=knn).repurpose(X, source_data=source)


@pytest.mark.parametrize("head", ["lr", "gp", "svm", "laplace"])
def test_a_class_that_the_target_has_nothing_like_is_still_learned(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (X, y), (target, _) = two_domains()
    monkeypatch.setitem(
        importance_weighted_repurposer._ESTIMATORS,  # type: ignore[arg-type]
        "kmm",
        lambda _, domains: (domains.source_codes != 2).astype(float),
    )
    repurposer = quick(ImportanceWeightedRepurposer, head=head).repurpose(target, source_data=(X, y))
    assert (repurposer.importance_weights_[y == 2] == 1e-6).all()
    assert repurposer.classes_.tolist() == [0, 1, 2]
    assert repurposer.score(X[y != 2], y[y != 2]) > 0.8  # as without the class
