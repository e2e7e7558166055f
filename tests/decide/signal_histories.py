"""Random histories of customers around the days on which clocks change, and small params to decide them by."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
from hypothesis import strategies as st

from cxlab.decide.signals import Customers, Happening, micros, read_customers
from cxlab.params.files import checked
from cxlab.params.signals import SignalsParams

ZONES = ("Europe/Madrid", "Europe/Athens", "America/New_York", "Australia/Lord_Howe", "Nowhere/Land")
STRICTEST = ("Atlantic/Azores", "Europe/Athens")  # what must suit a customer of an unknown zone
CHANGES = [datetime(2025, *day, tzinfo=UTC) for day in ((3, 7), (3, 28), (4, 4), (10, 3), (10, 24), (10, 31))]

STEP = {"owner": "desk", "message": "hello", "wait_h": 5}
PARAMS: dict[str, Any] = {
    "signals": {
        "trouble": {
            "event": "contact",
            "where": {"resolved": False},
            "weight": 1,
            "half_life_h": 48,
            "confidence": 0.6,
        },
        "anger": {"event": "complaint", "weight": 2, "half_life_h": 72, "confidence": 0.9},
    },
    "situations": {
        "help": {
            "combine": ["trouble", "anger"],
            "purpose": "service",
            "threshold": 0.5,
            "segments": [{"column": "vulnerable", "value": True, "threshold": 0.3, "start": 1}],
            "min_confidence": 0.7,
            "unsure": "ask",
            "ask": {"action": "message", "channels": ["email"], **STEP},
            "helped_by": [{"event": "contact", "where": {"resolved": True}}],
            "ladder": [
                {"action": "hint", "channels": ["app", "web"], **STEP},
                {"action": "message", "channels": ["email", "chat"], **STEP},
                {"action": "call", "channels": ["voice"], **STEP},
            ],
            "cool_down_h": 30,
            "minors": True,
            "owner": "desk",
        },
        "offer": {
            "combine": ["anger"],
            "purpose": "marketing",
            "threshold": 0.4,
            "ladder": [{"action": "offer", "channels": ["app", "email", "voice"], **STEP}],
            "cool_down_h": 40,
            "owner": "sales",
        },
    },
    "guardrails": {
        "zones": list(STRICTEST),
        "cool_down_h": 3,
        "contacts_a_day": 2,
        "capacity": {"call": 2, "escalate": 2},
        "incident_pause_h": 6,
        "snooze_days": 1,
        "decline_days": 2,
        "compatible": {"service": ["marketing"]},
        "harm": {"least": 4, "pause_days": 1},
    },
}
TABLE = pd.DataFrame(
    {
        "customer_id": [f"c{number}" for number in range(len(ZONES))],
        "timezone": list(ZONES),
        "preferred_channel": ["email", "voice", "app", "store", None],
        "minor": [False, False, False, True, False],
        "vulnerable": [False, True, False, False, False],
    }
)


def small(**guardrails: Any) -> SignalsParams:
    """The params, other guardrails laid over."""
    return checked({**PARAMS, "guardrails": {**PARAMS["guardrails"], **guardrails}}, SignalsParams, "small")


def customers(params: SignalsParams) -> Customers:
    return read_customers(TABLE, params)


def event(at: datetime, customer: str, name: str, *, late_s: float = 0, **properties: Any) -> dict[str, Any]:
    """A row in the contract's columns, without an id."""
    channels = {"contact": "voice", "channel_preferred": "web"}
    return {
        "customer_id": customer,
        "occurred_at": at.isoformat(),
        "received_at": (at + timedelta(seconds=late_s)).isoformat(),
        "channel": channels.get(name, "email" if name in ("complaint", "incident_notified") else "web"),
        "event": name,
        "properties": json.dumps(properties),
    }


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows with ids by their order."""
    return pd.DataFrame([{"event_id": f"e{number:04}", **row} for number, row in enumerate(rows)])


def happened(rows: list[dict[str, Any]]) -> list[Happening]:
    """The same as the engine takes it, in the order in which it was received."""
    out = [
        Happening(
            micros(datetime.fromisoformat(row["received_at"])),
            f"e{number:04}",
            row["customer_id"],
            micros(datetime.fromisoformat(row["occurred_at"])),
            row["channel"],
            row["event"],
            json.loads(row["properties"]),
            "service",
        )
        for number, row in enumerate(rows)
    ]
    return sorted(out)


KINDS = st.one_of(
    st.tuples(st.just("contact"), st.fixed_dictionaries({"resolved": st.sampled_from([False, False, True])})),
    st.tuples(st.just("complaint"), st.just({})),
    st.tuples(st.just("complaint"), st.just({})),
    st.tuples(
        st.sampled_from(["consent_granted", "consent_granted", "consent_withdrawn"]),
        st.fixed_dictionaries({"purpose": st.sampled_from(["marketing", "service", "all"])}),
    ),
    st.tuples(
        st.sampled_from(["opted_out", "opted_in"]),
        st.fixed_dictionaries({"channel": st.sampled_from(["email", "app", "voice", "all"])}),
    ),
    st.tuples(st.just("action_snoozed"), st.fixed_dictionaries({}, optional={"days": st.sampled_from([0.5, 2])})),
    st.tuples(st.just("action_declined"), st.fixed_dictionaries({}, optional={"situation": st.just("offer")})),
    st.tuples(
        st.just("question_answered"),
        st.fixed_dictionaries({"situation": st.just("help"), "answer": st.sampled_from(["yes", "no"])}),
    ),
    st.tuples(st.just("incident_notified"), st.just({"incident": "outage"})),
    st.tuples(st.just("account_closed"), st.just({})),
)


@st.composite
def histories(draw: st.DrawFn, most: int = 40) -> list[dict[str, Any]]:
    """Events of five customers in the six days around a change of clocks, some received late."""
    start = draw(st.sampled_from(CHANGES))
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, 6 * 24 * 4), st.integers(0, len(ZONES) - 1), KINDS, st.sampled_from([0, 0, 1, 3600])
            ),
            min_size=1,
            max_size=most,
        )
    )
    return [
        event(start + timedelta(minutes=15 * quarter), f"c{who}", name, late_s=late, **facts)
        for quarter, who, (name, facts), late in rows
    ]
