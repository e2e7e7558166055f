"""Not answering: the curve is the textbook's, the threshold never turns away more than allowed, intervals hold."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_samples import binary_samples
from scipy.stats import binomtest

from cxlab.metrics.abstention import abstention_threshold, aurc, risk_coverage
from cxlab.metrics.bootstrap import resampled

SHARES = st.sampled_from([0.0, 0.01, 0.05, 0.1, 0.29, 0.5, 0.999])
TIED = st.lists(st.integers(0, 6).map(lambda level: level / 6), min_size=1, max_size=60)


def mean_risk(wrong, confidence):
    """Answer one row more at a time; of equal confidences each is as likely to be the next."""
    order = np.argsort(-confidence, kind="stable")
    wrong, confidence = np.asarray(wrong, float)[order], confidence[order]
    evened = np.array([wrong[confidence == own].mean() for own in confidence])
    return np.mean(np.cumsum(evened) / np.arange(1, len(wrong) + 1))


def answers(rng, n, right=0.9):
    """Confidences, and answers that are right as often as they say, on average `right`."""
    confidence = rng.beta(9 * right, 9 * (1 - right), n)
    return (rng.random(n) < confidence).astype(int), confidence


@given(binary_samples())
def test_the_area_is_the_mean_risk(sample):
    correct, confidence = sample
    found = risk_coverage(correct, confidence, resamples=20)
    assert found.area.value == pytest.approx(mean_risk(1 - correct, confidence))
    assert found.area.low <= found.area.value <= found.area.high


@given(binary_samples(), st.data())
def test_a_weight_is_a_repeated_row(sample, data):
    correct, confidence = sample
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(correct), max_size=len(correct))))
    weights[0] += 1
    drawn = aurc(1 - correct, confidence, weights[None])
    assert drawn[0] == pytest.approx(mean_risk(np.repeat(1 - correct, weights), np.repeat(confidence, weights)))


@given(binary_samples(), st.integers(0, 100))
def test_shuffling_rows_changes_nothing(sample, seed):
    correct, confidence = sample
    rows = np.random.default_rng(seed).permutation(len(correct))
    one = risk_coverage(correct, confidence, resamples=5)
    other = risk_coverage(correct[rows], confidence[rows], resamples=5)
    assert one.area.value == pytest.approx(other.area.value)
    shown = ["coverage", "n", "confidence", "wrong", "risk"]
    np.testing.assert_allclose(one.frame()[shown], other.frame()[shown], atol=1e-12)


@given(binary_samples(), st.sampled_from([0.05, 0.3, 1.0]))
def test_the_curve_ends_with_every_row(sample, step):
    correct, confidence = sample
    found = risk_coverage(correct, confidence, step=step, resamples=20)
    frame = found.frame()
    last = frame.iloc[-1]
    assert (last.coverage, last.n, last.risk) == pytest.approx((1.0, len(correct), 1 - correct.mean()))
    assert frame.n.is_monotonic_increasing
    assert frame.confidence.is_monotonic_decreasing
    assert (np.diff(frame.wrong, prepend=0.0) > -1e-9).all()
    assert ((frame.low >= 0) & (frame.low <= frame.risk) & (frame.risk <= frame.high) & (frame.high <= 1)).all()


@given(binary_samples())
def test_only_the_order_of_confidences_counts(sample):
    correct, confidence = sample
    one, other = (risk_coverage(correct, c, resamples=5) for c in (confidence, 7 * confidence**3 - 2))
    assert one.area == other.area


@given(binary_samples(distinct=True))
def test_no_order_is_better_than_the_right_rows_first_nor_worse_than_last(sample):
    correct, confidence = sample
    found = aurc(1 - correct, confidence)
    assert aurc(1 - correct, correct + 0.0) <= found + 1e-12
    assert found <= aurc(1 - correct, 1.0 - correct) + 1e-12


@given(binary_samples())
def test_a_confidence_that_says_nothing_has_the_risk_of_all(sample):
    correct, _ = sample
    frame = risk_coverage(correct, np.full(len(correct), 0.5), resamples=5).frame()
    np.testing.assert_allclose(frame.risk, 1 - correct.mean())


def test_a_draw_is_the_curve_of_its_rows():
    rng = np.random.default_rng(0)
    correct, confidence = answers(rng, 80)
    confidence = np.round(confidence, 1)
    weights = np.concatenate(list(resampled(80, resamples=30, seed=2))).astype(int)
    drawn = [risk_coverage(np.repeat(correct, w), np.repeat(confidence, w), resamples=1).frame().risk for w in weights]
    found = risk_coverage(correct, confidence, resamples=30, seed=2, level=0.9).frame()
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
    assert (found.low <= low + 1e-12).all()
    assert (found.high >= high - 1e-12).all()
    np.testing.assert_allclose(found.high.iloc[-1], max(high[-1], found.high.iloc[-1]))


def test_the_band_and_the_area_cover_the_truth():
    """200 worlds; at most two standard errors below the promised 95 %."""
    rng = np.random.default_rng(6)
    correct, confidence = answers(rng, 400_000)
    truth = risk_coverage(correct, confidence, step=0.25, resamples=1)
    covered = np.zeros((200, 5), dtype=bool)
    for world in covered:
        found = risk_coverage(*answers(rng, 300), step=0.25, resamples=200)
        inside = found.frame().low <= truth.frame().risk
        world[:4] = inside & (truth.frame().risk <= found.frame().high)
        world[4] = found.area.low <= truth.area.value <= found.area.high
    assert (covered.mean(axis=0) >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / 200)).all(), covered.mean(axis=0)


def test_no_wrong_answer_among_few_is_not_certainty():
    frame = risk_coverage([1] * 20, np.linspace(0, 1, 20), resamples=50).frame()
    assert (frame.risk == 0).all()
    assert frame.high.iloc[-1] > 0.1
    assert frame.high.is_monotonic_decreasing


@pytest.mark.parametrize("n", [1, 2, 300])
def test_plots_show_the_frame(n):
    correct, confidence = answers(np.random.default_rng(0), n)
    curve = risk_coverage(correct, confidence, resamples=20)
    np.testing.assert_allclose(curve.plot().lines[-1].get_ydata(), curve.frame().risk)
    rule = abstention_threshold(confidence, max_false_rejection=0.1)
    np.testing.assert_allclose(rule.plot().lines[-1].get_xdata(), rule.threshold)
    assert "<table" in curve._repr_html_() + rule._repr_html_()
    plt.close("all")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"correct": [0, 2]}, r"y holds 2, must be 0 or 1"),
        ({"confidence": [0.1]}, r"confidence has shape \(1,\), must be \(2,\)"),
        ({"confidence": [0.1, np.nan]}, r"confidence is nan in row 1"),
        ({"step": 0.0}, r"step == 0.0, must be in \(0, 1\]"),
        ({"resamples": 0}, r"resamples == 0, must be >= 1"),
        ({"level": 95}, r"level == 95, must be in \(0, 1\)"),
    ],
)
def test_bad_input_of_the_curve_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        risk_coverage(**({"correct": [0, 1], "confidence": [0.1, 0.2]} | change))


# The threshold.


@given(TIED, SHARES)
def test_never_more_is_turned_away_than_allowed_and_no_threshold_is_higher(confidence, allowed):
    found = abstention_threshold(confidence, max_false_rejection=allowed)
    turned_away = found.abstains(confidence)
    assert turned_away.sum() == found.rejected
    assert found.rejected <= allowed * len(confidence) + 1e-9
    assert found.share.low <= found.share.value == found.rejected / found.n <= found.share.high
    higher = [c for c in confidence if c > found.threshold]
    if higher:
        assert np.sum(np.array(confidence) < min(higher)) > allowed * len(confidence) - 1e-9


@given(TIED, SHARES, st.integers(0, 100))
def test_the_order_of_rows_changes_no_threshold(confidence, allowed, seed):
    rows = np.random.default_rng(seed).permutation(len(confidence))
    one = abstention_threshold(confidence, max_false_rejection=allowed)
    other = abstention_threshold(np.array(confidence)[rows], max_false_rejection=allowed)
    assert one.frame().equals(other.frame())


@given(TIED)
def test_allowing_more_never_lowers_the_threshold(confidence):
    found = [abstention_threshold(confidence, max_false_rejection=share) for share in (0.0, 0.1, 0.3, 0.6, 0.9)]
    thresholds = [each.threshold for each in found]
    assert thresholds == sorted(thresholds)
    assert (found[0].threshold, found[0].rejected) == (min(confidence), 0)


@given(st.integers(1, 80), SHARES)
def test_the_interval_is_the_one_of_scipy(n, allowed):
    found = abstention_threshold(np.arange(n), max_false_rejection=allowed, level=0.9)
    plain = binomtest(found.rejected, n).proportion_ci(0.9, method="exact")
    assert (found.share.low, found.share.high) == pytest.approx((plain.low, plain.high))
    if allowed > 0:
        at_most = binomtest(found.rejected, n, allowed, alternative="less").pvalue
        assert found.certainty == pytest.approx(1 - at_most)


@pytest.mark.parametrize("digits", [6, 1])
@pytest.mark.parametrize("allowed", [0.0, 0.05, 0.3])
def test_the_interval_covers_the_share_of_new_rows(digits, allowed):
    """1,000 worlds of 60 rows, with ties and without; at most two standard errors below the promised 95 %."""
    rng = np.random.default_rng(9)
    fresh = np.sort(np.round(rng.beta(5, 2, 1_000_000), digits))
    covered = np.zeros(1000, dtype=bool)
    for world in range(len(covered)):
        found = abstention_threshold(np.round(rng.beta(5, 2, 60), digits), max_false_rejection=allowed)
        share = np.searchsorted(fresh, found.threshold, side="left") / len(fresh)
        covered[world] = found.share.low <= share <= found.share.high
    assert covered.mean() >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / len(covered))


def test_the_certainty_is_how_often_new_rows_are_turned_away_no_more_than_allowed():
    rng = np.random.default_rng(10)
    kept = 0
    for _ in range(2000):
        found = abstention_threshold(rng.random(200), max_false_rejection=0.05)
        kept += found.threshold <= 0.05  # of a uniform confidence the share below t is t
    assert found.rejected == 10
    assert binomtest(kept, 2000, found.certainty).pvalue > 0.01
    assert 0.3 < found.certainty < 0.6


def test_nothing_is_certain_where_nothing_may_be_turned_away():
    found = abstention_threshold([0.3, 0.7], max_false_rejection=0.0)
    assert (found.threshold, found.rejected, found.certainty, found.share.low) == (0.3, 0, 0.0, 0.0)
    assert found.share.high > 0.5


@pytest.mark.parametrize("confidence", [[0.4], [0.4] * 50])
@pytest.mark.parametrize("allowed", [0.0, 0.5, 0.99])
def test_one_row_or_one_confidence_is_answered(confidence, allowed):
    found = abstention_threshold(confidence, max_false_rejection=allowed)
    assert (found.threshold, found.rejected) == (0.4, 0)
    assert found.abstains([0.39, 0.4, np.nan]).tolist() == [True, False, True]


def test_a_share_is_not_lost_to_rounding():
    found = abstention_threshold(np.arange(100), max_false_rejection=0.29)  # 0.29 * 100 is 28.999...
    assert (found.threshold, found.rejected) == (29.0, 29)
    assert " ".join(found.frame()) == "threshold n rejected share low high max_false_rejection certainty"


@pytest.mark.parametrize(
    ("confidence", "options", "message"),
    [
        ([0.1], {"max_false_rejection": 1.0}, r"max_false_rejection == 1.0, must be in \[0, 1\)\."),
        ([0.1], {"max_false_rejection": -0.1}, r"max_false_rejection == -0.1, must be"),
        ([0.1], {"max_false_rejection": float("nan")}, r"max_false_rejection == nan, must be"),
        ([], {"max_false_rejection": 0.1}, r"confidence has shape \(0,\)"),
        ([[0.1]], {"max_false_rejection": 0.1}, r"confidence has shape \(1, 1\)"),
        ([0.1, np.inf], {"max_false_rejection": 0.1}, r"confidence is inf in row 1"),
        ([0.1], {"max_false_rejection": 0.1, "level": 0}, r"level == 0, must be in"),
    ],
)
def test_bad_input_of_the_threshold_is_named(confidence, options, message):
    with pytest.raises(ValueError, match=message):
        abstention_threshold(confidence, **options)


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_the_same_seed_gives_the_same_band(seed):
    correct, confidence = answers(np.random.default_rng(seed), 50)
    one, other = (risk_coverage(correct, confidence, resamples=20, seed=seed) for _ in range(2))
    assert one.frame().equals(other.frame())
    assert one.area == other.area
