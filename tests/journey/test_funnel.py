"""A funnel counts each case once, by its best start, as a search of all starts does."""

from __future__ import annotations

from datetime import timedelta
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxlab.errors import ParamsError
from cxlab.journey.events import Steps, steps
from cxlab.journey.funnel import ORDERS, funnel

EVENTS = "abcd"
START = pd.Timestamp("2024-01-01")
CASES = st.lists(st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(1, 4)), min_size=1, max_size=9), max_size=30)
STAGES = st.lists(st.sampled_from(EVENTS), min_size=1, max_size=4)


def log_of(cases: list[list[tuple[str, int]]], *, wait: int = 1) -> pd.DataFrame:
    """Events of each case, so many days apart; one case more, so that every event is there."""
    rows = []
    for number, events in enumerate([*cases, [(event, 100) for event in EVENTS]]):
        day = 0
        for event, days in events:
            day += days * wait
            rows.append((f"c{number}", event, START + pd.Timedelta(days=day), "xyz"[number % 3]))
    return pd.DataFrame(rows, columns=["case", "event", "time", "plan"])


def reached(days: list[int], events: list[str], stages: list[str], order: str, within: float | None) -> list[float]:
    """When each stage is reached by the best start, by trying all."""
    best: list[float] = []
    for start in range(len(events)):
        found: list[float] = []
        place = start - 1
        for stage in stages:
            if order == "any":
                there = [days[i] for i in range(start, len(events)) if events[i] == stage]
                at = max([there[0], *found]) if there else None
            else:
                places = [i for i in range(place + 1, len(events)) if events[i] == stage]
                places = [i for i in places if (i == start if not found else order != "strict" or i == place + 1)]
                place = places[0] if places else place
                at = days[place] if places else None
            if at is None or (within is not None and at - days[start] > within):
                break
            found.append(at)
        if len(found) > len(best):
            best = found
    return best


@settings(max_examples=8)
@given(CASES, st.lists(STAGES, min_size=2, max_size=2), st.integers(1, 7))
def test_a_funnel_is_that_of_the_long_way(cases: list, asked: list[list[str]], within: int) -> None:
    log = log_of(cases)
    held = steps(log)
    for order, stages, limit in product(ORDERS, asked, (None, within)):
        same_as_the_long_way(log, held, list(dict.fromkeys(stages)) if order == "any" else stages, order, limit)


def same_as_the_long_way(log: pd.DataFrame, held: Steps, stages: list[str], order: Any, within: int | None) -> None:
    found = funnel(held, stages, order=order, within=within).frame()
    ways = [
        reached(((part["time"] - START) / pd.Timedelta(days=1)).tolist(), part["event"].tolist(), stages, order, within)
        for _, part in log.groupby("case")
    ]
    assert found["n"].tolist() == [sum(len(way) > stage for way in ways) for stage in range(len(stages))]
    for stage, row in enumerate(found.to_dict("records")):
        waits = [way[stage] - way[stage - 1] for way in ways if 0 < stage < len(way)]
        assert row["days"] == pytest.approx(np.median(waits) if waits else np.nan, nan_ok=True)


@settings(max_examples=8)
@given(CASES, STAGES, st.none() | st.integers(1, 7), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing_and_segments_sum_up(
    cases: list, stages: list[str], within: int | None, random: Any
) -> None:
    frame = log_of(cases)
    rows = random.sample(range(len(frame)), len(frame))
    log, other = steps(frame, keep=["plan"]), steps(frame.iloc[rows])
    one = funnel(log, stages, within=within)
    pd.testing.assert_frame_equal(funnel(other, stages, within=within).frame(), one.frame())
    parts = funnel(log, stages, within=within, by="plan").frame()
    assert parts.groupby("stage")["n"].sum().tolist() == one.frame()["n"].tolist()
    assert parts.loc[parts["stage"] == 1, "previous"].sum() == one.cases
    found = one.frame()
    assert found["n"].is_monotonic_decreasing
    some = found[found["previous"] > 0]
    assert ((some["low"] <= some["of_previous"]) & (some["of_previous"] <= some["high"])).all()


@settings(max_examples=8)
@given(CASES, STAGES)
def test_a_longer_window_and_a_looser_order_lose_nobody(cases: list, stages: list[str]) -> None:
    log = steps(log_of(cases))
    windows = [funnel(log, stages, within=days).frame()["n"].to_numpy() for days in (1, 4, 10_000)]
    assert (windows[0] <= windows[1]).all()
    assert (windows[1] <= windows[2]).all()
    assert windows[2].tolist() == funnel(log, stages).frame()["n"].tolist()
    assert (funnel(log, stages, order="strict").frame()["n"] <= funnel(log, stages).frame()["n"]).all()


def test_a_later_start_counts_where_the_first_is_too_early() -> None:
    log = log_of([[("a", 1), ("a", 20), ("b", 2)]])
    assert funnel(log, ["a", "b"], within=5).frame()["n"].tolist() == [2, 1]
    assert funnel(log, ["a", "b"], within=timedelta(days=2)).frame()["n"].tolist() == [2, 1]
    assert funnel(log, ["a", "b"], within=1.9).frame()["n"].tolist() == [2, 0]


def test_what_nobody_reaches_is_zero_of_some_then_missing() -> None:
    log = log_of([[("a", 1)]])[:1]
    log = pd.concat([log, log.assign(case="other", event="b"), log.assign(case="third", event="c")])
    found = funnel(log, ["a", "b", "c"])
    frame = found.frame()
    assert frame["n"].tolist() == [1, 0, 0]
    assert frame["of_previous"].tolist()[:2] == [pytest.approx(1 / 3), 0.0]
    assert np.isnan(frame["of_previous"][2])
    assert np.isnan(frame["days"][1:]).all()
    assert found.plot().get_title(loc="left")


def test_one_case_of_one_event_and_equal_times() -> None:
    one = pd.DataFrame({"case": ["x"], "event": ["a"], "time": [START], "plan": [None]})
    assert funnel(one, ["a", "a"]).frame()["n"].tolist() == [1, 0]
    assert funnel(one, ["a"], by="plan").frame()["segment"].tolist() == ["(missing)"]
    same = pd.DataFrame({"case": "x", "event": ["b", "a"], "time": START, "turn": [2, 1]})
    assert funnel(same, ["a", "b"]).frame()["n"].tolist() == [1, 0]
    ordered = funnel(steps(same, order="turn"), ["a", "b"], within=1)
    assert ordered.frame()["n"].tolist() == [1, 1]
    assert "same instant" in ordered.note


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"stages": ["visit"]}, r"Event 'visit' is not in the log. Did you mean 'visits'\?"),
        ({"stages": []}, r"stages == \[\], must be a list of one event or more"),
        ({"stages": "ab"}, "must be a list of one event or more"),
        ({"stages": ["a"], "order": "lose"}, "Order 'lose' is not known. Did you mean 'loose'"),
        ({"stages": ["a", "a"], "order": "any"}, "holds an event twice"),
        ({"stages": ["a"], "within": 0}, "within == 0, must be days above 0"),
        ({"stages": ["a"], "within": "7"}, "within == '7', must be days above 0"),
        ({"stages": ["a"], "by": "many"}, "by == 'many' has 25 values, must be at most 20"),
    ],
)
def test_what_cannot_be_is_refused(asked: dict[str, Any], said: str) -> None:
    log = pd.DataFrame({"case": range(25), "event": ["a"] * 24 + ["visits"], "time": START, "many": range(25)})
    with pytest.raises(ParamsError, match=said):
        funnel(log, **asked)


def test_a_shop() -> None:
    cases = [[("a", 1), ("d", 1), ("b", 1)]] * 6 + [[("a", 1), ("b", 2), ("c", 1)]] * 3 + [[("b", 1), ("a", 1)]]
    found = funnel(log_of(cases).query("case != 'c10'"), ["a", "b", "c"], by="plan")
    assert found.plot() is not None
    whole = funnel(log_of(cases).query("case != 'c10'"), ["a", "b", "c"])
    row = whole.frame().iloc[1]
    assert (row["n"], row["previous"], row["of_previous"], row["days"]) == (9, 10, 0.9, 2.0)
    assert row["low"] < 0.9 < row["high"]
    assert "10 of 10 cases have the first stage" in whole.note
    counts = {order: funnel(log_of(cases).query("case != 'c10'"), ["a", "b"], order=order).frame()["n"].tolist()
              for order in ORDERS}  # fmt: skip
    assert counts == {"loose": [10, 9], "strict": [10, 3], "any": [10, 10]}
