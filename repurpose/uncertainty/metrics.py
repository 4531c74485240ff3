"""Measures of probabilities are means over rows that may have weights; those of scores are areas and rates.

Weights are what the bootstrap draws (`evaluation`): a row drawn twice weighs two. scikit-learn has the curve behind
AUROC and FPR95; the others are a few lines each, and its own, where it has them, would check their input again for each
of a thousand draws. Tests compare all of them with scikit-learn, torchmetrics or a slow count.
"""

import numpy as np

__all__ = [
    "area_under_risk_coverage",
    "auroc_and_fpr95",
    "brier_losses",
    "calibration_error",
    "classwise_calibration_error",
    "log_losses",
]

N_BINS = 15
_SMALLEST = float(np.finfo(np.float64).eps)  # as in scikit-learn's log_loss


def log_losses(probabilities: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Compute -log p of the true class of each row, in nats: (n_samples,); a probability of 0 costs 36."""
    return -np.log(np.maximum(probabilities[np.arange(len(codes)), codes], _SMALLEST))


def brier_losses(probabilities: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the squared distance of each row of probabilities to the truth, 0 to 2: (n_samples,)."""
    true = probabilities[np.arange(len(codes)), codes]
    return (probabilities**2).sum(axis=1) - true**2 + (1 - true) ** 2


def calibration_error(confidences: np.ndarray, hits: np.ndarray, weights: np.ndarray) -> float:
    """Return how far confidence and accuracy lie apart, on average over 15 bins of confidence of equal width (ECE).

    Naeini, Cooper and Hauskrecht (2015). All arrays are (n_samples,); `hits` is 1 where the prediction was right.
    """
    excess = np.bincount(_bins(confidences), weights * (confidences - hits), minlength=N_BINS)
    return float(np.abs(excess).sum() / weights.sum())


def classwise_calibration_error(probabilities: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> float:
    """Return the calibration error of the probability of each class against its frequency, on average over the classes.

    Kull et al. (2019), arXiv:1910.12656. `probabilities` is (n_samples, n_classes).
    """
    n_classes = probabilities.shape[1]
    cells = _bins(probabilities) + N_BINS * np.arange(n_classes)
    excess = np.bincount(cells.ravel(), (weights[:, None] * probabilities).ravel(), minlength=N_BINS * n_classes)
    true_cells = cells[np.arange(len(codes)), codes]
    excess -= np.bincount(true_cells, weights, minlength=N_BINS * n_classes)
    return float(np.abs(excess).sum() / (weights.sum() * n_classes))


def area_under_risk_coverage(confidences: np.ndarray, errors: np.ndarray, weights: np.ndarray) -> float:
    """Compute the mean error rate of the k most confident rows, over all k (AURC); ties count in any order.

    Geifman, Uziel and El-Yaniv (2019), arXiv:1805.08206. Weights are whole numbers.
    """
    _, groups = np.unique(-confidences, return_inverse=True)  # the most confident first
    counts = np.bincount(groups, weights)
    rates = np.bincount(groups, weights * errors) / np.maximum(counts, 1)
    risks = np.cumsum(np.repeat(rates, counts.astype(np.int64)))
    return float((risks / np.arange(1, len(risks) + 1)).mean())


def auroc_and_fpr95(familiar: np.ndarray, unfamiliar: np.ndarray) -> tuple[float, float]:
    """Return how well scores tell unfamiliar inputs, which should have the larger ones, from familiar ones.

    AUROC is the probability that an unfamiliar input has the larger score. FPR95 is the share of familiar inputs that
    a threshold which finds at least 95 % of the unfamiliar ones takes for unfamiliar too.
    """
    from sklearn.metrics import auc, roc_curve

    truth = np.repeat([0, 1], [len(familiar), len(unfamiliar)])
    false, found, _ = roc_curve(truth, np.concatenate([familiar, unfamiliar]), drop_intermediate=False)
    return float(auc(false, found)), float(false[np.searchsorted(found, 0.95 - 1e-12)])


def _bins(probabilities: np.ndarray) -> np.ndarray:
    return np.minimum((probabilities * N_BINS).astype(np.int64), N_BINS - 1)
