import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from repurpose.uncertainty import metrics


def answers(n_samples: int = 200, n_classes: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, codes, whether the prediction is right, and weights as the bootstrap draws them."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(n_classes, 0.5), size=n_samples)
    codes = (probabilities.cumsum(axis=1) < rng.random((n_samples, 1)) * 0.999).sum(axis=1)
    weights = np.bincount(rng.integers(n_samples, size=n_samples), minlength=n_samples)
    return probabilities, codes, (probabilities.argmax(axis=1) == codes).astype(float), weights


def test_losses_equal_those_of_scikit_learn() -> None:
    probabilities, codes, hits, weights = answers()
    assert np.mean(metrics.log_losses(probabilities, codes)) == pytest.approx(log_loss(codes, probabilities))
    weighted = np.average(metrics.log_losses(probabilities, codes), weights=weights)
    assert weighted == pytest.approx(log_loss(codes, probabilities, sample_weight=weights))
    assert hits.mean() == accuracy_score(codes, probabilities.argmax(axis=1))
    by_class = sum(brier_score_loss(codes == code, probabilities[:, code]) for code in range(4))
    assert metrics.brier_losses(probabilities, codes).mean() == pytest.approx(by_class)


def test_a_probability_of_zero_costs_much_and_not_infinitely_much() -> None:
    assert metrics.log_losses(np.array([[1.0, 0.0]]), np.array([1]))[0] == pytest.approx(36.04, abs=0.01)


def slow_error(confidences: np.ndarray, hits: np.ndarray) -> float:
    total = 0.0
    for b in range(15):
        inside = [i for i, c in enumerate(confidences) if b / 15 <= c < (b + 1) / 15 or (b == 14 and c == 1)]
        if inside:
            total += len(inside) * abs(np.mean(confidences[inside]) - np.mean(hits[inside]))
    return total / len(confidences)


def test_calibration_errors_equal_a_slow_count_and_torchmetrics() -> None:
    probabilities, codes, hits, weights = answers()
    confidences = probabilities.max(axis=1)
    ones = np.ones(200)
    assert metrics.calibration_error(confidences, hits, ones) == pytest.approx(slow_error(confidences, hits))
    by_class = [slow_error(probabilities[:, code], (codes == code).astype(float)) for code in range(4)]
    assert metrics.classwise_calibration_error(probabilities, codes, ones) == pytest.approx(np.mean(by_class))
    drawn = np.repeat(np.arange(200), weights)
    expected = slow_error(confidences[drawn], hits[drawn])
    assert metrics.calibration_error(confidences, hits, weights) == pytest.approx(expected)
    expected = metrics.classwise_calibration_error(probabilities[drawn], codes[drawn], ones)
    assert metrics.classwise_calibration_error(probabilities, codes, weights) == pytest.approx(expected)


def test_calibration_error_equals_that_of_torchmetrics() -> None:
    from torchmetrics.functional.classification import multiclass_calibration_error  # two seconds to import

    probabilities, codes, hits, _ = answers()
    theirs = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(codes), num_classes=4, n_bins=15
    )
    ours = metrics.calibration_error(probabilities.max(axis=1), hits, np.ones(200))
    assert ours == pytest.approx(float(theirs), abs=1e-6)


def test_the_area_under_risk_and_coverage_equals_a_slow_count() -> None:
    probabilities, _, hits, weights = answers()
    confidences, errors = probabilities.max(axis=1), 1 - hits

    def slow(rows: np.ndarray) -> float:
        rows = sorted(rows, key=lambda i: -confidences[i])
        return float(np.mean([np.mean(errors[rows[:k]]) for k in range(1, len(rows) + 1)]))

    assert metrics.area_under_risk_coverage(confidences, errors, np.ones(200)) == pytest.approx(slow(np.arange(200)))
    drawn = np.repeat(np.arange(200), weights)
    assert metrics.area_under_risk_coverage(confidences, errors, weights) == pytest.approx(slow(drawn))


def test_among_equally_confident_rows_the_order_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    confidences, errors = np.round(rng.random(50), 1), (rng.random(50) < 0.4).astype(float)
    found = []
    for _ in range(4000):
        order = rng.permutation(50)
        order = order[np.argsort(-confidences[order], kind="stable")]
        found.append(np.mean(np.cumsum(errors[order]) / np.arange(1, 51)))
    ours = metrics.area_under_risk_coverage(confidences, errors, np.ones(50))
    assert ours == pytest.approx(np.mean(found), abs=4 * np.std(found) / np.sqrt(4000))


def test_auroc_and_fpr95_equal_scikit_learn_and_a_slow_count() -> None:
    rng = np.random.default_rng(0)
    familiar, strange = np.round(rng.normal(size=150), 1), np.round(rng.normal(1, 1, size=60), 1)  # with ties
    auroc, fpr95 = metrics.auroc_and_fpr95(familiar, strange)
    truth = np.repeat([0, 1], [150, 60])
    assert auroc == pytest.approx(roc_auc_score(truth, np.concatenate([familiar, strange])))
    finding = [t for t in np.unique(np.concatenate([familiar, strange])) if np.mean(strange >= t) >= 0.95]
    assert fpr95 == pytest.approx(np.mean(familiar >= max(finding)))
