from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from repurpose import load
from repurpose.domain import LwfRepurposer
from tests.repurpose.examples import blobs, small_network

NAMES = ["x", "y", "z"]


def both(**options: Any) -> LwfRepurposer:
    quick = {"num_epochs": 2, "random_state": 0, "source_classes": NAMES}
    return LwfRepurposer(small_network(), **{**quick, **options}).repurpose(*blobs(40, n_classes=2))


def test_each_task_is_answered_by_its_head() -> None:
    repurposer, (X, _) = both(), blobs(seed=3)
    with torch.no_grad():
        output = repurposer.target_model_(torch.from_numpy(X))
    expected = {"target": softmax(output["logits"].numpy(), 1), "source": softmax(output["source_logits"].numpy(), 1)}
    for task, classes in (("target", repurposer.classes_), ("source", np.array(NAMES))):
        np.testing.assert_allclose(repurposer.predict_probability(X, task=task), expected[task], atol=1e-6)
        assert np.array_equal(repurposer.predict_label(X, task=task), classes[expected[task].argmax(1)])
    assert np.array_equal(repurposer.predict_probability(X), repurposer.predict_proba(X))
    assert np.array_equal(repurposer.predict_label(X), repurposer.predict(X))


def test_members_answer_the_source_by_their_mean() -> None:
    repurposer, (X, _) = both(num_members=2), blobs(seed=3)
    with torch.no_grad():
        logits = [member(torch.from_numpy(X))["source_logits"].numpy() for member in repurposer.target_model_.members]
    assert np.abs(logits[0] - logits[1]).max() > 1e-6
    expected = np.mean([softmax(rows, 1) for rows in logits], axis=0)
    np.testing.assert_allclose(repurposer.predict_probability(X, task="source"), expected, atol=1e-6)


def test_who_is_not_sure_of_the_source_says_none() -> None:
    repurposer, (X, _) = both(), blobs(seed=3)
    sure = repurposer.predict_probability(X, task="source").max(axis=1) >= 0.5
    labels = repurposer.predict_label(X, abstain_below=0.5, task="source")
    assert 0 < sure.sum() < len(X)
    assert np.array_equal(labels[sure], repurposer.predict_label(X, task="source")[sure])
    assert set(labels[~sure]) == {None}
    with pytest.raises(ValueError, match="abstain_below is a probability"):
        repurposer.predict_label(X, abstain_below=2, task="source")


def test_what_cannot_be_asked_is_refused() -> None:
    repurposer, (X, _) = both(), blobs(seed=3)
    for ask in (repurposer.predict_label, repurposer.predict_probability):
        with pytest.raises(ValueError, match="task must be \"target\" or \"source\", got 'sorce'; nearest: 'source'"):
            ask(X, task="sorce")
        with pytest.raises(ValueError, match="X has 3 features"):
            ask(X[:, :3], task="source")
        with pytest.raises(TypeError, match="give the data itself"):
            ask(repurposer.features_to_judge(X), task="source")


def test_both_tasks_are_loaded_and_a_file_that_lost_a_class_is_refused(tmp_path: Any) -> None:
    repurposer, (X, _) = both(), blobs(seed=3)
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=small_network())
    for task in ("target", "source"):
        assert np.array_equal(loaded.predict_label(X, task=task), repurposer.predict_label(X, task=task))
        assert np.array_equal(loaded.predict_probability(X, task=task), repurposer.predict_probability(X, task=task))
    repurposer.source_classes_ = repurposer.source_classes_[:2]
    repurposer.source_classes = None
    repurposer.save_repurposer(tmp_path / "saved")
    with pytest.raises(ValueError, match="2 classes of the source, and a head of 3 outputs"):
        load(tmp_path / "saved", source_model=small_network())
