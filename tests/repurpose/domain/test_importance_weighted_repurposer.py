from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from repurpose.domain import ImportanceWeightedRepurposer
from repurpose.domain.distributions.domain_classifier import LogLinearRatio, effective_sample_size
from repurpose.uncertainty.comparisons import ReferenceRows, compare_labels
from repurpose.uncertainty.conformal import p_values
from repurpose.uncertainty.prediction_sets import nonconformity_of_labels
from tests.repurpose.domain.examples import MethodContract, domains_of, quick, two_domains
from tests.repurpose.examples import KnnRepurposer, identity_network, lr

rng = np.random.default_rng(0)


@pytest.mark.filterwarnings("ignore:.*effective sample size", "ignore:.*hold every class")
class OfWeights(MethodContract):
    judges_by_source = True


class TestKmm(OfWeights):
    make = ImportanceWeightedRepurposer


class TestKliep(OfWeights):
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
    monkeypatch.setattr(
        ImportanceWeightedRepurposer, "_ratios", lambda _, domains: (domains.source_codes != 2).astype(float)
    )
    repurposer = quick(ImportanceWeightedRepurposer, head=head).repurpose(target, source_data=(X, y))
    assert (repurposer.importance_weights_[y == 2] == 1e-6).all()
    assert repurposer.classes_.tolist() == [0, 1, 2]
    assert repurposer.score(X[y != 2], y[y != 2]) > 0.8  # as without the class


def by_loop(repurposer: ImportanceWeightedRepurposer, X: np.ndarray, coverage: float, score: str) -> np.ndarray:
    """The sets of the paper, row by row and label by label: bool (n_rows, n_classes)."""
    sets, (ratio, training) = [], (repurposer.density_ratio_, repurposer.training_rows())
    folds = [(fold.head, rows) for fold in repurposer.heads_of_folds() for rows in [training[fold.held_out]]]
    for x in X:
        own, of_labels = ratio.at(x[None])[0], []
        for label in range(3):
            at_least = everything = own
            for head, rows in folds:
                strange = nonconformity_of_labels(head.head_probabilities(x[None]), score)[0, label]
                known = nonconformity_of_labels(head.head_probabilities(rows.matrix), score)
                for number, code in enumerate(rows.codes):
                    weight = ratio.at(rows.matrix[[number]])[0]
                    everything += weight
                    at_least += weight * (known[number, code] >= strange)
            of_labels.append(at_least / everything > 1 - coverage + 1e-12)
        sets.append(of_labels)
    return np.array(sets)


@pytest.mark.parametrize("score", ["lac", "aps", "raps"])
@pytest.mark.parametrize("method", ["kmm", "kliep"])
def test_sets_without_labels_of_the_target_are_those_of_the_paper(method: str, score: str) -> None:
    (Xs, ys), _ = two_domains()
    X = Xs[:12] + np.float32(0.3)
    repurposer = quick(ImportanceWeightedRepurposer, method=method).repurpose(X, source_data=(Xs, ys))
    found = repurposer.predict_set(X, 0.7, score, allow_empty=True)
    assert np.array_equal(found.members, by_loop(repurposer, X, 0.7, score))
    assert 0 < found.members.mean() < 1


def test_where_all_count_alike_sets_are_those_without_weights() -> None:
    (Xs, ys), _ = two_domains()
    repurposer = quick(ImportanceWeightedRepurposer, method="classifier").repurpose(Xs[:20], source_data=(Xs, ys))
    repurposer.density_ratio_ = LogLinearRatio(np.zeros(4), np.log(0.37))
    calibrated, cost = repurposer._calibrated, (5, 0.01)
    judges = [(fold.head, repurposer.training_rows()[fold.held_out]) for fold in repurposer.heads_of_folds()]
    judges = [(head, ReferenceRows(rows.matrix, rows.codes)) for head, rows in judges]
    for coverage in (0.5, 0.8, 0.9, 0.95):
        expected = p_values(compare_labels(judges, Xs, calibrated, "lac", cost)) > 1 - coverage + 1e-12
        assert np.array_equal(repurposer.predict_set(Xs, coverage, allow_empty=True).members, expected)


@pytest.mark.filterwarnings("ignore:.*hold every class")
def test_weighted_sets_cover_as_asked_where_others_cover_too_little() -> None:
    """The standard deviation of the coverage of one draw is .05, that of the mean of five .02."""
    of_source, of_target = [], []
    for seed in range(5):
        (Xs, ys), (target, _), (X, y) = shifted(300, 0.0, seed), shifted(300, 1.0, 100 + seed), shifted(500, 1.0, -seed)
        repurposer = quick(ImportanceWeightedRepurposer, method="classifier").repurpose(target, source_data=(Xs, ys))
        for judge, found in ((lr(random_state=0).repurpose(Xs, ys), of_source), (repurposer, of_target)):
            found.append(judge.evaluate(X, y=y, n_bootstrap=1).set_coverage)
    assert np.mean(of_source) < 0.82
    assert 0.86 < np.mean(of_target) < 0.98


def shifted(n: int, shift: float, seed: int) -> Any:
    """Rows of which one feature is shifted in the target; where it is large, the other says nothing of the label."""
    draw = np.random.default_rng(abs(seed) + (seed < 0) * 1000)
    X = draw.normal(size=(n, 2)) + [shift, 0]
    y = draw.random(n) < 1 / (1 + np.exp(-6 * X[:, 1] * (X[:, 0] < 0.5)))
    return X.astype(np.float32), y.astype(int)


@pytest.mark.filterwarnings("ignore:.*effective sample size")
def test_a_coverage_near_1_gives_every_label_and_few_rows_that_decide_are_told() -> None:
    (Xs, ys), _ = two_domains()
    repurposer = quick(ImportanceWeightedRepurposer, method="classifier").repurpose(Xs[:20], source_data=(Xs, ys))
    with pytest.warns(UserWarning, match=r"sets of 40 of 40 rows hold every class.*coverage of 0.999. Ask for less"):
        assert repurposer.predict_set(Xs, 0.999).members.all()
    repurposer.density_ratio_ = LogLinearRatio(np.array([9.0, 0, 0, 0]), 0.0)
    with pytest.warns(UserWarning, match="40 source rows have an effective sample size of .*given to conformalize"):
        repurposer.predict_set(Xs, 0.5)
    far = Xs[:1] + np.float32([1e6, 0, 0, 0])
    with pytest.warns(UserWarning, match="sets of 1 of 1 rows hold every class"):
        assert repurposer.predict_set(far, 0.5).members.all()


def test_labelled_rows_of_the_target_judge_sets_as_soon_as_there_are_some() -> None:
    (Xs, ys), _ = two_domains()
    X, y = Xs[:20] + np.float32(0.1), ys[:20]
    repurposer = quick(ImportanceWeightedRepurposer).repurpose(X, source_data=(Xs, ys)).conformalize(X, y)
    assert [(head is repurposer, rows.weights) for head, rows in repurposer._heads_with_unseen_rows()] == [(True, None)]
    assert (repurposer._own_weights(X) == 1).all()
    assert repurposer.unfamiliarity_p_value(X).min() > 0
    assert not hasattr(repurposer.repurpose(X, y, source_data=(Xs, ys)), "density_ratio_")
    assert sum(len(rows) for _, rows in repurposer._heads_with_unseen_rows()) == 20
