import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repurpose import LrRepurposer, NeuralNetworkFineTuneRepurposer, load
from repurpose.seeding import rng_at_prediction, seed_at_prediction
from tests.repurpose.examples import DrawingRepurposer, blobs, identity_network, small_network


def drawing(random_state: Any) -> DrawingRepurposer:
    return DrawingRepurposer(identity_network(), ["0"], c=1.0, random_state=random_state)


def test_an_integer_is_its_own_seed_before_and_after_training() -> None:
    repurposer = drawing(7).repurpose(*blobs())
    assert seed_at_prediction(repurposer) == 7
    assert not hasattr(repurposer, "prediction_seed_")
    expected = np.random.RandomState(7).randint(1000)
    assert [rng_at_prediction(repurposer).randint(1000) for _ in range(2)] == [expected, expected]
    assert seed_at_prediction(repurposer.set_params(random_state=8)) == 8


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(3)])
def test_any_other_chance_is_settled_by_training_and_no_generator_is_moved_on_by_that(random_state: Any) -> None:
    X, y = blobs()
    generator = random_state or np.random.mtrand._rand
    before = generator.get_state()[2]
    repurposer = drawing(random_state).repurpose(X, y)
    draws, p_values = repurposer.predict_samples(X, 3), repurposer.unfamiliarity_p_value(X)
    assert generator.get_state()[2] == before
    generator.randint(10)
    assert np.array_equal(repurposer.predict_samples(X, 3), draws)
    del repurposer.folds_
    assert np.array_equal(repurposer.unfamiliarity_p_value(X), p_values)
    assert drawing(random_state).repurpose(X, y).prediction_seed_ != repurposer.prediction_seed_


def test_a_file_of_a_version_that_kept_no_seed_gives_the_same_each_time(tmp_path: Path) -> None:
    X, y = blobs()
    drawing(None).repurpose(X, y).save_repurposer(tmp_path / "saved")
    plan = json.loads((tmp_path / "saved" / "repurposer.json").read_text())
    del plan["fitted"]["prediction_seed_"]
    (tmp_path / "saved" / "repurposer.json").write_text(json.dumps(plan))
    first, second = (load(tmp_path / "saved", identity_network()) for _ in range(2))
    assert np.array_equal(first.unfamiliarity_p_value(X), second.unfamiliarity_p_value(X))
    assert np.array_equal(first.predict_samples(X, 3), second.predict_samples(X, 3))


def test_a_training_that_is_gone_on_with_keeps_its_seed(tmp_path: Path) -> None:
    options = {"num_epochs": 1, "checkpoint_dir": tmp_path}
    first, second = (
        NeuralNetworkFineTuneRepurposer(small_network(), "2", **options).repurpose(*blobs()) for _ in range(2)
    )
    assert first.prediction_seed_ == second.prediction_seed_


def test_folds_follow_the_seed() -> None:
    X, y = blobs()
    found = [LrRepurposer(identity_network(), ["0"], c=1.0, random_state=s).repurpose(X, y) for s in (0, 0, 1)]
    first, again, other = (each.unfamiliarity_p_value(X) for each in found)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
