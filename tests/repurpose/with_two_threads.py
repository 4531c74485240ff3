"""What `test_threads` has pytest run in a process where torch and BLAS have two threads; `tests.conftest` gives one."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits
from torch import nn

from model_handler import Features
from repurpose import GpRepurposer, LaplaceRepurposer, LrRepurposer, MetaModelRepurposer, SvmRepurposer
from repurpose import threads as module
from repurpose.meta_model import gp_repurposer, layer_choice
from repurpose.meta_model.gp import left_out
from repurpose.threads import threads_for
from repurpose.uncertainty import interface, recalibration, unfamiliarity

Counts = tuple[int, list[int], list[int]]
rng = np.random.RandomState(0)
X, y = rng.randn(60, 40).astype(np.float32), np.arange(60) % 3


def counts() -> Counts:
    """Of torch, and of each library of OpenMP and of BLAS, as the calling thread has them."""
    n_threads = torch.get_num_threads()
    found: dict[str, list[int]] = {"openmp": [], "blas": []}
    for library in threadpool_info():
        found[library["user_api"]].append(library["num_threads"])
    return n_threads, found["openmp"], found["blas"]


USUAL = counts()
ONE: Counts = (1, [1] * len(USUAL[1]), [1] * len(USUAL[2]))


@pytest.fixture(autouse=True)
def all_is_as_before() -> Iterator[None]:
    assert counts() == USUAL
    yield
    assert counts() == USUAL
    with ThreadPoolExecutor(1) as later:
        assert later.submit(counts).result() == USUAL


@pytest.fixture
def pair() -> Iterator[list["Person"]]:
    with Person() as first, Person() as second:
        yield [first, second]


class Person:
    """A thread that does one thing after the other, when it is told to; its first use of torch is the first of them."""

    def __enter__(self) -> "Person":
        self._pool, self._inside = ThreadPoolExecutor(1), ExitStack()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def asked(self, function: Callable, *arguments: Any) -> Any:
        return self._pool.submit(function, *arguments).result(timeout=60)

    def enters(self, made: Callable[[], Any] = lambda: threads_for(10)) -> None:
        self.asked(lambda: self._inside.enter_context(made()))

    def leaves(self) -> None:
        self.asked(self._inside.close)


def test_this_process_has_two_threads() -> None:
    assert USUAL[0] == 2
    assert all(USUAL[1:])  # libraries of both kinds were found


def test_inside_there_is_one_thread_and_afterwards_there_are_as_many_as_before() -> None:
    with threads_for(2000):
        assert counts() == ONE
    assert counts() == USUAL


@pytest.mark.parametrize(
    ("n_rows", "n_others", "is_few"),
    [
        (2000, None, True),
        (2001, None, False),
        (1, 4 * 10**6, True),
        (2, 4 * 10**6, False),
        (4 * 10**6, 1, True),
        (0, 0, True),
    ],
)
def test_few_are_two_thousand_rows_with_one_another_or_as_many_comparisons(
    n_rows: int, n_others: int | None, is_few: bool
) -> None:
    with threads_for(n_rows, n_others):
        assert counts() == (ONE if is_few else USUAL)


def test_an_error_inside_passes_and_the_counts_are_as_before() -> None:
    with pytest.raises(KeyError), threads_for(10):
        raise KeyError("x")
    assert counts() == USUAL


def test_contexts_within_each_other() -> None:
    with threads_for(5000):
        assert counts() == USUAL
        with threads_for(10):
            with threads_for(10), threads_for(5000):
                assert counts() == ONE
            assert counts() == ONE
        assert counts() == USUAL


def test_as_a_decorator_it_holds_for_every_call() -> None:
    decorated = threads_for(10)(counts)
    assert decorated() == decorated() == ONE


def test_counts_of_one_stay_as_they_are() -> None:
    torch.set_num_threads(1)
    with threadpool_limits(1):
        with threads_for(10):
            assert counts() == ONE
        assert counts() == ONE
    torch.set_num_threads(2)


def test_a_thread_with_one_of_its_own_leaves_alone_what_later_threads_begin_with(pair: list[Person]) -> None:
    pair[0].asked(counts)
    pair[0].asked(torch.set_num_threads, 1)
    torch.set_num_threads(2)  # what later threads begin with
    pair[0].enters()
    pair[0].leaves()
    assert pair[0].asked(torch.get_num_threads) == 1
    assert pair[1].asked(counts) == USUAL


def test_a_limit_that_another_thread_had_when_this_one_entered_is_not_put_back(pair: list[Person]) -> None:
    pair[0].enters(lambda: threadpool_limits(3, user_api="blas"))
    pair[1].enters()
    pair[0].leaves()
    pair[1].leaves()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_process_forked_while_other_threads_are_inside_has_its_counts_and_does_not_hang() -> None:
    stop = threading.Event()

    def enters_and_leaves() -> None:
        while not stop.is_set():
            with threads_for(10):
                pass

    def has_its_counts() -> bool:
        with threads_for(10):
            inside = counts()[2]
        return inside == ONE[2] and counts()[2] == USUAL[2]

    with ThreadPoolExecutor(3) as pool, threads_for(10):
        others = [pool.submit(enters_and_leaves) for _ in range(3)]
        codes = [_exit_code_of(has_its_counts) for _ in range(10)]
        stop.set()
        for other in others:
            other.result(timeout=60)
    assert codes == [0] * 10


def _exit_code_of(function: Callable[[], bool]) -> int:
    """0 if it is true in a child process, -14 if it takes five seconds."""
    if (child := os.fork()) == 0:
        signal.alarm(5)
        os._exit(0 if function() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("first_to_leave", [0, 1])
@pytest.mark.parametrize("knows_torch", [True, False])
def test_threads_that_enter_and_leave_crosswise(pair: list[Person], first_to_leave: int, knows_torch: bool) -> None:
    if knows_torch:
        assert [each.asked(counts) for each in pair] == [USUAL, USUAL]
    for each in pair:
        each.enters()
        assert each.asked(counts) == ONE
    early, late = pair[first_to_leave], pair[1 - first_to_leave]
    early.leaves()
    assert late.asked(counts) == ONE
    assert early.asked(counts) == (*USUAL[:2], ONE[2])  # BLAS is everyone's
    late.leaves()
    assert [early.asked(counts), late.asked(counts)] == [USUAL, USUAL]


def test_the_last_one_out_sets_blas_though_the_first_one_in_is_gone() -> None:
    with Person() as last:
        with Person() as first:
            first.enters()
            last.enters()
            first.leaves()
        assert last.asked(counts) == ONE
        last.leaves()


def test_a_thread_born_while_another_is_inside_is_not_left_with_one(pair: list[Person]) -> None:
    old, young = pair
    old.enters()
    young.enters()
    old.leaves()
    young.leaves()
    assert young.asked(counts) == USUAL


def test_a_threads_own_count_is_kept(pair: list[Person]) -> None:
    pair[0].asked(torch.get_num_threads)  # only then does torch let a thread have a count of its own
    pair[0].asked(torch.set_num_threads, 3)
    torch.set_num_threads(2)  # and for threads to come
    with threads_for(10):
        pair[0].enters()
        assert pair[0].asked(torch.get_num_threads) == 1
        pair[0].leaves()
    assert pair[0].asked(torch.get_num_threads) == 3


def test_many_threads_at_once() -> None:
    def enter_often(_: int) -> set[int]:
        found = set()
        for _ in range(50):
            with threads_for(10):
                found.add(torch.get_num_threads())
        return found | {-torch.get_num_threads()}

    with ThreadPoolExecutor(4) as pool:
        assert all(found == {1, -2} for found in pool.map(enter_often, range(8)))


def test_what_scikit_learn_limits_for_a_moment_in_another_thread_is_not_kept(pair: list[Person]) -> None:
    pair[0].enters(lambda: threadpool_limits(1, user_api="blas"))
    pair[1].enters()
    pair[0].leaves()
    pair[1].leaves()


@pytest.mark.parametrize("few_leave_first", [True, False])
def test_nor_what_it_limits_among_many_rows(pair: list[Person], few_leave_first: bool) -> None:
    with_many, with_few = pair
    with_many.enters(lambda: threads_for(5000))
    with_few.enters()
    with_many.enters(lambda: threadpool_limits(1, user_api="blas"))  # as `KMeans` does
    for each in (with_few, with_many) if few_leave_first else (with_many, with_few):
        each.leaves()


HEADS: dict[str, Callable[[], MetaModelRepurposer]] = {
    "lr": lambda: LrRepurposer(nn.Identity(), c=1.0, random_state=0),
    "lr, chosen in two threads": lambda: LrRepurposer(nn.Identity(), n_jobs=2, random_state=0),
    "svm": lambda: SvmRepurposer(nn.Identity(), random_state=0),
    "gp": lambda: GpRepurposer(nn.Identity(), max_function_evaluations=3, random_state=0),
    "laplace": lambda: LaplaceRepurposer(nn.Identity(), c=1.0, random_state=0),
}
FEATURES = Features({"first": X[:, :20], "second": X[:, 20:]}, y)


@pytest.mark.parametrize("name", HEADS)
def test_heads_give_the_same_bits_whatever_the_user_has_set(name: str) -> None:
    several = HEADS[name]().repurpose(FEATURES)
    found = several.predict_proba(FEATURES)
    assert counts() == USUAL
    torch.set_num_threads(1)
    with threadpool_limits(1):
        np.testing.assert_array_equal(HEADS[name]().repurpose(FEATURES).predict_proba(FEATURES), found)
    torch.set_num_threads(2)


class Recorded(MetaModelRepurposer):
    """A user's head that notes how many threads each of its hooks has."""

    def _note(self, hook: str) -> None:
        vars(self).setdefault("noted", []).append((hook, counts() == ONE, counts() == USUAL))

    def _train_model_from_features(self, features: Any, labels: Any, feature_indices_per_layer: Any) -> Any:
        self._note("train")
        return LogisticRegression().fit(features, labels)

    def _predict_label_from_features(self, features: np.ndarray) -> np.ndarray:
        self._note("label")
        return self.target_model_.predict(features)

    def _predict_probability_from_features(self, features: np.ndarray) -> np.ndarray:
        self._note("probability")
        return self.target_model_.predict_proba(features)

    def _predict_samples_from_features(self, features: Any, n_samples: int, random_state: Any) -> np.ndarray:
        self._note("samples")
        return np.stack([self.target_model_.predict_proba(features)] * n_samples)

    def _predict_variance_from_features(self, features: np.ndarray) -> np.ndarray:
        self._note("variance")
        return np.ones(len(features))


@pytest.mark.parametrize("few", [1000, 59])
def test_every_hook_has_one_thread_for_few_rows_and_the_users_for_many(
    few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FEW", few)
    repurposer = Recorded(nn.Identity()).repurpose(FEATURES)
    repurposer.predict_label(FEATURES)
    repurposer.predict_proba(FEATURES)
    repurposer.predict_samples(FEATURES, 2)
    repurposer.unfamiliarity(FEATURES, "variance")
    assert {hook for hook, *_ in repurposer.noted} == {"train", "label", "probability", "samples", "variance"}
    assert all((one, usual) == (few == 1000, few != 1000) for _, one, usual in repurposer.noted)


def test_draws_that_are_taken_one_part_after_the_other_leave_the_threads_alone_between() -> None:
    draws = Recorded(nn.Identity()).repurpose(FEATURES)._draws(FEATURES.matrix, 2)
    next(draws)
    assert counts() == USUAL


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], list[bool]]:
    """Has a function note at each of its calls whether there is one thread."""

    def note(owner: Any, name: str) -> list[bool]:
        calls: list[bool] = []
        function = getattr(owner, name)

        def noting(*arguments: Any, **options: Any) -> Any:
            calls.append(counts() == ONE)
            return function(*arguments, **options)

        monkeypatch.setattr(owner, name, noting)
        return calls

    return note


def test_a_kernel_learned_from_few_of_many_rows_has_one_thread(noted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FEW", 30)
    monkeypatch.setattr(gp_repurposer, "_MAX_TO_LEARN_FROM", 30)
    learning, conditioning = noted(gp_repurposer, "learn_kernel"), noted(gp_repurposer, "condition")
    HEADS["gp"]().repurpose(FEATURES)
    assert (learning, conditioning) == ([True], [False])


def test_layers_are_chosen_with_one_thread_however_many_rows_there_are(noted: Any) -> None:
    learning = noted(left_out, "learn_kernel")
    features = Features({name: np.tile(array, (20, 1)) for name, array in FEATURES.values.items()}, np.tile(y, 20))
    layer_choice.choose_layers(features, np.tile(y, 20), np.random.RandomState(0))
    assert set(learning) == {True}


def test_calibration_and_evaluation_have_one_thread(noted: Any) -> None:
    fits, evaluations = noted(recalibration.calibration, "fit_calibration"), noted(interface, "evaluate_answers")
    repurposer = HEADS["lr"]().repurpose(FEATURES).calibrate()
    repurposer.calibrate(FEATURES).evaluate(FEATURES, n_bootstrap=5)
    assert (fits, evaluations) == ([True, True], [True])


@pytest.mark.parametrize("detector", unfamiliarity.DETECTORS.values())
def test_detectors_have_one_thread(detector: type, noted: Any) -> None:
    fits, scores = noted(detector, "fit"), noted(detector, "score")
    method = next(name for name, each in unfamiliarity.DETECTORS.items() if each is detector)
    repurposer = HEADS["lr"]().repurpose(FEATURES)
    repurposer.unfamiliarity(FEATURES, method)
    repurposer.unfamiliarity_p_value(FEATURES, method)
    assert set(fits) == set(scores) == {True}
