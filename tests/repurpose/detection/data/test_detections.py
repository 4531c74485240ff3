import pickle
from typing import Any

import numpy as np
import pytest
import torch

from repurpose.detection import Detections


def test_the_surest_comes_first_and_ties_keep_their_order() -> None:
    boxes = torch.arange(12).reshape(3, 4).float()
    found = Detections(boxes, ["a", "b", "c"], torch.tensor([0.25, 0.75, 0.25]))
    assert (found.labels.tolist(), found.scores.tolist()) == (["b", "a", "c"], [0.75, 0.25, 0.25])
    assert found.boxes.tolist() == [[4, 5, 6, 7], [0, 1, 2, 3], [8, 9, 10, 11]]
    assert (found.boxes.dtype, found.scores.dtype) == (np.float32, np.float64)
    assert pickle.loads(pickle.dumps(found)).labels.tolist() == ["b", "a", "c"]


def test_what_was_given_is_not_changed() -> None:
    scores, boxes = np.array([0.1, 0.9]), np.zeros((2, 4), np.float32)
    found = Detections(boxes, np.array([1, 2]), scores)
    found.boxes[:] = 5
    assert (scores.tolist(), boxes.max()) == ([0.1, 0.9], 0)


def test_a_score_equal_to_the_least_is_kept() -> None:
    found = Detections(np.zeros((3, 4)), [1, 2, 3], [0.5, 0.05, 0.04])
    assert found.at_least(0.05).labels.tolist() == [1, 2]
    assert len(found.at_least(0.9)) == 0


@pytest.mark.parametrize("empty", [[], np.zeros((0, 4)), torch.zeros(0, 4), torch.zeros(0)])
def test_nothing_found_has_boxes_of_shape_0_4(empty: Any) -> None:
    found = Detections(empty, [], [])
    assert (len(found), found.boxes.shape, found.scores.shape) == (0, (0, 4), (0,))


@pytest.mark.parametrize(
    ("boxes", "labels", "scores", "said"),
    [
        (np.zeros((2, 4)), ["a"], [0.5, 0.5], r"got shapes \(2, 4\), \(1,\) and \(2,\)"),
        (np.zeros((1, 4)), ["a", "b"], [0.5, 0.5], "got shapes"),
        (np.zeros(4), ["a"], [0.5], "got shapes"),
        (np.zeros((1, 4)), ["a"], 0.5, "got shapes"),
        ([[0, 0, 1, np.nan]], ["a"], [0.5], r"box 0 is \[0.0, 0.0, 1.0, nan\]"),
        ([[0, 0, 1, 1]], ["a"], [1.5], "score 0 is 1.5"),
        ([[0, 0, 1, 1]], ["a"], [np.nan], "score 0 is nan"),
        ([[0, 0, 1, 1]], ["a"], [-0.1], "score 0 is -0.1"),
    ],
)
def test_what_does_not_fit_together_is_refused(boxes: Any, labels: Any, scores: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Detections(boxes, labels, scores)
