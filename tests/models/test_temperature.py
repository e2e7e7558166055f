"""Calibration of many classes: planted temperatures are found, classes keep their order, nothing gets worse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from cxlab.models import calibration
from cxlab.models.calibration import (
    LEAST,
    BetaCalibration,
    NoCalibration,
    Saturation,
    Temperature,
    choose,
    choose_many,
    log_loss_many,
)


def folds_of(n: int, k: int = 5) -> list[np.ndarray]:
    return [np.arange(n)[start::k] for start in range(k)]


def outcomes(seed: int, n: int = 6000, k: int = 12):
    """True log-probabilities, up to a constant a row, and classes drawn from them."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, k))
    y = (rng.random(n)[:, None] > softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1).clip(0, k - 1)
    return logits, y


@st.composite
def rough_probabilities(draw):
    """Few rows, many ties, zeros and ones; classes in any relation to them."""
    n, k = draw(st.integers(5, 60)), draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    raw = rng.integers(0, draw(st.sampled_from([2, 5, 100])), (n, k)) + 0.0
    raw[raw.sum(axis=1) == 0] = 1.0
    y = np.where(rng.random(n) < draw(st.sampled_from([0.0, 0.5, 0.9])), raw.argmax(axis=1), rng.integers(0, k, n))
    return raw / raw.sum(axis=1, keepdims=True), y


@given(rough_probabilities(), st.sampled_from([Temperature(), Temperature(floor=True), Saturation()]))
def test_rows_sum_to_one_and_no_class_passes_another(sample, calibrator):
    p, y = sample
    applied = calibrator.fit(p, y).apply(p)
    assert np.isfinite(applied).all()
    np.testing.assert_allclose(applied.sum(axis=1), 1.0)
    assert (applied >= 0).all()
    before, after = p[:, :, None] - p[:, None, :], applied[:, :, None] - applied[:, None, :]
    assert (after[before > 0] >= -1e-12).all()
    np.testing.assert_allclose(after[before == 0], 0.0, atol=1e-12)


@settings(max_examples=20)
@given(rough_probabilities(), st.booleans())
def test_the_choice_is_never_worse_than_none(sample, forward):
    p, y = sample
    folds = np.array_split(np.arange(len(y)), 4) if forward else folds_of(len(y), 4)
    calibrator, crossed = choose_many(p, y, folds, forward=forward)
    assert log_loss_many(y, crossed) <= log_loss_many(y, p)
    np.testing.assert_allclose(crossed.sum(axis=1), 1.0)
    if isinstance(calibrator, NoCalibration):
        np.testing.assert_array_equal(crossed, p)
        np.testing.assert_array_equal(calibrator.apply(p), p)


@settings(max_examples=30)
@given(rough_probabilities())
def test_the_temperature_is_that_of_the_least_loss(sample):
    p, y = sample
    logs = np.log(np.maximum(p, LEAST))

    def loss(sharpness):
        return log_loss_many(y, np.maximum(softmax(np.exp(sharpness) * logs, axis=1), 1e-300))

    fitted = Temperature().fit(p, y)
    plain = minimize_scalar(loss, bounds=np.log([0.01, 100]), method="bounded")
    assert loss(-np.log(fitted.temperature_)) <= plain.fun + 1e-6
    assert fitted.floor_ == 0.0


@pytest.mark.parametrize("temperature", [0.2, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("floor", [False, True])
def test_a_planted_temperature_is_found_and_undone(temperature, floor):
    """A floor that is not there is not found."""
    logits, y = outcomes(0)
    fitted = Temperature(floor).fit(softmax(logits * temperature, axis=1), y)
    assert fitted.temperature_ == pytest.approx(temperature, rel=0.05)
    assert fitted.floor_ < 0.01
    applied = fitted.apply(softmax(logits * temperature, axis=1))
    assert np.abs(applied - softmax(logits, axis=1)).mean() < 0.005


def saturated(a: float, b: float, n: int = 8000):
    """Probabilities, and classes drawn by normalised sigmoids of their logarithms."""
    rng = np.random.default_rng(5)
    p = softmax(2 * rng.normal(size=(n, 12)), axis=1)
    truth = Saturation()
    truth.a_, truth.b_ = a, b
    return p, (rng.random(n)[:, None] > truth.apply(p).cumsum(axis=1)).sum(axis=1).clip(0, 11)


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (0.6, 1.5), (2.0, 3.0)])
def test_a_planted_saturation_is_found_and_chosen(a, b):
    p, y = saturated(a, b)
    found, crossed = choose_many(p, y, folds_of(8000))
    assert isinstance(found, Saturation)
    assert (found.a_, found.b_) == pytest.approx((a, b), rel=0.12, abs=0.15)
    assert log_loss_many(y, crossed) < log_loss_many(y, p)


@settings(max_examples=20)
@given(rough_probabilities())
def test_the_saturation_is_that_of_the_least_loss(sample):
    p, y = sample
    best = Saturation().fit(p, y)
    lowest = log_loss_many(y, best.apply(p))
    for a, b in [(0.8, 0.0), (1.25, 0.0), (1.0, 0.5), (1.0, -0.5)]:
        other = Saturation()
        other.a_, other.b_ = np.clip(best.a_ * a, 0.01, 100), np.clip(best.b_ + b, -20, 20)
        assert lowest <= log_loss_many(y, other.apply(p)) + 1e-5


def test_a_planted_floor_is_found_and_chosen():
    logits, y = outcomes(1)
    rng = np.random.default_rng(1)
    astray = rng.random(len(y)) < 0.1
    y[astray] = rng.integers(0, 12, astray.sum())  # one in ten is anything
    p = softmax(3 * logits, axis=1)
    calibrator, _ = choose_many(p, y, folds_of(len(y)))
    assert calibrator.name == "temperature and floor"
    assert calibrator.floor_ == pytest.approx(0.1, abs=0.02)
    assert calibrator.temperature_ == pytest.approx(3, rel=0.1)
    assert np.abs(calibrator.apply(p) - (0.9 * softmax(logits, axis=1) + 0.1 / 12)).mean() < 0.005


@pytest.mark.parametrize("seed", range(3))
def test_what_is_calibrated_stays_as_it_is(seed):
    logits, y = outcomes(seed)
    truth = softmax(logits, axis=1)
    calibrator, crossed = choose_many(truth, y, folds_of(len(y)))
    assert np.abs(calibrator.apply(truth) - truth).max() < 0.03
    assert np.abs(crossed - truth).mean() < 0.002


def test_a_class_called_impossible_happens_and_costs_no_more_than_it_must():
    """As with neighbours and trees: a temperature flattens everything to pay for it, a floor does not."""
    logits, y = outcomes(2)
    p = softmax(logits, axis=1)
    p[p < 0.02] = 0.0
    p /= p.sum(axis=1, keepdims=True)
    assert (p[np.arange(len(y)), y] == 0).mean() > 0.01
    calibrator, crossed = choose_many(p, y, folds_of(len(y)))
    assert calibrator.name == "temperature and floor"
    alone = Temperature().fit(p, y).apply(p)
    assert log_loss_many(y, crossed) < log_loss_many(y, alone) - 0.1
    assert log_loss_many(y, crossed) < log_loss_many(y, softmax(logits, axis=1)) + 0.1


def test_of_two_classes_a_temperature_is_the_binary_slope_without_intercept():
    logits, y = outcomes(3, k=2)
    p = softmax(2.5 * logits, axis=1)
    fitted = Temperature().fit(p, y)
    binary = BetaCalibration(tied=True).fit(p[:, 1], y)
    assert 1 / fitted.temperature_ == pytest.approx(binary.a_, rel=0.02)
    _, crossed = choose_many(p, y, folds_of(len(y)))
    _, crossed_binary = choose(p[:, 1], y, folds_of(len(y)))
    np.testing.assert_allclose(crossed[:, 1], crossed_binary, atol=0.02)


def test_a_fold_does_not_see_its_own_classes():
    logits, y = outcomes(4, 1500)
    p, folds = softmax(3 * logits, axis=1), folds_of(1500)
    calibrator, crossed = choose_many(p, y, folds)
    other = y.copy()
    other[folds[0][:40]] = (y[folds[0][:40]] + 1) % 12
    again_by, again = choose_many(p, other, folds)
    assert again_by.name == calibrator.name
    np.testing.assert_array_equal(again[folds[0]], crossed[folds[0]])
    assert not np.array_equal(again[folds[1]], crossed[folds[1]])


def test_forward_no_fold_sees_a_later_one():
    (p, y), folds = saturated(1.0, 2.0, 6000), np.array_split(np.arange(6000), 4)
    calibrator, crossed = choose_many(p, y, folds, forward=True)
    np.testing.assert_array_equal(crossed[folds[0]], p[folds[0]])
    other = y.copy()
    other[folds[2][:5]] = (y[folds[2][:5]] + 1) % 12
    again_by, again = choose_many(p, other, folds, forward=True)
    assert again_by.name == calibrator.name
    np.testing.assert_array_equal(again[: folds[3][0]], crossed[: folds[3][0]])
    assert not np.array_equal(again[folds[3]], crossed[folds[3]])


@settings(max_examples=40)
@given(rough_probabilities())
def test_a_few_rows_at_a_time_change_nothing(sample):
    p, y = sample
    whole = Temperature().fit(p, y)
    applied = whole.apply(p)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "CELLS", 7)
        np.testing.assert_allclose(whole.apply(p), applied)
        assert Temperature().fit(p, y).temperature_ == pytest.approx(whole.temperature_)


@pytest.mark.parametrize("floor", [False, True])
def test_all_right_all_wrong_and_all_alike(floor):
    sure = np.eye(3)[[0, 1, 2, 0]]
    right = Temperature(floor).fit(sure, np.array([0, 1, 2, 0]))
    np.testing.assert_allclose(right.apply(sure), sure, atol=0.01)
    wrong = Temperature(floor).fit(sure, np.array([1, 2, 0, 1]))
    assert wrong.apply(sure).max() < 0.5
    alike = Temperature(floor).fit(np.full((4, 3), 1 / 3), np.array([0, 1, 2, 0]))
    assert (alike.temperature_, alike.floor_) == (1.0, 0.0)
    np.testing.assert_allclose(alike.apply(sure), sure, atol=1e-9)


def test_single_precision_and_five_thousand_classes():
    rng = np.random.default_rng(6)
    logits = rng.normal(size=(60, 5000)).astype(np.float32)
    y = rng.integers(0, 5000, 60)
    logits[np.arange(60), y] += 8
    p = softmax(4 * logits, axis=1).astype(np.float32)
    assert (p == 0).sum() + (p < LEAST).sum() > 0
    calibrator, crossed = choose_many(p, y, folds_of(60, 3))
    assert crossed.dtype == np.float64
    np.testing.assert_allclose(crossed.sum(axis=1), 1.0)
    np.testing.assert_array_equal(calibrator.apply(p).argmax(axis=1), p.argmax(axis=1))


def test_folds_that_leave_one_class_give_no_calibration():
    p = np.array([[0.8, 0.2], [0.7, 0.3], [0.4, 0.6], [0.3, 0.7]])
    calibrator, crossed = choose_many(p, np.array([0, 0, 0, 1]), [np.array([0, 1, 2]), np.array([3])])
    assert isinstance(calibrator, NoCalibration)
    np.testing.assert_array_equal(crossed, p)


def test_a_calibrator_comes_back_from_a_copy():
    from sklearn.base import clone

    assert clone(Temperature(floor=True)).name == "temperature and floor"
    assert clone(Temperature()).name == "temperature"
