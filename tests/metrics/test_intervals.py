"""Intervals hold what they promise; comparisons are fair and never louder than the data."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_samples import binary_samples
from scipy.stats import binomtest, norm

from cxlab.errors import ParamsError
from cxlab.metrics import Metric, bootstrap, brier, churn_metrics, ece, evaluate, log_loss, roc_auc, wilson
from cxlab.metrics.bootstrap import interval, resampled

METRICS = churn_metrics(0.2)
SWAPPED = {"better": "worse", "worse": "better", "cannot tell": "cannot tell"}


def normal_scores(rng, n, *strengths, share=0.3, noise=0.5):
    """Outcomes, and for each strength probabilities whose AUC is known: correlated, as models of one data set are."""
    y = (rng.random(n) < share).astype(int)
    common = rng.normal(size=n)
    return y, [norm.cdf(s * y + np.sqrt(1 - noise) * common + np.sqrt(noise) * rng.normal(size=n)) for s in strengths]


@settings(max_examples=50)
@given(binary_samples(), st.integers(0, 5))
def test_the_interval_contains_the_value(sample, seed):
    y, score = sample
    frame = evaluate(y, {"a": score, "b": score[::-1]}, METRICS, resamples=40, seed=seed).frame().dropna()
    assert ((frame.low <= frame.value) & (frame.value <= frame.high)).all()
    bounded = frame.query("metric != 'log_loss' and metric != 'lift'")
    assert bounded[["low", "high"]].stack().between(0, 1).all()


@settings(max_examples=50)
@given(binary_samples(least=25), st.integers(0, 5))
def test_swapping_candidates_flips_sign_and_verdict(sample, seed):
    y, score = sample
    both = evaluate(y, {"a": score, "b": 0.5 * score[::-1]}, METRICS, resamples=60, seed=seed)
    one, other = both.compare("a").frame(), both.compare("b").frame()
    np.testing.assert_allclose(one.difference, -other.difference)
    np.testing.assert_allclose(one.diff_low, -other.diff_high, atol=1e-12)
    assert one.verdict.map(SWAPPED).tolist() == other.verdict.tolist()


@settings(max_examples=50)
@given(binary_samples(least=25))
def test_a_candidate_does_not_differ_from_itself(sample):
    y, score = sample
    frame = evaluate(y, {"a": score, "b": score.copy()}, METRICS, resamples=40).compare("a").frame()
    assert (frame[["difference", "diff_low", "diff_high"]].dropna() == 0).all(axis=None)
    assert set(frame.verdict) == {"cannot tell"}


@given(binary_samples(least=25))
def test_rounding_is_no_difference(sample):
    y, score = sample
    frame = evaluate(y, {"a": score, "b": score * (1 - 1e-15)}, [brier], resamples=40).compare("a").frame()
    assert frame.difference[0] == 0
    assert frame.verdict[0] == "cannot tell"


def test_one_pass_equals_the_long_way():
    y, (a, b) = normal_scores(np.random.default_rng(1), 60, 1.0, 0.2)
    found = evaluate(y, {"a": a, "b": b}, METRICS, resamples=50, seed=3)
    weights = np.concatenate(list(resampled(60, resamples=50, seed=3))).astype(int)
    for c, score in enumerate((a, b)):
        for m, metric in enumerate(METRICS):
            long_way = [metric(np.repeat(y, row), np.repeat(score, row)) for row in weights]
            np.testing.assert_allclose(found.replicates[c, m], long_way)


def test_chunks_change_no_draw(monkeypatch):
    whole = np.concatenate(list(resampled(11, resamples=20, seed=5)))
    monkeypatch.setattr(bootstrap, "CELLS", 30)
    chunks = list(resampled(11, resamples=20, seed=5))
    assert len(chunks) == 10
    np.testing.assert_array_equal(np.concatenate(chunks), whole)
    assert (whole.sum(axis=1) == 11).all()


def test_another_candidate_changes_no_interval():
    y, (a, b) = normal_scores(np.random.default_rng(1), 60, 1.0, 0.2)
    alone, both = (evaluate(y, scores, METRICS, resamples=50) for scores in ({"a": a}, {"b": b, "a": a}))
    assert alone.values("a") == both.values("a")


def test_intervals_cover_the_truth():
    """400 simulated worlds at the default resamples: at most two standard errors below the promised 95 %."""
    rng = np.random.default_rng(2024)
    truth = [norm.cdf(strength / np.sqrt(2)) for strength in (1.2, 0.9)]
    covered = np.zeros((400, 2), dtype=bool)
    for world in covered:
        y, (a, b) = normal_scores(rng, 200, 1.2, 0.9)
        found = evaluate(y, {"a": a, "b": b}, [roc_auc])
        auc = found.values("a")["roc_auc"]
        difference = found.compare("b").differences[0][0]
        world[:] = auc.low <= truth[0] <= auc.high, difference.low <= truth[0] - truth[1] <= difference.high
    assert (covered.mean(axis=0) >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / 400)).all(), covered.mean(axis=0)


def test_a_planted_difference_is_found_in_every_metric_that_sees_it():
    y, (a, b) = normal_scores(np.random.default_rng(0), 2000, 2.5, 0.5)
    verdicts = evaluate(y, {"good": a, "poor": b}, METRICS).compare("poor").frame().set_index("metric").verdict
    assert (verdicts[["roc_auc", "pr_auc", "log_loss", "brier", "lift"]] == "better").all()


def test_nothing_is_found_where_nothing_was_planted():
    """Among 100 worlds without a difference, no more verdicts than chance gives (95 % intervals, binomial at 1 %)."""
    rng = np.random.default_rng(7)
    false = 0
    for _ in range(100):
        y, (a, b) = normal_scores(rng, 200, 1.0, 1.0)
        false += evaluate(y, {"a": a, "b": b}, [roc_auc], resamples=200).compare("a").verdicts[0][0] != "cannot tell"
    assert binomtest(false, 100, 0.05, alternative="greater").pvalue > 0.01, false


@pytest.mark.parametrize(("scale", "truth"), [(1.0, 0.0), (0.9, 0.02), (0.7, 0.06)])
def test_calibration_intervals_cover_the_truth(scale, truth):
    """Resamples lie above the truth; 95 % is promised, 85 % is what 100 worlds and the lean leave."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        p = rng.beta(1, 4, 1000)
        found = evaluate(rng.random(1000) < scale * p, {"p": p}, [ece], resamples=300).values("p")["ece"]
        covered += found.low - 1e-12 <= truth <= found.high
    assert covered >= 85


def test_of_two_calibrated_models_neither_is_better_calibrated():
    """The sharper one spreads over more bins and looks worse by luck alone."""
    rng = np.random.default_rng(1)
    false = 0
    for _ in range(100):
        p = rng.random(500)
        blunt = np.where(p > 0.5, 0.75, 0.25)
        found = evaluate(rng.random(500) < p, {"sharp": p, "blunt": blunt}, [ece], resamples=300)
        false += found.compare("blunt").verdicts[0][0] != "cannot tell"
    assert binomtest(false, 100, 0.05, alternative="greater").pvalue > 0.01, false


def test_a_margin_asks_for_more():
    y, (a, b) = normal_scores(np.random.default_rng(0), 2000, 1.5, 1.2)
    found = evaluate(y, {"a": a, "b": b}, [roc_auc])
    assert found.compare("b").verdicts == (("better",),)
    assert found.compare("b", margin=0.5).verdicts == (("cannot tell",),)
    with pytest.raises(ValueError, match=r"margin == -1, must be >= 0\."):
        found.compare("b", margin=-1)


@pytest.mark.parametrize("y", [[0] * 30, [1] * 30])
def test_one_class_cannot_tell(y):
    scores = {"a": np.linspace(0, 1, 30), "b": np.linspace(0.2, 0.3, 30)}
    found = evaluate(y, scores, METRICS, resamples=20)
    assert np.isnan(found.values("a")["roc_auc"]).all()
    assert set(found.compare("a").frame().verdict) == {"cannot tell"}
    found.plot()
    found.compare("a").plot()
    plt.close("all")


def test_two_customers_give_a_value_and_no_verdict():
    found = evaluate([0, 1], {"a": [0.1, 0.9], "b": [0.9, 0.1]}, METRICS)
    assert found.values("a")["roc_auc"].value == 1.0
    assert set(found.compare("b").frame().verdict) == {"cannot tell"}


def test_few_valid_draws_give_no_ends():
    assert np.isnan(interval(0.5, np.array([0.4, np.nan, np.nan]))[1:]).all()
    assert not np.isnan(interval(0.5, np.array([0.4, 0.6, np.nan]))).any()


def test_a_new_metric_is_one_object():
    accuracy = Metric("accuracy", "Accuracy", True, lambda s: lambda draws: draws.mean((s.score > 0.5) == s.y))
    found = evaluate([0, 1, 1, 0], {"a": [0.1, 0.9, 0.2, 0.3]}, [accuracy, brier], resamples=20)
    assert found.values("a")["accuracy"].value == 0.75


def test_frames_hold_one_row_a_fact():
    y, (a, b) = normal_scores(np.random.default_rng(0), 100, 1.0, 0.5)
    found = evaluate(y, {"a": a, "b": b, "c": b}, METRICS, resamples=20)
    assert list(found.frame()) == ["candidate", "metric", "n", "positives", "value", "low", "high"]
    assert len(found.frame()) == 18
    assert set(found.frame().positives) == {y.sum()}
    compared = found.compare("b").frame()
    assert " ".join(compared) == "candidate reference metric n value difference diff_low diff_high verdict"
    assert list(compared.candidate.unique()) == ["a", "c"]
    assert "<table" in found._repr_html_()
    assert "cannot tell" in repr(found.compare("b"))


def test_plots_show_the_frame():
    y, (a, b) = normal_scores(np.random.default_rng(0), 100, 1.0, 0.5)
    found = evaluate(y, {"a": a, "b": b}, METRICS, resamples=20)
    ax = found.plot("brier")
    assert "Brier score" in ax.get_title(loc="left")
    np.testing.assert_allclose(ax.lines[0].get_xdata(), found.frame().query("metric == 'brier'").value)
    assert "lower is better" in found.compare("a").plot("log_loss").get_xlabel()
    plt.close("all")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": {"a": [0.1, np.nan]}}, r"The score of 'a' is nan in row 1"),
        ({"scores": {"a": [0.1]}}, r"The score of 'a' has shape \(1,\), must be \(2,\)"),
        ({"scores": {"a": [0.1, 3.0]}}, r"The score of 'a' is 3.0 in row 1; log_loss needs probabilities"),
        ({"scores": {}}, r"0 candidates and 2 metrics given"),
        ({"metrics": []}, r"1 candidates and 0 metrics given"),
        ({"metrics": [brier, brier]}, r"must differ by name"),
        ({"resamples": 0}, r"resamples == 0, must be >= 1\."),
        ({"level": 95}, r"level == 95, must be in \(0, 1\), 0.95 for a 95 % interval\."),
    ],
)
def test_bad_input_is_named(change, message):
    given_ = {"y": [0, 1], "scores": {"a": [0.1, 0.2]}, "metrics": [roc_auc, log_loss]}
    with pytest.raises(ValueError, match=message):
        evaluate(**(given_ | change))


def test_unknown_names_are_named():
    found = evaluate([0, 1], {"boosting": [0.1, 0.2]}, [brier], resamples=5)
    with pytest.raises(ParamsError, match="Did you mean 'boosting'"):
        found.compare("bosting")
    with pytest.raises(ParamsError, match="Did you mean 'brier'"):
        found.plot("briar")


@given(st.integers(0, 50), st.integers(0, 50), st.floats(0.5, 0.99))
def test_wilson_equals_scipy(hits, misses, level):
    n = hits + misses
    low, high = wilson(hits, n, level=level)
    if n == 0:
        assert np.isnan(low)
        assert np.isnan(high)
        return
    plain = binomtest(hits, n).proportion_ci(level, method="wilson")
    assert (low, high) == pytest.approx((plain.low, plain.high), abs=1e-9)
