"""Paths and loops are counted as somebody would who walks along each case."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxlab.errors import DataError, ParamsError
from cxlab.journey.events import END, START, Steps
from cxlab.journey.events import steps as read_steps
from cxlab.journey.paths import ARROW, OTHERS, loops, paths_from, paths_to

BEGIN = pd.Timestamp("2024-01-01")
CASES = st.lists(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.sampled_from(["x", "y", None])), min_size=1,
             max_size=9), min_size=1, max_size=20,
)  # fmt: skip


def log_of(cases: list[list[tuple[str, int, str | None]]]) -> pd.DataFrame:
    rows = []
    for number, events in enumerate(cases):
        day = 0
        for event, days, reason in events:
            day += days
            rows.append((f"c{number}", event, BEGIN + pd.Timedelta(days=day), reason))
    return pd.DataFrame(rows, columns=["case", "event", "time", "reason"]).astype({"reason": object})


def walked(log: pd.DataFrame, event: str, steps: int, *, before: bool, every: bool) -> Counter[str]:
    counted: Counter[str] = Counter()
    for _, part in log.groupby("case"):
        names = part["event"].tolist()
        for i in [i for i, name in enumerate(names) if name == event][: None if every else 1]:
            near = names[max(i - steps, 0) : i] if before else names[i + 1 : i + 1 + steps]
            short = len(near) < steps
            path = [START] * (short and before) + near * before + [event] + near * (not before)
            counted[ARROW.join(path + [END] * (short and not before))] += 1
    return counted


@settings(max_examples=8)
@given(CASES, st.integers(1, 4), st.randoms(use_true_random=False))
def test_paths_are_those_of_the_long_way(cases: list, steps: int, random: Any) -> None:
    log = log_of(cases)
    rows = random.sample(range(len(log)), len(log))
    held, other = read_steps(log), read_steps(log.iloc[rows])
    for before, every in product((True, False), repeat=2):
        same_as_the_long_way(log, held, other, steps, before=before, every=every)


def same_as_the_long_way(
    log: pd.DataFrame, held: Steps, other: Steps, steps: int, *, before: bool, every: bool
) -> None:
    event = log["event"].iloc[-1]
    ask = paths_to if before else paths_from
    found = ask(held, event, steps, every=every, most=1_000)
    expected = walked(log, event, steps, before=before, every=every)
    assert dict(found.frame()[["path", "n"]].to_numpy()) == expected
    assert found.different == len(expected)
    frame = found.frame()
    assert (frame["of"] == expected.total()).all()
    assert ((frame["low"] <= frame["share"]) & (frame["share"] <= frame["high"])).all()
    pd.testing.assert_frame_equal(ask(other, event, steps, every=every, most=1_000).frame(), frame)
    short = ask(held, event, steps, every=every, most=1).frame()
    assert short["n"].sum() == expected.total()
    assert short["share"].sum() == pytest.approx(1)
    assert (short["path"].iloc[-1] == OTHERS) == (len(expected) > 1)


@settings(max_examples=10)
@given(CASES, st.sampled_from([None, "reason"]), st.integers(1, 12), st.randoms(use_true_random=False))
def test_loops_are_those_of_the_long_way(cases: list, by: str | None, days: int, random: Any) -> None:
    log = log_of(cases)
    column = by or "event"
    if log[column].isna().all():
        with pytest.raises(DataError, match="has no value in any of"):
            loops(log, by=by)
        return
    found = loops(log, by=by, windows=(days, days + 5))
    end, window = log["time"].max(), pd.Timedelta(days=days)
    n: Counter[str] = Counter()
    again: Counter[str] = Counter()
    turns: Counter[tuple[str, str, str]] = Counter()
    for _, part in log[log[column].notna()].groupby("case"):
        held = list(zip(part[column], part["time"], strict=True))
        for i, (value, time) in enumerate(held):
            after = [later for other, later in held[i + 1 :] if other == value]
            if time + window <= end:
                n[value] += 1
                again[value] += bool(after) and after[0] - time <= window
            following = [other for other, _ in held[i + 1 : i + 3]]
            if following[:1] == [value]:
                turns[value, value, "straight"] += 1
            elif following[1:] == [value]:
                turns[value, following[0], "back and forth"] += 1
    frame = found.frame()
    one = frame[frame["days"] == days].set_index("value")
    assert {value: row["n"] for value, row in one.iterrows() if row["n"]} == n
    assert {value: row["again"] for value, row in one.iterrows() if row["again"]} == +again
    assert one["share"].isna().tolist() == (one["n"] == 0).tolist()
    assert (one["n"] + one["too_late"]).sum() == log[column].notna().sum()
    assert {tuple(key): count for *key, count in found.turns()[["value", "other", "kind", "n"]].to_numpy()} == turns
    wider = frame[frame["days"] == days + 5].set_index("value")["n"]
    assert (wider <= one["n"]).all()
    rows = random.sample(range(len(log)), len(log))
    again_found = loops(log.iloc[rows], by=by, windows=(days, days + 5))
    pd.testing.assert_frame_equal(again_found.frame(), frame)
    pd.testing.assert_frame_equal(again_found.turns(), found.turns())


def test_what_the_log_does_not_follow_is_in_no_share() -> None:
    log = log_of([[("a", 1, "x"), ("a", 3, "x")], [("a", 8, "x")]])
    found = loops(log, windows=[7])
    row = found.frame().iloc[0]
    assert (row["n"], row["again"], row["share"], row["too_late"]) == (1, 1, 1.0, 2)
    assert "up to 2 events are too late to tell" in found.note
    longer = loops(log, windows=[7], until="2024-03-01").frame().iloc[0]
    assert (longer["n"], longer["again"], longer["too_late"]) == (3, 1, 0)
    early = loops(log, windows=[60])
    assert early.frame()["share"].isna().all()
    assert early.plot().texts[0].get_text() == "No event is followed for the whole window."


def test_one_case_of_one_event_and_equal_times() -> None:
    one = log_of([[("a", 1, "x")]])
    assert paths_to(one, "a").frame()["path"].tolist() == [f"{START}{ARROW}a"]
    assert paths_from(one, "a").frame()["path"].tolist() == [f"a{ARROW}{END}"]
    assert loops(one).turns().empty
    twice = pd.concat([one, one])
    assert loops(twice, until="2024-02-01").frame()["again"].tolist() == [1, 1]
    assert loops(twice).frame()["too_late"].tolist() == [2, 2]
    assert "same instant" in loops(twice).note


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda log: paths_to(log, "cal"), ParamsError, r"Event 'cal' is not in the log. Did you mean 'call'\?"),
        (lambda log: paths_from(log, "call", 0), ParamsError, "steps == 0, must be a whole number from 1 to 10"),
        (lambda log: paths_from(log, "call", most=True), ParamsError, "most == True, must be a whole number"),
        (lambda log: loops(log, windows=[]), ParamsError, "must be one or more different numbers of days"),
        (lambda log: loops(log, windows=[7, 7]), ParamsError, "must be one or more different numbers of days"),
        (lambda log: loops(log, windows=[-1]), ParamsError, "windows == -1, must be days above 0"),
        (lambda log: loops(log, by="raison"), DataError, r"Column 'raison' is not in the data. Did you mean 'reason'"),
        (lambda log: loops(log, until="2020-01-01"), DataError, "must not be before the last event"),
        (lambda log: loops(log, until="soon"), DataError, "until == 'soon', must be a time"),
    ],
)
def test_what_cannot_be_is_refused(call: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        call(log_of([[("call", 1, "x")]]))


def test_customers_who_call_again() -> None:
    call, order = ("call", 3, "bill"), ("order", 1, None)
    log = log_of([[call, call, order], [order, call, order, call], [order]])
    found = paths_to(log, "call", 1, every=True)
    assert dict(found.frame()[["path", "n"]].to_numpy()) == {
        f"{START}{ARROW}call": 1, f"call{ARROW}call": 1, f"order{ARROW}call": 2,
    }  # fmt: skip
    assert "Of 4 occurrences: 3 different paths of 1 step" in found.note
    assert found.plot().get_xlabel() == "share of occurrences (95 % interval)"
    assert paths_to(log, "call", 1, most=1).plot().get_xlabel().endswith("; 50% have other paths")
    again = loops(log, by="reason", windows=[4, 5], until="2024-02-01")
    assert again.frame()[["days", "n", "again"]].to_numpy().tolist() == [[4, 4, 2], [5, 4, 2]]
    assert again.blank == 4
    assert np.isfinite(again.frame()["low"]).all()
    assert again.turns()["kind"].tolist() == ["straight"]
    assert again.plot().get_title(loc="left").startswith("Again within 4 days")
