import numpy as np
import pytest

from repurpose.detection.evaluation.resampling import intervals_of

VALUES = np.array([0.2, 0.4, 0.6, 0.8] * 10)


def mean_of_images(weights: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "mean": np.array(VALUES @ weights / weights.sum()),
        "pair": np.array([VALUES @ weights / weights.sum(), np.nan]),
    }


def test_the_interval_of_a_mean_is_about_that_of_its_standard_error() -> None:
    telling = {"mean": np.array(40), "pair": np.array([40, 0])}
    intervals, methods = intervals_of(mean_of_images, mean_of_images(np.ones(40)), telling, 40, 2000, 0)
    error = 1.96 * VALUES.std() / np.sqrt(40)
    assert intervals["mean"] == pytest.approx([0.5 - error, 0.5 + error], abs=0.01)
    assert intervals["pair"].shape == (2, 2)
    assert np.isnan(intervals["pair"][1]).all()
    assert methods["mean"] == "bootstrap of images"


def test_draws_without_a_value_are_left_out() -> None:
    def first_image(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"first": np.array(weights[1] / weights[:2].sum() if weights[0] else np.nan)}

    values = first_image(np.ones(5))
    intervals, _ = intervals_of(first_image, values, {"first": np.array(5)}, 5, 200, 0)
    assert 0 <= intervals["first"][0] < 0.5 < intervals["first"][1] <= 1


def test_all_draws_alike_leave_what_may_be_unseen() -> None:
    values = {"a": np.array(1.0), "b": np.array(0.0), "c": np.array(1.0)}
    telling = {"a": np.array(10), "b": np.array(10), "c": np.array(1)}
    intervals, methods = intervals_of(lambda weights: values, values, telling, 10, 20, 0)
    unseen = 1 - 0.025 ** (1 / 10)
    assert intervals["a"] == pytest.approx([1 - unseen, 1])
    assert intervals["b"] == pytest.approx([0, unseen])
    assert intervals["c"].tolist() == [0, 1]
    assert methods == {
        "a": "images agree: Clopper-Pearson",
        "b": "images agree: Clopper-Pearson",
        "c": "nothing: a single image",
    }
