"""Nothing is found where nothing moved, what was planted is found, and bad samples get a message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.model_selection import cross_val_predict

from cxlab.data.schema import Column, Schema, schema_of
from cxlab.data.split import make_split
from cxlab.data.table import Source, Table
from cxlab.errors import DataError
from cxlab.evidence.drift import PAGE_ROWS, Drift, compare_samples, drift_between, evidently_page, score_drift
from cxlab.evidence.estimate import performance_drift
from cxlab.evidence.over_time import over_time
from cxlab.evidence.shift import ALPHA, SCORE, Finding, adjusted, column_tests
from cxlab.models import churn
from cxlab.models.calibration import NoCalibration
from cxlab.models.subject import Subject
from cxlab.models.task import Model
from cxlab.params import DataParams, Params

COLUMNS = ["column", "test", "statistic", "p_adjusted", "missing_reference", "missing_current", "verdict"]
SUBJECT = DataParams(path="made.csv", id="customer_id", target="churn", segments=("region",))


def made(n: int, seed: int, **change: Any) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = {
        "spend": rng.normal(50, 10, n).round(2),
        "calls": rng.poisson(2, n),
        "plan": rng.choice(["basic", "plus", "pro"], n, p=[0.6, 0.3, 0.1]),
        "town": rng.choice([f"town {k}" for k in range(3000)], n),
    }
    return pd.DataFrame(frame).assign(**change)


def schema(frame: pd.DataFrame) -> Schema:
    return schema_of(frame, list(frame))


def verdicts(drift: Drift) -> dict[str, str]:
    return dict(zip(drift.frame()["column"], drift.frame()["verdict"], strict=True))


def line(drift: Drift, column: str) -> pd.Series:
    return drift.frame().set_index("column").loc[column]


def holes(column: pd.Series, share: float, seed: int = 0) -> pd.Series:
    return column.mask(np.random.default_rng(seed).random(len(column)) < share)


def subject_of(frame: pd.DataFrame, **roles: Any) -> Subject:
    params = Params(name="made", data=SUBJECT.model_copy(update=roles))
    table = Table(frame, params.data, Source("made.csv", "0" * 64, len(frame)))
    y = table.outcome()
    split = make_split(table, y, params.split)
    learnt = table.schema(split.train)
    X = learnt.encode(frame.iloc[split.train])
    plain = next(item for item in churn.TASK.candidates if item.name == "logistic")
    member = plain.build(learnt, dict(plain.default), 0)
    valid = cross_val_predict(member, X, y[split.train], cv=list(split.folds), method="predict_proba")[:, 1]
    order = np.concatenate([rows for _, rows in split.folds])
    model = Model(learnt, [member.fit(X, y[split.train])], [1.0], NoCalibration())
    return Subject("made 1", params, table, split, model, valid[order])


@pytest.fixture(scope="module")
def subject(customers: Callable[..., pd.DataFrame]) -> Subject:
    return subject_of(customers(2000))


# Laws


@given(st.integers(0, 10_000), st.integers(1, 400))
def test_a_sample_does_not_differ_from_itself(seed: int, n: int) -> None:
    frame = made(n, seed)
    drift = compare_samples(frame, frame, schema(frame))
    assert not drift.moved
    assert drift.share == 0
    assert set(drift.frame()["p_adjusted"].dropna()) <= {1.0}


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_permuting_rows_changes_nothing(seed: int, shift: float) -> None:
    before, now = made(200, seed), made(150, seed + 1).assign(spend=lambda d: d["spend"] + 10 * shift)
    mixed = [frame.sample(frac=1, random_state=seed) for frame in (before, now)]
    one, other = compare_samples(before, now, schema(before)), compare_samples(*mixed, schema(before))
    pd.testing.assert_frame_equal(one.frame(), other.frame())


@given(st.integers(0, 10_000), st.sampled_from([0, 10]), st.sampled_from([0.0, 0.5]))
def test_swapping_samples_keeps_the_verdicts(seed: int, shift: int, missing: float) -> None:
    before, now = made(300, seed), made(200, seed + 1)
    now = now.assign(spend=now["spend"] + shift, plan=holes(now["plan"], missing))
    before["town"] = now["town"] = "one"
    for frame in (before, now):
        frame.loc[frame.index[:2], "spend"] = 0, 1000  # one range
        frame.loc[frame.index[:2], "calls"] = 0, 99
    there, back = compare_samples(before, now, schema(before)), compare_samples(now, before, schema(before))
    assert verdicts(there) == verdicts(back)
    assert shift == 0 or verdicts(there)["spend"] == "moved"  # without a shift one alarm in twenty is nominal
    assert missing == 0 or verdicts(there)["plan"] == "moved"


@given(st.lists(st.floats(0, 1) | st.just(np.nan), min_size=1, max_size=40))
def test_adjustment_keeps_order_and_only_raises(p: list[float]) -> None:
    found = adjusted(Finding(str(k), "ks", 0.0, value, 1.0, "") for k, value in enumerate(p))
    raised = np.array([item.p_adjusted for item in found])
    plain = np.array(p)
    assert (np.isnan(raised) == np.isnan(plain)).all()
    done = ~np.isnan(plain)
    assert (raised[done] >= plain[done] - 1e-12).all()
    assert (np.diff(raised[done][np.argsort(plain[done], kind="stable")]) >= -1e-12).all()
    if done.any():
        assert raised[done].min() <= done.sum() * plain[done].min() + 1e-12


@given(st.integers(0, 10_000), st.integers(100, 400), st.integers(100, 400))
def test_statistics_are_those_of_scipy(seed: int, n: int, m: int) -> None:
    before, now = made(n, seed), made(m, seed + 1)
    ks = column_tests(Column("spend", "number"), before["spend"].to_numpy(), now["spend"].to_numpy())[0]
    known = stats.ks_2samp(before["spend"], now["spend"], method="asymp")
    assert (ks.statistic, ks.p) == pytest.approx((known.statistic, known.pvalue))
    plan = [frame["plan"].to_numpy(object) for frame in (before, now)]
    table = np.array([[int((part == name).sum()) for name in ("basic", "plus", "pro")] for part in plan])
    chi = column_tests(Column("plan", "category"), *plan)[0]
    if (table.sum(axis=0) * min(n, m) / (n + m) >= 5).all():
        known = stats.chi2_contingency(table)
        assert (chi.statistic, chi.p) == pytest.approx((known.statistic, known.pvalue))


# Planted


def test_where_nothing_moved_nothing_is_found() -> None:
    """20 reports of 60 columns without drift; `benchmarks/drift.py` has 1,000 of 200."""
    alarms = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        names = np.array([f"v{k}" for k in range(30)], dtype=object)
        found: list[Finding] = []
        for k in range(20):
            uneven = names[(rng.random(1300) ** 3 * 30).astype(int)]
            values = rng.normal(size=1300), rng.poisson(1, 1300).astype(float), uneven
            for kind, part in zip(("number", "number", "category"), values, strict=True):
                found += column_tests(Column(f"{kind} {k}", kind), part[:800], part[800:])
        alarms += any(item.p_adjusted < ALPHA for item in adjusted(found))
    assert alarms / 20 <= ALPHA + 2 * np.sqrt(ALPHA * (1 - ALPHA) / 20)


def test_nulls_going_from_0_to_90_per_cent_are_flagged() -> None:
    before, now = made(1000, 0), made(1000, 1)
    now = now.assign(spend=holes(now["spend"], 0.9), plan=holes(now["plan"], 0.9))
    drift = compare_samples(before, now, schema(before))
    for column in ("spend", "plan"):
        found = line(drift, column)
        assert (found["verdict"], found["test"], found["missing_reference"]) == ("moved", "missing", 0)
        assert 0.85 < found["missing_current"] < 0.95
        assert "missing went from 0.0% to" in found["reason"]
    assert verdicts(drift)["calls"] == "stable"


@pytest.mark.parametrize("shift", [0, 4])
def test_the_verdict_does_not_depend_on_a_thousand_rows(shift: int) -> None:
    same = []
    for seed in range(20):
        told = []
        for n in (900, 1_100):
            before, now = made(n, 1000 + seed), made(n, 2000 + seed)
            drift = compare_samples(before, now.assign(spend=now["spend"] + shift), schema(before))
            tests = drift.tests()["test"].tolist()
            told.append((tests, verdicts(drift)))
        same.append(told[0] == told[1])
        assert (verdicts(drift)["spend"] == "moved") or not shift
    assert np.mean(same) >= 0.95


def test_new_categories_and_broken_ranges_are_drift() -> None:
    before, now = made(1000, 0), made(1000, 1)
    now.loc[:29, "plan"], now.loc[:29, "spend"] = "ultra", 9_000
    drift = compare_samples(before, now, schema(before))
    assert "30 rows (3.0%) hold 1 categories not seen before, such as 'ultra'" in line(drift, "plan")["reason"]
    assert line(drift, "spend")["test"] == "range"
    assert "lie outside" in line(drift, "spend")["reason"]
    assert set(drift.mattering) == {"plan", "spend"}
    once = made(1000, 1).assign(plan=lambda frame: frame["plan"].where(frame.index > 1, "Ann"))
    rare = compare_samples(before, once, schema(before))
    assert verdicts(rare)["plan"] == "stable"
    assert "2 rows (0.2%) hold" in line(rare, "plan")["reason"]
    assert "Ann" not in line(rare, "plan")["reason"]  # few rows: the text may name a person


def test_many_rare_categories_are_not_drift() -> None:
    before, now = made(1000, 0), made(1000, 1)
    found = line(compare_samples(before, now, schema(before)), "town")
    assert found["verdict"] == "cannot tell"
    assert "no category is frequent enough" in found["reason"]


def test_dust_is_not_drift_however_many_rows() -> None:
    before, now = made(100_000, 0), made(100_000, 1)
    drift = compare_samples(before[["spend"]], now[["spend"]] + 0.3, schema(before[["spend"]]))
    found = line(drift, "spend")
    assert found["p_adjusted"] < ALPHA
    assert found["verdict"] == "stable"
    assert found["reason"].startswith("too little to matter: 1%")


def test_what_matters_comes_first() -> None:
    before, now = made(1000, 0), made(1000, 1)
    now = now.assign(spend=now["spend"] + 5, calls=now["calls"] + 3, plan="pro")
    drift = compare_samples(before, now, schema(before), importance={"spend": 0.4, "calls": 0.001, "plan": 0.2})
    assert drift.frame()["column"].tolist() == ["plan", "spend", "calls", "town"]
    assert line(drift, "spend")["weight"] == 1
    assert line(drift, "town")["weight"] == 0
    assert drift.mattering == ["plan", "spend"]
    assert drift.share == 0.75
    unused = compare_samples(before, now, schema(before), importance={"town": 1.0})
    assert unused.share == 0.75
    assert not unused.moved


def test_the_result_has_its_columns() -> None:
    drift = compare_samples(made(200, 0), made(200, 1), schema(made(200, 0)))
    assert list(drift.frame()) == [*COLUMNS, "weight", "size", "reason"]
    assert len(drift.tests()) == 12
    assert "12 tests, adjusted together" in drift.note
    assert drift.plot().get_title(loc="left")


# Bad input


def test_few_rows_cannot_tell() -> None:
    drift = compare_samples(made(500, 0), made(60, 1), schema(made(500, 0)))
    assert set(verdicts(drift).values()) == {"cannot tell"}
    assert "500 values before and 60 now, must be at least 100" in line(drift, "spend")["reason"]
    assert not drift.moved


def test_a_sample_without_rows_is_refused() -> None:
    frame = made(200, 0)
    for parts in ((frame, frame[:0]), (frame[:0], frame)):
        with pytest.raises(DataError, match="sample has no rows"):
            compare_samples(*parts, schema(frame))


def test_missing_columns_are_named() -> None:
    frame = made(200, 0)
    with pytest.raises(DataError, match=r"current sample: Column 'spend' is not in the data. Did you mean 'spent'\?"):
        compare_samples(frame, frame.rename(columns={"spend": "spent"}), schema(frame))
    with pytest.raises(DataError, match=r"lacks 2 of the model's 4 columns: spend, plan\. It has calls, town"):
        compare_samples(frame, frame.drop(columns=["spend", "plan"]), schema(frame))
    with pytest.raises(DataError, match="lacks 4 of the model's 4 columns"):
        compare_samples(frame, pd.DataFrame({"other": [1]}), schema(frame))


def test_only_nulls_have_moved_and_empty_columns_cannot_tell() -> None:
    before = made(300, 0).assign(empty=None)
    now = before.assign(**dict.fromkeys(["spend", "calls", "plan", "town"]))
    drift = compare_samples(before, now, schema(before))
    assert verdicts(drift) == dict.fromkeys(["spend", "calls", "plan", "town"], "moved") | {"empty": "cannot tell"}
    assert "missing went from 0.0% to 100.0%" in line(drift, "spend")["reason"]
    assert "0 values before and 0 now" in line(drift, "empty")["reason"]


def test_text_in_a_number_column_has_moved() -> None:
    before, now = made(300, 0), made(300, 1)
    drift = compare_samples(before, now.assign(spend="many", plan=3), schema(before))
    assert "300 values now are no numbers" in line(drift, "spend")["reason"]
    assert verdicts(drift)["spend"] == verdicts(drift)["plan"] == "moved"
    kinds = compare_samples(before, now.assign(calls=now["calls"].astype(str), spend=np.inf), schema(before))
    assert verdicts(kinds)["calls"] == "stable"  # numbers as text are numbers
    assert verdicts(kinds)["spend"] == "moved"


# With a model


def test_new_rows_of_the_same_world_have_not_moved(subject: Subject, customers: Callable[..., pd.DataFrame]) -> None:
    for current in (None, customers(1500, seed=1)):
        found = drift_between(subject, current)
        assert not found.moved
        scored = found.drift.frame().set_index("column")["weight"]
        assert (SCORE in scored) == (current is not None)
        assert scored.get(SCORE, 1) == 1
        assert set(found.estimated.values) == {"roc_auc", "log_loss", "brier"}
    assert found.performance is not None
    assert not found.performance.worse
    assert set(found.performance.frame()["verdict"]) == {"cannot tell"}


def test_a_moved_world_is_told_by_columns_score_and_performance(
    subject: Subject, customers: Callable[..., pd.DataFrame]
) -> None:
    current = customers(1500, seed=1)
    current["calls"] += 2  # outcomes are those of fewer calls: behaviour changed
    found = drift_between(subject, current, importance={"calls": 1.0, "plan": 0.5}, threshold=0.5)
    assert found.moved
    assert found.drift.mattering[0] in ("calls", SCORE)
    assert set(found.drift.mattering) == {"calls", SCORE}
    assert found.performance is not None
    assert found.performance.worse
    assert list(found.frame()) == list(found.drift.frame())
    assert "precision" in found.estimated.values
    assert found.plot() and found.performance.plot() and found.estimated.plot()


def test_scores_alone(subject: Subject, customers: Callable[..., pd.DataFrame]) -> None:
    current = customers(800, seed=2)
    assert not score_drift(subject.model, subject.test, current).moved
    current["calls"] += 2
    found = score_drift(subject.model, subject.test, current)
    assert found.frame()["column"].tolist() == [SCORE]
    assert found.moved


def test_a_current_sample_without_outcomes(subject: Subject, customers: Callable[..., pd.DataFrame]) -> None:
    current = customers(600, seed=3)
    assert drift_between(subject, current.drop(columns="churn")).performance is None
    assert drift_between(subject, current.assign(churn=None)).performance is None
    half = drift_between(subject, current.assign(churn=current["churn"].where(current.index % 2 == 0))).performance
    assert half is not None
    assert half.unlabelled == 300
    assert "300 rows without an outcome" in half.note
    one_class = drift_between(subject, current.assign(churn="no")).performance
    assert one_class is not None
    assert set(one_class.frame()["verdict"]) == {"cannot tell"}
    with pytest.raises(DataError, match=r"holds maybe, must be one of"):
        drift_between(subject, current.assign(churn="maybe"))
    with pytest.raises(DataError, match="holds no outcome"):
        performance_drift(subject, current.assign(churn=None))
    with pytest.raises(DataError, match="Column 'churn' is not in the data"):
        performance_drift(subject, current.drop(columns="churn"))
    with pytest.raises(DataError, match="sample has no rows"):
        drift_between(subject, current[:0])
    with pytest.raises(DataError, match="current sample: Column 'calls'"):
        drift_between(subject, current.drop(columns="calls"))


# Over time


def test_a_still_world_is_quiet_over_time(customers: Callable[..., pd.DataFrame]) -> None:
    frame = customers(2400).assign(day=pd.date_range("2026-01-01", periods=2400, freq="h").strftime("%Y-%m-%dT%H:%M"))
    found = over_time(subject_of(frame, time="day"))
    assert not found.moved
    rows = found.frame()
    assert rows["period"].nunique() == 6
    assert rows.loc[rows["measure"] == "outcome rate", "n"].sum() == 2400
    assert rows["start"].iloc[0] == "2026-01-01T00:00"
    scored = rows[rows["measure"] == "mean score"]
    assert scored["n"].sum() == 2400
    assert ((scored["low"] < scored["value"]) & (scored["value"] < scored["high"])).all()
    assert found.plot()


def test_a_world_that_moves_is_told_loudly(customers: Callable[..., pd.DataFrame]) -> None:
    frame = customers(2400)
    later = frame.index >= 1200
    frame.loc[later, "plan"] = "pro"
    frame.loc[later & (frame.index % 2 == 0), "churn"] = "yes"
    found = over_time(subject_of(frame, time="(row)"), periods=4, importance={"plan": 1.0, "calls": 1.0})
    assert found.moved
    assert found.note.startswith("THE WORLD MOVED: the outcome's rate went from")
    assert "plan is not what it was" in found.note
    assert "noise" not in found.note


def test_periods_need_times(customers: Callable[..., pd.DataFrame]) -> None:
    found = over_time(subject_of(customers(400)))
    assert not found.applies
    assert "Not applicable" in found.note
    assert found.plot()
    with pytest.raises(DataError, match="All rows have one time"):
        over_time(subject_of(customers(400).assign(day="2026-01-01"), time="day"))


# Evidently


def test_evidently_agrees_and_its_page_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    from cxlab.evidence.drift import _evidently_report

    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("something was sent"))
    before, now = made(900, 0), made(800, 1)
    now["spend"] += 4
    columns = ["spend", "calls", "plan"]
    learnt = schema(before[columns])
    values = _evidently_report(learnt.encode(before), learnt.encode(now), learnt).dict()["metrics"]
    theirs = {item["config"]["column"]: item["value"] for item in values if "column" in item["config"]}
    ours = compare_samples(before, now, learnt).tests().drop_duplicates("column").set_index("column")["p"]
    assert theirs["spend"] == pytest.approx(stats.ks_2samp(before["spend"], now["spend"]).pvalue)
    assert theirs["spend"] == pytest.approx(ours["spend"], rel=0.5)  # exact there, asymptotic here
    assert theirs["plan"] == pytest.approx(ours["plan"])

    hard = before.assign(empty=None, one=1, holes=holes(before["spend"], 0.5))
    path = evidently_page(hard, hard.assign(plan=None), schema(hard), tmp_path / "page.html")
    assert path == tmp_path / "page.html"
    assert [item.name for item in tmp_path.iterdir()] == ["page.html"]
    page = path.read_text(encoding="utf-8")
    assert "chi-square of homogeneity" in page
    assert 'src="http' not in page
    with pytest.raises(DataError, match="No column has values in both"):
        evidently_page(hard[["empty"]], hard[["empty"]], schema(hard[["empty"]]), tmp_path / "none.html")


def test_evidently_gets_a_sample(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from cxlab.evidence import drift

    seen: list[int] = []

    class Page:
        def save_html(self, path: str) -> None:
            Path(path).write_text("page", encoding="utf-8")

    def report(reference: pd.DataFrame, current: pd.DataFrame, _: Schema) -> Page:
        seen.extend([len(reference), len(current)])
        return Page()

    monkeypatch.setattr(drift, "_evidently_report", report)
    frame = made(PAGE_ROWS + 1, 0)[["spend"]]
    evidently_page(frame, frame[:50], schema(frame), tmp_path / "page.html")
    assert seen == [PAGE_ROWS, 50]
