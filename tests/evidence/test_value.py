from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.evidence.value import choose_threshold, value
from cxlab.params import ValueParams

COSTS = ValueParams(contact_cost=5, saved_value=100, save_rate=0.5, capacity=0.2)  # a churner contacted earns 45


def sample(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    score = rng.beta(1, 4, n).round(2)
    return (rng.random(n) < score).astype(int), score


def profit(outcome: np.ndarray, score: np.ndarray, threshold: float, params: ValueParams) -> float:
    chosen = score >= threshold
    return float(np.sum(params.save_rate * params.saved_value * outcome[chosen] - params.contact_cost))


@given(st.integers(5, 300), st.integers(0, 20), st.floats(0.05, 1))
def test_no_threshold_within_the_capacity_earns_more(n: int, seed: int, capacity: float) -> None:
    outcome, score = sample(n, seed)
    params = COSTS.model_copy(update={"capacity": capacity})
    chosen = choose_threshold(outcome, score, params)
    ours = profit(outcome, score, chosen.value, params)
    assert (score >= chosen.value).mean() == pytest.approx(chosen.share)
    assert ours >= 0
    for other in np.unique(score):
        if (score >= other).sum() <= max(1, int(capacity * n)):
            assert profit(outcome, score, other, params) <= ours + 1e-9


@given(st.integers(50, 300), st.integers(0, 20))
def test_policies_are_what_they_say(n: int, seed: int) -> None:
    outcome, score = sample(n, seed)
    chosen = choose_threshold(outcome, score, COSTS)
    found = value(outcome, score, chosen, COSTS, resamples=50)
    rows = found.frame().set_index("policy")
    assert rows.loc["our threshold", "profit"] == pytest.approx(profit(outcome, score, chosen.value, COSTS) / n)
    assert rows.loc["everybody", "profit"] == pytest.approx(50 * outcome.mean() - 5)
    assert rows.loc["nobody", "profit"] == 0
    assert rows.loc["our threshold", "gain"] == 0
    assert (rows["low"] <= rows["profit"]).all()
    assert (rows["profit"] <= rows["high"]).all()
    last = found.rows.iloc[-1]
    assert last["profit"] == pytest.approx(rows.loc["everybody", "profit"])
    assert last["profit"] == pytest.approx(last["random"])


def test_shuffling_changes_nothing() -> None:
    outcome, score = sample(200, 1)
    score += np.linspace(0, 1e-6, 200)  # no ties: they keep row order
    mixed = np.random.default_rng(0).permutation(200)
    assert choose_threshold(outcome, score, COSTS) == choose_threshold(outcome[mixed], score[mixed], COSTS)


def test_where_no_contact_pays_nobody_is_contacted() -> None:
    outcome, score = sample(200, 1)
    chosen = choose_threshold(outcome, score, COSTS.model_copy(update={"contact_cost": 60.0}))
    assert (chosen.share, chosen.reason) == (0.0, "no contact pays at these costs and values")
    assert not (score >= chosen.value).any()
    tied = choose_threshold(np.ones(10, int), np.full(10, 0.5), COSTS)
    assert "tie for the top" in tied.reason


def test_a_named_example() -> None:
    outcome = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    score = np.array([0.9, 0.8, 0.7, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    chosen = choose_threshold(outcome, score, COSTS.model_copy(update={"capacity": 0.5}))
    assert (chosen.value, chosen.share) == (0.8, 0.2)
    found = value(outcome, score, chosen, COSTS, resamples=20)
    assert found.profit.value == pytest.approx(2 * 45 / 10)
    found.plot()


def test_intervals_cover_the_true_profit() -> None:
    """60 samples, seeds fixed: the expected profit is known because outcomes are drawn from the scores."""
    hits = 0
    for seed in range(60):
        rng = np.random.default_rng(1000 + seed)
        score = rng.beta(1, 4, 400)
        outcome = (rng.random(400) < score).astype(int)
        chosen = choose_threshold(*sample(400, 5), COSTS)
        found = value(outcome, score, chosen, COSTS, resamples=300, seed=seed).profit
        big = np.random.default_rng(3).beta(1, 4, 400_000)
        truth = np.mean((50 * big - 5) * (big >= chosen.value))
        hits += found.low <= truth <= found.high
    assert hits >= 0.95 * 60 - 2 * np.sqrt(60 * 0.95 * 0.05)
