"""Metrics of many classes equal the textbook's, for one sample and for many draws of it."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as sk

from cxlab.metrics import brier, churn_metrics, evaluate, multiclass, roc_auc
from cxlab.metrics import ece as binary_ece
from cxlab.metrics import log_loss as binary_log_loss
from cxlab.metrics.bootstrap import interval, resampled
from cxlab.metrics.multiclass import (
    accuracy,
    confusions,
    ece,
    intent_metrics,
    log_loss,
    macro_f1,
    per_class,
    top,
    top3,
)

METRICS = (*intent_metrics(), top3)
IDS = [metric.name for metric in METRICS]


@st.composite
def class_samples(draw, least=1, most=40, kinds=(2, 6), distinct=False):
    """Codes, some classes perhaps without rows, and probabilities; `distinct` leaves no ties."""
    n, k = draw(st.integers(least, most)), draw(st.integers(*kinds))
    y = np.array(draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n)))
    if distinct:
        raw = np.random.default_rng(draw(st.integers(0, 9999))).random((n, k)) + 0.01
    else:
        raw = np.array(draw(st.lists(st.integers(0, 4), min_size=n * k, max_size=n * k))).reshape(n, k) + 0.0
        raw[raw.sum(axis=1) == 0] = 1.0
    return y, raw / raw.sum(axis=1, keepdims=True)


def plain_ece(y, p):
    """Bin by bin, as in the paper."""
    sure, right = p.max(axis=1), p.argmax(axis=1) == y
    total = 0.0
    for low, high in zip(np.arange(15) / 15, np.arange(1, 16) / 15, strict=True):
        inside = (sure > low) & (sure <= high)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    return total


def plain_top3(y, p):
    return np.mean(
        [label in sorted(range(len(row)), key=lambda c: -row[c])[:3] for label, row in zip(y, p, strict=True)]
    )


PLAIN = [
    lambda y, p: sk.accuracy_score(y, p.argmax(axis=1)),
    lambda y, p: sk.f1_score(y, p.argmax(axis=1), average="macro", zero_division=0.0),
    lambda y, p: sk.log_loss(y, p, labels=range(p.shape[1])),
    plain_ece,
    plain_top3,
]


def world(rng, n, k, *rights, uneven=False):
    """Codes, and for each share of right rows a candidate whose errors go to the next class."""
    y = rng.integers(0, k, n) if not uneven else np.minimum(rng.geometric(3 / k, n) - 1, k - 1)
    found = []
    for right in rights:
        taken = np.where(rng.random(n) < right, y, (y + 1) % k)
        p = np.full((n, k), 0.1 / (k - 1))
        p[np.arange(n), taken] = 0.9
        found.append(p)
    return y, found


@pytest.mark.parametrize(("metric", "plain"), list(zip(METRICS, PLAIN, strict=True)), ids=IDS)
@given(sample=class_samples())
def test_equals_the_textbook(metric, plain, sample):
    assert metric(*sample) == pytest.approx(plain(*sample), abs=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3])
@given(sample=class_samples(kinds=(4, 6), distinct=True))
def test_top_equals_scikit_learn_where_nothing_ties(count, sample):
    y, p = sample
    assert top(count)(y, p) == pytest.approx(sk.top_k_accuracy_score(y, p, k=count, labels=range(p.shape[1])))


@pytest.mark.parametrize("metric", METRICS, ids=IDS)
@given(sample=class_samples(), data=st.data())
def test_a_weight_is_a_repeated_row(metric, sample, data):
    y, p = sample
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(y), max_size=len(y))))
    weights[0] += 1
    found = metric(y, p, np.array([weights, np.ones_like(weights), 2 * weights]))
    repeated = metric(np.repeat(y, weights), np.repeat(p, weights, axis=0))
    assert found == pytest.approx([repeated, metric(y, p), repeated], abs=1e-12)


def test_a_draw_equals_scikit_learn_on_its_rows():
    rng = np.random.default_rng(4)
    y = rng.integers(0, 7, 90)
    scores = {name: rng.dirichlet(np.full(8, 0.5), 90) for name in ("a", "b")}  # class 7 has no rows
    found = evaluate(y, scores, METRICS, resamples=40, seed=3)
    weights = np.concatenate(list(resampled(90, resamples=40, seed=3))).astype(int)
    for c, p in enumerate(scores.values()):
        for m, plain in enumerate(PLAIN):
            long_way = [plain(np.repeat(y, row), np.repeat(p, row, axis=0)) for row in weights]
            np.testing.assert_allclose(found.replicates[c, m], long_way, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS, ids=IDS)
@given(sample=class_samples(), seed=st.integers(0, 100))
def test_shuffling_rows_changes_nothing(metric, sample, seed):
    y, p = sample
    rows = np.random.default_rng(seed).permutation(len(y))
    assert metric(y[rows], p[rows]) == pytest.approx(metric(y, p), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS, ids=IDS)
@given(sample=class_samples(distinct=True), seed=st.integers(0, 100))
def test_renaming_classes_changes_nothing(metric, sample, seed):
    y, p = sample
    order = np.random.default_rng(seed).permutation(p.shape[1])
    assert metric(np.argsort(order)[y], p[:, order]) == pytest.approx(metric(y, p), abs=1e-12)


@given(class_samples())
def test_naming_more_classes_never_misses_more(sample):
    k = sample[1].shape[1]
    found = [top(count)(*sample) for count in range(1, k + 1)]
    assert found[0] == accuracy(*sample)
    assert found == sorted(found)
    assert found[-1] == 1.0


@given(class_samples(), st.integers(1, 3))
def test_comparing_a_few_rows_at_a_time_changes_nothing(sample, cells):
    whole = top3(*sample)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiclass, "CELLS", cells)
        assert top3(*sample) == whole


@given(class_samples(kinds=(2, 2)))
def test_of_two_classes_log_loss_is_the_binary_one(sample):
    y, p = sample
    assert log_loss(y, p) == pytest.approx(binary_log_loss(y, p[:, 1]))


@given(class_samples())
def test_calibration_error_is_the_binary_one_of_being_right(sample):
    y, p = sample
    assert ece(y, p) == pytest.approx(binary_ece(p.argmax(axis=1) == y, p.max(axis=1)))


def test_two_classes_give_the_interval_of_the_binary_metric():
    rng = np.random.default_rng(0)
    p = rng.random(300)
    y = (rng.random(300) < p).astype(int)
    one = evaluate(y, {"p": p}, [binary_log_loss], resamples=50).values("p")["log_loss"]
    found = evaluate(y, {"p": np.column_stack([1 - p, p])}, [log_loss], resamples=50)
    assert found.values("p")["log_loss"] == pytest.approx(one)
    assert (found.positives, found.counts) == (y.sum(), (300 - y.sum(), y.sum()))


@given(class_samples(distinct=True))
def test_single_precision_changes_little(sample):
    y, p = sample
    for metric in (accuracy, macro_f1, log_loss, top3):
        assert metric(y, p.astype(np.float32)) == pytest.approx(metric(y, p), abs=1e-5)


def test_a_class_that_is_only_predicted_counts_and_one_that_is_not_there_does_not():
    y, p = np.array([0, 0]), np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])
    assert macro_f1(y, p) == pytest.approx((2 / 3 + 0) / 2)


def test_sure_and_wrong_costs_much_but_not_infinitely():
    y, p = [0, 1], np.array([[0.0, 1.0], [1.0, 0.0]])
    assert log_loss(y, p) == pytest.approx(sk.log_loss(y, p))
    assert np.isfinite(log_loss(y, p.astype(np.float32)))


@settings(max_examples=30)
@given(class_samples(), st.integers(0, 5))
def test_the_interval_contains_the_value(sample, seed):
    y, p = sample
    frame = evaluate(y, {"a": p, "b": p[::-1]}, METRICS, resamples=30, seed=seed).frame()
    assert ((frame.low <= frame.value) & (frame.value <= frame.high)).all()
    assert frame.query("metric != 'log_loss'")[["low", "high"]].stack().between(0, 1).all()


def test_intervals_cover_the_truth_with_four_rows_a_class():
    """At most two standard errors below the promised 95 %; the percentile interval of macro F1 fails at this."""
    rng = np.random.default_rng(11)
    worlds, k = 200, 25
    right = np.linspace(0.5, 0.95, k)
    came = np.roll(1 - right, 1)  # a class's errors go to the next
    truth = right.mean(), np.mean(2 * right / (1 + right + came))
    covered = np.zeros((worlds, 2), dtype=bool)
    for row in covered:
        y = rng.integers(0, k, 4 * k)
        taken = np.where(rng.random(4 * k) < right[y], y, (y + 1) % k)
        p = 0.9 * np.eye(k)[taken] + 0.1 / k
        found = evaluate(y, {"p": p}, [accuracy, macro_f1], resamples=300).values("p")
        row[:] = [
            found[m].low <= true <= found[m].high for m, true in zip(("accuracy", "macro_f1"), truth, strict=True)
        ]
    assert (covered.mean(axis=0) >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / worlds)).all(), covered.mean(axis=0)


def test_a_calibrated_model_may_have_no_calibration_error():
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(60):
        p = rng.dirichlet(np.full(5, 0.4), 600)
        y = (rng.random(600)[:, None] > p.cumsum(axis=1)).sum(axis=1).clip(0, 4)
        held += evaluate(y, {"p": p}, [ece], resamples=100).values("p")["ece"].low == 0.0
    assert held >= 51


@pytest.mark.parametrize("uneven", [False, True])
def test_nothing_is_found_where_nothing_was_planted(uneven):
    """Among 100 worlds without a difference, no more verdicts than chance gives (95 % intervals, binomial at 1 %)."""
    rng = np.random.default_rng(8)
    false = np.zeros(2)
    for _ in range(100):
        y, (a, b) = world(rng, 150, 12, 0.9, 0.9, uneven=uneven)
        verdicts = evaluate(y, {"a": a, "b": b}, [accuracy, macro_f1], resamples=200).compare("a").verdicts[0]
        false += [verdict != "cannot tell" for verdict in verdicts]
    assert min(binomtest(int(count), 100, 0.05, alternative="greater").pvalue for count in false) > 0.01, false


def test_a_planted_difference_is_found():
    y, (good, poor) = world(np.random.default_rng(0), 800, 20, 0.9, 0.8)
    verdicts = evaluate(y, {"good": good, "poor": poor}, METRICS, resamples=200).compare("poor").frame()
    assert set(verdicts.query("metric in ['accuracy', 'macro_f1', 'log_loss']").verdict) == {"better"}


def flipped(p, rows):
    """The same probabilities but for some rows, whose likeliest class is another."""
    other = p.copy()
    other[rows] = np.roll(p[rows], 1, axis=1)
    return other


@pytest.mark.parametrize(("rows", "verdict"), [(9, "cannot tell"), (10, "better")])
def test_fewer_than_ten_rows_that_differ_cannot_tell(rows, verdict):
    """A hundred rows that both get wrong say nothing about which is better."""
    y, (p,) = world(np.random.default_rng(0), 500, 10, 1.0)
    p = flipped(p, slice(0, 100))
    found = evaluate(y, {"p": p, "worse": flipped(p, slice(100, 100 + rows))}, [accuracy, macro_f1], resamples=200)
    assert found.compare("worse").verdicts == ((verdict, verdict),)


@pytest.mark.parametrize(("rows", "verdict"), [(9, "cannot tell"), (10, "better")])
def test_probabilities_are_told_apart_with_ten_wrong_rows_though_the_same_rows_are_right(rows, verdict):
    y, (p,) = world(np.random.default_rng(0), 500, 10, 1.0)
    p = flipped(p, slice(0, rows))
    shy = 0.5 * p + 0.05
    found = evaluate(y, {"p": p, "shy": shy}, [log_loss, accuracy], resamples=200)
    assert found.compare("shy").verdicts == ((verdict, "cannot tell"),)


def test_frames_and_figures_speak_of_rows_and_classes():
    y, (a, b) = world(np.random.default_rng(0), 60, 4, 0.9, 0.5)
    found = evaluate(y, {"a": a, "b": b}, METRICS, resamples=20)
    assert " ".join(found.frame()) == "candidate metric n classes value low high"
    assert set(found.frame().classes) == {4}
    assert sum(found.counts) == 60
    assert "60 rows, 4 classes" in found.plot("macro_f1").get_title(loc="left")
    assert "customers" not in found._repr_html_() + found.compare("a")._repr_html_()
    with pytest.raises(AttributeError, match="4 classes has no positives"):
        found.positives  # noqa: B018
    binary = evaluate([0, 1], {"a": [0.1, 0.9]}, churn_metrics(0.5), resamples=5)
    assert "2 customers, 1 of them positive" in binary.plot().get_title(loc="left")
    plt.close("all")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": [0, 3]}, r"y holds 3, must be a class code, 0 to 2"),
        ({"y": [0, -1]}, r"y holds -1, must be a class code"),
        ({"y": [0, 0.5]}, r"y holds 0.5, must be a class code"),
        ({"y": ["card", "loan"]}, r"y holds card, must be a class code"),
        ({"y": []}, r"y has shape \(0,\)"),
        ({"scores": {"a": [0.1, 0.9]}}, r"The score of 'a' has shape \(2,\), must be \(2, k\)"),
        ({"scores": {"a": [[1.0], [1.0]]}}, r"The score of 'a' has shape \(2, 1\), must be \(2, k\)"),
        ({"scores": {"a": [[0.2, 0.3, 0.5]]}}, r"The score of 'a' has shape \(1, 3\), must be \(2, k\)"),
        ({"scores": {"a": [[0.2, 0.3, 0.5], [1, 1, 0]]}}, r"The score of 'a' sums to 2 in row 1"),
        ({"scores": {"a": [[0.2, 0.3, 0.5], [1.1, -0.1, 0]]}}, r"in row 1, its least is -0.1; must be probabilities"),
        ({"scores": {"a": [[np.nan, 0.5, 0.5], [1, 0, 0]]}}, r"The score of 'a' sums to nan in row 0"),
        (
            {"scores": {"a": [[0.2, 0.3, 0.5]] * 2, "b": [[0.5, 0.5]] * 2}, "y": [0, 1]},
            r"The score of 'b' has 2 columns, must have 3 like that of 'a'",
        ),
        ({"metrics": [accuracy, roc_auc]}, r"accuracy \(many classes\)', 'roc_auc \(binary\)'\], must all be"),
    ],
)
def test_bad_input_is_named(change, message):
    given_ = {"y": [0, 2], "scores": {"a": [[0.2, 0.3, 0.5]] * 2}, "metrics": [accuracy, log_loss]}
    with pytest.raises(ValueError, match=message):
        evaluate(**(given_ | change))


def test_probabilities_of_many_classes_are_no_binary_scores():
    with pytest.raises(ValueError, match=r"has shape \(2, 2\), must be \(2,\)"):
        brier([0, 1], [[0.1, 0.9], [0.2, 0.8]])
    with pytest.raises(ValueError, match=r"count == 0, must be >= 1\."):
        top(0)


@pytest.mark.parametrize("seed", range(20))
def test_both_is_as_wide_as_either(seed):
    drawn = np.random.default_rng(seed).beta(8, 2, 50)
    ends = {kind: interval(0.75, drawn, kind=kind, bounds=(0.0, 1.0)) for kind in ("percentile", "basic", "both")}
    assert ends["both"].low == min(ends["percentile"].low, ends["basic"].low)
    assert ends["both"].high == max(ends["percentile"].high, ends["basic"].high)


# One row a class.


@given(class_samples())
def test_classes_equal_scikit_learn_and_average_to_macro_f1(sample):
    y, p = sample
    k = p.shape[1]
    frame = per_class(y, p, [f"c{i}" for i in range(k)]).frame()
    by_class = frame.set_index("class").loc[[f"c{i}" for i in range(k)]]
    plain = sk.precision_recall_fscore_support(y, p.argmax(axis=1), labels=range(k), zero_division=np.nan)
    for name, values in zip(("precision", "recall", "f1"), plain[:3], strict=True):
        ends = by_class[[f"{name}_low", f"{name}_high"]]
        # F1 is undefined only where nothing happened at all.
        known = np.isfinite(values)
        np.testing.assert_allclose(by_class[name][known], values[known])
        assert ((ends.min(axis=1) <= by_class[name] + 1e-12) & (by_class[name] <= ends.max(axis=1) + 1e-12))[
            known
        ].all()
    assert by_class["n"].tolist() == plain[3].tolist()
    assert frame["f1"].mean() == pytest.approx(macro_f1(y, p))
    assert frame["right"].sum() / len(y) == pytest.approx(accuracy(y, p))
    assert frame["f1"].isna().tolist() == ((frame["n"] + frame["predicted"]) == 0).tolist()
    assert frame["f1"].dropna().is_monotonic_increasing
    assert not frame["f1"].isna()[: len(frame["f1"].dropna())].any()


def test_the_interval_of_f1_covers_the_truth():
    """400 worlds, 40 rows of the class in 400; at most two standard errors below the promised 95 %."""
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(400):
        y = (rng.random(400) > 0.1).astype(int)  # class 0 is one in ten
        taken = np.where(rng.random(400) < np.where(y == 0, 0.8, 0.95), y, 1 - y)
        row = per_class(y, np.eye(2)[taken], ["rare", "rest"]).frame().set_index("class").loc["rare"]
        covered += row.f1_low <= 2 * 0.08 / (0.1 + 0.08 + 0.045) <= row.f1_high
    assert covered / 400 >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / 400)


def test_a_class_of_few_rows_says_little_and_one_without_rows_nothing():
    y, p = [0] * 40 + [1], np.eye(3)[[0] * 40 + [1]]
    frame = per_class(y, p, ["many", "one", "none"]).frame().set_index("class")
    assert frame.loc["one", "recall_low"] < 0.3
    assert frame.loc["many", "recall_low"] > 0.9
    assert frame.loc["none", ["precision", "recall", "f1", "f1_low", "f1_high"]].isna().all()
    assert frame.index.tolist() == ["many", "one", "none"]  # of equals the one with the most rows, the undefined last


@pytest.mark.parametrize(("k", "drawn", "title"), [(77, 25, "the 25 worst of 77"), (3, 3, "F1 by class (rows)")])
def test_the_worst_classes_are_drawn(k, drawn, title):
    y, (p,) = world(np.random.default_rng(1), 40 * k, k, 0.8)
    found = per_class(y, p, [f"a_class_with_a_name_that_is_much_too_long_to_draw_{i}" for i in range(k)])
    ax = found.plot()
    assert title in ax.get_title(loc="left")
    np.testing.assert_allclose(ax.lines[0].get_xdata(), found.frame().f1[:drawn])
    assert all(len(label.get_text()) < 55 for label in ax.get_yticklabels())
    assert "<table" in found._repr_html_()
    plt.close("all")


# What is taken for what.


@given(class_samples())
def test_pairs_are_the_confusion_matrix_without_its_diagonal(sample):
    y, p = sample
    k = p.shape[1]
    found = confusions(y, p, list(range(k)))
    matrix = sk.confusion_matrix(y, p.argmax(axis=1), labels=range(k))
    np.fill_diagonal(matrix, 0)
    again = np.zeros_like(matrix)
    for row in found.frame().itertuples():
        again[row.true, row.predicted] = row.n
        assert row.of == (y == row.true).sum()
        assert row.low <= row.share == row.n / row.of <= row.high
    np.testing.assert_array_equal(again, matrix)
    assert (found.n, found.wrong) == (len(y), matrix.sum())
    assert found.frame().n.is_monotonic_decreasing


@given(class_samples(distinct=True))
def test_examples_are_of_their_pair_and_the_surest(sample):
    y, p = sample
    texts = pd.Series([f"text {i}" for i in range(len(y))], index=np.arange(len(y)) + 5)
    for row in confusions(y, p, list(range(p.shape[1])), texts).frame().itertuples():
        rows = np.flatnonzero((y == row.true) & (p.argmax(axis=1) == row.predicted))
        surest = sorted(rows, key=lambda i: -p[i].max())[:3]
        assert row.examples.split(" | ") == [f"text {i}" for i in surest]


def test_the_most_frequent_pairs_are_drawn():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 77, 3000)
    p = rng.dirichlet(np.full(77, 0.1), 3000)
    found = confusions(y, p, [f"class {i}" for i in range(77)])
    ax = found.plot()
    assert [bar.get_width() for bar in ax.patches] == found.frame().n[:20].tolist()
    assert f"20 most frequent of {len(found.frame()):,} pairs" in ax.get_title(loc="left")
    assert "examples" not in found.frame()
    plt.close("all")


def test_without_an_error_there_are_no_pairs():
    found = confusions([0, 1], np.eye(2), ["a", "b"], ["x", "y"])
    assert found.frame().empty
    assert list(found.frame())[-1] == "examples"
    assert "None of 2 rows is wrong." in [text.get_text() for text in found.plot().texts]
    assert "What is taken" in found._repr_html_()
    plt.close("all")


def test_names_and_texts_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"1 classes given, must be 2: a name for each column\."):
        per_class([0, 1], np.eye(2), ["a"])
    with pytest.raises(ValueError, match=r"1 texts given, must be 2: one a row of y\."):
        confusions([0, 1], np.eye(2), ["a", "b"], ["x"])
    with pytest.raises(ValueError, match=r"level == 95, must be in"):
        per_class([0, 1], np.eye(2), ["a", "b"], level=95)
