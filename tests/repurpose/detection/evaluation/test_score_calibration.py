import numpy as np
import pytest
from scipy.special import expit, logit

from repurpose.detection import Detections
from repurpose.detection.evaluation import (
    IsotonicScores,
    Matches,
    PlattScores,
    fit_score_calibration,
    match_detections,
    score_calibration_error,
)
from repurpose.persistence.values.codec import Codec
from repurpose.persistence.values.schema import check_table
from tests.repurpose.detection.scenes import nothing, truth

CAT = ["cat"]


def matches_of(scores: np.ndarray, right: np.ndarray) -> Matches:
    """One image a found box, which is right or lies elsewhere."""
    truths = [truth([[0, 0, 9, 9]], CAT)] * len(scores)
    found = [Detections([[0, 0, 9, 9] if hit else [20, 20, 29, 29]], CAT, [s]) for s, hit in zip(scores, right)]
    return match_detections(found, truths, CAT)


def too_sure(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and right or wrong as often as a straight line in log odds says: .3 x log odds - 1."""
    rng = np.random.RandomState(seed)
    scores = rng.uniform(0.05, 1.0, n)
    return scores, rng.random_sample(n) < expit(0.3 * logit(scores * 0.999) - 1)


def test_from_200_boxes_on_scores_become_the_shares_of_right_boxes() -> None:
    scores, right = too_sure(4000)
    calibration = fit_score_calibration(matches_of(scores[:2000], right[:2000]))
    assert isinstance(calibration, IsotonicScores)
    new_scores, new_right = scores[2000:], right[2000:].astype(float)
    after = score_calibration_error(calibration.apply(new_scores), new_right)
    before = score_calibration_error(new_scores, new_right)
    assert after is not None
    assert before is not None
    assert after < 0.06 < 0.2 < before
    assert (np.diff(calibration.apply(np.linspace(0, 1, 50))) >= 0).all()


def test_below_200_boxes_a_line_in_log_odds_is_found_again() -> None:
    scores, right = too_sure(199)
    calibration = fit_score_calibration(matches_of(scores, right))
    assert isinstance(calibration, PlattScores)
    assert np.allclose(calibration.apply(np.array([0.2, 0.5, 0.8])), expit(0.3 * logit([0.2, 0.5, 0.8]) - 1), atol=0.12)


def test_boxes_that_are_all_right_are_not_taken_for_certain() -> None:
    calibration = fit_score_calibration(matches_of(np.full(8, 0.9), np.ones(8, bool)))
    assert calibration.apply(np.array([0.9]))[0] == pytest.approx(9 / 10, abs=1e-3)  # (8 + 1) / (8 + 2)


def test_scores_that_mislead_are_not_turned_round() -> None:
    scores = np.linspace(0.1, 0.9, 50)
    calibration = fit_score_calibration(matches_of(scores, scores < 0.5))
    assert np.ptp(calibration.apply(scores)) == pytest.approx(0, abs=1e-6)
    many = np.linspace(0.1, 0.9, 300)
    assert np.ptp(fit_score_calibration(matches_of(many, many < 0.5)).apply(many)) < 1e-9


def test_boxes_that_count_as_neither_are_left_out() -> None:
    true = truth([[0, 0, 30, 30]], CAT, [True])
    matches = match_detections([Detections([[0, 0, 9, 9]], CAT, [0.9])], [true], CAT)
    with pytest.raises(ValueError, match="no box that counts was found in 1 images"):
        fit_score_calibration(matches)


def test_without_found_boxes_there_is_nothing_to_calibrate() -> None:
    with pytest.raises(ValueError, match="no box that counts was found"):
        fit_score_calibration(match_detections([nothing()], [truth([], [])], CAT))


def test_scores_of_0_and_1_have_finite_probabilities() -> None:
    calibration = fit_score_calibration(matches_of(np.array([0.0, 1.0, 1.0, 0.5]), np.array([0, 1, 0, 1], bool)))
    assert np.isfinite(calibration.apply(np.array([0.0, 1.0]))).all()


def test_the_error_is_the_mean_distance_in_bins() -> None:
    assert score_calibration_error(np.array([0.9, 0.9, 0.1]), np.array([1.0, 0, 0])) == pytest.approx((0.8 + 0.1) / 3)
    assert score_calibration_error(np.array([]), np.array([])) is None


@pytest.mark.parametrize("n", [100, 400])
def test_a_file_gives_a_calibration_back_to_the_last_bit(n: int) -> None:
    calibration = fit_score_calibration(matches_of(*too_sure(n)))
    check_table(type(calibration)._schema, vars(calibration), {})
    codec = Codec()
    read = codec.decode(codec.encode(calibration, "calibration"))
    scores = np.linspace(0, 1, 30)
    assert type(read) is type(calibration)
    assert (read.apply(scores) == calibration.apply(scores)).all()
