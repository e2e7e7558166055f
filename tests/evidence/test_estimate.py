"""An estimate without outcomes is what the outcomes will say, as long as scores mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from cxlab.evidence.estimate import MOST_ROWS, estimate_accuracy, estimate_performance
from cxlab.metrics.classification import brier, log_loss, roc_auc


@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=12), st.floats(0.05, 0.95))
def test_expected_figures_are_the_long_way(scores: list[float], threshold: float) -> None:
    p = np.array(scores)
    found = estimate_performance(p, threshold=threshold, resamples=2).values
    assert found["brier"].value == pytest.approx((p * (1 - p)).mean())
    assert found["log_loss"].value == pytest.approx(-(p * np.log(p) + (1 - p) * np.log(1 - p)).mean())
    contacted = p >= threshold
    assert found["accuracy"].value == pytest.approx(np.where(contacted, p, 1 - p).mean())
    assert found["tpr"].value == pytest.approx(p[contacted].sum() / p.sum())
    if contacted.any():
        assert found["precision"].value == pytest.approx(p[contacted].mean())
    else:
        assert np.isnan(found["precision"].value)
    above = (p[:, None] > p) + 0.5 * (p[:, None] == p)
    pairs = p[:, None] * (1 - p)
    assert found["roc_auc"].value == pytest.approx((above * pairs).sum() / pairs.sum())


@given(st.integers(0, 1000))
def test_intervals_hold_their_value_and_row_order_does_not_matter(seed: int) -> None:
    p = np.random.default_rng(seed).beta(1, 3, 80)
    found = estimate_performance(p, threshold=0.3, resamples=50, seed=seed)
    frame = found.frame()
    assert (frame["low"] <= frame["value"]).all()
    assert (frame["value"] <= frame["high"]).all()
    mixed = estimate_performance(np.sort(p), threshold=0.3, resamples=50, seed=seed).frame()
    assert mixed["value"].tolist() == pytest.approx(frame["value"].tolist())
    assert estimate_performance(p, threshold=0.3, resamples=50, seed=seed).values == found.values


@pytest.mark.parametrize("metric", [roc_auc, log_loss, brier], ids=lambda metric: metric.name)
def test_shifted_rows_are_where_the_estimate_says(metric) -> None:
    """100 simulated shifts; `benchmarks/drift.py` has 1,000, and learns the scores as well."""
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        p = expit(rng.normal(0.5, 1.2, 400) - 1)  # other customers than a training around -1 saw
        y = rng.random(400) < p
        found = estimate_performance(p, resamples=150, seed=seed).values[metric.name]
        held += found.low <= metric(y.astype(int), p) <= found.high
    assert held / 100 >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / 100)


def test_a_change_of_behaviour_is_not_seen() -> None:
    """The assumption, kept visible: scores that mean something else now mislead the estimate."""
    rng = np.random.default_rng(0)
    p = rng.beta(1, 3, 2000)
    y = (rng.random(2000) < expit(0.2 * logit(p))).astype(int)
    found = estimate_performance(p, resamples=200)
    assert log_loss(y, p) > found.values["log_loss"].high
    assert "A change of behaviour is invisible here" in found.note


def test_less_calibration_data_means_wider_intervals() -> None:
    p = np.random.default_rng(0).beta(1, 3, 2000)
    widths = []
    for known in (None, p, p[:100]):
        found = estimate_performance(p, calibrated_on=known, resamples=300).values["roc_auc"]
        widths.append(found.high - found.low)
    assert widths == sorted(widths)
    assert widths[2] > 1.5 * widths[0]
    flat = estimate_performance(np.full(50, 0.2), calibrated_on=np.full(50, 0.2), resamples=20)
    assert flat.values["roc_auc"].value == 0.5


def test_many_rows_are_sampled_and_the_note_says_so() -> None:
    p = np.random.default_rng(0).beta(1, 3, MOST_ROWS + 5)
    found = estimate_performance(p, resamples=2)
    assert (found.n, found.rows) == (MOST_ROWS, MOST_ROWS + 5)
    assert "seeded sample of 20,000 of 20,005 rows" in found.note
    assert found.plot().get_title(loc="left")


@pytest.mark.parametrize(
    ("scores", "message"),
    [([], "shape"), ([0.5, np.nan], "row 1, must be a finite number"), ([0.5, 1.5], "needs probabilities")],
)
def test_scores_that_are_no_probabilities_are_refused(scores: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimate_performance(scores)


def test_the_accuracy_of_many_classes_is_where_the_estimate_says() -> None:
    """200 samples of calibrated answers: the interval holds the share that was right about 95 times in 100."""
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        p = rng.beta(6, 2, 300)
        held += (
            (found := estimate_accuracy(p, resamples=200, seed=seed).values["accuracy"]).low
            <= ((rng.random(300) < p).mean())
            <= found.high
        )
    assert held >= 184


@given(st.integers(0, 1000))
def test_the_estimated_accuracy_is_the_mean_confidence(seed: int) -> None:
    p = np.random.default_rng(seed).beta(6, 2, 80)
    found = estimate_accuracy(p, calibrated_on=p, resamples=50, seed=seed).values["accuracy"]
    assert found.value == pytest.approx(p.mean())
    assert found.low <= found.value <= found.high
    assert estimate_accuracy(p[::-1], calibrated_on=p, resamples=50, seed=seed).values["accuracy"] == found
    with pytest.raises(ValueError, match=r"confidence is 1\.5 in row 1"):
        estimate_accuracy([0.5, 1.5])
