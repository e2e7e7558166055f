"""Cohorts are counted as by hand, and what the log does not last for is missing, never nobody."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxlab.errors import DataError, ParamsError
from cxlab.journey.cohorts import PERIODS, cohorts
from cxlab.journey.events import Steps, steps

BEGIN = pd.Timestamp("2023-11-20")
EVENTS = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from("ab"), st.integers(0, 150 * 24)), min_size=1, max_size=30
)


def log_of(events: list[tuple[int, str, int]]) -> pd.DataFrame:
    log = pd.DataFrame(events, columns=["case", "event", "hour"]).drop_duplicates(["case", "hour"])
    return log.assign(case=log["case"].map("c{}".format), time=BEGIN + pd.to_timedelta(log["hour"], "h"))


@settings(max_examples=8)
@given(EVENTS, st.sampled_from([None, "a"]), st.randoms(use_true_random=False))
def test_cohorts_are_those_of_the_long_way(events: list, event: str | None, random: Any) -> None:
    log = log_of([*events, (0, "a", 3)])
    rows = random.sample(range(len(log)), len(log))
    held, other = steps(log), steps(log.iloc[rows])
    for every in PERIODS:
        same_as_the_long_way(log, held, other, every, event)


def same_as_the_long_way(log: pd.DataFrame, held: Steps, other: Steps, every: Any, event: str | None) -> None:
    found = cohorts(held, every=every, event=event, periods=5)
    period = log["time"].dt.to_period(PERIODS[every])
    begun = period.groupby(log["case"]).min()
    end = log["time"].max()
    for row in found.frame().to_dict("records"):
        cohort = pd.Period(row["cohort"], PERIODS[every])
        cases = set(begun[begun == cohort].index)
        there = log[(period == cohort + row["age"]) & ((log["event"] == event) | (event is None))]
        span = cohort + row["age"]
        length = (span + 1).start_time - span.start_time
        assert row["of"] == len(cases)
        if end - span.start_time < 29 / 30 * length:
            assert pd.isna(row["n"])
            assert np.isnan([row["share"], row["low"], row["high"]]).all()
        else:
            assert row["n"] == len(cases & set(there["case"]))
            assert row["share"] == pytest.approx(row["n"] / row["of"])
            assert row["low"] <= row["share"] <= row["high"]
    assert found.frame().groupby("age")["of"].sum().tolist() == [log["case"].nunique()] * 6
    pd.testing.assert_frame_equal(cohorts(other, every=every, event=event, periods=5).frame(), found.frame())
    seen = found.frame().dropna()
    assert found.overall()["n"].sum() == seen["n"].sum()
    assert found.overall()["of"].sum() == seen["of"].sum()


def test_a_log_that_ends_later_shows_more() -> None:
    log = log_of([(1, "a", 0), (2, "a", 30 * 24)])
    short, long = cohorts(log, periods=2), cohorts(log, periods=2, until="2024-01-31")
    assert short.frame()["n"].isna().tolist() == [False, True, True, True, True, True]
    assert long.frame()["n"].tolist() == [1, 0, 0, 1, 0, pd.NA]
    assert "5 of 6 shares are not observed" in short.note
    assert long.overall()["cohorts"].tolist() == [2, 2, 1]


def test_one_case_of_one_event_is_a_cohort_that_nobody_saw_out() -> None:
    one = cohorts(log_of([(1, "a", 0)]), periods=0)
    assert one.frame()["of"].tolist() == [1]
    assert one.frame()["share"].isna().all()
    assert one.overall().empty
    assert one.plot().texts[0].get_text() == "The log does not last for a whole month."


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"event": "logon"}, ParamsError, r"Event 'logon' is not in the log. Did you mean 'login'\?"),
        ({"every": "year"}, ParamsError, "Period 'year' is not known"),
        ({"periods": -1}, ParamsError, "periods == -1, must be a whole number from 0 to 1,000"),
        ({"until": "2023-01-01"}, DataError, "must not be before the last event"),
    ],
)
def test_what_cannot_be_is_refused(asked: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        cohorts(log_of([(1, "login", 0)]), **asked)


def test_customers_who_come_back() -> None:
    events = [(case, "a", 24 * (11 + 31 * month)) for case in range(6) for month in range(4) if case >= month * 2]
    found = cohorts(log_of(events), periods=3, until="2024-03-31")
    assert found.frame()["share"].tolist() == pytest.approx([1.0, 4 / 6, 2 / 6, 0.0])
    ax = found.plot()
    assert [text.get_text() for text in ax.texts] == ["100", "67", "33", "0"]
    assert ax.get_yticklabels()[0].get_text() == "2023-12 (6)"
