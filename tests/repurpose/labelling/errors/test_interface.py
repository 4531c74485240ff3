"""Wrong labels: closed form beside dense algebra without the rows, folds by hand, planted mistakes, and refusals."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from torch import nn

from repurpose import (
    GpRepurposer,
    LrRepurposer,
    NeuralNetworkFineTuneRepurposer,
    Repurposer,
    load,
)
from repurpose.meta_model.gp.calibration import deal_groups
from tests.repurpose.examples import CentroidRepurposer, identity_network


def blobs(seed: int = 0, n: int = 60, spread: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    X, y = make_blobs(n, n_features=6, centers=3, cluster_std=spread, random_state=seed)
    return X.astype(np.float32), y


def flipped(y: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which `n` are another than they were, and which rows these are."""
    rng = np.random.RandomState(seed)
    rows = rng.choice(len(y), n, replace=False)
    wrong = y.copy()
    wrong[rows] = (y[rows] + rng.randint(1, 3, n)) % 3
    return wrong, rows


def gp(**options: object) -> GpRepurposer:
    return GpRepurposer(identity_network(), ["0"], random_state=0, **options)  # type: ignore[arg-type]


def conditioned_without_the_rows(
    repurposer: GpRepurposer, X: np.ndarray, y: np.ndarray, weights: np.ndarray, groups: np.ndarray | None
) -> np.ndarray:
    """Probabilities of each row by the regression on those that were not left out with it, one class after the other.

    Kernel, centre, prior mean and temperature are those of the repurposer: (n_rows, n_classes).
    """
    order, n_classes = np.argsort(y, kind="stable"), y.max() + 1
    rows = repurposer.target_model_.rows.transform(X[order])
    K = repurposer.kernel_.between(rows, rows).numpy()
    alphas = repurposer.alpha_eps_ + (y[order][:, None] == np.arange(n_classes))
    noise = np.log(1 + 1 / alphas)
    targets, noise = np.log(alphas) - noise / 2, noise / weights[order][:, None]
    rng, dealt = np.random.RandomState(0), np.full((5, len(y), n_classes), np.nan)
    for dealing in dealt:
        left_out = deal_groups(np.bincount(y).tolist(), rng, None if groups is None else groups[order])
        for out in (rows.numpy() for rows in left_out):
            kept = np.setdiff1d(np.arange(len(y)), out)
            means, variances = np.empty((2, len(out), n_classes))
            for c in range(n_classes):
                inverse = np.linalg.inv(K[np.ix_(kept, kept)] + np.diag(noise[kept, c]))
                cross = K[np.ix_(out, kept)]
                means[:, c] = repurposer.prior_mean_ + cross @ inverse @ (targets[kept, c] - repurposer.prior_mean_)
                variances[:, c] = K[out, out] - np.sum(cross @ inverse * cross, axis=1)
            scale = np.sqrt(1 + np.pi / 8 * repurposer.variance_factor_ * variances.mean(axis=1, keepdims=True))
            dealing[out] = softmax(means / scale / repurposer.temperature_, axis=1)
    found = np.empty((len(y), n_classes))
    found[order] = dealt.mean(axis=0)
    return found


@pytest.mark.parametrize("given", ["", "weights", "groups", "weights and groups"])
def test_the_closed_form_is_the_process_conditioned_on_the_rows_that_are_left(given: str) -> None:
    X, y = blobs(n=40)
    y, _ = flipped(y, 4, seed=1)
    rng = np.random.RandomState(2)
    weights = rng.uniform(0.3, 4, len(y)) if "weights" in given else None
    groups = rng.randint(15, size=len(y)) if "groups" in given else None
    repurposer = gp().repurpose((X, y), sample_weight=weights, groups=groups)
    table = repurposer.find_label_errors()
    each = np.ones(len(y)) if weights is None else weights
    expected = conditioned_without_the_rows(repurposer, X, y, each, groups)
    rows = table["row"].to_numpy()
    assert sorted(rows) == list(range(40))
    assert table["probability"].to_numpy() == pytest.approx(expected[rows, y[rows]], rel=1e-6)
    assert (table["suggested"] == expected[rows].argmax(axis=1)).all()
    assert (np.diff(table["probability"]) >= 0).all()
    assert table.attrs == {"judged_by": "closed form", "not_judged": []}


@pytest.mark.parametrize("seed", range(4))
def test_planted_mistakes_come_first_with_the_labels_that_were_right(seed: int) -> None:
    X, y = blobs(seed, spread=0.7)
    wrong, rows = flipped(y, 5, seed)
    # By c=1 logistic regression bends towards the wrong labels, and finds four or five of the five.
    for repurposer in (gp(), LrRepurposer(identity_network(), ["0"], c=0.01, random_state=0)):
        worst = repurposer.repurpose((X, wrong)).find_label_errors()[:5]
        assert set(worst["row"]) == set(rows)
        assert (worst["given"] == wrong[worst["row"]]).all()
        assert (worst["suggested"] == y[worst["row"]]).all()


def test_two_rows_a_class_are_enough_and_the_wrong_one_is_found() -> None:
    X = np.array([[9, 0, 0], [8, 0, 0], [0, 9, 0], [0, 8, 0], [0, 0, 9], [0, 0, 8], [0, 9, 1]], dtype=np.float32)
    y = np.array(["a", "a", "b", "b", "c", "c", "a"])
    table = gp().repurpose((X, y)).find_label_errors()
    assert [table[name][0] for name in ("row", "given", "suggested")] == [6, "a", "b"]
    assert len(table) == 7


def test_the_share_of_false_alarms_is_about_what_it_is_estimated_to_be() -> None:
    called = wrongly_called = estimated = 0.0
    for seed in range(5):
        X, y = blobs(seed, n=60, spread=3.0)
        y, rows = flipped(y, 10, seed)
        worst = gp().repurpose((X, y)).find_label_errors()[:12]
        called += len(worst)
        wrongly_called += (~worst["row"].isin(rows)).sum()
        estimated += worst["estimated_false_alarms"].iloc[-1] * len(worst)
    assert estimated / called == pytest.approx(wrongly_called / called, abs=0.15)


def test_folds_judge_each_row_once_by_the_head_that_was_trained_without_it() -> None:
    X, y = blobs(n=33)
    y, _ = flipped(y, 4, seed=0)
    repurposer = LrRepurposer(identity_network(), ["0"], c=1.0, random_state=0).repurpose((X, y))
    table = repurposer.find_label_errors()
    assert sorted(table["row"]) == list(range(33))
    assert table.attrs["judged_by"] == "folds"
    expected = np.empty(33)
    for fold in range(5):
        out = repurposer.folds_ == fold
        head = LrRepurposer(identity_network(), ["0"], c=1.0, random_state=0).repurpose((X[~out], y[~out]))
        expected[out] = head.predict_probability(X[out])[np.arange(out.sum()), y[out]]
    assert table["probability"].to_numpy() == pytest.approx(expected[table["row"]], rel=1e-6)


def test_rows_of_a_group_are_left_out_together() -> None:
    X, y = blobs(n=30)
    X, y, groups = np.repeat(X, 2, axis=0), np.repeat(y, 2), np.repeat(np.arange(30), 2)
    y[:2] = (y[:2] + 1) % 3  # a pair that is wrong alike: each would vouch for the other
    for repurposer in (gp(), LrRepurposer(identity_network(), ["0"], c=1.0, random_state=0)):
        table = repurposer.repurpose((X, y), groups=groups).find_label_errors()
        assert set(table["row"][:2]) == {0, 1}
        assert table["probability"][0] == pytest.approx(table["probability"][1])


def test_with_inducing_points_folds_judge() -> None:
    X, y = blobs()
    assert gp(n_inducing=10).repurpose((X, y)).find_label_errors().attrs["judged_by"] == "folds"


@pytest.mark.parametrize("kind", [GpRepurposer, LrRepurposer])
def test_the_only_row_of_a_class_cannot_be_judged_which_is_said(kind: type[Repurposer]) -> None:
    X, y = blobs(n=20)
    names = np.array(["ant", "bee", "cat"])[y]
    names[7] = "dog"
    repurposer = kind(identity_network(), ["0"], random_state=0, **({"c": 1.0} if kind is LrRepurposer else {}))
    repurposer.repurpose((X, names))
    with pytest.warns(UserWarning, match=r"only row of a class cannot be judged.*: row 7 \(dog\); give another row"):
        table = repurposer.find_label_errors()
    assert sorted(table["row"]) == [row for row in range(20) if row != 7]
    assert table.attrs["not_judged"] == [7]


def test_a_group_that_has_all_of_a_class_cannot_be_judged_which_is_said() -> None:
    X, y = blobs(n=20)
    groups = np.where(y == 1, 0, np.arange(20) + 1)
    with pytest.warns(UserWarning, match="all rows of 1 are of one group"):
        repurposer = gp().repurpose((X, y), groups=groups)
    with pytest.warns(UserWarning, match=r"whose group is, the only one of a class .* \(1\) and"):
        table = repurposer.find_label_errors()
    assert table.attrs["not_judged"] == np.flatnonzero(y == 1).tolist()
    assert 1 not in set(table["given"])


@pytest.mark.parametrize("kind", [GpRepurposer, LrRepurposer])
def test_where_no_class_has_two_rows_nothing_is_judged(kind: type[Repurposer]) -> None:
    X, _ = blobs()
    repurposer = kind(identity_network(), ["0"], **({"c": 1.0} if kind is LrRepurposer else {}))
    repurposer.repurpose((X[:3], [0, 1, 2]))
    with pytest.raises(ValueError, match=r"no class has two examples, so that no label can be judged; .*\(data\)"):
        repurposer.find_label_errors()


def test_other_rows_are_judged_by_the_whole_head() -> None:
    X, y = blobs(n=60)
    given, _ = flipped(y[40:], 3, seed=0)
    repurposer = gp().repurpose((X[:40], y[:40]))
    table = repurposer.find_label_errors((X[40:], given))
    probabilities = repurposer.predict_probability(X[40:])
    expected = probabilities[np.arange(20), given]
    assert table["row"].tolist() == np.argsort(expected, kind="stable").tolist()
    assert table["probability"].tolist() == np.sort(expected).tolist()
    assert (table["suggested"] == probabilities.argmax(axis=1)[table["row"]]).all()
    assert table.attrs == {"judged_by": "head", "not_judged": []}
    assert repurposer.find_label_errors(X[40:], given).equals(table)


def test_rows_of_training_among_other_rows_are_told_of() -> None:
    X, y = blobs()
    repurposer = gp().repurpose((X[:40], y[:40]))
    with pytest.warns(UserWarning, match="10 of 30 rows were used in training.*leave data out"):
        repurposer.find_label_errors((X[30:], y[30:]))


def test_a_calibrated_head_judges_by_calibrated_probabilities() -> None:
    X, y = blobs(n=90)
    repurposer = gp().repurpose((X[:40], y[:40]))
    before = repurposer.find_label_errors().sort_values("row")["probability"].to_numpy()
    repurposer.calibrate(X[40:], flipped(y[40:], 20, seed=0)[0])
    after = repurposer.find_label_errors().sort_values("row")["probability"].to_numpy()
    assert repurposer.calibration_.temperature > 1.2
    assert after.max() < before.max()
    assert repurposer.find_label_errors((X[40:], y[40:]))["probability"].max() < 1


def test_a_loaded_repurposer_gives_the_same_table(tmp_path: Path) -> None:
    X, y = blobs()
    for repurposer in (gp(), LrRepurposer(identity_network(), ["0"], c=1.0)):
        table = repurposer.repurpose((X, y)).find_label_errors()
        repurposer.save_repurposer(tmp_path / "saved")
        assert load(tmp_path / "saved", source_model=identity_network()).find_label_errors().equals(table)


def test_without_pandas_the_table_shows_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = blobs()
    repurposer = gp().repurpose((X, y))
    expected = repurposer.find_label_errors()
    monkeypatch.setitem(sys.modules, "pandas", None)
    table = repurposer.find_label_errors()
    assert table.to_dict("records") == expected.to_dict("records")
    assert table.columns == ["row", "given", "suggested", "probability", "estimated_false_alarms"]


def test_what_cannot_be_judged_is_refused_with_what_to_do() -> None:
    X, y = blobs()
    with pytest.raises(NotFittedError):
        gp().find_label_errors()
    repurposer = gp().repurpose((X, y))
    with pytest.raises(ValueError, match="leave y out"):
        repurposer.find_label_errors(y=y)
    with pytest.raises(ValueError, match=r"never seen in training: 7 \(1 rows; nearest.*misspelt"):
        repurposer.find_label_errors((X[:2], [0, 7]))
    with pytest.raises(ValueError, match="labels"):
        repurposer.find_label_errors(X)
    with pytest.raises(ValueError, match=r"no rows|empty|no samples|0 rows"):
        repurposer.find_label_errors((X[:0], y[:0]))
    with pytest.raises(ValueError, match="feature"):
        repurposer.find_label_errors((X[:, :4], y))
    del repurposer.training_features_
    with pytest.raises(ValueError, match="has no training_features_"):
        repurposer.find_label_errors()
    with pytest.raises(NotImplementedError, match="has no probabilities"):
        CentroidRepurposer(identity_network(), ["0"]).repurpose((X, y)).find_label_errors()


def test_a_trained_network_judges_other_rows_alone() -> None:
    X, y = blobs()
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    repurposer = NeuralNetworkFineTuneRepurposer(network, transfer_layer_name="1", num_epochs=1, random_state=0)
    repurposer.repurpose((X[:40], y[:40]))
    with pytest.raises(ValueError, match="give rows that were not used in training"):
        repurposer.find_label_errors()
    table = repurposer.find_label_errors((X[40:], y[40:]))
    assert sorted(table["row"]) == list(range(20))
