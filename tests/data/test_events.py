"""Every row that comes in is accepted or in quarantine under a reason; how it came in changes nothing."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.data.events import NEEDED, REASONS, Events, contract, read_events
from cxlab.data.taxonomy import COLUMNS, KEYS, Mapping, Taxonomy, Times, load_mapping, load_taxonomy
from cxlab.errors import DataError, ParamsError

ROOT = Path(__file__).parents[2]
MAPPINGS = ROOT / "params" / "events"
TAXONOMY = load_taxonomy()
GOOD: dict[str, Any] = {
    "event_id": "e1",
    "customer_id": "c1",
    "occurred_at": "2026-03-01T12:00:00Z",
    "received_at": "2026-03-01T12:00:05Z",
    "channel": "voice",
    "event": "call_ended",
    "properties": '{"duration": 30}',
    "purpose": "service",
}


def rows(*changes: dict[str, Any]) -> pd.DataFrame:
    """Good rows with ids of their own, changed."""
    return pd.DataFrame([GOOD | {"event_id": f"e{i}"} | change for i, change in enumerate(changes)], dtype=object)


def read(frame: Any, **options: Any) -> Events:
    return read_events(frame, taxonomy=TAXONOMY, **options)


def fates(events: Events) -> Counter[tuple[str, str]]:
    return Counter(zip(events.quarantine["reason"], events.quarantine["raw"], strict=True))


def same(one: Events, other: Events) -> None:
    pd.testing.assert_frame_equal(one.accepted, other.accepted)
    assert Counter(one.quarantine["reason"]) == Counter(other.quarantine["reason"])


junk = st.one_of(
    st.none(),
    st.text(max_size=8),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.binary(max_size=4),
    st.datetimes(),
    st.dates(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.floats(), max_size=2),
    st.sampled_from(
        ["{}", "[]", "NaN", '{"a": NaN}', '{"duration": 1e999}', '{"a": "\\ud800"}', "9999-12-31", "\ud800"]
    ),
)
texts = st.sampled_from(
    ["e1", "e2", "c1", "", "x" * 201, "2026-03-29T02:30:00", "2026-03-01", "voice", "web", "page_view"]
)
row = st.fixed_dictionaries({name: st.one_of(st.just(GOOD.get(name)), junk, texts) for name in COLUMNS})
tables = st.lists(row, max_size=8).map(lambda found: pd.DataFrame(found, columns=list(COLUMNS), dtype=object))

near = {  # values of which most rows are accepted, ids repeat and order could matter
    "event_id": st.sampled_from(["a", "b", "c", "d", 5, 5.0, None]),
    "customer_id": st.sampled_from(["c1", 7, None]),
    "email": st.sampled_from(["a@b.c", None, float("nan")]),
    "occurred_at": st.sampled_from(["2026-03-01", "2026-03-01T01:00:00+01:00", pd.Timestamp("2026-03-02"), "x"]),
    "received_at": st.sampled_from([None, "2026-03-02T00:00:00.5Z", "2026-03-03"]),
    "properties": st.sampled_from([None, '{"duration": 1}', '{"duration": 1.0, "z": [1]}', {"duration": 2, "a": None}]),
}
near_tables = st.lists(st.fixed_dictionaries(near), max_size=10).map(
    lambda found: pd.DataFrame([GOOD | item for item in found], columns=list(COLUMNS), dtype=object)
)


@given(tables)
def test_what_comes_in_is_accepted_or_in_quarantine(frame: pd.DataFrame) -> None:
    events = read(frame, timezone="Europe/Berlin")
    assert events.rows_in == len(frame) == len(events.accepted) + len(events.quarantine) == events.frame()["rows"].sum()
    assert set(events.quarantine["reason"]) <= set(REASONS)
    assert events.quarantine["message"].str.len().gt(10).all()
    for raw in events.quarantine["raw"]:
        json.loads(raw, parse_constant=pytest.fail)
    contract(TAXONOMY).validate(events.accepted)


@given(tables | near_tables)
def test_what_was_written_is_read_as_it_was(tmp_path_factory: pytest.TempPathFactory, frame: pd.DataFrame) -> None:
    events = read(frame)
    path = events.write(tmp_path_factory.mktemp("events"))
    assert {field.name: field.type for field in pq.read_schema(path)} == COLUMNS
    again = read(path)
    assert again.quarantine.empty
    pd.testing.assert_frame_equal(again.accepted, events.accepted)


@given(near_tables, st.randoms())
def test_the_order_of_rows_changes_nothing(frame: pd.DataFrame, random: Any) -> None:
    order = list(range(len(frame)))
    random.shuffle(order)
    same(read(frame), read(frame.iloc[order]))


@given(tables | near_tables, st.integers(0, 10))
def test_many_tables_are_read_as_one(frame: pd.DataFrame, cut: int) -> None:
    whole, split = read(frame), read([frame.iloc[:cut], frame.iloc[cut:]])
    same(whole, split)
    assert fates(whole) == fates(split)


@given(
    st.lists(st.sampled_from(["e1,c1", "e2,c2", "e3,", "007,1", "broken,1,2,3,4,5,6,7"]), max_size=6), st.integers(0, 6)
)
def test_many_files_are_read_as_one(tmp_path_factory: pytest.TempPathFactory, lines: list[str], cut: int) -> None:
    folder = tmp_path_factory.mktemp("csv")

    def written(name: str, kept: list[str]) -> Path:
        head = "event_id,customer_id,occurred_at,channel,event,seconds\n"
        body = "".join(f"{line},2026-03-01,web,page_view,1.5\n" for line in kept)
        (folder / name).write_text(head + body, encoding="utf-8")
        return folder / name

    whole = read(written("all.csv", lines))
    parts = read([written("one.csv", lines[:cut]), written("two.csv", lines[cut:])])
    same(whole, parts)
    assert whole.rows_in == len(lines)


def first(change: dict[str, Any]) -> str:
    events = read(rows(change))
    return "accepted" if len(events.accepted) else str(events.quarantine["reason"].iloc[0])


NAMED: list[tuple[str, dict[str, Any]]] = [
    ("accepted", {}),
    ("no_event_id", {"event_id": None}),
    ("no_event_id", {"event_id": float("nan")}),
    ("no_event_id", {"event_id": " NaN "}),
    ("id_too_long", {"event_id": "x" * 10_000}),
    ("id_too_long", {"customer_id": "x" * 201}),
    ("id_too_long", {"email": "x" * 201}),
    ("accepted", {"event_id": "x" * 200}),
    ("no_customer", {"customer_id": None}),
    ("no_customer", {"customer_id": float("nan"), "email": ""}),
    ("accepted", {"customer_id": None, "email": "a@b.c"}),
    ("unreadable_time", {"occurred_at": None}),
    ("unreadable_time", {"occurred_at": "yesterday"}),
    ("unreadable_time", {"occurred_at": "29/2/2016 01:16"}),
    ("unreadable_time", {"occurred_at": "2026-02-30"}),
    ("unreadable_time", {"occurred_at": 1_700_000_000}),
    ("unreadable_time", {"received_at": "soon"}),
    ("accepted", {"received_at": None}),
    ("time_out_of_range", {"occurred_at": "9999-12-31T23:59:59Z", "received_at": None}),
    ("time_out_of_range", {"occurred_at": "1969-12-31T23:59:59Z"}),
    ("time_out_of_range", {"occurred_at": "0001-01-01T00:00:00+14:00"}),
    ("time_out_of_range", {"received_at": pd.Timestamp("9999-12-31")}),
    ("clock", {"occurred_at": "2026-03-03T12:00:06Z"}),
    ("accepted", {"occurred_at": "2026-03-02T12:00:00Z"}),
    ("unknown_channel", {"channel": "fax"}),
    ("unknown_channel", {"channel": None}),
    ("unknown_event", {"event": "call_endet"}),
    ("event_on_wrong_channel", {"channel": "web"}),
    ("unknown_purpose", {"purpose": "profit"}),
    ("accepted", {"purpose": None}),
    ("bad_properties", {"properties": "{duration: 30}"}),
    ("bad_properties", {"properties": "[1, 2]"}),
    ("bad_properties", {"properties": '{"duration": NaN}'}),
    ("bad_properties", {"properties": {"duration": 1, "x": float("nan")}}),
    ("bad_properties", {"properties": "[" * 100_000}),
    ("bad_properties", {"properties": 3.5}),
    ("missing_property", {"properties": "{}"}),
    ("missing_property", {"properties": '{"duration": null}'}),
    ("missing_property", {"properties": None}),
    ("wrong_type", {"properties": '{"duration": "30"}'}),
    ("wrong_type", {"properties": '{"duration": true}'}),
    ("wrong_type", {"properties": '{"duration": 1, "transfers": 1.5}'}),
    ("wrong_type", {"properties": '{"duration": 1, "resolved": "yes"}'}),
    ("number_too_large", {"properties": '{"duration": 1e999}'}),
    ("number_too_large", {"properties": '{"duration": 1000000000000001}'}),
    ("number_too_large", {"properties": '{"duration": 1' + "0" * 400 + "}"}),
    ("accepted", {"properties": '{"duration": 1e12}'}),
    ("negative_duration", {"properties": '{"duration": -1}'}),
    ("accepted", {"channel": "billing", "event": "bill_issued", "properties": '{"amount": -5}'}),
    ("out_of_values", {"channel": "chat", "event": "chat_message", "properties": '{"sender": "robot"}'}),
]


@pytest.mark.parametrize(("reason", "change"), NAMED)
def test_each_reason_by_name(reason: str, change: dict[str, Any]) -> None:
    assert first(change) == reason


def test_every_reason_has_an_example() -> None:
    elsewhere = {"unreadable_row", "nonexistent_time", "exact_copy", "duplicate_event_id"}
    assert {reason for reason, _ in NAMED} | elsewhere == {"accepted", *REASONS}


def test_a_message_gives_value_rule_and_the_nearest_name() -> None:
    events = read(rows({"event": "call_endet"}))
    assert events.quarantine["message"].iloc[0] == (
        "event == 'call_endet': must be an event of the taxonomy. Did you mean 'call_ended'?"
    )
    assert json.loads(events.quarantine["raw"].iloc[0])["event"] == "call_endet"
    long = read(rows({"event_id": "x" * 10_000})).quarantine
    assert len(long["message"].iloc[0]) < 200
    assert "x" * 10_000 in long["raw"].iloc[0]


def test_times_with_and_without_offset_may_be_mixed() -> None:
    moments: list[Any] = [
        "2026-07-01T12:00:00",
        "2026-07-01T12:00:00Z",
        "2026-07-01 12:00:00.123456789 UTC",
        "2026-07-01T12:00:00-05:00",
        pd.Timestamp("2026-07-01 12:00"),
        pd.Timestamp("2026-07-01 12:00", tz="Asia/Tokyo"),
    ]
    frame = rows(*[{"occurred_at": moment, "received_at": None} for moment in moments])
    events = read(frame, timezone="Europe/Berlin")
    found = events.accepted.set_index("event_id")["occurred_at"].sort_index().dt.strftime("%H:%M:%S.%f").tolist()
    assert found == [f"{t}" for t in ("10:00:00.000000", "12:00:00.000000", "12:00:00.123456", "17:00:00.000000")] + [
        "10:00:00.000000",
        "03:00:00.000000",
    ]
    assert "2 times without an offset were read as Europe/Berlin." in events.notes


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Europe/Dublin"])
def test_when_clocks_change(zone: str) -> None:
    hour = "02" if zone == "Europe/Berlin" else "01"
    spring, autumn = f"2026-03-29 {hour}:30:00", f"2026-10-25 {hour}:30:00"
    frame = rows({"occurred_at": spring, "received_at": None}, {"occurred_at": autumn, "received_at": None})
    for table in (frame, frame.assign(occurred_at=pd.to_datetime(frame["occurred_at"]))):
        events = read(table, timezone=zone)
        assert events.quarantine["reason"].tolist() == ["nonexistent_time"]
        assert events.accepted["occurred_at"].tolist() == [pd.Timestamp("2026-10-25T00:30:00Z")]
        assert any("1 times fall in an hour that comes twice" in note for note in events.notes)


def test_summer_time_goes_on_after_2037() -> None:
    events = read(rows({"occurred_at": "2040-07-01T12:00:00", "received_at": None}), timezone="Europe/Berlin")
    assert events.accepted["occurred_at"].dt.hour.tolist() == [10]


def test_cells_that_are_no_values_meet_a_mark() -> None:
    frame = rows({"customer_id": np.array([1, 2])}, {"customer_id": pd.NA}, {"customer_id": "?"})
    events = read(frame, mapping=Mapping(missing=("?",)))
    assert events.quarantine["reason"].tolist() == ["no_customer", "no_customer"]


def test_one_id_with_other_content_keeps_the_first_received() -> None:
    frame = rows(
        {"event_id": "a", "received_at": "2026-03-01T14:00:00Z", "properties": '{"duration": 2}'},
        {"event_id": "a", "received_at": "2026-03-01T13:00:00Z", "properties": '{"duration": 1}'},
        {"event_id": "a", "received_at": "2026-03-01T15:00:00Z", "properties": '{"duration":1.0}'},
        {"event_id": "a", "received_at": "2026-03-01T12:30:00Z", "channel": "fax"},
    )
    events = read(frame)
    assert events.accepted["properties"].tolist() == ['{"duration":1.0}']
    assert Counter(events.quarantine["reason"]) == Counter(["duplicate_event_id", "exact_copy", "unknown_channel"])


def test_long_ids_keep_their_digits_and_zeros(tmp_path: Path) -> None:
    table = pa.table({"id": pa.array([1234567890123456789, None], pa.int64())})
    for name, value in GOOD.items():
        table = table.append_column(name, pa.array([value, value if name != "event_id" else "e2"]))
    table = table.drop_columns(["customer_id"]).rename_columns({"id": "customer_id"})
    pq.write_table(table, tmp_path / "e.parquet")
    assert read(tmp_path / "e.parquet").accepted["customer_id"].tolist() == ["1234567890123456789"]
    (tmp_path / "e.csv").write_text("event_id,customer_id,occurred_at,channel,event\n1,007,2026-03-01,web,search\n")
    assert read(tmp_path / "e.csv").accepted["customer_id"].tolist() == ["007"]


def test_an_ibis_table_is_read_like_the_frame() -> None:
    ibis = pytest.importorskip("ibis")
    frame = rows({}, {"channel": "fax"}).astype(str)
    same(read(ibis.memtable(frame)), read(frame))


def test_an_empty_file_among_many_is_a_note(tmp_path: Path) -> None:
    path = read(rows({})).write(tmp_path)
    empty, header = tmp_path / "empty.csv", tmp_path / "header.csv"
    empty.touch()
    header.write_text("event_id,customer_id\n")
    events = read([path, empty, header])
    assert len(events.accepted) == events.rows_in == 1
    assert [note for note in events.notes if "empty.csv is empty" in note or "header.csv has no rows" in note]
    assert len(read([empty]).accepted) == 0
    with pytest.raises(DataError, match=r"empty\.csv is empty"):
        read(empty)


def test_a_cut_off_file_is_named(tmp_path: Path) -> None:
    path = read(rows({}, {})).write(tmp_path)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"cut\.parquet is cut off"):
        read([path, cut])
    with pytest.raises(DataError, match="No file"):
        read(tmp_path / "eventz.parquet")


def test_a_row_that_is_none_is_in_quarantine_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_bytes(
        b"event_id,customer_id,occurred_at,channel,event\n1,c,2026-03-01,web,search\n2,c\n3,\xff,2026,web,x\n4,c"
    )
    lost = read(path).quarantine
    assert lost["line"].tolist() == [3, 4, 5]
    assert lost["reason"].tolist() == ["unreadable_row", "unreadable_time", "unreadable_row"]


@pytest.mark.parametrize("name", NEEDED)
def test_a_column_that_is_needed_is_asked_for(name: str) -> None:
    with pytest.raises(DataError, match=f"Did you mean '{name}s'"):
        read(rows({}).rename(columns={name: f"{name}s"}))


def test_odd_frames_are_refused_with_a_sentence() -> None:
    twice = rows({})
    with pytest.raises(DataError, match="'event' twice"):
        read(pd.concat([twice, twice[["event"]]], axis=1))
    with pytest.raises(ParamsError, match="Europe/Berlin"):
        read(twice, timezone="Europe/Berln")
    with pytest.raises(ParamsError, match="now == 'soon'"):
        read(twice, now="soon")


def test_unknown_properties_are_kept_and_counted() -> None:
    events = read(rows({"properties": '{"mood": "ä", "duration": 1}'}))
    assert events.accepted["properties"].tolist() == ['{"duration":1.0,"mood":"ä"}']
    assert any("'mood' 1" in note for note in events.notes)


def test_purposes_and_times_of_receipt_have_defaults() -> None:
    events = read(rows({}).drop(columns=["purpose", "received_at"]))
    assert events.accepted["purpose"].tolist() == ["service"]
    assert events.accepted["received_at"].equals(events.accepted["occurred_at"].rename("received_at"))
    assert any("occurred_at stands for it" in note for note in events.notes)


FOREIGN = """
columns: {event_id: ["no", step], email: who, occurred_at: at, event: what}
values: {event: {1: login, "yes": search}}
constants: {channel: app}
properties: {success: ok, results: hits, query: q}
leave_out: [secret]
missing: ["?"]
times: {formats: ["%d.%m.%Y %H:%M", unix], timezone: Europe/Berlin}
"""


def test_a_mapping_alone_makes_events_of_a_foreign_table(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(FOREIGN)
    (tmp_path / "t.csv").write_text(
        "no;step;who;at;what;ok;hits;q;secret;more\n"
        "1;a;x@y;01.07.2026 12:00;1;true;;?;s;m\n"
        "1;b;x@y;1782900000;yes;;3;7;s;m\n"
        "2;a;?;01.07.2026 12:00;1;true;;;s;m\n"
        "3;a;x@y;01.07.2026 12:00;2;true;;;s;m\n"
        "4;a;x@y;01.07.2026 12:00;1;perhaps;;;s;m\n"
    )
    events = read(tmp_path / "t.csv", mapping=load_mapping(tmp_path / "m.yaml"))
    assert events.accepted["event_id"].tolist() == ["1/a", "1/b"]
    assert events.accepted["occurred_at"].dt.hour.tolist() == [10, 10]
    assert events.accepted["properties"].tolist() == ['{"success":true}', '{"query":"7","results":3}']
    assert events.quarantine["reason"].tolist() == ["no_customer", "unknown_event", "wrong_type"]
    said = " ".join(events.notes)
    assert "left out: more." in said
    assert "'?' was read as missing: 2 values" in said
    assert "the day first" in said
    with pytest.raises(DataError, match=r"'whom' is not in the data\. Did you mean 'who'"):
        read(tmp_path / "t.csv", mapping=Mapping(columns={"customer_id": "whom"}))


def test_kept_columns_become_properties() -> None:
    frame = rows({}).drop(columns=["properties"]).assign(duration=3, mood="good", note=None)
    columns: dict[str, str | tuple[str, ...]] = {name: name for name in GOOD if name != "properties"}
    events = read(frame, mapping=Mapping(columns=columns, keep=True, leave_out=("note",)))
    assert events.accepted["properties"].tolist() == ['{"duration":3.0,"mood":"good"}']
    with pytest.raises(DataError, match="'properties' is a column already"):
        read(rows({}), mapping=Mapping(keep=True))


def test_alike_rows_may_be_events_of_their_own() -> None:
    frame = rows({"event_id": "a"}, {"event_id": "a"}, {"event_id": "a", "customer_id": "other"})
    events = read(frame, mapping=Mapping(copies="number"))
    assert sorted(events.accepted["event_id"]) == ["a", "a/2"]
    assert events.quarantine["reason"].tolist() == ["duplicate_event_id"]


@pytest.mark.parametrize(
    ("load", "text", "said"),
    [
        (load_taxonomy, "version: 1\nchannels: [web]\nevent: {}\n", "Did you mean 'events'"),
        (load_taxonomy, "version: 1\nchannels: [web]\n", "'events' is missing"),
        (
            load_taxonomy,
            "version: 1\nchannels: [web]\nevents: {a: {channels: [wep], properties: {}, owner: o, purpose: service, "
            "description: d}}",
            "Did you mean 'web'",
        ),
        (
            load_taxonomy,
            "version: 1\nchannels: [web]\nevents: {a: {channels: [web], properties: {p: {type: txt}}, owner: o, "
            "purpose: service, description: d}}",
            "events.a.properties.p.type == 'txt'",
        ),
        (load_mapping, "columns: {custommer_id: a}\n", "Did you mean 'customer_id'"),
        (load_mapping, "constants: {occurred_at: now}\n", "'occurred_at' is not one that can stand there"),
        (load_mapping, "colums: {}\n", "Did you mean 'columns'"),
        (load_mapping, "- 1\n", "m.yaml"),
        (load_mapping, "a: [\n", "cannot be read as YAML"),
    ],
)
def test_a_yaml_that_does_not_fit_names_the_key(tmp_path: Path, load: Callable[..., Any], text: str, said: str) -> None:
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(ParamsError) as error:
        load(tmp_path / "m.yaml")
    assert said in str(error.value)
    with pytest.raises(ParamsError, match=r"Did you mean 'm\.yaml'"):
        load(tmp_path / "mm.yaml")


def test_the_taxonomy_of_the_house() -> None:
    assert isinstance(TAXONOMY, Taxonomy)
    assert TAXONOMY.version == "1.0"
    assert {channel for kind in TAXONOMY.events.values() for channel in kind.channels} == set(TAXONOMY.channels)
    assert set(KEYS) < set(COLUMNS)


def test_a_result_shows_itself(tmp_path: Path) -> None:
    events = read(rows({}, {"channel": "fax"}), now="2026-03-02")
    assert events.now == pd.Timestamp("2026-03-02", tz="UTC")
    assert events.frame()["outcome"].tolist() == ["accepted", "unknown_channel"]
    assert "unknown_channel" in repr(events)
    assert len(events.plot().patches) == 2
    assert read(rows({}), now=np.datetime64("2026-03-02")).now == events.now
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        events.write(tmp_path / "file")


def test_the_incident_log_is_read_by_its_mapping(mirror: Path) -> None:
    path = mirror / "incident_log" / "incident_event_log.csv.gz"
    start = time.process_time()
    events = read(path, mapping=load_mapping(MAPPINGS / "incident_log.yaml"))
    assert time.process_time() - start < 20  # seconds of one processor
    assert events.rows_in == 141_712
    assert Counter(events.quarantine["reason"]) == {"no_customer": 29, "unknown_event": 5}
    assert any("the day first" in note for note in events.notes)


def test_cdnow_is_read_by_its_mapping(mirror: Path) -> None:
    events = read(mirror / "cdnow" / "CDNOW_master.txt", mapping=load_mapping(MAPPINGS / "cdnow.yaml"))
    assert len(events.accepted) == events.rows_in == 69_659
    assert events.accepted["customer_id"].nunique() == 23_570
    spent = events.accepted["properties"].map(lambda text: json.loads(text)["amount"]).sum()
    assert spent == pytest.approx(2_500_315.63, abs=0.01)


def test_formats_may_carry_offsets() -> None:
    mapping = Mapping(times=Times(formats=("%d/%m/%Y %H:%M %z",)))
    frame = rows({"occurred_at": "1/7/2026 12:00 +0200", "received_at": None})
    assert read(frame, mapping=mapping).accepted["occurred_at"].tolist() == [pd.Timestamp("2026-07-01T10:00Z")]
