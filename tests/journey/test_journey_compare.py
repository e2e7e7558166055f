"""A difference is reported where one was planted, and at most in one of twenty comparisons where none was."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cxlab.errors import CxlabError, DataError, ParamsError
from cxlab.journey.compare import CASES, MORE, SAME, VISITS, JourneyComparison, compare_journeys, differences, sums
from cxlab.journey.events import END, START, Steps, steps

FIRST = pd.Timestamp("2024-01-01", tz="UTC")
STATES, WORLDS, PEOPLE = 5, 200, 300  # 200 worlds, seeds 0 to 199: 5 % and two binomial standard errors is 8.1 %
LIMIT = 0.05 + 2 * np.sqrt(0.05 * 0.95 / WORLDS)
KEY = ["source", "target"]


def world(seed: int, people: int, planted: float = 0.0, share: float = 0.3) -> pd.DataFrame:
    """Cases of two groups that differ from case to case far more than chance: each has its own probabilities.

    Drawn around one matrix (Dirichlet, of a total of two), and busy cases come back for long. With `planted`, so much
    of what goes from state 0 to its likeliest successor goes to the least likely one in group b.
    """
    rng = np.random.default_rng(seed)
    base = rng.dirichlet(np.full(STATES + 1, 1.0), STATES)
    base[:, STATES] = 0.25
    base /= base.sum(axis=1, keepdims=True)
    group = rng.random(people) < share
    every = np.repeat(base[None], people, axis=0)
    order = np.argsort(base[0, :STATES])
    moved = min(planted, base[0, order[-1]])
    every[group, 0, order[-1]] -= moved
    every[group, 0, order[0]] += moved
    own = rng.standard_gamma(np.maximum(2 * every, 1e-3)) + 1e-9
    own[:, :, STATES] *= np.exp(rng.normal(0, 1, people))[:, None]
    chance = np.cumsum(own / own.sum(axis=2, keepdims=True), axis=2)
    who, at, rows = np.arange(people), np.zeros(people, int), []
    for step in range(60):
        rows.append(pd.DataFrame({"who": who, "event": at, "step": step}))
        at = (rng.random(len(who))[:, None] > chance[who, at]).sum(axis=1)
        who, at = who[at < STATES], at[at < STATES]
    frame = pd.concat(rows)
    return frame.assign(world=seed, group=np.where(group, "b", "a")[frame["who"]])


def worlds(planted: float = 0.0, people: int = PEOPLE, n: int = WORLDS) -> Steps:
    """Many worlds in one log, so that DuckDB is asked once."""
    frame = pd.concat([world(seed, people, planted) for seed in range(n)])
    frame["case"] = frame["world"] * people + frame["who"]
    frame["event"] = frame["event"].astype(str)
    return steps(frame.assign(time=FIRST + pd.to_timedelta(frame["step"], unit="h")), keep=["world", "group"])


def each(found: Steps, visits: int = VISITS) -> list[pd.DataFrame]:
    given = sums(found, found.table, visits=visits, by=("world", "group"))
    return [differences(part.drop(columns="world"))[0] for _, part in given.groupby("world")]


@pytest.fixture(scope="module")
def still() -> Steps:
    return worlds()


@pytest.fixture(scope="module")
def tested(still: Steps) -> list[pd.DataFrame]:
    return each(still)


def test_where_nothing_differs_nothing_is_reported(still: Steps, tested: list[pd.DataFrame]) -> None:
    """In the same worlds visits taken for independent report something in most."""
    assert np.mean([(t["verdict"] != "cannot tell").sum() for t in tested]) > 10  # it is not by silence
    assert np.mean([(t["verdict"] == "differs").any() for t in tested]) <= LIMIT
    naive = []
    every = sums(still, still.table, visits=1000, by=("world", "group"))
    for _, part in every[every["event"] != START].groupby("world"):
        a, b = (part[part["group"] == name].set_index(["event", "next_event"]) for name in "ab")
        a, b = a.align(b, join="inner", axis=0)
        pooled = (a["n"] + b["n"]) / (a["visits"] + b["visits"])
        error = np.sqrt(pooled * (1 - pooled) * (1 / a["visits"] + 1 / b["visits"]))
        p = 2 * stats.norm.sf((a["n"] / a["visits"] - b["n"] / b["visits"]).abs() / error)
        naive.append(stats.false_discovery_control(p[a["n"] + b["n"] >= 2 * CASES], method="by").min() < 0.05)
    assert np.mean(naive) > 0.5


def test_single_transitions_are_as_seldom_found_as_p_says(tested: list[pd.DataFrame]) -> None:
    p = pd.concat(tested)["p"].dropna()
    assert len(p) > 2_000
    assert (p < 0.05).mean() <= 0.055
    assert (p < 0.01).mean() <= 0.012


def test_what_was_planted_is_found() -> None:
    found = each(worlds(planted=0.35, people=600, n=40))
    differs = [t[t["verdict"] == "differs"] for t in found]
    assert np.mean([len(t) > 0 for t in differs]) >= 0.9
    said = pd.concat(differs)
    assert (said["source"] == "0").mean() >= 0.95  # it is in no other state


def log(rows: dict[str, list[str]]) -> pd.DataFrame:
    """Cases by group, a case a word, an event a letter."""
    out = [
        (f"{group}{k}", letter, at, group)
        for group, words in rows.items()
        for k, word in enumerate(words)
        for at, letter in enumerate(word)
    ]
    frame = pd.DataFrame(out, columns=["case", "event", "hour", "group"])
    return frame.assign(time=FIRST + pd.to_timedelta(frame["hour"], unit="h"))


words = st.lists(st.text("xy", min_size=1, max_size=6), min_size=1, max_size=5)


@settings(max_examples=6)
@given(words, words)
def test_shares_are_those_of_the_first_visits_by_hand(one: list[str], two: list[str]) -> None:
    found = compare_journeys(log({"a": one, "b": two}), by="group").frame().set_index(KEY)
    for group, cases in (("a", one), ("b", two)):
        counts: dict[tuple[str, str], int] = {}
        for word in cases:
            seen: dict[str, int] = {}
            for a, b in pairwise([START, *word, END]):
                seen[a] = seen.get(a, 0) + 1
                if seen[a] <= VISITS:
                    counts[a, b] = counts.get((a, b), 0) + 1
        assert {key: n for key, n in found[f"{group}_n"].items() if n} == counts
        of = found[f"{group}_of"].groupby("source").first()
        assert {name: n for name, n in of.items() if n} == pd.Series(counts).groupby(level=0).sum().to_dict()


def test_exchanging_the_groups_turns_the_differences() -> None:
    frame = world(3, 400, 0.3)
    frame = frame.assign(case=frame["who"], time=FIRST + pd.to_timedelta(frame["step"], unit="h"))
    one = compare_journeys(frame, by="group", a="a", b="b").frame().set_index(KEY)
    two = compare_journeys(frame, by="group", a="b", b="a").frame().set_index(KEY).loc[one.index]
    for left, right in (("difference", "difference"), ("low", "high"), ("high", "low")):
        np.testing.assert_allclose(one[left], -two[right])
    np.testing.assert_allclose(one["p"], two["p"])
    assert one["verdict"].tolist() == two["verdict"].tolist()


@pytest.fixture(scope="module")
def differing() -> JourneyComparison:
    frame = world(3, 900, 0.3)
    return compare_journeys(
        frame.assign(case=frame["who"], time=FIRST + pd.to_timedelta(frame["step"], unit="h")), by="group"
    )


def test_a_transition_differs_where_its_interval_excludes_zero_and_nowhere_else(differing: JourneyComparison) -> None:
    t = differing.frame()
    excludes = (t["low"] > 0) | (t["high"] < 0)
    assert 0 < excludes.sum() < len(t)
    assert ((t["verdict"] == "differs") == excludes).all()
    assert (t["p_adjusted"].dropna() >= t["p"].dropna()).all()
    too_few = t["verdict"] == "cannot tell"
    assert t.loc[too_few, ["low", "high", "p", "p_adjusted"]].isna().all(axis=None)
    assert t.loc[~too_few, ["low", "high", "p", "p_adjusted"]].notna().all(axis=None)
    assert differing.interval > differing.level
    assert len(differing.differing) == excludes.sum()


def test_the_map_has_colour_only_where_the_interval_says_so(differing: JourneyComparison) -> None:
    pytest.importorskip("plotly")
    _, edges = differing._graph()
    t = differing.frame().set_index(KEY)
    for edge in edges:
        row = t.loc[(edge.source, edge.target)]
        assert (edge.colour == SAME) == (row["verdict"] != "differs")
        assert edge.label == (
            ""
            if edge.colour == SAME
            else f"{100 * row['difference']:+.1f}\n[{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
        )
        assert edge.colour != MORE or row["difference"] > 0
    assert {(e.source, e.target) for e in edges} >= set(t.index[t["verdict"] == "differs"])
    assert "percentage points" in differing.plot().get_xlabel()
    assert differing.svg().startswith("<svg")
    assert len(differing.figure().data) == len(edges) + 3
    assert "differ" in differing._repr_html_()
    assert "cannot tell" in repr(differing) or "no difference shown" in repr(differing)


def test_too_few_cases_cannot_tell_however_often_they_come() -> None:
    often = ["xy" * 30] * (CASES - 1)
    found = compare_journeys(log({"a": often, "b": ["xx" * 30] * (CASES - 1)}), by="group")
    assert set(found.frame()["verdict"]) == {"cannot tell"}
    assert found.interval == found.level
    assert "frequent enough" in found.plot().texts[0].get_text()
    clear = compare_journeys(log({"a": ["xy"] * 40, "b": ["xz"] * 40}), by="group").differing
    assert {("x", "y"), ("x", "z")} == set(zip(clear["source"], clear["target"], strict=True))


def test_periods_are_told_apart_by_the_start_of_a_case() -> None:
    frame = log({"a": ["xy"] * 40, "b": ["xz"] * 40})
    frame.loc[frame["group"] == "b", "time"] += pd.Timedelta(days=10)
    found = compare_journeys(frame, by="time", at="2024-01-05")
    groups = compare_journeys(frame, by="group")
    pd.testing.assert_frame_equal(found.frame(), groups.frame())
    assert (found.a, found.b) == ("before 2024-01-05", "from 2024-01-05")
    assert "may not be over" in found.note
    zoned = compare_journeys(frame, by="time", at=pd.Timestamp("2024-01-01T01:30+01:00"))  # half past midnight, UTC
    assert zoned.cases == (40, 40)


def test_who_is_left_out_is_said() -> None:
    frame = log({"a": ["xy"] * 3, "b": ["xy"] * 2, "c": ["x"], "d": ["x"]})
    frame.loc[frame["group"] == "d", "group"] = None
    frame.loc[(frame["case"] == "a0") & (frame["event"] == "y"), "group"] = "b"
    found = compare_journeys(frame, by="group", a="a", b="b")
    assert found.cases == (3, 2)
    for said in ("1 cases have no group", "1 cases of other values", "1 cases change their group"):
        assert said in found.note


def test_true_and_false_and_numbers_are_groups() -> None:
    frame = log({"a": ["xy"] * 3, "b": ["xy"] * 2})
    loyal = compare_journeys(frame.assign(loyal=frame["group"] == "a"), by="loyal")
    assert (loyal.a, loyal.b, loyal.cases) == ("loyal False", "loyal True", (2, 3))
    assert compare_journeys(frame.assign(tier=frame["group"].map({"a": 1, "b": 2})), by="tier", a=2, b=1).cases == (
        2,
        3,
    )


@pytest.mark.parametrize(
    ("options", "kind", "match"),
    [
        ({"by": "group", "a": "a"}, ParamsError, "must both be given or neither"),
        ({"by": "group", "a": "a", "b": "a"}, ParamsError, "must differ"),
        ({"by": "group", "a": "a", "b": "z"}, DataError, "Value 'z' is not in column 'group'"),
        ({"by": "event"}, ParamsError, "keep names 'event'"),
        ({"by": "hour"}, DataError, "has 1 values, must have two"),
        ({"by": "time"}, ParamsError, "periods need by='time' and at"),
        ({"by": "group", "at": "2024-01-01"}, ParamsError, "groups need no at"),
        ({"by": "time", "at": "soon"}, ParamsError, "at == 'soon'"),
        ({"by": "time", "at": "1999-01-01"}, DataError, "both groups must have some"),
        ({"by": "group", "visits": 0}, ParamsError, "visits == 0"),
        ({"by": "group", "at_least": -1}, ParamsError, "at_least == -1"),
        ({"by": "nobody"}, DataError, "Column 'nobody'"),
    ],
)
def test_what_cannot_be_compared_is_refused(options: dict[str, Any], kind: type[CxlabError], match: str) -> None:
    with pytest.raises(kind, match=match):
        compare_journeys(log({"a": ["xy"], "b": ["x"]}), **options)


def test_incidents_of_two_priorities(mirror: Path) -> None:
    """24,918 incidents with 141,712 events; "-100" is a state of the log as published."""
    names = ["number", "incident_state", "sys_updated_at", "priority"]
    frame = pd.read_csv(mirror / "incident_log" / "incident_event_log.csv.gz", usecols=names)
    with pytest.raises(DataError, match="no ISO 8601 time"):
        steps(frame, case="number", event="incident_state", time="sys_updated_at")
    frame["sys_updated_at"] = pd.to_datetime(frame["sys_updated_at"], format="%d/%m/%Y %H:%M")
    found = steps(frame, case="number", event="incident_state", time="sys_updated_at", keep=["priority"])
    assert (found.rows, found.cases) == (141_712, 24_918)
    compared = compare_journeys(found, by="priority", a="3 - Moderate", b="4 - Low")
    assert sum(compared.cases) < found.cases
    t = compared.frame().set_index(KEY)
    assert (t["verdict"] == "differs").any()
    rng = np.random.default_rng(0)
    frame["coin"] = pd.Series(rng.random(len(frame)) < 0.5).groupby(frame["number"]).transform("first")
    coin = compare_journeys(frame, by="coin", case="number", event="incident_state", time="sys_updated_at")
    assert coin.differing.empty
