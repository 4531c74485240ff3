"""A seeded sample of `benchmarks attacks`: nothing executes, hangs, fills the memory, or goes unnoticed."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks import attacks
from benchmarks.attacks import changes
from benchmarks.attacks.fuzzing import fuzz
from benchmarks.attacks.offsite import graph_targets

N_ATTEMPTS = 300


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, str, str, str]]:
    """Of each attempt: the run, what was attacked, how, what happened, and what was said."""
    folder: Path = tmp_path_factory.mktemp("saved")
    return list(attacks.attempts(attacks.targets(folder), N_ATTEMPTS, seed=1))


def test_nothing_executes_hangs_or_fills_the_memory(results: list[tuple[str, str, str, str, str]]) -> None:
    assert len(results) == N_ATTEMPTS
    assert not [each for each in results if each[3] in ("executed", "hang", "memory")]


def test_every_damage_is_refused_by_name_where_there_are_hashes(results: list[tuple[str, str, str, str, str]]) -> None:
    assert not [each for each in results if each[0] == "as it is" and each[3] not in ("clear", "same")]
    counts = Counter(each[3] for each in results if each[0] == "as it is")
    # What says nothing, such as a blank behind a header, or equal values in each other's places.
    assert counts["same"] <= 0.05 * counts["clear"]


def test_all_kinds_of_files_and_attacks_were_tried(results: list[tuple[str, str, str, str, str]]) -> None:
    assert {each[0] for each in results} == {*attacks.RUNS}
    assert len({each[1] for each in results}) == 15
    assert {each[2] for each in results} == {*changes.KINDS, "skops"}


def test_every_error_names_the_file_and_is_one_of_ours(results: list[tuple[str, str, str, str, str]]) -> None:
    assert not [each for each in results if each[3] == "bare"]


def test_files_of_offsite_tuning_are_refused_by_name_or_say_what_they_said(tmp_path: Path) -> None:
    found = list(attacks.attempts(graph_targets(tmp_path), 24, seed=2))
    assert len({each[1] for each in found}) == 3
    assert not [each for each in found if each[3] not in ("clear", "same", "silent", "silent state")]
    assert not [each for each in found if each[0] == "as it is" and each[3] not in ("clear", "same")]


def test_parsers_take_or_refuse_what_is_drawn() -> None:
    assert "8 parsers" in fuzz(0, first_seed=1, n_examples=20)
