"""Planted faults of a stream are found, and nothing is found where nothing was planted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxlab.data.event_quality import (
    CHECKS,
    EventQuality,
    check_events,
    longest_silence,
    parts,
    volume_breaks,
)
from cxlab.data.events import read_events
from cxlab.data.quality import Check
from cxlab.data.taxonomy import Mapping, load_mapping, load_taxonomy
from cxlab.params.events import EventThresholds

ROOT = Path(__file__).parents[2]
TAXONOMY = load_taxonomy()
START, DAYS = pd.Timestamp("2026-01-05", tz="UTC"), 70
NOW = START + pd.Timedelta(days=DAYS, hours=1)


def clean(seed: int = 0, a_day: int = 60, days: int = DAYS) -> pd.DataFrame:
    """Calls by day and page views around the clock, fewer at weekends, each known some seconds later."""
    rng = np.random.default_rng(seed)
    out = []
    for channel, event, open_, shut in (("voice", "call_ended", 8, 18), ("web", "page_view", 0, 24)):
        for day in range(days):
            usual = a_day * (0.3 if day % 7 > 4 else 1.0)
            hours = rng.uniform(open_, shut, rng.poisson(usual))
            at = START + pd.Timedelta(days=day) + pd.to_timedelta(hours, unit="h").round("s")
            facts = '{"duration": 60, "agent": "a"}' if channel == "voice" else '{"page": "home", "seconds": 2}'
            out.append(pd.DataFrame({"occurred_at": at, "channel": channel, "event": event, "properties": facts}))
    frame = pd.concat(out, ignore_index=True)
    frame["received_at"] = frame["occurred_at"] + pd.to_timedelta(rng.exponential(20, len(frame)).round(), unit="s")
    frame["customer_id"] = [f"c{i}" for i in rng.integers(0, 200, len(frame))]
    return frame.assign(event_id=[f"e{i}" for i in range(len(frame))])


def quality(frame: pd.DataFrame, now: Any = NOW, mapping: Mapping | None = None, **limits: Any) -> EventQuality:
    events = read_events(frame, taxonomy=TAXONOMY, now=now, mapping=mapping)
    return check_events(events, thresholds=EventThresholds(**limits))


def answer(code: str, found: EventQuality) -> Check:
    return next(item for item in found.checks if item.code == code)


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_found_where_nothing_was_planted(seed: int) -> None:
    found = quality(clean(seed))
    assert set(found.statuses.values()) == {"pass"}, found
    assert not found.failed
    assert list(found.statuses) == list(CHECKS)


def test_the_order_of_rows_changes_no_answer() -> None:
    frame = clean().drop(index=range(500, 900))
    assert quality(frame).checks == quality(frame.sample(frac=1, random_state=1)).checks


def silent(frame: pd.DataFrame, channel: str, start: str, end: str) -> pd.DataFrame:
    return frame[
        ~(
            (frame["channel"] == channel)
            & frame["occurred_at"].between(pd.Timestamp(start, tz="UTC"), pd.Timestamp(end, tz="UTC"))
        )
    ]


def test_a_silent_channel_is_named() -> None:
    found = answer("gaps", quality(silent(clean(), "voice", "2026-02-03", "2026-02-05")))
    assert found.status == "fail"
    assert "voice: silent 2026-02-02" in found.reason
    assert "web" not in found.reason


@given(st.integers(0, 1000), st.floats(0.2, 5.0))
@settings(max_examples=10)
def test_a_silence_is_measured_in_events_and_not_in_hours(seed: int, tempo: float) -> None:
    """However busy a stream is, its nights and weekends are no silence."""
    moments = clean(seed, a_day=int(60 * tempo))["occurred_at"]
    found = longest_silence(moments)
    assert found is not None
    assert found[0] < 3


def test_bursts_are_no_silence() -> None:
    rng = np.random.default_rng(0)
    bursts = START + pd.to_timedelta(np.sort(rng.uniform(0, DAYS * 24, 600)), unit="h")
    moments = pd.Series(np.repeat(bursts, 8)) + pd.to_timedelta(rng.uniform(0, 60, 4800), unit="s")
    found = longest_silence(moments)
    assert found is not None
    assert found[0] < 3


def test_a_break_in_volume_is_named() -> None:
    frame = clean()
    day = pd.Timestamp("2026-02-11", tz="UTC")
    extra = frame[frame["occurred_at"].dt.floor("D") == day]
    doubled = pd.concat([frame, *[extra.assign(event_id=extra["event_id"] + f"_{i}") for i in range(2)]])
    found = answer("volume", quality(doubled))
    assert found.status == "fail"
    assert "1 days unlike" in found.reason
    assert "2026-02-11" in found.reason


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"page_view": 200}, "mostly page_view."),
        ({"page_view": 100, "search": 100, "survey_sent": 50}, "mostly on web."),
        ({"page_view": 100, "call_ended": 90, "survey_sent": 80}, "most in page_view, call_ended."),
    ],
)
def test_a_break_says_what_makes_it(extra: dict[str, int], said: str) -> None:
    frame = clean()
    parts, channels = [frame], {"call_ended": "voice", "survey_sent": "survey"}
    for name, many in extra.items():
        rows = frame.head(many).assign(event=name, channel=channels.get(name, "web"))
        rows["properties"] = '{"duration": 60}' if name == "call_ended" else "{}"
        rows["occurred_at"] = pd.Timestamp("2026-02-11 10:00", tz="UTC") + pd.to_timedelta(np.arange(many), unit="s")
        parts.append(rows.assign(received_at=rows["occurred_at"], event_id=rows["event_id"] + name))
    events = read_events(pd.concat(parts), taxonomy=TAXONOMY, now=NOW)
    assert events.quarantine.empty
    found = answer("volume", check_events(events))
    assert found.status == "fail"
    assert "2026-02-11: " in found.reason
    assert f"times its usual Wednesday ({found.rows:,}, z " in found.reason
    assert found.reason.endswith(said)


def test_a_day_on_which_events_are_lost_says_which() -> None:
    frame = silent(clean(a_day=300), "web", "2026-02-11 00:00", "2026-02-11 23:59:59")
    lost = silent(frame, "voice", "2026-02-11 13:00", "2026-02-11 23:59:59")
    reason = answer("volume", quality(lost)).reason
    assert "2026-02-11: 0.3 times its usual Wednesday" in reason
    assert reason.endswith("mostly page_view.")


def test_a_stream_that_grows_is_not_held_against_what_it_became() -> None:
    weeks, rng = 78, np.random.default_rng(0)
    u = rng.random(4000)
    moments = pd.Series(START + pd.to_timedelta(np.sort(np.log1p(99 * u) / np.log(100) * weeks * 7), unit="D"))
    found = longest_silence(moments)
    assert found is not None
    assert found[0] < 2


def test_a_first_rush_is_no_rhythm() -> None:
    """A system is loaded in an hour of its first Monday; later Mondays are like other days."""
    rush = START + pd.to_timedelta(np.linspace(0, 3600, 20_000), unit="s")
    moments = pd.concat([clean()["occurred_at"], pd.Series(rush)], ignore_index=True)
    found = longest_silence(moments)
    assert found is not None
    assert found[0] < 3


@pytest.mark.parametrize("weeks", [1, 4, 5, 8, 20])
def test_a_silence_of_weeks_is_found_however_long(weeks: int) -> None:
    frame = clean(days=7 * 40)
    moments = frame["occurred_at"][frame["channel"] == "voice"]
    lost = (START + pd.Timedelta(weeks=10), START + pd.Timedelta(weeks=10 + weeks))
    found = longest_silence(moments[~moments.between(*lost)])
    assert found is not None
    assert found[0] > 3
    assert found[1] < lost[0]
    assert found[2] > lost[1]


def test_a_trend_is_no_break() -> None:
    days = pd.date_range(START, periods=200)
    rng = np.random.default_rng(0)
    assert volume_breaks(pd.Series(rng.poisson(np.linspace(50, 400, 200)), index=days), 6).empty


def test_a_thin_tail_is_named() -> None:
    frame = clean()
    late = frame["occurred_at"] >= pd.Timestamp("2026-02-20", tz="UTC")
    found = quality(frame[~late | (np.arange(len(frame)) % 40 == 0)])
    assert "A thin tail: the last" in answer("volume", found).reason
    assert "from 2026-02-20 on" in answer("volume", found).reason
    assert answer("gaps", found).status == "pass"


def test_late_and_future_events_and_stale_streams() -> None:
    frame = clean()
    later = frame["received_at"].where(np.arange(len(frame)) % 10 > 0, frame["received_at"] + pd.Timedelta(days=3))
    assert answer("late_events", quality(frame.assign(received_at=later))).status == "fail"
    early = quality(frame, now=NOW - pd.Timedelta(days=2))
    assert answer("future_events", early).status == "fail"
    stale = quality(frame, now=NOW + pd.Timedelta(days=3))
    assert (answer("freshness", stale).status, answer("future_events", stale).status) == ("fail", "pass")
    unknown = quality(frame, now=None)
    assert {answer(code, unknown).status for code in ("freshness", "future_events")} == {"cannot_tell"}
    assert not unknown.failed


@pytest.mark.parametrize(("shift", "said"), [("-2h", "received 7,1"), ("1h", "60 minutes late")])
def test_a_clock_that_is_wrong_is_named_by_channel(shift: str, said: str) -> None:
    frame = clean()
    wrong = frame["received_at"].where(frame["channel"] != "voice", frame["received_at"] + pd.Timedelta(shift))
    found = answer("clock_skew", quality(frame.assign(received_at=wrong)))
    assert found.status == ("fail" if shift.startswith("-") else "cannot_tell")
    assert "voice" in found.reason
    assert said in found.reason
    assert "web" not in found.reason


def test_a_few_clocks_that_are_ahead_are_named() -> None:
    frame = clean()
    some = (frame["channel"] == "web") & (np.arange(len(frame)) % 20 == 0)
    found = answer(
        "clock_skew", quality(frame.assign(occurred_at=frame["occurred_at"] + pd.to_timedelta(some * 3, "h")))
    )
    assert found.status == "fail"
    assert "web: 5.0% of its events were received before they occurred" in found.reason


def test_what_is_missing_is_named() -> None:
    frame = clean()
    lacking = frame["properties"].where(
        np.arange(len(frame)) % 5 == 0, frame["properties"].str.replace(', "agent": "a"', "")
    )
    found = answer("completeness", quality(frame.assign(properties=lacking)))
    assert found.status == "fail"
    assert "call_ended.agent in 80" in found.reason
    assert "Never delivered:" in found.reason
    anonymous = frame.assign(customer_id=None, device="d1")
    assert "customer_id in 100%" in answer("completeness", quality(anonymous)).reason


def test_a_mark_for_missing_is_named_until_a_mapping_reads_it() -> None:
    frame = clean()
    frame["agent"] = np.where(np.arange(len(frame)) % 3 == 0, "?", "anna")
    frame["duration"], frame["page"] = 60, "home"
    names = ("event_id", "customer_id", "occurred_at", "received_at", "channel", "event")
    columns: dict[str, str | tuple[str, ...]] = {name: name for name in names}
    facts = {"duration": "duration", "agent": "agent", "page": "page"}
    as_it_is = quality(frame, mapping=Mapping(columns=columns, properties=facts))
    assert answer("placeholders", as_it_is).status == "fail"
    assert "call_ended.agent" in answer("placeholders", as_it_is).reason
    read = quality(frame, mapping=Mapping(columns=columns, properties=facts, missing=("?",)))
    assert answer("placeholders", read).status == "pass"
    assert "'?' was read as missing" in answer("reading", read).reason


def test_duplicates_and_broken_rows_are_counted() -> None:
    frame = clean()
    found = quality(pd.concat([frame, frame.head(50), frame.head(20).assign(customer_id="other")]))
    assert answer("duplicates", found).rows == 70
    assert "50 exact copies and 20 rows" in answer("duplicates", found).reason
    assert answer("conformance", found).status == "pass"
    strange = quality(frame.assign(channel=frame["channel"].replace("web", "fax")))
    assert answer("conformance", strange).status == "fail"
    assert "unknown_channel" in answer("conformance", strange).reason
    assert strange.failed


@pytest.mark.parametrize("n", [0, 1, 2, 30])
def test_small_streams_are_not_judged(n: int) -> None:
    found = quality(clean().head(n))
    assert found.statuses["gaps"] == found.statuses["volume"] == "cannot_tell"
    assert set(found.statuses) == set(CHECKS)
    assert len(found.frame()) == len(CHECKS)
    found.plot()


def test_centuries_apart_are_survived() -> None:
    frame = clean().head(300)
    frame.loc[0, ["occurred_at", "received_at"]] = pd.Timestamp("1970-01-02", tz="UTC")
    frame.loc[1, "received_at"] = pd.Timestamp("2262-04-01", tz="UTC")
    assert set(quality(frame).statuses) == set(CHECKS)


def test_parts_are_aggregates() -> None:
    found = quality(clean())
    made = parts(found)
    assert [caption for caption, _ in made] == [
        "Checks",
        "Events per day by channel",
        "Rows by outcome",
        "How often each property is filled",
    ]
    assert not any("c17" in str(part) for _, part in made)
    assert found.daily.to_numpy().sum() == found.n
    assert len(found.daily) == DAYS


def test_the_incident_logs_oddities_are_named(mirror: Path) -> None:
    mapping = load_mapping(ROOT / "params" / "events" / "incident_log.yaml")
    events = read_events(mirror / "incident_log" / "incident_event_log.csv.gz", mapping=mapping, taxonomy=TAXONOMY)
    found = check_events(events)
    assert "'?' was read as missing" in answer("reading", found).reason
    assert "the day first" in answer("reading", found).reason
    assert "A thin tail" in answer("volume", found).reason
    assert "from 2016-06-" in answer("volume", found).reason
    assert "2016-03-24" in answer("volume", found).reason
    assert found.statuses["late_events"] == "cannot_tell"
    assert found.failed
    json.dumps(found.frame().to_dict("records"))
