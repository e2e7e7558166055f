"""Nothing reaches a customer without consent, in quiet hours, beyond a cap, or in a cool-down, whatever happened."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signal_histories import STRICTEST, TABLE, ZONES, customers, event, happened, histories, small, table

from cxlab.data.consent import Consents
from cxlab.decide.guardrails import day_ends, is_quiet, local, quiet_until, too_much_harm
from cxlab.decide.replay import replay
from cxlab.decide.signals import micros
from cxlab.decide.triggers import CONTACTS, Engine
from cxlab.params.signals import HarmParams

NIGHT = (time(21), time(8))


def decided(rows: list[dict[str, Any]], **guardrails: Any) -> list[dict[str, Any]]:
    params = small(**guardrails)
    engine = Engine(params, customers(params))
    out = [decision for item in happened(rows) for decision in engine.step(item)]
    return out + engine.advance(micros(datetime(2026, 1, 1, tzinfo=UTC)))


def reached(decisions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [decision for decision in decisions if decision["status"] in CONTACTS]


def zones_of(customer: str) -> tuple[str, ...]:
    zone = ZONES[int(customer[1:])]
    return STRICTEST if zone == "Nowhere/Land" else (zone,)


@settings(max_examples=40, deadline=None)
@given(histories())
def test_nobody_is_reached_without_consent(rows: list[dict[str, Any]]) -> None:
    frame = table(rows).assign(occurred_at=lambda t: pd.to_datetime(t["occurred_at"], format="ISO8601"))
    for decision in decided(rows):
        if decision["status"] not in (*CONTACTS, "escalated"):
            continue
        at = pd.Timestamp(decision["time"])
        known = frame[pd.to_datetime(frame["received_at"], format="ISO8601") <= at]
        consents = Consents.of(known, TABLE[["customer_id", "minor", "vulnerable"]])
        assert consents.allowed(decision["customer"], decision["purpose"], at)


@settings(max_examples=40, deadline=None)
@given(histories())
def test_nobody_is_reached_in_quiet_hours(rows: list[dict[str, Any]]) -> None:
    for decision in reached(decided(rows)):
        for zone in zones_of(decision["customer"]):
            wall = pd.Timestamp(decision["time"]).tz_convert(zone).time()
            assert time(8) <= wall < time(21)


@settings(max_examples=40, deadline=None)
@given(histories(), st.integers(0, 3))
def test_caps_hold_in_the_customers_day_and_in_ours(rows: list[dict[str, Any]], cap: int) -> None:
    contacts = reached(decided(rows, contacts_a_day=cap, cool_down_h=1))
    days = Counter(
        (decision["customer"], zone, pd.Timestamp(decision["time"]).tz_convert(zone).date())
        for decision in contacts
        for zone in zones_of(decision["customer"])
    )
    assert max(days.values(), default=0) <= cap
    calls = Counter(decision["time"][:10] for decision in contacts if decision["action"] == "call")
    assert max(calls.values(), default=0) <= 2


@settings(max_examples=40, deadline=None)
@given(histories(), st.integers(1, 30))
def test_contacts_keep_their_distance(rows: list[dict[str, Any]], hours: int) -> None:
    contacts = reached(decided(rows, cool_down_h=hours, contacts_a_day=9))
    for customer in {decision["customer"] for decision in contacts}:
        mine = [decision for decision in contacts if decision["customer"] == customer]
        times = [pd.Timestamp(decision["time"]) for decision in mine]
        assert all(later - sooner >= pd.Timedelta(hours=hours) for sooner, later in itertools.pairwise(times))
        for situation, own in (("help", 30), ("offer", 40)):
            cases = [d for d in mine if d["situation"] == situation]
            for sooner, later in itertools.pairwise(cases):
                if sooner["opened"] != later["opened"]:
                    assert pd.Timestamp(later["time"]) - pd.Timestamp(sooner["time"]) >= pd.Timedelta(hours=own)


@settings(max_examples=40, deadline=None)
@given(histories())
def test_what_customers_say_is_obeyed(rows: list[dict[str, Any]]) -> None:
    said = sorted(happened(rows), key=lambda item: (item.occurred, item.event == "opted_out"))
    for decision in reached(decided(rows)):
        at = micros(datetime.fromisoformat(decision["time"]))
        mine = [item for item in said if item.customer == decision["customer"] and item.received <= at]
        out: set[str] = set()
        for item in mine:
            hours, day = (at - item.occurred) / 3.6e9, 24
            if item.event == "action_snoozed":
                assert hours >= item.properties.get("days", 1) * day
            if item.event == "action_declined" and item.properties.get("situation", "offer") == decision["situation"]:
                assert hours >= 2 * day
            if item.event == "opted_out":
                out.add(item.properties["channel"])
            if item.event == "opted_in":
                out = set() if item.properties["channel"] == "all" else out - {item.properties["channel"]}
            if item.event == "incident_notified":
                assert (at - item.received) / 3.6e9 >= 6
            assert item.event != "account_closed"
        assert not out & {"all", decision["channel"]}


@given(
    st.datetimes(datetime(2025, 1, 1), datetime(2025, 12, 31), timezones=st.just(UTC)),
    st.lists(st.sampled_from(ZONES[:4]), min_size=1, max_size=2),
    st.tuples(st.times(), st.times()),
)
def test_quiet_hours_end_where_they_say(at: datetime, zones: list[str], quiet: tuple[time, time]) -> None:
    now = micros(at)
    until = quiet_until(now, zones, quiet)
    if until is None:
        assert len(set(zones)) == 2  # two zones may leave no common hour
        return
    assert until >= now and not any(is_quiet(until, zone, quiet) for zone in zones)
    assert (until == now) == (not any(is_quiet(now, zone, quiet) for zone in zones))
    assert until - now < 49 * 3_600_000_000


@given(
    st.datetimes(datetime(2025, 1, 1), datetime(2025, 12, 31), timezones=st.just(UTC)),
    st.sampled_from([*ZONES[:4], "America/Santiago"]),  # where midnight itself is skipped once a year
)
def test_a_day_ends_when_the_next_begins(at: datetime, zone: str) -> None:
    now = micros(at)
    ends = day_ends(now, zone)
    assert ends > now and local(ends, zone).date() > local(now, zone).date()
    assert local(ends - 1, zone).date() == local(now, zone).date()


@pytest.mark.parametrize(
    ("customer", "evening", "morning"),
    [
        ("c0", datetime(2025, 3, 29, 20, 30, tzinfo=UTC), "2025-03-30T06:00:00+00:00"),  # the night has 10 hours
        ("c0", datetime(2025, 10, 25, 20, 30, tzinfo=UTC), "2025-10-26T07:00:00+00:00"),
        ("c3", datetime(2025, 4, 5, 11, 0, tzinfo=UTC), "2025-04-05T21:30:00+00:00"),  # clocks move half an hour
        ("c2", datetime(2025, 3, 9, 2, 30, tzinfo=UTC), "2025-03-09T12:00:00+00:00"),
    ],
)
def test_what_is_held_in_the_evening_goes_out_at_eight(customer: str, evening: datetime, morning: str) -> None:
    held, sent = [d for d in decided([event(evening, customer, "complaint")]) if d["situation"] == "help"][:2]
    assert (held["status"], held["guardrail"], held["until"]) == ("held", "quiet_hours", morning)
    assert (sent["status"], sent["time"]) == ("sent", morning)


NOON = datetime(2025, 5, 6, 11, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "status", "guardrail"),
    [
        ([("consent_withdrawn", {"purpose": "service"})], "suppressed", "consent"),
        ([("opted_out", {"channel": "all"})], "suppressed", "opted_out"),
        ([("opted_out", {"channel": "app"}), ("opted_out", {"channel": "web"})], "suppressed", "opted_out"),
        ([("action_declined", {"situation": "help"})], "suppressed", "declined"),
        ([("action_snoozed", {"days": 1})], "held", "snoozed"),
        ([("action_snoozed", {"days": 10})], "suppressed", "snoozed"),
        ([("incident_notified", {"incident": "outage"})], "held", "incident"),
        ([("account_closed", {})], "suppressed", "left"),
        ([], "sent", None),
    ],
)
def test_each_guardrail_by_name(before: list[tuple[str, dict[str, Any]]], status: str, guardrail: str | None) -> None:
    rows = [event(NOON - timedelta(hours=1), "c0", name, **facts) for name, facts in before]
    first = next(d for d in decided([*rows, event(NOON, "c0", "complaint")]) if d["situation"] == "help")
    assert (first["status"], first["guardrail"]) == (status, guardrail)
    assert first["reason"].endswith(".") and first["owner"] == "desk"


def test_a_new_case_waits_for_the_last_one_of_its_kind() -> None:
    rows = [event(NOON, "c0", "complaint"), event(NOON + timedelta(hours=1), "c0", "contact", resolved=True)]
    rows.append(event(NOON + timedelta(hours=5), "c0", "complaint"))
    mine = [d for d in decided(rows) if d["situation"] == "help" and d["opened"] > NOON.isoformat()]
    assert (mine[0]["status"], mine[0]["guardrail"]) == ("held", "cool_down")
    assert mine[0]["until"] == (NOON + timedelta(hours=30)).isoformat() and mine[1]["time"] == mine[0]["until"]


def test_a_late_grant_does_not_undo_a_newer_withdrawal() -> None:
    rows = [event(NOON - timedelta(hours=2), "c0", "consent_withdrawn", purpose="marketing")]
    rows.append(event(NOON - timedelta(hours=3), "c0", "consent_granted", late_s=7200, purpose="marketing"))
    offer = next(d for d in decided([*rows, event(NOON, "c0", "complaint")]) if d["situation"] == "offer")
    assert (offer["status"], offer["guardrail"]) == ("suppressed", "consent")


def test_what_goes_beyond_a_days_capacity_waits_for_the_next() -> None:
    rows = [event(NOON + timedelta(minutes=n), f"x{n}", "complaint") for n in range(3)]
    hints = [d for d in decided(rows, capacity={"hint": 1}) if d["action"] == "hint"]
    assert [(d["status"], d["guardrail"]) for d in hints[:3]] == [
        ("sent", None),
        ("held", "capacity"),
        ("held", "capacity"),
    ]
    assert len({d["time"][:10] for d in hints if d["status"] == "sent"}) == 3 - sum(
        d["status"] == "suppressed" for d in hints
    )


def test_marks_leave_nothing_but_service() -> None:
    rows = [
        event(NOON - timedelta(days=1), "c3", "consent_granted", purpose="marketing"),
        event(NOON, "c3", "complaint"),
    ]
    offer = next(d for d in decided(rows) if d["situation"] == "offer")
    assert (offer["status"], offer["guardrail"]) == ("suppressed", "consent") and "minor" in offer["reason"]


def test_too_many_opt_outs_pause_a_trigger_and_say_so() -> None:
    rows = [event(NOON + timedelta(days=n), f"x{n}", "complaint") for n in range(8)]
    rows += [event(NOON + timedelta(days=n, minutes=5), f"x{n}", "opted_out", channel="all") for n in range(5)]
    params = small()
    found = replay(table(rows), params)
    paused = [d for d in found.decisions if d["status"] == "paused"]
    assert [d["situation"] for d in paused] == ["help"] and "opt-outs after" in paused[0]["reason"]
    stopped = [d for d in found.decisions if d["guardrail"] == "paused" and d["status"] == "suppressed"]
    assert stopped and all(d["time"] < paused[0]["until"] for d in stopped)


@given(st.integers(0, 200), st.integers(0, 50))
def test_few_contacts_or_low_rates_pause_nothing(contacts: int, opt_outs: int) -> None:
    rules = HarmParams(opt_outs=0.1, least=20)
    found = too_much_harm(contacts, opt_outs, 0, rules)
    if contacts < 20 or opt_outs <= 0.1 * contacts:
        assert found is None
    if contacts >= 100 and opt_outs >= 0.3 * contacts:
        assert found is not None


def test_the_preferred_channel_comes_first_if_the_step_has_it() -> None:
    rows = [event(NOON - timedelta(hours=1), "c0", "channel_preferred", channel="web"), event(NOON, "c0", "complaint")]
    assert next(d for d in decided(rows) if d["status"] == "sent")["channel"] == "web"
    assert next(d for d in decided(rows[1:]) if d["status"] == "sent")["channel"] == "app"
