"""The figures' numbers agree with the metrics and with each other."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from metric_samples import binary_samples

from cxlab.metrics import ece, gains, lift_at, reliability, roc_auc


@given(binary_samples())
def test_bins_give_the_calibration_error(sample):
    y, score = sample
    frame = reliability(y, score).frame()
    seen = frame[frame.n > 0]
    assert (seen.n * (seen.observed - seen.mean_score).abs()).sum() / len(y) == pytest.approx(ece(y, score), abs=1e-12)


@given(binary_samples())
def test_bins_hold_every_customer_once(sample):
    y, score = sample
    frame = reliability(y, score, bins=4).frame()
    seen = frame[frame.n > 0]
    assert (frame.n.sum(), frame.positives.sum()) == (len(y), y.sum())
    assert (seen.low <= seen.observed).all()
    assert (seen.observed <= seen.high).all()
    assert ((seen.bin_low - 1e-12 <= seen.mean_score) & (seen.mean_score <= seen.bin_high + 1e-12)).all()


@settings(max_examples=30)
@given(binary_samples())
def test_gains_give_the_lift_and_end_with_everyone(sample):
    y, score = sample
    frame = gains(y, score, step=0.1, resamples=20).frame()
    assert frame.lift.tolist() == pytest.approx([lift_at(y, score, fraction=k / len(y)) for k in frame.n])
    assert frame.share_caught.is_monotonic_increasing
    np.testing.assert_allclose(frame.caught / frame.positives, frame.share_caught)
    last = frame.iloc[-1]
    assert (last.contacted, last.caught, last.share_caught) == pytest.approx((1, y.sum(), 1))


def test_gains_of_chance_lie_on_the_diagonal():
    rng = np.random.default_rng(0)
    frame = gains(rng.random(5000) < 0.2, rng.random(5000), resamples=200).frame()
    assert len(frame) == 20
    inside = (frame.low <= frame.contacted) & (frame.contacted <= frame.high)
    assert inside.mean() > 0.8


def test_a_bin_without_customers_has_no_share():
    frame = reliability([0, 1], [0.05, 0.95], bins=5).frame()
    assert frame.n.tolist() == [1, 0, 0, 0, 1]
    assert frame.loc[1:3, ["mean_score", "observed", "low", "high"]].isna().all(axis=None)


def test_without_positives_gains_cannot_tell():
    frame = gains([0, 0, 0], [0.1, 0.2, 0.3], resamples=5).frame()
    assert frame.share_caught.isna().all()
    assert (frame.caught == 0).all()


@pytest.mark.parametrize("n", [2, 3, 400])
def test_plots_show_the_frame(n):
    rng = np.random.default_rng(0)
    y, score = np.arange(n) % 2, rng.random(n)
    curve, bins = gains(y, score, resamples=20), reliability(y, score)
    np.testing.assert_allclose(curve.plot().lines[-1].get_ydata()[1:], curve.frame().share_caught)
    np.testing.assert_allclose(bins.plot().lines[-1].get_ydata(), bins.frame().observed.dropna())
    assert "<table" in curve._repr_html_() + bins._repr_html_()
    plt.close("all")


def test_a_returned_frame_is_ones_own():
    curve = gains([0, 1], [0.1, 0.2], resamples=5)
    curve.frame()["lift"] = 0.0
    assert curve.frame().lift.iloc[-1] == 1.0


@pytest.mark.parametrize("step", [0.0, 1.1])
def test_a_step_is_a_share(step):
    with pytest.raises(ValueError, match=rf"step == {step}, must be in \(0, 1\]\."):
        gains([0, 1], [0.1, 0.2], step=step)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"bins == 0, must be >= 1\."):
        reliability([0, 1], [0.1, 0.2], bins=0)
    with pytest.raises(ValueError, match="needs probabilities"):
        reliability([0, 1], [0.1, 1.2])
    with pytest.raises(ValueError, match=r"y has shape \(0,\)"):
        gains([], [])
    assert np.isnan(roc_auc([1], [0.5]))
