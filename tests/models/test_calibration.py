"""Calibration: planted distortions are found, nothing is mended that is not broken, and no order is turned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from cxlab.models.calibration import EPSILON, BetaCalibration, NoCalibration, choose, log_loss


def folds_of(n: int, k: int = 5) -> list[np.ndarray]:
    return [np.arange(n)[start::k] for start in range(k)]


def outcomes(seed: int, n: int = 8000):
    """True probabilities and outcomes drawn from them."""
    rng = np.random.default_rng(seed)
    truth = expit(rng.normal(-1, 1.5, n))
    return truth, (rng.random(n) < truth).astype(int)


DISTORTIONS = {
    "overconfident": lambda p: expit(2.5 * logit(p)),
    "shy": lambda p: expit(0.4 * logit(p)),
    "too high": lambda p: expit(logit(p) + 1.5),
    "lopsided": lambda p: 1 - (1 - p) ** 3,
}


@st.composite
def noisy_scores(draw):
    seed, slope = draw(st.integers(0, 999)), draw(st.floats(-1.5, 3))
    rng = np.random.default_rng(seed)
    n = draw(st.integers(20, 200))
    margin = rng.normal(size=n)
    y = (rng.random(n) < expit(slope * margin)).astype(int)
    y[:2] = [0, 1]
    return np.round(expit(draw(st.sampled_from([0.3, 1.0, 4.0])) * margin), 3), y


@settings(max_examples=12)
@given(noisy_scores())
def test_order_is_never_turned_and_the_choice_is_never_worse_than_none(sample):
    p, y = sample
    calibrator, crossed = choose(p, y, folds_of(len(y)))
    grid = np.linspace(0, 1, 101)
    assert (np.diff(calibrator.apply(grid)) >= 0).all()
    assert log_loss(y, crossed) <= log_loss(y, p)


@given(noisy_scores(), st.sampled_from([True, False]))
def test_what_comes_out_is_a_probability_even_of_0_and_1(sample, tied):
    calibrator = BetaCalibration(tied).fit(*sample)
    applied = calibrator.apply(np.array([0.0, EPSILON, 0.5, 1 - EPSILON, 1.0]))
    assert ((applied >= 0) & (applied <= 1)).all()
    assert applied[0] == applied[1]
    assert applied[3] == applied[4]


@pytest.mark.parametrize("seed", range(3))
def test_what_is_calibrated_stays_as_it_is(seed):
    truth, y = outcomes(seed)
    calibrator, crossed = choose(truth, y, folds_of(len(y)))
    assert np.abs(calibrator.apply(truth) - truth).max() < 0.04
    assert np.abs(crossed - truth).mean() < 0.01


@pytest.mark.parametrize("name", DISTORTIONS)
def test_a_planted_distortion_is_undone(name):
    truth, y = outcomes(0)
    distorted = DISTORTIONS[name](truth)
    calibrator, crossed = choose(distorted, y, folds_of(len(y)))
    assert not isinstance(calibrator, NoCalibration)
    assert np.abs(calibrator.apply(distorted) - truth).mean() < 0.015
    assert np.abs(crossed - truth).mean() < 0.2 * np.abs(distorted - truth).mean()


def test_a_lopsided_distortion_needs_the_free_form():
    truth, y = outcomes(0)
    calibrator, _ = choose(DISTORTIONS["lopsided"](truth), y, folds_of(len(y)))
    assert calibrator.name == "beta"


def test_a_fold_does_not_see_its_own_outcomes():
    truth, y = outcomes(1, 2000)
    distorted, folds = DISTORTIONS["overconfident"](truth), folds_of(2000)
    _, crossed = choose(distorted, y, folds)
    flipped = y.copy()
    flipped[folds[0][:40]] = 1 - y[folds[0][:40]]
    calibrator, again = choose(distorted, flipped, folds)
    assert calibrator.name == choose(distorted, y, folds)[0].name
    np.testing.assert_array_equal(again[folds[0]], crossed[folds[0]])
    assert not np.array_equal(again[folds[1]], crossed[folds[1]])


def test_scores_that_point_the_wrong_way_are_left_alone():
    truth, y = outcomes(2)
    calibrator, crossed = choose(1 - truth, y, folds_of(len(y)))
    assert isinstance(calibrator, NoCalibration)
    np.testing.assert_array_equal(crossed, 1 - truth)


def test_tied_is_a_logistic_curve_on_the_log_odds():
    truth, y = outcomes(3, 500)
    calibrator = BetaCalibration(tied=True).fit(truth, y)
    assert calibrator.a_ == calibrator.b_
    np.testing.assert_allclose(calibrator.apply(truth), expit(calibrator.a_ * logit(truth) + calibrator.c_))


def test_folds_that_leave_one_class_give_no_calibration():
    p, y = np.array([0.2, 0.3, 0.6, 0.7]), np.array([0, 0, 0, 1])
    calibrator, _ = choose(p, y, [np.array([0, 1, 2]), np.array([3])])
    assert isinstance(calibrator, NoCalibration)
