"""Intervals that hold at any look: in simulated experiments whose truth is known, seeds 0, 1, 2, ... all counted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cxlab.decide.sequential import always_valid_p, as_one_look, factor, mixture

EXPERIMENTS, CUSTOMERS = 1000, 4000
LOOKS = np.arange(1, 11) * CUSTOMERS // 10
LUCK = 2 * math.sqrt(0.05 * 0.95 / EXPERIMENTS)  # two binomial standard errors
alphas, customers = st.floats(0.001, 0.3), st.integers(10, 10**6)


def looked_at(effect: float, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Differences and standard errors at ten looks, each of shape (EXPERIMENTS, 10)."""
    found = []
    for seed in range(EXPERIMENTS):
        rng = np.random.default_rng(seed)
        arm = rng.random(CUSTOMERS) < 0.5
        if kind == "share":
            y = (rng.random(CUSTOMERS) < 0.1 + effect * arm).astype(float)
        else:
            y = np.where(rng.random(CUSTOMERS) < 0.3, rng.lognormal(2, 1, CUSTOMERS), 0.0) + effect * arm
        sums = np.cumsum([arm * 1.0, arm * y, arm * y**2, 1.0 - arm, ~arm * y, ~arm * y**2], axis=1)[:, LOOKS - 1]
        n1, s1, q1, n0, s0, q0 = sums
        v1, v0 = (q1 - s1**2 / n1) / (n1 - 1), (q0 - s0**2 / n0) / (n0 - 1)
        found.append((s1 / n1 - s0 / n0, np.sqrt(v1 / n1 + v0 / n0)))
    return np.array([d for d, _ in found]), np.array([e for _, e in found])


@pytest.mark.parametrize("kind", ["share", "skewed spend"])
def test_of_null_experiments_few_are_ever_told_under_ten_looks(kind: str) -> None:
    difference, error = looked_at(0.0, kind)
    half = error * factor(LOOKS, 0.05, planned=CUSTOMERS, tuned=0.05)
    ever = float((np.abs(difference) > half).any(axis=1).mean())
    peeking = float((np.abs(difference / error) > stats.norm.isf(0.025)).any(axis=1).mean())
    assert ever <= 0.05 + LUCK
    assert ever <= 0.05  # ten looks are fewer than all that the sequence allows
    assert peeking > 0.15  # what looking ten times at a test of one look does
    p = always_valid_p(difference / error, LOOKS, planned=CUSTOMERS, tuned=0.05)
    assert ((p < 0.05) == (np.abs(difference) > half)).all()


@pytest.mark.parametrize(("kind", "effect"), [("share", 0.05), ("skewed spend", 2.0)])
def test_intervals_hold_the_truth_at_all_ten_looks_together(kind: str, effect: float) -> None:
    difference, error = looked_at(effect, kind)
    half = error * factor(LOOKS, 0.05, planned=CUSTOMERS, tuned=0.05)
    every = float((np.abs(difference - effect) <= half).all(axis=1).mean())
    assert every >= 0.95 - LUCK
    assert (np.abs(difference[:, -1]) > half[:, -1]).mean() > 0.5  # and they are narrow enough to tell


@given(alphas, customers)
def test_the_sequence_is_tightest_where_it_was_planned(alpha: float, planned: int) -> None:
    here = float(factor(planned, alpha, planned=planned, tuned=alpha))
    assert here == pytest.approx(math.sqrt(mixture(alpha) + 1))
    for other in (0.5, 0.9, 1.1, 2.0):
        # At a fixed time, another tuning is never tighter.
        assert float(factor(planned, alpha, planned=planned * other, tuned=alpha)) >= here - 1e-9


@given(alphas, customers, customers)
def test_p_is_where_the_interval_just_leaves_out_zero(alpha: float, t: int, planned: int) -> None:
    z = float(factor(t, alpha, planned=planned, tuned=0.05))
    assert float(always_valid_p(z, t, planned=planned, tuned=0.05)) == pytest.approx(alpha, rel=1e-6)


@given(st.floats(0, 8), st.floats(0, 8), customers)
def test_p_falls_as_the_difference_grows(one: float, two: float, t: int) -> None:
    small, large = sorted((one, two))
    p = always_valid_p([small, large], t, planned=1000, tuned=0.05)
    assert 0 <= p[1] <= p[0] <= 1


def test_one_look_asks_for_less() -> None:
    assert as_one_look(0.05) == pytest.approx(2 * stats.norm.sf(float(factor(7, 0.05, planned=7, tuned=0.05))))
    assert as_one_look(0.05) < 0.05
    with pytest.raises(ValueError, match="must be in"):
        mixture(0.0)
