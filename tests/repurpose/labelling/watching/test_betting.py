import numpy as np
import pytest

from repurpose.labelling.watching.betting import N_BETS, Capital, log_bets


def test_each_function_integrates_to_one() -> None:
    t = (np.arange(10_000) + 0.5) / 10_000
    small, jacobian = t**20 / 2, 10 * t**19  # where functions rise steeply
    integrals = [(np.exp(log_bets(p)) * jacobian[:, None]).mean(axis=0) for p in (small, 1 - small)]
    assert sum(integrals) == pytest.approx(np.ones(N_BETS), abs=0.006)
    assert (sum(integrals) < 1 + 1e-5).all()  # else alarms would be more frequent than promised


def test_p_values_of_0_and_1_are_bet_on() -> None:
    assert np.isfinite(log_bets(np.array([0.0, 1.0]))).all()


def test_capital_is_the_sum_over_functions_and_beginnings() -> None:
    p_values = np.random.default_rng(0).random(6) ** 2
    _, totals = Capital.at_start().follow(p_values)
    bets = np.exp(log_bets(p_values))
    by_hand = []
    for n in range(1, 7):
        released = [b**-0.5 - (b + 1) ** -0.5 for b in range(1, n + 1)]
        running = sum(r * bets[b:n].prod(axis=0).mean() for b, r in enumerate(released))
        by_hand.append(running + (n + 1) ** -0.5)  # what has not begun to bet
    assert np.exp(totals) == pytest.approx(by_hand)


def test_parts_of_a_stream_give_the_same_capital_as_the_whole_to_the_last_bit() -> None:
    p_values = np.random.default_rng(0).random(101)
    whole, totals = Capital.at_start().follow(p_values)
    capital, parts = Capital.at_start(), []
    for part in np.split(p_values, [1, 4, 5, 70]):
        capital, found = capital.follow(part)
        parts.append(found)
    assert np.array_equal(capital.log_stakes, whole.log_stakes)
    assert capital.n_rows == 101
    assert np.array_equal(np.concatenate(parts), totals)


def test_capital_wins_by_small_and_by_large_p_values_and_is_never_lost_wholly() -> None:
    rng = np.random.default_rng(0)
    small, large, uniform = rng.random(300) ** 3, 1 - rng.random(300) ** 3, rng.random(3000)
    assert min(Capital.at_start().follow(p_values)[1][-1] for p_values in (small, large)) > 20
    _, totals = Capital.at_start().follow(np.concatenate([uniform, small]))
    assert totals.min() > -5
    assert totals[-1] > 20
