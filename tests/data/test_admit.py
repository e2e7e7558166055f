"""Every reader of events goes through one door: who withdrew, was forgotten or is marked is behind it no more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.data.admit import FORGOTTEN, Admitted, admit
from cxlab.data.forget import forget
from cxlab.data.identity import PSEUDONYM, pseudonym, secret_key
from cxlab.errors import DataError
from cxlab.params.events import AttributesParams, EventsParams

FEATURES = [{"kind": "count"}]
NOW = pd.Timestamp("2026-06-01", tz="UTC")
WHO = [f"c{number}" for number in range(6)]


def day(number: float) -> pd.Timestamp:
    return pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(days=number)


def events(*rows: tuple[Any, ...]) -> pd.DataFrame:
    """Rows of customer, day, event, and optionally properties and purpose."""
    full = [(*row, *({}, "analytics")[len(row) - 3 :]) for row in rows]
    frame = pd.DataFrame(full, columns=["customer_id", "day", "event", "properties", "purpose"])
    at = pd.Series([day(number) for number in frame.pop("day")], dtype="datetime64[us, UTC]")
    return frame.assign(
        event_id=[f"e{number}" for number in range(len(frame))],
        channel="web",
        occurred_at=at,
        received_at=at,
        properties=[json.dumps(item) for item in frame["properties"]],
    )


def told(**keys: Any) -> EventsParams:
    return EventsParams.model_validate({"features": FEATURES, "identity": {"pseudonymise": False}, **keys})


def let_in(frame: pd.DataFrame, at: pd.Timestamp = NOW, **keys: Any) -> Admitted:
    return admit(frame, told(**keys), at=at)


def withdrawal(who: str, at: float, purpose: str = "analytics") -> tuple[Any, ...]:
    return (who, at, "consent_withdrawn", {"purpose": purpose}, "service")


def test_who_withdrew_is_out_with_all_of_the_past_and_a_grant_brings_back() -> None:
    said = events(("c1", 1, "login"), ("c2", 1, "login"), withdrawal("c1", 5))
    assert set(let_in(said).events["customer_id"]) == {"c2"}
    assert set(let_in(said, at=day(4)).events["customer_id"]) == {"c1", "c2"}
    again = ("c1", 6, "consent_granted", {"purpose": "analytics"}, "service")
    back = events(("c1", 1, "login"), ("c2", 1, "login"), withdrawal("c1", 5), again)
    found = let_in(back)
    assert set(found.events["customer_id"]) == {"c1", "c2"}
    assert found.gone == 0


LOGS = st.lists(
    st.tuples(st.sampled_from(WHO), st.integers(0, 90), st.sampled_from(["login", "page_view"])), min_size=1
)


@given(LOGS, st.sampled_from(WHO), st.integers(0, 100), st.sampled_from(["analytics", "all"]))
def test_a_withdrawal_leaves_no_trace_and_touches_nobody_else(log: list, who: str, at: int, purpose: str) -> None:
    before = events(*log, ("other", 0, "login"))
    after = events(*log, ("other", 0, "login"), withdrawal(who, at, purpose))
    found = let_in(after)
    assert who not in set(found.events["customer_id"])
    others = before[before["customer_id"] != who]
    kept = found.events.sort_values("event_id", ignore_index=True)
    assert kept["event_id"].tolist() == sorted(others["event_id"])
    assert found.read.rows_in == len(found.events) + sum(found.left_out.values()) + len(found.read.quarantine)
    asked = pd.Series([who, "other", "stranger", None])
    assert found.permits(asked).tolist()[:3] == [False, True, True]
    assert found.known(asked).tolist() == [True, True, False, False]
    assert who not in json.dumps(found.facts())


def test_a_withdrawal_by_one_key_holds_for_the_whole_customer() -> None:
    frame = events(("c1", 1, "login"), (None, 2, "page_view"), (None, 3, "consent_withdrawn", {"purpose": "all"}))
    frame["email"] = ["a@x.org", "a@x.org", "A@x.org "]
    with pytest.raises(DataError, match=r"No event may be used for analytics: 3 rows in = 0 used \+ 3 left out"):
        let_in(frame)


def test_another_purpose_needs_a_ground() -> None:
    frame = events(("c1", 1, "login", {}, "marketing"), ("c1", 2, "login", {}, "service"), ("c1", 3, "login"))
    assert len(let_in(frame).events) == 2  # service events may serve analytics unless the params say otherwise
    assert let_in(frame).left_out["other purpose"] == 1
    assert len(let_in(frame, consent={"compatible": {"marketing": ["analytics"]}}).events) == 2
    assert let_in(frame, consent={"purpose": "service"}).events["purpose"].tolist() == ["service"]
    with pytest.raises(DataError, match="3 never granted"):
        let_in(frame, consent={"purpose": "marketing"})


def test_retention_follows_the_clock() -> None:
    frame = events(("c1", 1, "login"), ("c1", 100, "login"))
    kept = let_in(frame, at=day(120), consent={"retention": {"analytics": 30}})
    assert kept.events["event_id"].tolist() == ["e1"]
    assert kept.left_out["retention"] == 1
    with pytest.raises(DataError, match="2 retention"):
        let_in(frame, at=day(131), consent={"retention": {"analytics": 30}})


def test_the_marked_are_out_of_all_but_service(tmp_path: Path) -> None:
    customers = pd.DataFrame({"customer_id": ["c1", "c2", "c3"], "minor": [True, False, False], "tariff": list("abc")})
    customers.to_csv(tmp_path / "customers.csv", index=False)
    attributes = AttributesParams(path=str(tmp_path / "customers.csv"), columns=("tariff",))
    frame = events(("c1", 1, "login"), ("c2", 1, "login", {}, "service"))
    found = let_in(frame, attributes=attributes)
    assert found.events["customer_id"].tolist() == ["c2"]
    assert found.left_out["minor"] == 1
    assert found.permits(pd.Series(["c1", "c2", "c3"])).tolist() == [False, True, True]
    assert found.customers is not None
    assert found.customers.set_index("customer_id").loc["c2", "tariff"] == "b"


def test_attributes_follow_a_customer_to_the_name_that_identities_gave(tmp_path: Path) -> None:
    """Two customer_ids share a mail address, so they are one; its own row goes before the other's."""
    customers = pd.DataFrame({"customer_id": ["b", "a"], "tariff": ["of b", "of a"], "since": ["2026-01-01"] * 2})
    customers.to_csv(tmp_path / "customers.csv", index=False)
    attributes = {"path": str(tmp_path / "customers.csv"), "columns": ["tariff"], "valid_from": "since"}
    frame = events(("a", 1, "login"), ("b", 2, "login")).assign(email="one@x.org")
    found = let_in(frame, attributes=attributes)
    assert set(found.events["customer_id"]) == {"a"}
    assert found.customers is not None
    assert found.customers[["customer_id", "tariff"]].values.tolist() == [["a", "of a"]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"columns": ["tarif"]}, "'tarif'"),
        ({"valid_from": "when"}, "'when'"),
        ({"valid_from": "tariff"}, "hold no time"),
    ],
)
def test_a_table_of_customers_that_does_not_fit_is_refused(tmp_path: Path, change: Any, says: str) -> None:
    pd.DataFrame({"customer_id": ["c1"], "tariff": ["x"]}).to_csv(tmp_path / "customers.csv", index=False)
    with pytest.raises(DataError, match=says):
        let_in(events(("c1", 1, "login")), attributes={"path": str(tmp_path / "customers.csv"), **change})


def test_identifiers_are_pseudonyms_behind_the_door() -> None:
    frame = events(("c1", 1, "login"), ("c2", 1, "login"), withdrawal("c2", 2))
    frame["email"] = ["x@y.org", "z@y.org", None]
    found = let_in(frame, identity={"pseudonymise": True})
    assert all(PSEUDONYM.fullmatch(name) for name in found.events["customer_id"])
    whole = found.events.to_csv() + found.identities.frame().to_csv() + json.dumps(found.facts())
    assert "x@y.org" not in whole and "c1" not in found.events["customer_id"].tolist()
    assert found.permits(pd.Series(["c1", "c2"])).tolist() == [True, False]
    named = pd.Series([pseudonym("customer_id", name, secret_key()) for name in ("c1", "c2")])
    assert found.permits(named).tolist() == [True, False]


def test_the_forgotten_do_not_come_back(tmp_path: Path) -> None:
    frame = events(("c1", 1, "login"), ("c2", 1, "login"))
    (tmp_path / "lake").mkdir()
    frame.to_parquet(tmp_path / "lake" / "events.parquet")
    forget("c1", [tmp_path / "lake"])
    found = let_in(frame)  # an import of the same rows from elsewhere
    assert found.events["customer_id"].tolist() == ["c2"]
    assert found.left_out[FORGOTTEN] == 1
    assert found.permits(pd.Series(["c1", "c2"])).tolist() == [False, True]


def test_the_sum_is_told() -> None:
    frame = events(("c1", 1, "login"), ("c2", 1, "teleported"), ("c3", 1, "login"), withdrawal("c3", 2))
    found = let_in(frame)
    assert found.told() == (
        "4 rows in = 1 used + 2 left out (2 withdrawn) + 1 quarantined; 1 customers, 1 more left out whole."
    )
    assert found.frame()["rows"].sum() == 4
    assert np.isclose(found.frame()["share"].sum(), 1)
    assert found.plot().get_title(loc="left") or found.plot().get_title()


def test_a_withdrawal_that_cannot_be_read_stops_everything() -> None:
    frame = events(("c1", 1, "login"), ("c2", 1, "login"), withdrawal("c1", 2, "everything"))
    with pytest.raises(DataError, match="1 withdrawals of consent are in quarantine"):
        let_in(frame)
    twice = pd.concat([events(("c1", 1, "login"), ("c2", 1, "login"), withdrawal("c1", 2))] * 2)
    assert set(let_in(twice).events["customer_id"]) == {"c2"}  # a copy is no lost word
