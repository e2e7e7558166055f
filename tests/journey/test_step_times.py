"""Times from one event to the next are those between neighbours in a case."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxlab.errors import ParamsError
from cxlab.journey.asking import duration
from cxlab.journey.times import step_times

BEGIN = pd.Timestamp("2024-01-01")
EVENTS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from("abc"), st.integers(0, 10**13)), min_size=1, max_size=30,
    unique_by=lambda event: (event[0], event[2]),
)  # fmt: skip


def log_of(events: list[tuple[int, str, int]]) -> pd.DataFrame:
    log = pd.DataFrame(events, columns=["case", "event", "micros"])
    return log.assign(time=BEGIN + pd.to_timedelta(log["micros"], "us"))


@settings(max_examples=10)
@given(EVENTS, st.integers(1, 60), st.randoms(use_true_random=False))
def test_times_are_those_of_the_long_way(events: list, beyond: int, random: Any) -> None:
    log = log_of(events)
    waits: dict[tuple[str, str], list[float]] = {}
    for _, part in log.sort_values("time").groupby("case"):
        rows = list(zip(part["event"], part["micros"], strict=True))
        for (event, at), (following, then) in pairwise(rows):
            waits.setdefault((event, following), []).append((then - at) / 3.6e9)
    found = step_times(log, beyond=beyond).frame()
    assert found["n"].is_monotonic_decreasing
    assert {(row["event"], row["next_event"]) for row in found.to_dict("records")} == set(waits)
    for row in found.to_dict("records"):
        held = waits[row["event"], row["next_event"]]
        assert row["n"] == len(held)
        assert row["mean"] == pytest.approx(np.mean(held))
        points = [row[name] for name in ("q10", "q25", "median", "q75", "q90")]
        assert points == pytest.approx(np.quantile(held, [0.1, 0.25, 0.5, 0.75, 0.9]))
        assert row["longer"] == sum(wait > 24 * beyond for wait in held)
        assert row["low"] <= row["share"] <= row["high"]
    rows = random.sample(range(len(log)), len(log))
    pd.testing.assert_frame_equal(step_times(log.iloc[rows], beyond=beyond).frame(), found, rtol=1e-12)


def test_a_clock_that_runs_backwards_gives_no_time_below_zero() -> None:
    log = log_of([(1, "a", 5_000_000), (1, "b", 2_000_000), (1, "c", 2_000_000)])
    found = step_times(log).frame().set_index(["event", "next_event"])
    assert found.loc[("b", "c"), "mean"] == 0
    assert found.loc[("c", "a"), "mean"] == pytest.approx(3 / 3600)
    labels = [label.get_text() for label in step_times(log).plot().get_xticklabels()]
    assert labels[0] == "up to 1 s"


def test_one_event_has_no_next() -> None:
    found = step_times(log_of([(1, "a", 0), (2, "a", 0)]))
    assert found.frame().empty
    assert found.plot().texts[0].get_text() == "No event directly follows another as asked."
    asked = step_times(log_of([(1, "a", 0), (1, "b", 5)]), pairs=[("a", "b"), ("b", "a")])
    assert len(asked.frame()) == 1
    assert "a never directly follows b." in asked.note


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"pairs": [("open", "clos")]}, r"Event 'clos' is not in the log. Did you mean 'close'\?"),
        ({"pairs": ["open"]}, "pairs holds 'open', must be pairs of events"),
        ({"beyond": float("nan")}, "beyond == nan, must be days above 0"),
        ({"beyond": timedelta(0)}, "must be days above 0"),
    ],
)
def test_what_cannot_be_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        step_times(log_of([(1, "open", 0), (1, "close", 5)]), **asked)


def test_tickets_that_wait() -> None:
    hour = 3_600_000_000
    events = [(case, name, at * hour) for case in range(10) for name, at in (("new", 0), ("done", 1 + 20 * case))]
    found = step_times(log_of(events), beyond=timedelta(hours=100))
    row = found.frame().iloc[0]
    assert (row["n"], row["median"], row["mean"], row["longer"], row["share"]) == (10, 91.0, 91.0, 5, 0.5)
    assert row["low"] < 0.5 < row["high"]
    assert "more than 4.2 days" in found.note
    ax = found.plot()
    assert ax.get_yticklabels()[0].get_text() == "new → done (10)"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1 day", "7 days"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (5400, "1.5 h"), (86_400 * 400, "400 days"), (float("nan"), "")],
)
def test_a_time_in_words(seconds: float, said: str) -> None:
    assert duration(seconds) == said
