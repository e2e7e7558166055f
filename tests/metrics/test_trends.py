from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cxlab.data.table import Meaning, Source, Table
from cxlab.errors import DataError
from cxlab.metrics.bootstrap import wilson
from cxlab.metrics.trends import IN_VIEW, PERIODS, TIMES, trends
from cxlab.params import DataParams


def table(frame: pd.DataFrame, time: str | None = "cutoff", **roles: object) -> Table:
    data = DataParams.model_validate({"path": "x.csv", "target": "churn", "time": time} | roles)
    return Table(frame, data, Source("x.csv", "0", len(frame)), meanings={"x": Meaning("calls made", "calls")})


def rows(n: int, times: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    days = pd.date_range("2025-01-01", periods=times).strftime("%Y-%m-%d").to_numpy()
    frame = pd.DataFrame(
        {
            "cutoff": days[np.append(np.arange(times), rng.integers(0, times, n - times))],
            "x": rng.normal(size=n),
            "k": rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2]),
            "churn": np.append(["yes", "no"], rng.choice(["yes", "no"], n - 2)),
        }
    )
    return frame.assign(x=frame["x"].where(rng.random(n) > 0.1), k=frame["k"].where(rng.random(n) > 0.1))


@given(st.integers(40, 150), st.integers(2, 12), st.integers(0, 99))
def test_values_are_those_of_plain_pandas(n: int, times: int, seed: int) -> None:
    frame = rows(n, times, seed)
    found = trends(table(frame)).frame().set_index(["column", "time"])
    common = frame["k"].value_counts().sort_index().sort_values(ascending=False, kind="stable").index[0]
    for day, part in frame.groupby("cutoff"):
        at = pd.Timestamp(str(day), tz="UTC")
        outcome, x, k = (found.loc[(name, at)] for name in ("churn", "x", "k"))
        assert (outcome["n"], outcome["value"]) == (len(part), pytest.approx((part["churn"] == "yes").mean()))
        assert (outcome["low"], outcome["high"]) == wilson((part["churn"] == "yes").sum(), len(part))
        known = part["x"].dropna()
        assert x["n"] == len(known)
        assert x["value"] == pytest.approx(known.mean(), abs=1e-6, nan_ok=True)
        if len(known) > 1:
            low, high = stats.t.interval(0.95, len(known) - 1, known.mean(), stats.sem(known))
            assert (x["low"], x["high"]) == (pytest.approx(low, abs=1e-5), pytest.approx(high, abs=1e-5))
        else:
            assert np.isnan(x["low"])
        words = part["k"].dropna()
        assert k["n"] == len(words)
        assert k["value"] == pytest.approx((words == common).mean() if len(words) else np.nan, nan_ok=True)
        assert k["meaning"] == f"share of {common}"


@given(st.integers(40, 200), st.integers(2, 60), st.integers(0, 9))
def test_the_order_of_rows_changes_nothing_and_every_row_is_in_one_period(n: int, times: int, seed: int) -> None:
    frame = rows(max(n, times), times, seed)
    found = trends(table(frame)).frame()
    other = trends(table(frame.sample(frac=1, random_state=seed, ignore_index=True))).frame()
    pd.testing.assert_frame_equal(found, other)
    outcome = found[found["column"] == "churn"]
    assert outcome["n"].sum() == len(frame)
    assert (outcome["n"] > 0).all()
    assert len(outcome) == times if times <= TIMES else len(outcome) <= PERIODS


def test_many_times_are_cut_into_about_equal_parts() -> None:
    found = trends(table(rows(3650, 365))).frame()
    counts = found.loc[found["column"] == "churn", "n"]
    assert len(counts) == PERIODS
    assert counts.max() / counts.min() < 1.3


def test_what_was_planted_moved_most_and_what_was_not_is_not_drawn_first() -> None:
    frame = rows(2000, 4)
    late = frame["cutoff"] >= "2025-01-03"
    frame = frame.assign(steps=np.where(late, 3.0, 0.0) + frame["x"].fillna(0), still=7.0)
    found = trends(table(frame), most=2)
    assert next(iter(found.moves)) == "steps"
    assert found.moves["still"] == 0
    titles = [ax.get_title(loc="left") for ax in found.plot().figure.axes]
    assert titles[:2] == ["churn: share of yes", "steps"]
    assert len([title for title in titles if title]) == 3
    assert "steps (" in found.note


def test_a_small_move_looks_small() -> None:
    frame = rows(20000, 2)
    ax = trends(table(frame[["cutoff", "x", "churn"]])).plot().figure.axes[1]
    low, high = ax.get_ylim()
    assert high - low >= IN_VIEW * frame["x"].std() * 0.99


def test_a_meaning_goes_with_its_column() -> None:
    found = trends(table(rows(100, 3))).frame()
    assert set(found.loc[found["column"] == "x", "meaning"]) == {"mean: calls made (calls)"}


@pytest.mark.parametrize("time", [None, "(row)", "cutoff"])
def test_without_two_times_it_does_not_apply(time: str | None) -> None:
    found = trends(table(rows(50, 2).assign(cutoff="2025-01-01"), time))
    assert not found.applies
    assert found.frame().empty
    assert found.note.startswith("Not applicable: ")
    assert "Not applicable" in found._repr_html_()
    assert found.plot().texts[0].get_text() == found.note


def test_times_may_be_numbers_and_one_row_has_no_interval_of_its_mean() -> None:
    frame = pd.DataFrame({"cutoff": [1, 2, 2, 3, 3], "x": [1.0, 2, 4, None, None], "churn": list("yynny")})
    found = trends(table(frame.replace({"y": "yes", "n": "no"}))).frame()
    x = found[found["column"] == "x"]
    assert x["time"].tolist() == [1, 2, 3]
    assert x["n"].tolist() == [1, 2, 0]
    assert x["value"].tolist()[:2] == [1.0, 3.0]
    assert x["low"].isna().tolist() == [True, False, True]
    assert trends(table(frame.replace({"y": "yes", "n": "no"}))).plot().has_data()


def test_what_cannot_be_read_says_so() -> None:
    frame = rows(50, 3)
    with pytest.raises(DataError, match="Did you mean 'cutoff'"):
        trends(table(frame, "cutof"))
    with pytest.raises(DataError, match="no ISO 8601 times"):
        trends(table(frame.assign(cutoff="soon")))
    with pytest.raises(ValueError, match="most == -1, must be >= 0"):
        trends(table(frame), most=-1)
