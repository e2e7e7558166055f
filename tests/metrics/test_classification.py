"""Metrics equal the textbook's, for one sample and for many draws of it."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_samples import binary_samples, weighted_samples
from sklearn import metrics as sk

from cxlab.metrics import brier, churn_metrics, ece, lift, lift_at, log_loss, pr_auc, roc_auc

METRICS = churn_metrics(0.2)
IDS = [metric.name for metric in METRICS]


def plain_ece(y, p):
    """Bin by bin, as in the paper."""
    total = 0.0
    for low, high in zip(np.arange(15) / 15, np.arange(1, 16) / 15, strict=True):
        inside = (p > low) & (p <= high) if low > 0 else p <= high
        if inside.any():
            total += inside.mean() * abs(y[inside].mean() - p[inside].mean())
    return total


def plain_lift(y, p):
    ranked = sorted(range(len(y)), key=lambda i: -p[i])
    top = ranked[: max(1, len(y) // 5)]
    return np.mean(y[top]) / np.mean(y)


PLAIN = [sk.roc_auc_score, sk.average_precision_score, sk.log_loss, sk.brier_score_loss, plain_ece, plain_lift]


@pytest.mark.parametrize(("metric", "plain"), list(zip(METRICS, PLAIN, strict=True)), ids=IDS)
@given(sample=binary_samples())
def test_equals_the_textbook(metric, plain, sample):
    assert metric(*sample) == pytest.approx(plain(*sample))


@pytest.mark.parametrize("metric", METRICS, ids=IDS)
@given(sample=weighted_samples())
def test_a_weight_is_a_repeated_row(metric, sample):
    y, score, weights = sample
    repeated = metric(np.repeat(y, weights), np.repeat(score, weights))
    found = metric(y, score, np.array([weights, np.ones_like(weights), 2 * weights]))
    assert found[0] == pytest.approx(repeated)
    assert found[1] == pytest.approx(metric(y, score))
    assert found.shape == (3,)


@pytest.mark.parametrize("metric", METRICS, ids=IDS)
@given(sample=binary_samples(distinct=True), seed=st.integers(0, 100))
def test_shuffling_rows_changes_nothing(metric, sample, seed):
    y, score = sample
    rows = np.random.default_rng(seed).permutation(len(y))
    assert metric(y[rows], score[rows]) == pytest.approx(metric(y, score))


@pytest.mark.parametrize("metric", METRICS[:-1], ids=IDS[:-1])
@given(sample=binary_samples(), seed=st.integers(0, 100))
def test_shuffling_tied_rows_changes_nothing_but_lift(metric, sample, seed):
    y, score = sample
    rows = np.random.default_rng(seed).permutation(len(y))
    assert metric(y[rows], score[rows]) == pytest.approx(metric(y, score))


@given(binary_samples())
def test_turning_scores_round_turns_auc_round(sample):
    y, score = sample
    assert roc_auc(y, 1 - score) == pytest.approx(1 - roc_auc(y, score))


@given(binary_samples())
def test_ranking_metrics_read_only_the_order(sample):
    y, score = sample
    for metric in (roc_auc, pr_auc, lift(0.3)):
        assert metric(y, 5 * score**3 - 9) == metric(y, score)


@given(binary_samples())
def test_lift_of_everyone_is_one(sample):
    assert lift_at(*sample, fraction=1.0) == pytest.approx(1.0)


@given(binary_samples(), st.floats(0.01, 1.0))
def test_lift_catches_no_more_than_all(sample, fraction):
    y, score = sample
    contacted = max(1, int(fraction * len(y) + 1e-9)) / len(y)
    assert -1e-9 <= lift_at(y, score, fraction=fraction) * contacted <= 1 + 1e-9


@settings(max_examples=30)
@given(binary_samples(), st.integers(0, 100))
def test_a_shift_of_all_probabilities_shows_as_calibration_error(sample, seed):
    y, _ = sample
    assert ece(y, np.full(len(y), y.mean())) == pytest.approx(0.0, abs=1e-12)


def test_lift_ties_keep_row_order():
    assert lift_at([1, 1, 0, 0], [0.5] * 4, fraction=0.5) == 2.0
    assert lift_at([0, 0, 1, 1], [0.5] * 4, fraction=0.5) == 0.0


def test_lift_rounds_the_capacity_down_and_contacts_at_least_one():
    y, score = np.r_[1, np.zeros(99)], np.linspace(1, 0, 100)
    assert lift_at(y, score, fraction=0.29) == pytest.approx(100 / 29)  # 0.29 * 100 is 28.999...
    assert lift_at(y, score, fraction=0.298) == pytest.approx(100 / 29)
    assert lift_at(y, score, fraction=0.001) == pytest.approx(100)


@pytest.mark.parametrize("value", [0, 1])
def test_one_class_is_not_a_zero(value):
    y, score = [value] * 3, [0.1, 0.5, 0.5]
    assert np.isnan(roc_auc(y, score))
    assert np.isnan(pr_auc(y, score)) == (value == 0)
    assert np.isnan(lift_at(y, score, fraction=0.5)) == (value == 0)
    assert log_loss(y, score) > 0
    assert brier(y, score) > 0


def test_a_draw_of_one_class_is_nan_beside_good_draws():
    found = roc_auc([0, 1, 1], [0.1, 0.2, 0.3], [[1, 1, 1], [0, 1, 2], [0, 0, 0]])
    np.testing.assert_array_equal(found, [1.0, np.nan, np.nan])
    assert np.isnan(brier([0, 1], [0.1, 0.2], [[0, 0]]))[0]


def test_a_constant_score_is_guessing():
    y = [0, 1, 0, 0]
    assert roc_auc(y, [0.3] * 4) == 0.5
    assert pr_auc(y, [0.3] * 4) == 0.25


def test_sure_and_wrong_costs_much_but_not_infinitely():
    assert log_loss([1, 0], [0.0, 1.0]) == pytest.approx(sk.log_loss([1, 0], [0.0, 1.0]))


@pytest.mark.parametrize("cast", [list, pd.Series, tuple, lambda x: np.array(x, dtype=bool)])
def test_outcomes_come_in_any_form(cast):
    assert roc_auc(cast([1, 0, 1]), pd.Series([0.9, 0.1, 0.05], index=[7, 7, 2])) == 0.5


@pytest.mark.parametrize(
    ("y", "score", "weights", "message"),
    [
        ([0, 1], [0.1, np.nan], None, r"score is nan in row 1, must be a finite number\."),
        ([0, 1, 1], [np.inf, 0.2, np.nan], None, r"score is inf in row 0 \(2 such rows\)"),
        ([0, 1], [0.1], None, r"score has shape \(1,\), must be \(2,\) like y"),
        ([0, 1], [[0.1, 0.9], [0.2, 0.8]], None, r"score has shape \(2, 2\), must be \(2,\)"),
        ([], [], None, r"y has shape \(0,\)"),
        ([0, 2], [0.1, 0.2], None, r"y holds 2, must be 0 or 1"),
        (["no", "yes"], [0.1, 0.2], None, r"y holds no, must be 0 or 1"),
        ([0, np.nan], [0.1, 0.2], None, r"y holds nan, must be 0 or 1"),
        ([0, 1], [0.1, 1.2], None, r"score is 1.2 in row 1; brier needs probabilities in \[0, 1\]\."),
        ([0, 1], [0.1, 0.2], [1, 1], r"weights has shape \(2,\), must be \(B, 2\)"),
        ([0, 1], [0.1, 0.2], [[1, -1]], r"weights holds -1.0, must be >= 0"),
    ],
)
def test_bad_input_is_named(y, score, weights, message):
    with pytest.raises(ValueError, match=message):
        brier(y, score, weights)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, float("nan")])
def test_a_fraction_is_a_share(fraction):
    with pytest.raises(ValueError, match=rf"fraction == {fraction}, must be in \(0, 1\]\."):
        lift_at([0, 1], [0.1, 0.2], fraction=fraction)
