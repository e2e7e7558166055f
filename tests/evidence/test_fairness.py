from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_score, roc_auc_score

from cxlab.data.simulate import World, binary_world
from cxlab.errors import DataError, ParamsError
from cxlab.evidence.fairness import JUDGED, Audit, audit, audit_answers, segments_of
from cxlab.evidence.groups import METRICS
from cxlab.evidence.remedy import BY_GROUP, BY_LOT, UNTOUCHED, Scored, compare_ways
from cxlab.evidence.verdicts import COLUMNS
from cxlab.params import FairnessParams, ValueParams

QUICK = {"resamples": 100}
KEY = ["segment", "group", "metric"]


def audited(world: World, segments: pd.DataFrame | None = None, resamples: int = 300, **params: object) -> Audit:
    columns = world.frame[["segment"]] if segments is None else segments
    fairness = FairnessParams.model_validate(params)
    return audit(world.outcome, world.score, columns, world.threshold, fairness, resamples=resamples)


def small(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    group = pd.DataFrame({"g": rng.choice(["a", "b", "c"], n), "h": rng.choice(["x", None], n)})
    return rng.integers(0, 2, n), rng.integers(0, 13, n) / 12, group


@given(st.integers(0, 10_000))
def test_rates_are_fairlearns_and_scikit_learns(seed: int) -> None:
    y, score, group = small(seed)
    found = audit(y, score, group[["g"]], 0.5, FairnessParams(), **QUICK).frame()
    chosen = (score >= 0.5).astype(int)
    plain = {
        "selection_rate": selection_rate,
        "tpr": true_positive_rate,
        "fpr": false_positive_rate,
        "precision": lambda true, decided: precision_score(true, decided, zero_division=0),
    }
    theirs = MetricFrame(metrics=plain, y_true=y, y_pred=chosen, sensitive_features=group["g"]).by_group
    for row in found.itertuples():
        inside, out = (group["g"] == row.group).to_numpy(), (group["g"] != row.group).to_numpy()
        if row.metric in plain and row.of:
            assert row.value == theirs.loc[row.group, row.metric]
            rest = plain[row.metric](y[out], chosen[out])
            assert np.isnan(row.difference) or row.difference == pytest.approx(row.value - rest)
        elif row.metric == "calibration_error":
            assert row.value == pytest.approx((score - y)[inside].mean())
            assert row.difference == pytest.approx((score - y)[inside].mean() - (score - y)[out].mean())
        elif row.metric == "auc" and row.of:
            assert row.value == pytest.approx(roc_auc_score(y[inside], score[inside]))
            if len(set(y[out])) == 2:
                assert row.difference == pytest.approx(row.value - roc_auc_score(y[out], score[out]))


@given(st.integers(0, 10_000))
def test_merging_the_groups_gives_everybody(seed: int) -> None:
    y, score, group = small(seed)
    found = audit(y, score, group, 0.5, FairnessParams(), **QUICK).frame().dropna(subset=["value"])
    chosen = score >= 0.5
    overall = {"selection_rate": chosen.mean(), "tpr": chosen[y == 1].mean(), "fpr": chosen[y == 0].mean()}
    overall |= {"precision": y[chosen].mean(), "calibration_error": (score - y).mean()}
    for (_, metric), part in found.groupby(["segment", "metric"]):
        if metric in overall:
            assert (part["value"] * part["of"]).sum() / part["of"].sum() == pytest.approx(overall[metric])
    assert (found.groupby(["segment", "metric"])["n"].sum()["g"] == len(y)).all()


@given(st.integers(0, 10_000))
def test_intervals_hold_their_values_and_stay_possible(seed: int) -> None:
    y, score, group = small(seed)
    rows = audit(y, score, group, 0.5, FairnessParams(), **QUICK).frame().dropna(subset=["difference"])
    assert ((rows["low"] <= rows["value"]) & (rows["value"] <= rows["high"])).all()
    assert ((rows["diff_low"] <= rows["difference"]) & (rows["difference"] <= rows["diff_high"])).all()
    assert (rows[["diff_low", "diff_high"]].abs() <= 1 + 1e-9).all(axis=None)


@given(st.integers(0, 10_000))
def test_the_order_of_rows_changes_nothing(seed: int) -> None:
    y, score, group = small(seed)
    shuffled = np.random.default_rng(seed).permutation(len(y))
    one = audit(y, score, group, 0.5, FairnessParams(min_group=10), **QUICK).frame()
    two = audit(y[shuffled], score[shuffled], group.iloc[shuffled], 0.5, FairnessParams(min_group=10), **QUICK).frame()
    pd.testing.assert_frame_equal(one.sort_values(KEY, ignore_index=True), two.sort_values(KEY, ignore_index=True))


@given(st.integers(0, 10_000))
def test_other_names_only_move_the_rows(seed: int) -> None:
    y, score, group = small(seed)
    names = {"a": "z", "b": "y", "c": "x"}
    one = audit(y, score, group[["g"]], 0.5, FairnessParams(), **QUICK).frame().replace({"group": names})
    two = audit(y, score, group[["g"]].replace(names), 0.5, FairnessParams(), **QUICK).frame()
    exact = ["n", "positives", "of", "value", "difference"]
    pd.testing.assert_frame_equal(one.set_index(KEY)[exact].sort_index(), two.set_index(KEY)[exact].sort_index())


def test_twice_the_same_rows_say_the_same_with_more_certainty() -> None:
    world = binary_world(400, 3)
    twice = pd.concat([world.frame, world.frame], ignore_index=True)
    one, two = audited(world).frame(), audited(World(twice, world.truth, world.others, world.threshold)).frame()
    assert np.allclose(one["value"], two["value"])
    assert np.allclose(one["difference"], two["difference"])
    narrower = (two["diff_high"] - two["diff_low"]) / (one["diff_high"] - one["diff_low"])
    assert narrower.median() == pytest.approx(1 / np.sqrt(2), abs=0.06)


def test_the_same_seed_gives_the_same_audit_and_its_columns_are_stable() -> None:
    world = binary_world(300, 0)
    pd.testing.assert_frame_equal(audited(world).frame(), audited(world).frame())
    assert list(audited(world).frame()) == COLUMNS
    assert COLUMNS[:8] == ["segment", "group", "metric", "n", "positives", "value", "low", "high"]
    assert COLUMNS[8:12] == ["difference", "diff_low", "diff_high", "verdict"]


def test_a_planted_gap_is_found_and_where_it_is() -> None:
    found = audited(binary_world(3_000, 0, gap=0.3))
    assert {tuple(row) for row in found.failed[["group", "metric"]].to_numpy()} >= {("c", "tpr")}
    assert set(found.failed["metric"]) == {"tpr"}
    assert found.worst is not None
    assert (found.worst.group, found.worst.metric, found.worst.verdict) == ("c", "tpr", "fail")
    assert found.worst.low < -0.3 < found.worst.high
    gap = found.gaps().set_index("metric").loc["tpr"]
    assert gap["lowest"] == "c"
    assert gap["low"] <= 0.3 <= gap["high"]


def test_nothing_is_found_where_nothing_was_planted_and_intervals_hold_the_truth() -> None:
    simulations = 150
    held: list[bool] = []
    alarms = 0
    for seed in range(simulations):
        world = binary_world(400, seed, rates=(0.3, 0.2, 0.4))
        other = np.random.default_rng(1_000 + seed).choice(["x", "y"], 400, p=[0.7, 0.3])
        found = audited(world, world.frame[["segment"]].assign(other=other), max_difference=0.02)
        alarms += len(found.failed) > 0
        apart = world.truth - world.others
        rows = found.frame().query("segment == 'segment'")
        held += [row.diff_low <= apart.loc[row.group, row.metric] <= row.diff_high for row in rows.itertuples()]
    error = 2 * np.sqrt(0.05 * 0.95 / simulations)
    assert alarms / simulations <= 0.05 + error
    assert np.mean(held) >= 0.95 - error


def test_a_segment_of_no_meaning_passes_with_enough_rows() -> None:
    found = audited(binary_world(20_000, 0), resamples=100)
    assert set(found.frame()["verdict"]) == {"pass", "shown"}
    assert found.failed.empty


def test_only_what_is_asked_is_judged() -> None:
    verdicts = audited(binary_world(500, 0), metrics=("auc",)).frame().groupby("metric")["verdict"].unique()
    assert all((verdicts[metric] == ["shown"]).all() for metric in METRICS if metric != "auc")
    assert "shown" not in verdicts["auc"]


def test_small_groups_are_listed_and_cannot_be_told() -> None:
    world = binary_world(300, 0, shares=(0.9, 0.1))
    rows = audited(world).frame().query("metric == 'tpr'").set_index("group")
    assert (rows["verdict"] == "cannot tell").all()
    assert "fewer than 50" in rows.loc["b", "reason"]
    assert "everybody else is" in rows.loc["a", "reason"]
    assert audited(world).worst is None
    assert audited(world).gaps()["gap"].isna().all()


def test_a_group_without_positives_has_no_tpr_rather_than_zero() -> None:
    y = np.array([1, 0] * 50 + [0] * 100)
    score = np.linspace(0, 1, 200)
    segments = pd.DataFrame({"g": ["a"] * 100 + ["b"] * 100})
    rows = audit(y, score, segments, 0.5, FairnessParams(), **QUICK).frame().set_index(["group", "metric"])
    for group, reason in (("b", "no positives"), ("a", "no positives among everybody else")):
        row = rows.loc[(group, "tpr")]
        assert (row["verdict"], row["reason"]) == ("cannot tell", reason)
        assert np.isnan(row["difference"])
    assert np.isnan(rows.loc[("b", "tpr"), "value"])
    assert np.isnan(rows.loc[("b", "auc"), "low"])
    assert rows.loc[("b", "fpr"), "verdict"] != "shown"


def test_missing_values_are_a_group_and_columns_are_crossed() -> None:
    world = binary_world(600, 0)
    sex = np.random.default_rng(0).choice(["f", "m", None], 600)
    rows = audited(world, pd.DataFrame({"segment": world.frame["segment"], "sex": sex})).frame()
    assert rows["segment"].unique().tolist() == ["segment", "sex", "segment & sex"]
    assert set(rows.query("segment == 'sex'")["group"]) == {"f", "m", "(missing)"}
    assert "a & (missing)" in set(rows["group"])
    assert rows.query("segment == 'segment & sex' and metric == 'tpr'")["n"].sum() == 600


def test_a_pair_that_adds_nothing_is_left_out() -> None:
    world = binary_world(300, 0)
    same = world.frame[["segment"]].assign(copy=world.frame["segment"].str.upper(), constant=1)
    rows = audited(world, same).frame()
    assert rows["segment"].unique().tolist() == ["segment", "copy", "constant"]


def test_one_value_leaves_nothing_to_compare() -> None:
    world = binary_world(200, 0)
    rows = audited(world, pd.DataFrame({"country": ["here"] * 200})).frame()
    assert len(rows) == len(METRICS)
    assert rows["difference"].isna().all()
    assert rows["value"].notna().all()
    assert set(rows["verdict"]) == {"cannot tell", "shown"}
    assert rows["reason"].str.contains("nothing to compare").all()


def test_ten_thousand_values_share_a_group_that_says_so() -> None:
    world = binary_world(10_000, 0)
    ids = pd.DataFrame({"id": [f"c{i}" for i in range(10_000)]})
    rows = audited(world, ids, resamples=20).frame()
    assert rows["group"].nunique() == 21
    other = rows[(rows["group"] == "(other)") & (rows["metric"] == "tpr")].iloc[0]
    assert other["verdict"] == "cannot tell"
    assert "9,980 rarer groups together" in other["reason"]


def test_a_number_is_cut_at_its_quartiles() -> None:
    world = binary_world(800, 0)
    age = np.random.default_rng(0).integers(18, 90, 800).astype(float)
    age[:60] = np.nan
    rows = audited(world, pd.DataFrame({"age": age}), resamples=50).frame().query("metric == 'tpr'")
    assert len(rows) == 5
    assert rows["group"].iloc[-1] == "(missing)"
    assert rows["n"].sum() == 800
    mostly = np.where(np.arange(800) < 760, 0.0, age)
    assert "0" in set(audited(world, pd.DataFrame({"loss": mostly}), resamples=50).frame()["group"])


def test_decisions_of_several_classes_come_in_as_they_are() -> None:
    rng = np.random.default_rng(0)
    right = rng.random(400) < 0.8
    segments = pd.DataFrame({"g": rng.choice(["a", "b"], 400)})
    rows = audit(
        np.ones(400), rng.random(400), segments, 0.5, FairnessParams(metrics=("tpr",)), decision=right, **QUICK
    ).frame()
    accuracy = rows[rows["metric"] == "tpr"].set_index("group")["value"]
    assert accuracy["a"] == right[segments["g"] == "a"].mean()


def test_no_segments_and_no_rows() -> None:
    world = binary_world(50, 0)
    empty = audited(world, world.frame[[]])
    assert empty.frame().empty
    assert empty.gaps().empty
    assert empty.failed.empty
    assert empty.worst is None
    assert list(empty.frame()) == COLUMNS
    with pytest.raises(DataError, match="0 rows"):
        audit([], [], pd.DataFrame({"g": []}), 0.5, FairnessParams())


def test_bad_input_says_what_to_mend() -> None:
    world = binary_world(50, 0)
    with pytest.raises(DataError, match="Did you mean 'segment'"):
        segments_of(world.frame, ["segmnt"])
    with pytest.raises(ValueError, match="must be in \\[0, 1\\]"):
        audit(world.outcome, world.score * 2, world.frame[["segment"]], 0.5, FairnessParams())
    with pytest.raises(ValueError, match="one a row of outcome"):
        audit(world.outcome, world.score, world.frame[["segment"]].head(3), 0.5, FairnessParams())
    with pytest.raises(ValueError, match="resamples == 0"):
        audited(world, resamples=0)
    with pytest.raises(ParamsError, match="Did you mean 'tpr'"):
        audited(world).plot("tpx")
    with pytest.raises(ParamsError, match="Did you mean 'segment'"):
        audited(world).plot(segment="segmen")


def test_it_draws_and_shows_itself() -> None:
    found = audited(binary_world(400, 0, gap=0.3))
    labels = [text.get_text() for text in found.plot("tpr", "segment").get_yticklabels()]
    assert len(labels) == 3
    assert "Who is treated differently?" in found._repr_html_()
    assert found.plot().get_title(loc="left").startswith("tpr")


def scored(world: World) -> Scored:
    return Scored(world.outcome, world.score, world.frame[["segment"]])


def test_other_thresholds_close_a_planted_gap_at_a_price() -> None:
    valid, test = (binary_world(6_000, seed, gap=0.3) for seed in (0, 1))
    found = compare_ways(scored(valid), scored(test), test.threshold, FairnessParams(), ValueParams(), resamples=200)
    rows = found.frame().set_index(["way", "metric"])
    assert rows.loc[(UNTOUCHED, "tpr gap"), "value"] > 0.2
    for way in (BY_GROUP, BY_LOT):
        assert rows.loc[(way, "tpr gap"), "value"] < 0.1
        assert rows.loc[(way, "tpr gap"), "diff_high"] < 0
    assert rows.loc[(BY_LOT, "fpr gap"), "value"] < 0.1
    assert rows.loc[(BY_GROUP, "fpr gap"), "diff_low"] > 0  # what equal TPR costs the weaker group
    cuts = found.thresholds.set_index("group")["threshold"]
    assert cuts["c"] < cuts["a"]
    each = 0.3 * 120 * test.outcome - 5
    untouched = (each * (test.score >= test.threshold)).mean()
    assert rows.loc[(UNTOUCHED, "profit"), "value"] == pytest.approx(untouched)
    assert found.plot().get_title(loc="left").startswith("tpr gap")


def test_too_few_to_learn_thresholds_from() -> None:
    world = binary_world(120, 0, shares=(0.9, 0.1))
    found = compare_ways(scored(world), scored(world), world.threshold, FairnessParams(), ValueParams(), **QUICK)
    assert found.frame()["way"].iloc[-1].startswith("cannot tell")
    assert (found.thresholds["threshold"] == world.threshold).all()
    gap = found.frame().set_index("metric").loc["tpr gap"]
    assert gap[["value", "low", "high"]].isna().all()  # one group of 50: nothing to compare it with


def test_small_groups_keep_the_common_threshold() -> None:
    world = binary_world(1_000, 0, shares=(0.5, 0.47, 0.03))
    found = compare_ways(scored(world), scored(world), world.threshold, FairnessParams(), ValueParams(), **QUICK)
    cuts = found.thresholds.set_index("group")
    assert not cuts.loc["c", "own"]
    assert cuts.loc["c", "threshold"] == world.threshold
    assert set(found.frame()["way"]) == {UNTOUCHED, BY_GROUP, BY_LOT}


@given(st.integers(0, 10_000))
def test_answers_are_audited_as_choices_are(seed: int) -> None:
    """How often it answers and is right are rates of the binary audit under other names."""
    right, confidence, group = small(seed)
    answered = np.random.default_rng(seed).integers(0, 2, len(right))
    params = FairnessParams(min_group=5)
    found = audit_answers(right, confidence, answered, group, params, **QUICK).frame().set_index(KEY)
    as_choice = audit(right, confidence, group, 0.5, params, decision=answered, **QUICK).frame()
    names = {"answered": "selection_rate", "accuracy_answered": "precision", "calibration_error": "calibration_error"}
    exact = ["n", "of", "value", "difference", "low", "high", "diff_low", "diff_high"]
    for name, rate in names.items():
        one = found.xs(name, level="metric")[exact]
        two = as_choice[as_choice["metric"] == rate].set_index(KEY[:2])[exact]
        pd.testing.assert_frame_equal(one, two)
    as_rate = audit(np.ones_like(right), confidence, group, 0.5, params, decision=right, **QUICK).frame()
    same = as_rate[as_rate["metric"] == "selection_rate"].set_index(KEY[:2])[["value", "difference"]]
    pd.testing.assert_frame_equal(found.xs("accuracy", level="metric")[["value", "difference"]], same)
    asked = set(found[found["verdict"] != "shown"].reset_index()["metric"])
    assert asked == set(JUDGED)


def test_random_groups_of_texts_fail_nothing_and_a_worse_one_does() -> None:
    failed = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        confidence = rng.beta(8, 2, 900)
        right = rng.random(900) < confidence
        group = pd.DataFrame({"style": rng.choice(["formal", "short", "slang"], 900)})
        failed += len(audit_answers(right, confidence, confidence > 0.5, group, FairnessParams(), **QUICK).failed)
        worse = right & ~((group["style"] == "slang").to_numpy() & (rng.random(900) < 0.5))
        found = audit_answers(worse, confidence, confidence > 0.5, group, FairnessParams(), **QUICK).failed
        assert ("slang", "accuracy") in {tuple(row) for row in found[["group", "metric"]].to_numpy()}
    assert failed == 0


def test_the_audit_of_answers_says_what_it_judges() -> None:
    one, ends = pd.DataFrame({"g": ["a", "b"] * 60}), np.ones(120)
    found = audit_answers(ends, ends, 1 - ends, one, FairnessParams(metrics=("auc",)))
    rows = found.frame().set_index(KEY)
    assert rows.loc[("g", "a", "accuracy"), "value"] == 1
    assert rows.loc[("g", "a", "answered"), "value"] == 0
    assert rows.loc[("g", "a", "accuracy_answered"), "reason"] == "nobody answered"
    assert "whatever fairness.metrics says" in found.note
    assert "accuracy" in found.plot().get_title(loc="left")
    with pytest.raises(ParamsError, match="Metric"):
        found.plot("tpr")
    assert audit_answers(ends, ends, ends, one[[]], FairnessParams()).frame().empty
    with pytest.raises(DataError, match="no rows"):
        audit_answers([], [], [], one.head(0), FairnessParams())
    with pytest.raises(ValueError, match="segments has 2 rows, must be 120"):
        audit_answers(ends, ends, ends, one.head(2), FairnessParams())
