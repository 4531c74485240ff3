"""`python -m benchmarks compare`: results that are made up, told apart bit for bit."""

from argparse import ArgumentTypeError
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import benchmarks.compare as compare
from benchmarks.compare.collecting import strangers_to
from benchmarks.compare.parts import PARTS
from benchmarks.compare.results import Results, differences, read_results
from benchmarks.options import checkout

ROOT = Path(__file__).parents[1]


def results_of(values: dict[str, Any]) -> dict[str, np.ndarray]:
    results = Results()
    for name, value in values.items():
        results.add(name, value)
    return results.arrays


def told(ours: Any, theirs: Any) -> list[str]:
    return differences(results_of({"one": ours}), results_of({"one": theirs}))


def test_what_was_written_is_read_as_it_was(tmp_path: Path) -> None:
    results = Results()
    results.under("net/0").under("a.b[1]").add(
        "features", {"é:*?": np.float32([[1, np.nan]]), "none": np.zeros((0, 3))}
    )
    results.add("text", "one\ntwo")
    results.add("labels or none", np.array(["fig", None], dtype=object))
    results.write(tmp_path / "results.npz")
    read = read_results(tmp_path / "results.npz")
    assert list(read) == ["net/0: a.b[1]: features, é:*?", "net/0: a.b[1]: features, none", "text", "labels or none"]
    assert differences(results.arrays, read) == differences(read, results.arrays) == []
    assert read["net/0: a.b[1]: features, é:*?"].dtype == np.float32
    assert (str(read["text"]), str(read["labels or none"])) == ("one\ntwo", "['fig', None]")


def test_every_bit_counts() -> None:
    numbers = np.array([1.0, 2.0, np.nan])
    assert told(numbers, numbers.copy()) == []
    assert told(numbers, [1.0, 2.5, np.nan]) == ["one: 1 of 3 numbers differ, by at most 0.5"]
    assert told(1.0, np.nextafter(1.0, 2.0)) == ["one: 1 of 1 numbers differ, by at most 2.22e-16"]
    assert told([0.0], [-0.0]) == ["one: 1 of 1 numbers differ, by at most 0"]
    assert told([True, False], [True, True]) == ["one: 1 of 2 numbers differ, by at most 1"]
    assert told(numbers, numbers[:2]) == ["one: float64 (3,) here, float64 (2,) there"]
    assert told(np.float32(numbers), numbers) == ["one: float32 (3,) here, float64 (3,) there"]


def test_a_number_that_only_one_side_has_is_not_hidden_by_those_that_are_none() -> None:
    assert told([np.nan, 1.0], [np.nan, 3.0]) == ["one: 1 of 2 numbers differ, by at most 2"]
    assert told([1.0, 5.0], [np.nan, 5.0]) == ["one: 1 of 2 numbers differ, by at most nan"]


def test_texts_are_shown_where_they_begin_to_differ() -> None:
    assert told("a\nb\nc", "a\nb\nc") == []
    assert told("a\nb\nc", "a\nd\nc") == [r"one: 'a\nb\nc' here, 'a\nd\nc' there"]
    assert told("a", "a\n") == [r"one: 'a' here, 'a\n' there"]
    assert told(np.array(["fig", "pear"]), np.array(["fig", "apple"])) == [r"one: 'fig\npear' here, 'fig\napple' there"]
    assert told("x" * 500 + "1" + "y" * 500, "x" * 500 + "2") == [
        f"one: {'x' * 20 + '1' + 'y' * 59!r} here, {'x' * 20 + '2'!r} there"
    ]
    assert told("ValueError", [1.0]) == ["one: <U10 () here, float64 (1,) there"]


def test_a_result_of_one_side_alone_is_a_difference() -> None:
    ours, theirs = results_of({"a": 1, "b": 2}), results_of({"b": 2, "c": 3})
    assert differences(ours, theirs) == ["a: only in this checkout", "c: only in the other checkout"]


def test_two_results_of_one_name_are_refused() -> None:
    results = Results()
    results.under("a").add("b", 1)
    with pytest.raises(ValueError, match="two results named 'a: b'"):
        results.add("a: b", 1)


@pytest.mark.parametrize(("other", "last", "status"), [(1.0, "2 results, 0 differences", 0), (2.0, None, 1)])
def test_the_status_says_whether_there_is_a_difference(
    other: float, last: str | None, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def collect(root: Path, file: Path, parts: Any) -> None:
        results = Results()
        results.add("number", 1.0 if file.stem == "this" else other)
        results.add("text", "same")
        results.write(file)

    monkeypatch.setattr(compare, "collect", collect)
    with pytest.raises(SystemExit) as ended:
        compare.main([str(ROOT)])
    assert ended.value.code == status
    *_, before, printed = capsys.readouterr().out.splitlines()
    assert printed == (last or "2 results, 1 difference")
    assert last or before == "number: 1 of 1 numbers differ, by at most 1"


def test_every_part_has_a_module() -> None:
    assert all(find_spec(module) for module in PARTS.values())


def test_modules_of_another_checkout_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert strangers_to(ROOT) == []
    monkeypatch.setitem(compare.sys.modules, "repurpose.stray", SimpleNamespace(__file__=str(tmp_path / "stray.py")))
    assert strangers_to(ROOT) == [f"repurpose.stray ({tmp_path / 'stray.py'})"]


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    assert checkout(str(ROOT)) == ROOT.resolve()
    with pytest.raises(ArgumentTypeError, match="no package model_handler and no repurpose"):
        checkout(str(tmp_path))
