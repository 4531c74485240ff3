import numpy as np
import pytest

from repurpose.uncertainty.evaluation import Answers, evaluate_answers


def answers(n_samples: int = 300, seed: int = 0) -> Answers:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet([1, 1, 1], size=n_samples)
    codes = (probabilities.cumsum(axis=1) < rng.random((n_samples, 1)) * 0.999).sum(axis=1)
    members = probabilities > 0.1
    strange = rng.normal(1, 1, size=80)
    return Answers(codes, probabilities.argmax(axis=1), probabilities, members, rng.normal(size=n_samples), strange)


def evaluate(given: Answers, n_bootstrap: int = 40):  # type: ignore[no-untyped-def]
    rng = np.random.RandomState(0)
    names = ["a", "b", "c"]
    return evaluate_answers(given, class_names=names, wanted_coverage=0.9, n_bootstrap=n_bootstrap, random_state=rng)


def test_it_prints_as_a_table_of_what_is_known() -> None:
    text, page = repr(evaluate(answers())), evaluate(answers())._repr_html_()
    for title in ("accuracy", "log loss", "ECE", "AURC", "coverage of sets (asked: 0.9)", "AUROC", "FPR95"):
        assert title in text
        assert title in page
    assert text.splitlines()[0] == "Evaluation on 300 rows, 80 unfamiliar inputs"
    assert "95 % interval" in text
    assert "Clopper-Pearson" in text.splitlines()[2]
    assert "bootstrap" in text.splitlines()[3]
    assert "recall" in text
    assert page.count("<table>") == 3


def test_what_is_not_known_is_none_and_left_out() -> None:
    evaluation = evaluate(Answers(np.array([0, 1, 1]), np.array([0, 1, 0])))
    assert evaluation.accuracy == pytest.approx(2 / 3)
    assert (evaluation.log_loss, evaluation.ece, evaluation.set_size, evaluation.auroc) == (None,) * 4
    assert list(evaluation.intervals) == ["accuracy"]
    assert "log loss" not in repr(evaluation)


def test_intervals_are_as_wide_as_the_spread_over_other_data() -> None:
    evaluation = evaluate(answers(), n_bootstrap=300)
    others = [evaluate(answers(seed=seed), n_bootstrap=1) for seed in range(1, 201)]
    for name in ("accuracy", "log_loss", "brier", "ece", "classwise_ece", "aurc", "set_coverage", "auroc"):
        low, high = evaluation.intervals[name]
        spread = np.ptp(np.percentile([getattr(other, name) for other in others], [2.5, 97.5]))
        assert 0.6 < (high - low) / spread < 1.6, name
        assert low <= getattr(evaluation, name) <= high


def test_the_same_random_state_gives_the_same_intervals() -> None:
    assert evaluate(answers()).intervals == evaluate(answers()).intervals


def test_intervals_stay_within_what_a_measure_can_be() -> None:
    rows = np.arange(2)
    few = Answers(rows, np.zeros(2, int), np.array([[0.9, 0.1], [0.8, 0.2]]), np.eye(2, dtype=bool), rows, rows + 0.5)
    evaluation = evaluate(few, n_bootstrap=200)
    for name, (low, high) in evaluation.intervals.items():
        most = {"log_loss": np.inf, "brier": 2, "set_size": 3}.get(name, 1)
        assert 0 <= low <= getattr(evaluation, name) <= high <= most, name


def test_thirty_of_thirty_is_no_certainty() -> None:
    rows, strange = np.arange(30), np.linspace(100, 101, 30)
    sure = np.full((30, 3), 0.1) + 0.7 * np.eye(3)[rows % 3]
    right = Answers(rows % 3, rows % 3, sure, np.eye(3, dtype=bool)[rows % 3], rows / 30, strange)
    intervals = evaluate(right, n_bootstrap=500).intervals
    unseen = 1 - 0.025 ** (1 / 30)  # thirty rows without an error are likely enough up to this rate of errors
    assert intervals["accuracy"] == pytest.approx((1 - unseen, 1))
    assert intervals["set_coverage"] == pytest.approx((1 - unseen, 1))
    assert intervals["aurc"] == pytest.approx((0, unseen))
    assert intervals["set_size"] == pytest.approx((1 - unseen, 1 + 2 * unseen))
    assert 0.85 < intervals["auroc"][0] < 0.95
    assert intervals["auroc"][1] == 1
    assert intervals["fpr95"] == pytest.approx((0, unseen), abs=0.02)  # drawn
    wrong = Answers(rows % 3, (rows + 1) % 3, np.roll(sure, 1, axis=1))
    assert evaluate(wrong).intervals["accuracy"] == pytest.approx((0, unseen))
    # Of infinitely many rows the share `unseen` is right and surest: the error rate of the k surest is 1 - unseen / k.
    shares = np.linspace(0, 1, 100001)[1:]
    least = np.maximum(1 - unseen / shares, 0).mean()
    assert evaluate(wrong).intervals["aurc"] == pytest.approx((least, 1), abs=1e-3)


def test_a_single_row_tells_nothing_of_means() -> None:
    evaluation = evaluate(Answers(np.array([1]), np.array([1]), np.array([[0.2, 0.7, 0.1]])))
    assert evaluation.intervals["log_loss"] == (0, np.inf)
    assert evaluation.intervals["brier"] == (0, 2)
    assert evaluation.intervals["ece"] == (0, 1)
    assert evaluation.intervals["accuracy"] == pytest.approx((0.025, 1))
    assert repr(evaluation).startswith("Evaluation on 1 row\n")
    assert "nothing: a single row" in repr(evaluation)


def test_a_rare_class_that_is_never_recognised_is_seen() -> None:
    codes = np.repeat([0, 1, 2], [95, 5, 0])
    evaluation = evaluate(Answers(codes, np.zeros(100, int)))
    assert evaluation.accuracy == 0.95
    assert evaluation.per_class.recall[:2].tolist() == [1, 0]
    rows = {line.split()[0]: line.split() for line in repr(evaluation).splitlines() if line[:2] in ("a ", "b ", "c ")}
    assert rows["b"] == ["b", "5", "0", "0"]  # in the confusion table, the last: five rows of b, all taken for a
