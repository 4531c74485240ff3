import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from repurpose.uncertainty.unfamiliarity import (
    DETECTORS,
    Mahalanobis,
    MixedMahalanobis,
    NearestRows,
    RelativeMahalanobis,
    energy,
)

WIDE, LONG = (30, 80), (200, 12)


def task(shape: tuple[int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(shape[1], shape[1])) / np.sqrt(shape[1])
    codes = np.arange(shape[0]) % 3
    rows = rng.normal(size=shape) @ mixing + rng.normal(size=(3, shape[1]))[codes] + 5
    return rows.astype(np.float32), codes, {"a": np.arange(shape[1])}


def within(rows: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    means = np.array([rows[codes == code].mean(axis=0) for code in np.unique(codes)])
    return means, rows - means[codes]


def distances(rows: np.ndarray, codes: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By explicit inverses: squared distances to the nearest class mean, and to the mean of all by the whole spread."""
    scale = 1 / np.sqrt((within(rows.astype(np.float64), codes)[1] ** 2).sum(axis=1).mean())
    means, centred = within(rows * scale, codes)
    covariance = LedoitWolf(assume_centered=True).fit(centred).covariance_
    center = (rows * scale).mean(axis=0, dtype=np.float64)
    between = np.cov((means - center)[codes].T, bias=True)
    nearest = [min((x - m) @ np.linalg.inv(covariance) @ (x - m) for m in means) for x in new * scale]
    overall = [(x - center) @ np.linalg.inv(covariance + between) @ (x - center) for x in new * scale]
    return np.array(nearest), np.array(overall)


@pytest.mark.parametrize("shape", [WIDE, LONG])
def test_mahalanobis_equals_the_explicit_inverse(shape: tuple[int, int]) -> None:
    rows, codes, columns = task(shape)
    new = task(shape, seed=5)[0]
    expected, _ = distances(rows, codes, new)
    assert np.allclose(Mahalanobis.fit(rows, codes, columns).score(new), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [WIDE, LONG])
def test_relative_mahalanobis_equals_the_explicit_inverses(shape: tuple[int, int]) -> None:
    rows, codes, columns = task(shape)
    new = task(shape, seed=5)[0]
    expected = np.subtract(*distances(rows, codes, new))
    assert np.allclose(RelativeMahalanobis.fit(rows, codes, columns).score(new), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("n_rows", "overall_weight"), [(6, 0), (9, 1 / 3), (30, 1 - 2 / 10), (300, 0.95)])
def test_the_mix_takes_off_more_of_the_second_distance_the_more_rows_a_class_has(
    n_rows: int, overall_weight: float
) -> None:
    rows, codes, columns = task((n_rows, 20))
    new = task((7, 20), seed=5)[0]
    unit, new_unit = (x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True) for x in (rows, new))
    nearest, overall = distances(unit, codes, new_unit)
    expected = nearest - overall_weight * overall + 16 / 20 * distances(rows, codes, new)[0]
    assert np.allclose(MixedMahalanobis.fit(rows, codes, columns).score(new), expected, rtol=1e-3)


@pytest.mark.parametrize("name", list(DETECTORS))
def test_rows_that_do_not_vary_within_their_classes_have_finite_scores(name: str) -> None:
    codes = np.repeat([0, 1, 2], 10)
    noise = 0.5 * np.random.default_rng(0).random((30, 1))
    for rows in (np.eye(3)[codes], 5.0 * np.eye(3)[codes] * np.arange(1, 31)[:, None], codes[:, None] - 1.5 + noise):
        detector = DETECTORS[name].fit(rows.astype(np.float32), codes, {"a": np.arange(rows.shape[1])})
        familiar, strange = detector.score(rows), detector.score(-rows[:1] - 50)
        assert np.isfinite([*familiar, *strange]).all()


def test_the_mix_finds_rows_of_another_length_and_rows_of_another_direction() -> None:
    rows, codes, columns = task(LONG)
    half = len(rows) // 2
    detector = MixedMahalanobis.fit(rows[:half], codes[:half], columns)
    familiar = detector.score(rows[half:])
    turned = rows[half:, ::-1] * np.tile([1, -1], 6)  # as long as before
    for strange in (rows[half:] * 2, rows[half:] / 4, turned):
        assert np.mean(detector.score(strange)[:, None] > familiar) > 0.99


@pytest.mark.parametrize("n_features", [1, 4])
def test_the_mix_of_few_features_is_no_worse_than_the_distance_of_the_rows(n_features: int) -> None:
    rng = np.random.default_rng(0)
    codes, new_codes = np.arange(60) % 3, np.arange(600) % 3
    means = rng.normal(size=(3, n_features))
    train, new = (means[each] + rng.normal(size=(len(each), n_features)) for each in (codes, new_codes))
    strange, is_strange = new[:300] + 4 * np.sign(rng.normal(size=(300, n_features))), np.arange(600) < 300
    rows, layers = np.vstack([strange, new[300:]]), {"a": np.arange(n_features)}
    found = {
        name: roc_auc_score(is_strange, DETECTORS[name].fit(train, codes, layers).score(rows)) for name in DETECTORS
    }
    assert found["mahalanobis"] > 0.9
    assert found["mixed_mahalanobis"] > found["mahalanobis"] - 0.01


def test_the_nearest_row_is_that_of_all_distances_between_rows_of_norm_one() -> None:
    rows, codes, columns = task(WIDE)
    new = task(WIDE, seed=5)[0]
    unit, new_unit = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rows, new))
    expected = cdist(new_unit, unit).min(axis=1)
    assert np.allclose(NearestRows.fit(rows, codes, columns).score(new), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_energy_is_that_of_the_logits_of_a_logistic_regression(n_classes: int) -> None:
    rows = task(LONG)[0].astype(np.float64)  # the logarithm of a small float32 probability has few digits
    model = LogisticRegression(tol=1e-8, max_iter=1000).fit(rows - rows.mean(axis=0), np.arange(200) % n_classes)
    logits = model.decision_function(rows)
    logits = np.stack([-logits / 2, logits / 2], axis=1) if n_classes == 2 else logits
    assert np.allclose(energy(model.predict_proba(rows)), -logsumexp(logits, axis=1), rtol=0, atol=1e-12)
    assert np.isfinite(energy(np.eye(3))).all()


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("shape", [WIDE, LONG])
def test_rows_from_elsewhere_are_stranger(name: str, shape: tuple[int, int]) -> None:
    rows, codes, columns = task(shape)
    half = len(rows) // 2
    detector = DETECTORS[name].fit(rows[:half], codes[:half], columns)
    elsewhere = np.random.default_rng(9).normal(size=(50, shape[1])).astype(np.float32) * 4 - 5
    familiar, strange = detector.score(rows[half:]), detector.score(elsewhere)
    assert np.mean(strange[:, None] > familiar) > 0.9


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize(
    ("rows", "codes"),
    [
        (np.eye(2, 6), [0, 1]),
        (np.ones((4, 6)), [0, 0, 1, 1]),
        (np.zeros((4, 6)), [0, 0, 1, 1]),
        (np.repeat(np.eye(2, 6), 2, axis=0), [0, 0, 1, 1]),
        (np.hstack([np.eye(12, 3), np.ones((12, 3))]), [0, 1, 2] * 4),
        (np.vstack([np.eye(5, 6)] * 2), [0, 1, 2, 3, 4] * 2),
        (np.random.default_rng(0).normal(size=(7, 6)) * 1e8, [0, 0, 0, 1, 1, 1, 2]),
        (np.random.default_rng(0).normal(size=(7, 6)) * 1e-8, [0, 0, 0, 1, 1, 1, 2]),
        (np.random.default_rng(0).normal(size=(7, 6)) * 1e30, [0, 0, 0, 1, 1, 1, 2]),
    ],
    ids=["one each", "constant", "zero", "no spread", "constant columns", "duplicates", "large", "small", "huge"],
)
def test_degenerate_rows_give_finite_scores(name: str, rows: np.ndarray, codes: list[int]) -> None:
    detector = DETECTORS[name].fit(rows.astype(np.float32), np.array(codes), {"a": np.arange(2), "b": np.arange(2, 6)})
    with np.errstate(all="raise"):
        scores = detector.score(np.vstack([rows, rows[::-1] * 2 + 1, np.zeros((1, 6))]).astype(np.float32))
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_the_unit_of_a_layer_does_not_matter(name: str) -> None:
    rows, codes, _ = task(WIDE)
    columns = {"a": np.arange(30), "b": np.arange(30, 80)}
    scale = np.repeat([1000.0, 0.001], [30, 50]).astype(np.float32)
    new = task(WIDE, seed=5)[0]
    expected = DETECTORS[name].fit(rows, codes, columns).score(new)
    assert np.allclose(
        DETECTORS[name].fit(rows * scale, codes, columns).score(new * scale), expected, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("n_features", [4, 100])
@pytest.mark.parametrize("name", DETECTORS)
def test_rows_that_count_several_times_are_as_good_as_repeated(name: str, n_features: int) -> None:
    rng = np.random.default_rng(0)
    rows, codes, weights = rng.normal(size=(30, n_features)), np.arange(30) % 3, rng.integers(1, 4, 30)
    rows += codes[:, None]
    layers, new = {"a": np.arange(2), "b": np.arange(2, n_features)}, rng.normal(size=(9, n_features))
    weighted = DETECTORS[name].fit(rows, codes, layers, weights)
    repeated = DETECTORS[name].fit(rows.repeat(weights, axis=0), codes.repeat(weights), layers)
    np.testing.assert_allclose(weighted.score(new), repeated.score(new), rtol=1e-5, atol=1e-7)
    once = DETECTORS[name].fit(rows, codes, layers)
    assert name == "knn" or not np.allclose(weighted.score(new), once.score(new), rtol=1e-3)
