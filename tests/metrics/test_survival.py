"""Times cut short: pairs are counted as by hand, shares allow for what was not seen, and intervals hold."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.metrics.bootstrap import wilson
from cxlab.metrics.classification import roc_auc
from cxlab.metrics.survival import brier_at, calibration_at, concordance, coverage, kaplan_meier

# Weeks of remission under 6-MP (Freireich et al. 1963), and Kaplan-Meier's shares with Greenwood's errors.
WEEKS = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
RELAPSED = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
LEFT = {6: (0.857, 0.0764), 7: (0.807, 0.0869), 10: (0.753, 0.0963), 13: (0.690, 0.1068), 16: (0.627, 0.1141)}
LEFT |= {22: (0.538, 0.1282), 23: (0.448, 0.1346)}


@st.composite
def cut_short(draw, most=30):
    """Few distinct times, so that everything ties with everything; risks alike."""
    n = draw(st.integers(1, most))
    lists = [st.lists(st.integers(0, top), min_size=n, max_size=n) for top in (8, 1, 5)]
    duration, observed, risk = (np.array(draw(values)) for values in lists)
    return duration.astype(float), observed.astype(bool), risk.astype(float)


def pair_by_pair(duration, observed, risk):
    right = pairs = 0.0
    for i in range(len(duration)):
        for j in range(len(duration)):
            later = duration[j] > duration[i] or (duration[j] == duration[i] and not observed[j])
            if observed[i] and later:
                pairs += 1
                right += (risk[i] > risk[j]) + (risk[i] == risk[j]) / 2
    return right, pairs


def world(rng, n, *, groups=None):
    """Exponential times of rate exp(x), cut short at random; rows of a group share x."""
    x = rng.normal(0, 0.7, n if groups is None else groups.max() + 1)
    x = x if groups is None else x[groups]
    time, until = rng.exponential(np.exp(-x)), rng.exponential(1.5, n)
    return x, np.minimum(time, until), time <= until


@given(cut_short())
def test_concordance_is_that_of_all_pairs(sample):
    right, pairs = pair_by_pair(*sample)
    found = concordance(*sample)
    assert found.pairs == pairs
    if pairs:
        assert found.value == pytest.approx(right / pairs)
        assert 0 <= found.low <= found.value <= found.high <= 1
    else:
        assert np.isnan(found[:3]).all()


@given(cut_short(), st.integers(0, 100))
def test_order_of_rows_and_scale_of_risk_do_not_matter(sample, seed):
    duration, observed, risk = sample
    rows = np.random.default_rng(seed).permutation(len(duration))
    one = concordance(duration, observed, risk)
    np.testing.assert_allclose(concordance(duration[rows], observed[rows], np.exp(risk[rows]) - 3), one)
    turned = concordance(duration, observed, -risk)
    np.testing.assert_allclose([1 - turned.value, 1 - turned.high, 1 - turned.low], one[:3], atol=1e-12)


@given(cut_short())
def test_concordance_of_now_or_never_is_the_area_under_the_roc_curve(sample):
    _, positive, score = sample
    assert concordance(1.0 - positive, positive, score).value == pytest.approx(
        roc_auc(positive.astype(int), score), nan_ok=True
    )


def test_the_interval_of_concordance_is_the_jackknife_s():
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 60, 300)
    x, duration, observed = world(rng, 300, groups=groups)
    found = concordance(duration, observed, x, groups=groups)
    left_out = []
    for group in np.unique(groups):
        kept = groups != group
        left_out.append(concordance(duration[kept], observed[kept], x[kept]).value)
    spread = np.sqrt(np.sum((np.array(left_out) - np.mean(left_out)) ** 2))
    rows = found.value * (1 - found.value) / spread**2
    np.testing.assert_allclose(found[1:3], np.ravel(wilson(found.value * rows, rows)), atol=0.01)
    alone = concordance(duration, observed, x)
    assert found.high - found.low > 1.3 * (alone.high - alone.low)  # rows of a group are not independent


def test_pairs_that_all_agree_still_leave_doubt():
    found = concordance([1, 2, 3, 4, 5, 6], np.ones(6), [6, 5, 4, 3, 2, 1])
    assert (found.value, found.high, found.pairs) == (1, 1, 15)
    assert found.low == pytest.approx(float(wilson(3, 3)[0]))


def test_kaplan_meier_of_remissions():
    found = kaplan_meier(WEEKS, RELAPSED)
    frame = found.frame()
    assert (found.n, found.events, frame.time.tolist()) == (21, 9, list(LEFT))
    share, error = np.array(list(LEFT.values())).T
    np.testing.assert_allclose(frame.survival, share, atol=6e-4)
    rows = share * (1 - share) / error**2
    np.testing.assert_allclose(frame[["low", "high"]].T, wilson(share * rows, rows), atol=2e-3)
    np.testing.assert_allclose(found.at([5.9, 6, 35, 35.1]), [1, 0.857, 0.448, np.nan], atol=6e-4)


@given(cut_short())
def test_all_seen_is_a_plain_share_with_wilson_s_interval(sample):
    duration, observed, _ = sample
    frame = kaplan_meier(duration, np.ones_like(observed)).frame()
    n = len(duration)
    left = np.array([(duration > time).sum() for time in frame.time])
    np.testing.assert_allclose(frame.survival, left / n, atol=1e-12)
    np.testing.assert_allclose(frame[["low", "high"]].T, wilson(left, n), atol=1e-9)


@given(cut_short(), st.integers(0, 8))
def test_a_single_bin_is_kaplan_meier(sample, horizon):
    duration, observed, _ = sample
    whole = kaplan_meier(duration, observed)
    row = calibration_at(duration, observed, np.full(len(duration), 0.5), horizon).frame().iloc[0]
    assert row.observed == pytest.approx(1 - whole.at(horizon), nan_ok=True)
    steps = whole.frame()[whole.frame().time <= horizon]
    if len(steps) and 0 < row.observed < 1:
        np.testing.assert_allclose([1 - row.high, 1 - row.low], steps.iloc[-1][["low", "high"]].astype(float))


@given(cut_short(), st.integers(0, 8))
def test_known_outcomes_weigh_as_much_as_all_rows(sample, horizon):
    """The score of a probability of 0 is Kaplan-Meier's share within, that of 1 the share beyond."""
    duration, observed, _ = sample
    beyond = kaplan_meier(duration, observed).at(horizon)
    one, other = (brier_at(duration, observed, np.full(len(duration), p), horizon) for p in (1.0, 0.0))
    np.testing.assert_allclose([one.value, other.value], [beyond, 1 - beyond], atol=1e-12)


@given(cut_short(), st.floats(0.1, 10))
def test_the_unit_of_time_does_not_matter(sample, unit):
    duration, observed, risk = sample
    low, high = np.maximum(risk - 1, 0), risk + 2
    np.testing.assert_allclose(
        coverage(unit * duration, observed, unit * low, unit * high), coverage(duration, observed, low, high), atol=1e-9
    )


@given(cut_short())
def test_coverage_of_what_was_seen_is_a_plain_share(sample):
    duration, observed, risk = sample
    low, high = np.maximum(risk - 1, 0), np.where(risk == 5, np.inf, risk + 1)
    inside = ((low <= duration) & (duration <= high)).sum()
    found = coverage(duration, np.ones_like(observed), low, high)
    assert found.value == pytest.approx(inside / len(duration))
    np.testing.assert_allclose(found[1:], np.ravel(wilson(inside, len(duration))), atol=1e-9)


@given(cut_short())
def test_an_interval_of_everything_covers_everything(sample):
    duration, observed, _ = sample
    zero = np.zeros(len(duration))
    found = coverage(duration, observed, zero, zero + np.inf)
    assert (found.value, found.high) == (1, 1)


def test_groups_of_one_are_no_groups_and_repeated_rows_say_nothing_new():
    rng = np.random.default_rng(2)
    x, duration, observed = world(rng, 200)
    p = np.clip(1 - np.exp(-np.exp(x)), 0, 1)
    twice = np.repeat(np.arange(200), 2)
    low, high = 0.1 * np.exp(-x), 2.3 * np.exp(-x)
    for measure in (
        lambda rows, groups: concordance(duration[rows], observed[rows], x[rows], groups=groups)[:3],
        lambda rows, groups: brier_at(duration[rows], observed[rows], p[rows], 1.0, groups=groups),
        lambda rows, groups: coverage(duration[rows], observed[rows], low[rows], high[rows], groups=groups),
        lambda rows, groups: (
            calibration_at(duration[rows], observed[rows], p[rows], 1.0, bins=1, groups=groups)
            .frame()[["observed", "low", "high"]]
            .to_numpy()
        ),
    ):
        plain = measure(np.arange(200), None)
        np.testing.assert_allclose(measure(np.arange(200), [f"case {i}" for i in range(200)]), plain)
        np.testing.assert_allclose(measure(twice, twice), plain, atol=0.004)  # pairs within a case are none


def test_intervals_hold_the_truth_and_what_ignores_censoring_does_not():
    """300 worlds of 200 rows, two fifths of them cut short: at most two standard errors below the promised 95 %."""
    rng = np.random.default_rng(8)
    x, duration, observed = world(rng, 300_000)
    risk = 1 - np.exp(-np.exp(x))
    truth = [risk.mean(), 0.8, brier_at(duration, observed, risk, 1.0).value, concordance(duration, observed, x).value]
    assert truth[2] == pytest.approx((risk * (1 - risk)).mean(), abs=2e-3)
    hits, naive = np.zeros((300, 4), dtype=bool), np.zeros((300, 2))
    for hit, ignoring in zip(hits, naive, strict=True):
        x, duration, observed = world(rng, 200)
        risk = 1 - np.exp(-np.exp(x))
        low, high = -np.log(0.9) * np.exp(-x), -np.log(0.1) * np.exp(-x)
        row = calibration_at(duration, observed, risk, 1.0, bins=1).frame().iloc[0]
        inside = coverage(duration, observed, low, high)
        brier, agreed = brier_at(duration, observed, risk, 1.0), concordance(duration, observed, x)
        ends = [(row.low, row.high), inside[1:], brier[1:], agreed[1:3]]
        hit[:] = [one <= value <= other for value, (one, other) in zip(truth, ends, strict=True)]
        ignoring[:] = (observed & (duration <= 1)).mean(), (duration > high)[observed].mean()
    assert (hits.mean(axis=0) >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / 300)).all(), hits.mean(axis=0)
    assert naive[:, 0].mean() < truth[0] - 0.1
    assert naive[:, 1].mean() < 0.1 - 0.03


def test_calibration_finds_what_was_planted():
    rng = np.random.default_rng(5)
    x, duration, observed = world(rng, 4000)
    right = calibration_at(duration, observed, 1 - np.exp(-np.exp(x)), 1.0).frame()
    assert (right.n == 400).all()
    assert ((right.low <= right.predicted) & (right.predicted <= right.high)).sum() >= 8
    shy = calibration_at(duration, observed, (1 - np.exp(-np.exp(x))) / 2, 1.0).frame()
    assert (shy.low > shy.predicted).all()


def test_what_nobody_was_followed_for_is_not_known():
    duration, observed = [1.0, 2.0, 3.0], [1, 0, 0]
    assert np.isnan(brier_at(duration, observed, [0.5] * 3, 4.0)).all()
    assert np.isfinite(brier_at(duration, observed, [0.5] * 3, 3.0)).all()
    assert np.isnan(calibration_at(duration, observed, [0.5] * 3, 4.0).frame().iloc[0].observed)
    assert np.isnan(coverage(duration, observed, [0] * 3, [9] * 3)).all()
    assert kaplan_meier([2.0], [0]).frame().empty
    assert np.isnan(concordance(duration, [0, 0, 0], [1, 2, 3]).value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kaplan_meier([], []), r"shape \(0,\), must be \(n,\) with n >= 1"),
        (lambda: kaplan_meier([1, -1], [1, 1]), "duration is -1.0 in row 1, must be a finite number >= 0"),
        (lambda: kaplan_meier([1, 2], [1, 2]), "observed holds 2, must be 0 or 1"),
        (lambda: kaplan_meier([1, 2], [1]), r"observed has shape \(1,\), must be \(2,\)"),
        (lambda: kaplan_meier([1, 2], [1, 1], level=95), r"level == 95, must be in \(0, 1\)"),
        (lambda: concordance([1, 2], [1, 1], [1, np.nan]), "risk is nan in row 1"),
        (lambda: concordance([1, 2], [1, 1], [1, 2], groups=["a"]), r"groups has shape \(1,\)"),
        (lambda: concordance([1, 2], [1, 1], [1, 2], groups=["a", None]), "none missing"),
        (lambda: brier_at([1, 2], [1, 1], [0.5, 1.5], 1), r"probability_within is 1.5 in row 1, must be in \[0, 1\]"),
        (lambda: brier_at([1, 2], [1, 1], [0.5, 0.5], -1), "horizon == -1, must be a finite number >= 0"),
        (lambda: calibration_at([1, 2], [1, 1], [0.5, 0.5], 1, bins=0), "bins == 0, must be >= 1"),
        (lambda: coverage([1, 2], [1, 1], [3, 0], [2, 1]), "low is 3.0 and high 2.0 in row 0"),
    ],
)
def test_an_error_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_results_are_drawn_and_shown():
    rng = np.random.default_rng(6)
    x, duration, observed = world(rng, 100)
    for found in (
        kaplan_meier(duration, observed),
        kaplan_meier([1.0], [0]),
        calibration_at(duration, observed, 1 - np.exp(-np.exp(x)), 1.0, bins=4),
    ):
        assert found.plot().get_title(loc="left")
        assert found.title in found._repr_html_()
        plt.close("all")
    assert kaplan_meier(WEEKS, RELAPSED).note.endswith(
        "12 of them were cut short and count for as long as they were seen."
    )
