import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from model_handler.errors import CorruptFileError, FormatVersionError
from model_handler.files.canonical_json import canonical, parse_with_own_hash, with_own_hash
from repurpose import LrRepurposer, Watch, load
from tests.repurpose.labelling.watching.examples import STREAM, X, Y, conformalized, rows, trained, untrained

_NAMES = ["unfamiliarity", "certainty"]


@pytest.mark.parametrize("repurposer", [conformalized, trained])
def test_the_same_stream_however_parted_gives_the_same_state_to_the_last_bit(repurposer) -> None:
    whole, parts = repurposer().watch(), repurposer().watch()
    whole.update(rows(STREAM[:300]))
    for part in np.split(STREAM[:300], [1, 2, 90, 250]):
        parts.update(rows(part))
    assert whole.to_json() == parts.to_json()


def test_a_stream_that_changes_raises_an_alarm_that_stays_until_reset() -> None:
    watch = conformalized().watch()
    assert not watch.update(rows(STREAM[:300]))
    report = watch.update(rows(STREAM[300:400], offset=6.0))
    row = report.alarm_rows["unfamiliarity"]
    assert report
    assert 300 < row < 340
    later = watch.update(rows(STREAM[400:]))
    assert later
    assert later.alarm_rows["unfamiliarity"] == row
    assert later.n_rows == len(STREAM)
    for told in (
        f"row {row}",
        "exchangeable",
        "mix of classes",
        "preprocessing",
        "duplicates",
        "order in time",
        "reset",
    ):
        assert told in later.message
    watch.reset(alpha=0.2)
    assert not watch.report
    assert watch.report.message == ""
    assert watch.alpha == 0.2
    assert not watch.update(rows(STREAM[:200]))


def test_false_alarms_are_rare_where_rows_to_compare_with_and_stream_are_dealt_anew() -> None:
    repurposer, rng, n_false = untrained().repurpose(rows(slice(150))), np.random.default_rng(0), 0
    for seed in range(40):
        order = 150 + rng.permutation(len(X) - 150)
        repurposer.conformalize(rows(order[:40]))
        n_false += bool(repurposer.watch(alpha=0.1, random_state=seed).update(rows(order[40:240])))
    assert n_false <= 8  # 4 are expected at most


def test_a_stream_of_copies_raises_an_alarm() -> None:
    assert conformalized().watch().update(rows(np.repeat(STREAM[:1], 400)))


def test_a_resumed_watch_goes_on_as_one_that_was_never_interrupted(tmp_path: Path) -> None:
    repurposer = untrained().repurpose(rows(slice(150)))
    unbroken = repurposer.watch(alpha=0.05, least_probability=0.2, tolerance=0.01)
    unbroken.update(rows(STREAM[:400]))
    unbroken.update_labelled(rows(STREAM[:50]), probabilities=np.full(50, 0.7))
    unbroken.save(tmp_path / "watch.json")
    assert (tmp_path / "watch.json").stat().st_size < 20_000
    repurposer.save_repurposer(tmp_path / "model")
    again = load(tmp_path / "model", source_model=repurposer.source_model)
    resumed = Watch.load(tmp_path / "watch.json", again)
    assert resumed.to_json() == unbroken.to_json()
    assert repr(resumed) == repr(unbroken)
    for watch in (unbroken, resumed):
        watch.update(rows(STREAM[400:]))
        watch.update_labelled(rows(STREAM[50:90]), probabilities=np.full(40, 0.5))
    assert resumed.to_json() == unbroken.to_json()


def test_the_state_of_a_long_stream_is_small() -> None:
    watch = conformalized().watch(least_probability=0.001)
    for _ in range(4):
        watch.update(rows(np.tile(STREAM, 3)))
    state = json.loads(watch.to_json())
    for found in state["martingales"].values():
        found["stream"] = [10**8 + number for number in found["stream"]]  # as after billions of rows
        found["log_stakes"] = [-123456.78901234567 for _ in found["log_stakes"]]
        found["curve"] = [1000, *([-12345.678] * 128)]
    assert len(canonical(state)) < 20_000


@pytest.mark.parametrize(
    ("method", "calls"),
    [
        ("update", [(np.full((2, 6), np.nan, np.float32),), (np.zeros((2, 5), np.float32),)]),
        (
            "update_labelled",
            [
                (X[:3],),
                ((X[:3], Y[:3]), None, [0.5] * 3),
                (X[:3], [0, 1]),
                (np.full((2, 6), np.nan, np.float32), [0, 1]),
                (X[:3], [0, 1, None]),
            ],
        ),
        ("reset", [(0,), (1.0,), ("1 %",), (True,)]),
    ],
)
def test_what_cannot_be_used_raises_an_error_and_changes_nothing(method: str, calls: list[tuple]) -> None:
    watch = conformalized().watch()
    watch.update(rows(STREAM[:20]))
    before = watch.to_json()
    for given in calls:
        options = {"probabilities": given[2]} if len(given) > 2 else {}
        with pytest.raises(ValueError, match=r"NaN|feature|wide|label|probabilities|alpha|\(6,\)"):
            getattr(watch, method)(*given[:2], **options)
        assert watch.to_json() == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "with which probabilities"),
        ([0.5, 0.5], "3 rows and probabilities has 2"),
        ([0.5, 0.1, 0.5], "from 0.2.* that of row 1 is 0.1"),
        ([0.5, np.nan, 0.5], "that of row 1 is nan"),
        ([0.5, 0.5, 50.0], "that of row 2 is 50"),
        ([[0.5] * 3], "one axis"),
    ],
)
def test_sampling_probabilities_that_cannot_be_used_are_refused(given: object, said: str) -> None:
    watch = conformalized().watch(least_probability=0.2)
    with pytest.raises(ValueError, match=said):
        watch.update_labelled(rows(slice(3)), probabilities=given)


def test_probabilities_in_float32_may_be_the_least_and_one() -> None:
    watch = conformalized().watch(least_probability=0.7)  # 0.69999999 in float32
    assert watch.update_labelled(rows(slice(3)), probabilities=np.float32([0.7, 1.0, 0.8])).n_labelled == 3


def test_a_sample_that_comes_sorted_by_class_has_no_more_errors_than_one_that_is_mixed() -> None:
    n_false = 0
    for seed in range(20):
        watch = conformalized().watch(alpha=0.05, random_state=seed)
        sample = STREAM[np.random.default_rng(seed).permutation(len(STREAM))[:300]]
        wrong = conformalized().predict_label(rows(sample)) != Y[sample]
        # a folder whose first class has all the errors
        n_false += bool(watch.update_labelled(rows(sample[np.argsort(~wrong, kind="stable")])))
    assert n_false <= 3  # 1 is expected at most


def test_known_labels_that_are_spelt_otherwise_are_refused_and_change_nothing() -> None:
    watch = conformalized().watch()
    with pytest.raises(ValueError, match=r"spelt otherwise.*'1' for 1"):
        watch.update_labelled(X[:2], ["1", "1"])
    assert watch.report.n_labelled == 0


def test_no_row_is_lost_where_threads_take_turns() -> None:
    watch = conformalized().watch()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda start: watch.update(rows(STREAM[start : start + 5])), range(0, 100, 5)))
        list(threads.map(lambda start: watch.update_labelled(rows(STREAM[start : start + 5])), range(0, 100, 5)))
    assert (watch.report.n_rows, watch.report.n_labelled) == (100, 100)


def test_what_is_no_text_is_refused() -> None:
    for given in (None, 10**12, {}):
        with pytest.raises(TypeError, match="the text that to_json gave"):
            Watch.from_json(given, conformalized())


def test_a_damaged_or_foreign_state_is_refused(tmp_path: Path) -> None:
    text = conformalized().watch().to_json()
    whole = parse_with_own_hash(text.encode(), "it")
    grid = whole["martingales"]["certainty"]["grid"]
    for wrong in (
        "",
        "{}",
        text[:-1],
        text.replace("0.01", "0.02"),
        "x" * 30_000,
        with_own_hash({"kind": "another"}),
        with_own_hash({"kind": "watch", "format": 1}),
        with_own_hash({**whole, "alpha": 2.0}),
        with_own_hash({**whole, "seed": -1}),
        with_own_hash({**whole, "martingales": {}}),
        with_own_hash(
            {**whole, "martingales": {"certainty": {**whole["martingales"]["certainty"], "grid": grid[::-1]}}}
        ),
        with_own_hash({**whole, "martingales": {"certainty": {**whole["martingales"]["certainty"], "stream": [1]}}}),
        with_own_hash({**whole, "target": {**whole["target"], "errors": [3]}}),
        with_own_hash({**whole, "source": [7]}),
    ):
        (tmp_path / "watch.json").write_text(wrong)
        with pytest.raises(CorruptFileError):
            Watch.load(tmp_path / "watch.json", conformalized())
        with pytest.raises(CorruptFileError):
            Watch.from_json(wrong, conformalized())
    with pytest.raises(FormatVersionError):
        Watch.from_json(with_own_hash({**whole, "format": 2}), conformalized())


def test_a_state_is_resumed_with_the_repurposer_that_was_watched_alone() -> None:
    text = conformalized().watch().to_json()
    Watch.from_json(text, conformalized())
    known = rows(slice(150, 250))
    others = [
        trained(),
        untrained().repurpose(rows(slice(150))).conformalize(rows(slice(150, 249))),
        untrained().repurpose(rows(slice(149))).conformalize(known),
        LrRepurposer(untrained().source_model, ["0"], c=1e-4, random_state=0)  # another head of the same rows
        .repurpose(rows(slice(150)))
        .conformalize(known),
    ]
    for other in others:
        with pytest.raises(ValueError, match="of another repurposer"):
            Watch.from_json(text, other)


def test_a_repurposer_that_learns_something_else_ends_its_watch() -> None:
    for learn in (
        lambda repurposer: repurposer.repurpose(rows(slice(100))),
        lambda repurposer: repurposer.conformalize(rows(slice(200, 300))),
        lambda repurposer: repurposer.calibrate(rows(slice(200, 300))),
        lambda repurposer: repurposer.add(rows(slice(150, 160))),
    ):
        repurposer = untrained().repurpose(rows(slice(150)))
        watch = repurposer.watch()
        watch.update(rows(STREAM[:5]))
        learn(repurposer)
        for call in (watch.update, watch.update_labelled):
            with pytest.raises(ValueError, match=r"call watch\(\) again"):
                call(rows(STREAM[:5]))


def test_labels_tell_of_errors_that_features_do_not_show() -> None:
    watch = conformalized().watch(alpha=0.05)
    same = watch.update_labelled(rows(STREAM[:300]))
    wrong = conformalized().predict_label(rows(STREAM[:300])) != Y[STREAM[:300]]
    assert not same
    assert same.error == pytest.approx(wrong.mean())
    assert same.n_labelled == 300
    assert same.error_lower <= same.error <= same.error_upper
    assert same.error < same.error_allowed
    report = watch.update_labelled(X[STREAM[300:500]], (Y[STREAM[300:500]] + 1) % 3)
    assert 300 < report.alarm_rows["error"] < 450
    assert set(report.alarm_rows) == {"error"}
    assert f"labelled row {report.alarm_rows['error']} of 500" in report.message
    assert report.n_rows == 0


def test_labels_never_seen_in_training_are_errors() -> None:
    watch = conformalized().watch()
    with pytest.warns(UserWarning, match="never seen in training count as errors: 9"):
        assert watch.update_labelled(X[:2], [9, 9]).error == 1.0


def test_evidence_is_plotted_with_its_limit_and_the_alarm() -> None:
    pytest.importorskip("matplotlib").use("agg")
    watch = conformalized().watch()
    watch.update(rows(STREAM, offset=5.0))
    ax = watch.plot()
    assert [line.get_label() for line in ax.lines if not line.get_label().startswith("_")] == [*_NAMES, "alarm"]
    assert ax.lines[-1].get_ydata()[0] == pytest.approx(np.log10(200))
    assert ax.get_xlabel() == "rows of the stream"
