"""Minibatches in turn teach what all rows at once do; what cannot be learned in turn is refused."""

from pathlib import Path

import numpy as np
import pytest

from model_handler import Features
from repurpose import BnnRepurposer, LaplaceRepurposer, LrRepurposer, load
from tests.repurpose.meta_model.sharded.examples import NETWORK, InShards, log_loss, simulated

MINIBATCHES = [slice(start, start + 60) for start in range(0, 600, 60)]
CLASSES = [0, 1, 2]


def streamed(
    train: Features, repurposer: LrRepurposer | None = None, weights: np.ndarray | None = None
) -> LrRepurposer:
    repurposer = LrRepurposer(NETWORK, c=0.1) if repurposer is None else repurposer
    for rows in MINIBATCHES:
        of_rows = None if weights is None else weights[rows]
        repurposer.partial_fit(train[rows], classes=np.unique(train.labels), sample_weight=of_rows)
    return repurposer


@pytest.fixture
def few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repurpose.meta_model.sharded.minibatches.N_IN_MEMORY", 200)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_as_long_as_all_rows_are_kept_the_fit_is_that_of_all_of_them(n_classes: int) -> None:
    train, test = simulated(n_classes)
    weights = np.random.RandomState(0).randint(3, size=len(train))
    whole = LrRepurposer(NETWORK, c=0.1).repurpose(train, sample_weight=weights)
    found = streamed(train, weights=weights)
    np.testing.assert_allclose(found.predict_probability(test), whole.predict_probability(test), atol=1e-2)
    assert found.n_rows_seen_ == len(found.training_codes_) == (weights > 0).sum()
    assert found.predict_set(test).members.shape == (300, n_classes)


@pytest.mark.usefixtures("few_are_kept")
@pytest.mark.parametrize("n_classes", [2, 4])
def test_rows_that_are_no_longer_kept_go_on_counting(n_classes: int) -> None:
    train, test = simulated(n_classes)
    loss_of = lambda head: log_loss(head.predict_probability(test), test.labels)  # noqa: E731
    exact = loss_of(LrRepurposer(NETWORK, c=0.1).repurpose(train))
    found = streamed(train)
    assert (found.n_rows_seen_, found.folded_.count) == (600, 600 - len(found.training_codes_))
    assert len(found.training_codes_) <= 200
    recent = LrRepurposer(NETWORK, c=0.1).repurpose(train[-len(found.training_codes_) :])
    assert abs(loss_of(found) - exact) < (loss_of(recent) - exact) / 4  # folding 100 rows at a time, not 10,000


@pytest.mark.usefixtures("few_are_kept")
def test_what_was_learned_is_saved_and_goes_on_after_loading(tmp_path: Path) -> None:
    train, test = simulated()
    first = LrRepurposer(NETWORK, c=0.1, random_state=0)
    for rows in MINIBATCHES[:-1]:
        first.partial_fit(train[rows], classes=CLASSES)
    first.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=NETWORK)
    for repurposer in (first, loaded):
        repurposer.partial_fit(train[MINIBATCHES[-1]])
    np.testing.assert_array_equal(loaded.predict_probability(test), first.predict_probability(test))
    again = streamed(train, LrRepurposer(NETWORK, c=0.1, random_state=0))
    np.testing.assert_array_equal(again.predict_probability(test), first.predict_probability(test))
    with pytest.raises(ValueError, match="learned from 600 rows"):
        first.add(test)


def test_it_goes_on_from_the_rows_of_repurpose() -> None:
    train, test = simulated()
    repurposer = LrRepurposer(NETWORK, c=0.1).repurpose(train[:400]).conformalize(test)
    repurposer.partial_fit(train[400:])
    whole = LrRepurposer(NETWORK, c=0.1).repurpose(train)
    np.testing.assert_allclose(repurposer.predict_probability(test), whole.predict_probability(test), atol=1e-2)
    assert len(repurposer.training_codes_) == 600
    assert len(repurposer.conformal_codes_) == 300


def test_c_is_chosen_as_rows_double() -> None:
    train, _ = simulated()
    repurposer, chosen_at = LrRepurposer(NETWORK, ["1"], random_state=0), []
    fit = repurposer._fit
    repurposer._fit = lambda *given: chosen_at.append(repurposer.n_rows_seen_) or fit(*given)
    for start in range(0, 160, 20):
        repurposer.partial_fit(train[start : start + 20], classes=CLASSES)
    assert chosen_at == [20, 40, 80, 140]
    assert repurposer.c_ in repurposer.c_scores_


def test_classes_may_come_late_and_rows_one_at_a_time() -> None:
    train, _ = simulated()
    labels = np.array(["ant", "bee", "cat"])[train.labels]
    first = np.flatnonzero(labels == "bee")[:5]
    repurposer = LrRepurposer(NETWORK, ["0"])
    for row in first:
        repurposer.partial_fit(train.values["0"][row : row + 1].repeat(2, 0), labels[[row, row]], ["cat", "ant", "bee"])
    assert repurposer.classes_.tolist() == ["ant", "bee", "cat"]
    assert (repurposer.predict_label(train.values["0"]) == "bee").all()
    with pytest.raises(ValueError, match="of 'ant', 'cat' there are no rows"):
        repurposer.predict_set(train.values["0"])
    repurposer.partial_fit(train.values["0"], labels)
    assert repurposer.score(train.values["0"], labels) > 0.7


def test_bad_minibatches_change_nothing() -> None:
    train, test = simulated()
    repurposer = LrRepurposer(NETWORK, c=0.1)
    with pytest.raises(ValueError, match="the first call of partial_fit needs classes"):
        repurposer.partial_fit(train)
    with pytest.raises(ValueError, match="not among the classes of the first call: 2"):
        repurposer.partial_fit(train, classes=[0, 1])
    repurposer.partial_fit(train[:100], classes=CLASSES)
    before = repurposer.predict_probability(test)
    narrow = Features({"0": train.values["0"][:, :5], "1": train.values["1"]}, train.labels)
    for minibatch, message in (
        (narrow, "expecting"),
        (train[:0], "Found 0 sample"),
        (Features(train.values), "requires y to be passed"),
        (Features(train.values, np.full(600, 7)), "600 of 600 rows have labels .* 7"),
        (Features(train.values, [None] * 600), "missing"),
        (Features({"0": np.full((2, 8), np.nan), "1": np.ones((2, 3))}, [0, 1]), "NaN"),
        (train.select(["0"]), "no layer '1'"),
    ):
        with pytest.raises(ValueError, match=message):
            repurposer.partial_fit(minibatch)
    with pytest.raises(ValueError, match="were \\[0, 1, 2\\] before"):
        repurposer.partial_fit(train, classes=[0, 1, 2, 3])
    with pytest.raises(TypeError, match="one minibatch: give the blocks"):
        repurposer.partial_fit(InShards(train))
    np.testing.assert_array_equal(repurposer.predict_probability(test), before)
    assert repurposer.n_rows_seen_ == 100


def test_parameters_that_need_all_rows_are_refused() -> None:
    train, _ = simulated()
    with pytest.raises(ValueError, match="partial_fit needs names of layers"):
        LrRepurposer(NETWORK, "auto").partial_fit(train, classes=CLASSES)
    with pytest.raises(ValueError, match="give a dict of weights"):
        LrRepurposer(NETWORK, class_weight="balanced").partial_fit(train, classes=CLASSES)
    grouped = LrRepurposer(NETWORK, c=0.1).repurpose(train, groups=np.arange(600) // 2)
    with pytest.raises(ValueError, match="trained with groups"):
        grouped.partial_fit(train)
    assert not hasattr(LaplaceRepurposer(NETWORK), "partial_fit")
    assert not hasattr(BnnRepurposer(NETWORK), "partial_fit")
