from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from repurpose.selection import tune
from tests.repurpose.selection.tuning.heads import CentreRepurposer, blobs, small_network


def test_a_result_says_what_was_chosen_and_what_is_known_of_its_worth() -> None:
    space = {"sharpness": [0.01], "pooling": ["avg"]}
    result = tune(CentreRepurposer(small_network()), blobs(), space=space, budget=1, random_state=0)
    result = replace(result, best_value=-0.5)
    chosen = "TuningResult(sharpness=0.01, pooling='avg'; chosen by neg_log_loss -0.5, the largest of 1 trials, "
    assert repr(result) == chosen + "which is no score; what to expect on new data is not known without nested=5)"
    scored = replace(result, outer_score=-0.625, outer_error=0.05, outer_scores=np.zeros(2))
    assert repr(scored) == chosen + "which is no score; outer score -0.625 +- 0.05)"
    with pytest.raises(FrozenInstanceError):
        result.best_value = 0.0
