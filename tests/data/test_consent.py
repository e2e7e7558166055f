from __future__ import annotations

import json
from datetime import UTC, datetime

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.data.consent import PURPOSES, REASONS, Consents, Rules, permitted
from cxlab.errors import DataError, ParamsError

START = pd.Timestamp("2026-01-01", tz="UTC")
CUSTOMERS = ["c1", "c2", "c3", "c4"]
DAYS = st.integers(0, 20)
PURPOSE = st.sampled_from(PURPOSES)


def day(number: float) -> pd.Timestamp:
    return START + pd.Timedelta(days=number)


def statements(*rows: tuple[str | None, str, bool, float]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["customer_id", "purpose", "granted", "at"])
    return frame.assign(at=[day(number) for number in frame["at"]]).astype({"at": "datetime64[us, UTC]"})


def events(*rows: tuple[str | None, str, float]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["customer_id", "purpose", "occurred_at"])
    frame["occurred_at"] = pd.Series([day(number) for number in frame["occurred_at"]], dtype="datetime64[us, UTC]")
    return frame.assign(event_id=[f"e{i}" for i in range(len(frame))], event="visit", properties="{}")


SAID = st.lists(
    st.tuples(st.sampled_from(CUSTOMERS), st.sampled_from([*PURPOSES, "all"]), st.booleans(), DAYS), max_size=20
).map(lambda rows: statements(*rows))
EVENTS = st.lists(st.tuples(st.sampled_from([*CUSTOMERS, None]), PURPOSE, DAYS), max_size=20).map(
    lambda rows: events(*rows)
)
MARKED = st.fixed_dictionaries({name: st.sampled_from(["", "minor", "vulnerable"]) for name in CUSTOMERS}).map(
    lambda marks: pd.DataFrame(
        {
            "customer_id": list(marks),
            "minor": [mark == "minor" for mark in marks.values()],
            "vulnerable": [mark == "vulnerable" for mark in marks.values()],
        }
    )
)
RULES = st.builds(
    Rules,
    legitimate_interest=st.sampled_from([(), ("analytics",), ("analytics", "marketing")]),
    retention=st.dictionaries(PURPOSE, st.integers(1, 20)),
    compatible=st.sampled_from([{}, {"service": ("analytics",)}]),
)

WORLDS = st.tuples(SAID, EVENTS, MARKED, RULES)
World = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, Rules]


@given(WORLDS, PURPOSE, DAYS)
def test_the_filter_is_what_each_row_is_asked(world: World, purpose: str, at: int) -> None:
    said, frame, marked, rules = world
    consents = Consents.of(said, marked, rules=rules)
    kept = permitted(frame, consents, purpose=purpose, at=day(at))
    for row in frame.itertuples():
        allowed = (
            pd.notna(row.customer_id)
            and consents.allowed(row.customer_id, purpose, day(at))
            and (row.purpose == purpose or purpose in rules.compatible.get(row.purpose, ()))
            and (day(at) - row.occurred_at).days
            <= min(rules.retention.get(name, 99) for name in (row.purpose, purpose))
        )
        assert (row.event_id in set(kept.frame["event_id"])) == allowed
    assert len(kept.frame) + sum(kept.left_out.values()) == len(frame)
    assert tuple(kept.left_out) == REASONS
    assert list(kept.frame.columns) == list(frame.columns)


@given(WORLDS, st.sampled_from(CUSTOMERS), PURPOSE, DAYS, st.integers(0, 30))
def test_withdrawing_leaves_no_trace_at_any_later_time(
    world: World, who: str, purpose: str, at: int, later: int
) -> None:
    said, frame, marked, rules = world
    earlier = said[~((said["customer_id"] == who) & (said["at"] > day(at)))]
    for named in (purpose, "all"):
        consents = Consents.of(earlier, statements((who, named, False, at)), marked, rules=rules)
        assert not consents.allowed(who, purpose, day(at + later))
        assert who not in set(permitted(frame, consents, purpose=purpose, at=day(at + later)).frame["customer_id"])


@given(WORLDS, PURPOSE, DAYS, st.randoms())
def test_filtering_twice_is_once_and_order_does_not_matter(world: World, purpose: str, at: int, random) -> None:
    said, frame, marked, rules = world
    kept = permitted(frame, Consents.of(said, marked, rules=rules), purpose=purpose, at=day(at))
    shuffled = [item.sample(frac=1, random_state=random.randrange(99)) for item in (said, marked, frame)]
    consents = Consents.of(shuffled[1], shuffled[0], rules=rules)
    again = permitted(kept.frame, consents, purpose=purpose, at=day(at))
    pd.testing.assert_frame_equal(again.frame, kept.frame)
    assert not any(again.left_out.values())
    other = permitted(shuffled[2], consents, purpose=purpose, at=day(at))
    assert other.left_out == kept.left_out
    pd.testing.assert_frame_equal(other.frame.sort_index(), kept.frame)


@given(SAID, EVENTS, DAYS)
def test_what_comes_later_changes_nothing(said: pd.DataFrame, frame: pd.DataFrame, at: int) -> None:
    past = said[said["at"] <= day(at)]
    for purpose in PURPOSES:
        one, other = (permitted(frame, Consents.of(item), purpose=purpose, at=day(at)) for item in (said, past))
        pd.testing.assert_frame_equal(one.frame, other.frame)


def test_service_keeps_minors_and_the_vulnerable() -> None:
    frame = events(*[(name, "service", 1) for name in CUSTOMERS])
    marked = pd.DataFrame({"customer_id": CUSTOMERS[:2], "minor": ["yes", None], "vulnerable": [0, True]})
    said = statements(*[(name, "all", True, 0) for name in CUSTOMERS])
    consents = Consents.of(said, marked, rules=Rules(compatible={"service": ("analytics",)}))
    assert permitted(frame, consents, purpose="service", at=day(2)).frame.equals(frame)
    kept = permitted(frame, consents, purpose="analytics", at=day(2))
    assert kept.frame["customer_id"].tolist() == ["c3", "c4"]
    assert {reason: n for reason, n in kept.left_out.items() if n} == {"minor": 1, "vulnerable": 1}
    assert "minor" in kept._repr_html_()


def test_the_defaults() -> None:
    nothing = Consents.of()
    assert [nothing.allowed("c1", purpose, START) for purpose in PURPOSES] == [True, False, False, False]
    interest = Consents.of(rules=Rules(legitimate_interest=("marketing",)))
    assert [interest.allowed("c1", purpose, START) for purpose in PURPOSES] == [True, False, False, True]
    assert not Consents.of(rules=Rules(unsaid=())).allowed("c1", "service", START)


@pytest.mark.parametrize("rows", [[True, False], [False, True]])
def test_of_one_instant_the_withdrawal_wins(rows: list[bool]) -> None:
    consents = Consents.of(statements(*[("c1", "marketing", granted, 1) for granted in rows]))
    assert not consents.allowed("c1", "marketing", day(1))
    spread = Consents.of(statements(("c1", "all", rows[0], 1), ("c1", "marketing", rows[1], 1)))
    assert not spread.allowed("c1", "marketing", day(1))


def test_a_later_grant_brings_the_past_back() -> None:
    consents = Consents.of(statements(("c1", "marketing", False, 1), ("c1", "marketing", True, 2)))
    frame = events(("c1", "marketing", 0))
    assert len(permitted(frame, consents, purpose="marketing", at=day(1.5)).frame) == 0
    assert len(permitted(frame, consents, purpose="marketing", at=day(2)).frame) == 1


def test_events_say_what_is_granted_and_who_is_marked() -> None:
    frame = events(
        ("c1", "service", 1), ("c1", "service", 2), ("c2", "service", 1), ("c3", "service", 1), (None,) * 2 + (1,)
    )
    frame["event"] = ["consent_granted", "consent_withdrawn", "consent_granted", "login", "consent_withdrawn"]
    said = [{"purpose": "marketing"}, {"purpose": "all"}, {"purpose": "marketing"}, {"minor": True}, {"purpose": "all"}]
    frame["properties"] = [json.dumps(facts) for facts in said]
    consents = Consents.of(frame)
    assert consents.allowed("c1", "marketing", day(1))
    assert not consents.allowed("c1", "marketing", day(2))
    assert not consents.allowed("c1", "service", day(2))
    assert consents.allowed("c2", "marketing", day(2))
    assert consents.marked["minor"] == {"c3"}
    assert consents.nobody == 1


def test_retention_is_the_stricter_of_origin_and_use() -> None:
    rules = Rules(retention={"service": 10, "analytics": 5}, compatible={"service": ("analytics",)})
    frame = events(("c1", "service", 0), ("c1", "analytics", 0), ("c1", "service", 5), ("c1", "service", 4.99))
    consents = Consents.of(statements(("c1", "all", True, 0)), rules=rules)
    kept = permitted(frame, consents, purpose="analytics", at=day(10))
    assert (kept.frame["event_id"].tolist(), kept.left_out["retention"]) == (["e2"], 3)
    unknown_age = frame.assign(occurred_at=pd.Series([pd.NaT] * 4, dtype="datetime64[us, UTC]"))
    assert permitted(unknown_age, consents, purpose="analytics", at=day(10)).left_out["retention"] == 4


def test_a_table_of_customers_is_filtered_too() -> None:
    consents = Consents.of(statements(("c1", "analytics", True, 0)))
    kept = permitted(
        pd.DataFrame({"customer_id": CUSTOMERS}, index=[5, 6, 7, 8]), consents, purpose="analytics", at=day(1)
    )
    assert kept.frame.index.tolist() == [5]
    assert kept.left_out["never granted"] == 3


def test_times_without_a_zone_are_refused() -> None:
    consents, frame = Consents.of(), events(("c1", "service", 1))
    for at in (datetime(2026, 1, 1), pd.NaT):
        with pytest.raises(ParamsError, match="must have a time zone"):
            permitted(frame, consents, purpose="service", at=at)
        with pytest.raises(ParamsError, match="must have a time zone"):
            consents.allowed("c1", "service", at)
    said = statements(("c1", "all", True, 0))
    for times in (["2026-01-01"], [pd.Timestamp("2026-01-01")]):
        with pytest.raises(DataError, match="times without a zone"):
            Consents.of(said.assign(at=times))
    with pytest.raises(DataError, match="what is no time"):
        Consents.of(said.assign(at=["soon"]))
    text = Consents.of(said.assign(at=["2026-01-01T01:00:00+01:00"], granted=["Yes"]))
    assert text.allowed("c1", "marketing", datetime(2026, 1, 1, tzinfo=UTC))


def test_what_cannot_be_read_is_never_a_grant() -> None:
    said = statements(("c1", "all", True, 0))
    with pytest.raises(DataError, match="Did you mean 'marketing'"):
        Consents.of(said.assign(purpose="marketting"))
    for granted in ("maybe", None, 2):
        with pytest.raises(DataError, match="no time, or its 'granted'"):
            Consents.of(said.assign(granted=[granted]))
    with pytest.raises(DataError, match="no time"):
        Consents.of(said.assign(at=[None]))
    with pytest.raises(DataError, match="Column 'customer_id'"):
        Consents.of(said.drop(columns="customer_id"))
    with pytest.raises(DataError, match="Column 'purpose'"):
        Consents.of(said.drop(columns="purpose"))
    frame = events(("c1", "service", 1)).assign(event="consent_granted")
    for properties in ("{", "{}", "[]", None, '{"purpose": ["all"]}'):
        with pytest.raises(DataError, match="1 statements on consent"):
            Consents.of(frame.assign(properties=[properties]))
    with pytest.raises(DataError, match="Column 'properties'"):
        Consents.of(frame.drop(columns="properties"))
    for purpose in ("sales", None):
        with pytest.raises(DataError, match="one an event can have"):
            permitted(frame.assign(purpose=[purpose]), Consents.of(), purpose="service", at=day(1))
    with pytest.raises(ParamsError, match="Purpose 'sales'"):
        permitted(frame, Consents.of(), purpose="sales", at=day(1))
    with pytest.raises(ParamsError, match="must be > 0"):
        Rules(retention={"service": 0})
    with pytest.raises(ParamsError, match="Did you mean 'analytics'"):
        Rules(compatible={"service": ("analytic",)})
    with pytest.raises(DataError, match="Column 'customer_id'"):
        permitted(frame.drop(columns="customer_id"), Consents.of(), purpose="service", at=day(1))
