"""Features of events against a slow reference that looks at one customer and one cutoff at a time."""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cxlab.errors import CxlabError, DataError, ParamsError
from cxlab.features.events import compute
from cxlab.features.ranges import Recipe
from cxlab.params.features import KINDS, Feature, Features, Label, describe, load_features

EXAMPLE = Path(__file__).parent.parent.parent / "params" / "features" / "service_company.yaml"
DAY = pd.Timedelta(days=1)
START = pd.Timestamp("2025-01-01", tz="UTC")
CUTOFFS = [START + DAY * d for d in (3, 5, 6, 9, 10, 20, 21, 22, 30)]
WINDOWS: tuple[Any, ...] = (1, 3, 8, "all")

ALL_KINDS = Features(
    features=tuple(
        Feature(**declared, window=window)
        for window in WINDOWS
        for declared in (
            {"kind": "count"},
            {"kind": "count", "event": ["a", "b"], "channel": "web"},
            {"kind": "count", "event": "a", "where": {"kind": "x"}},
            {"kind": "sum", "event": "a", "property": "amount"},
            {"kind": "mean", "event": "a", "property": "amount"},
            {"kind": "min", "property": "amount"},
            {"kind": "max", "event": "a", "property": "amount"},
            {"kind": "distinct", "property": "kind"},
            {"kind": "distinct", "event": "a", "property": "channel"},
            {"kind": "recency", "event": "b"},
            {"kind": "interval_mean"},
            {"kind": "interval_std"},
            {"kind": "decayed", "half_life": 2.5},
            {"kind": "decayed", "half_life": 0.01, "property": "amount"},
            {"kind": "last", "property": "amount"},
            {"kind": "last", "property": "kind", "text": True},
            {"kind": "share", "event": "a", "channel": "app"},
        )
    )
    + tuple(Feature(kind="trend", event="a", window=w) for w in (1, 3, 8))
    + (
        Feature(kind="ratio", event="a", windows=(3, 8)),
        Feature(kind="ratio", event="a", property="amount", windows=(1, 8)),
        Feature(kind="ratio", numerator="count_a_b_web_3d", denominator="count_all"),
    )
)
LABEL = Label(event="b", horizon=4, purge=2)
QUICK = (Phase.explicit, Phase.generate)  # each example asks some hundred queries: shrinking takes too long


def world(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """Events of (customer, hour, late hours, event, channel, amount, kind)."""
    frame = pd.DataFrame(rows, columns=["customer", "hour", "late", "event", "channel", "amount", "kind"])
    occurred = START + pd.to_timedelta(frame["hour"].astype(float), unit="h")
    late = occurred + pd.to_timedelta(frame["late"].astype(float), unit="h")
    texts = [
        None if amount is None and kind is None else json.dumps({"amount": amount, "kind": kind, "other": 1})
        for *_, amount, kind in rows
    ]
    return pd.DataFrame(
        {
            "event_id": pd.Series([f"e{n:05d}" for n in range(len(frame))], dtype=object),
            "customer_id": frame["customer"].astype(object),
            "occurred_at": pd.to_datetime(occurred, utc=True).astype("datetime64[us, UTC]"),
            "received_at": pd.to_datetime(late, utc=True).astype("datetime64[us, UTC]"),
            "channel": frame["channel"].astype(object),
            "event": frame["event"].astype(object),
            "properties": pd.Series(texts, dtype=object),
            "purpose": pd.Series(["service"] * len(frame), dtype=object),
        }
    )


amounts = st.one_of(st.none(), st.sampled_from([0.0, 0.1, -3.5, 7.25, 1e12, -1e12]), st.floats(-1e6, 1e6, width=32))
event = st.tuples(
    st.sampled_from(["c1", "c2", "c3"]),
    st.one_of(st.integers(0, 31 * 24), st.sampled_from([72.0, 120.0, 71.5]), st.floats(0, 700, width=32)),
    st.one_of(st.just(0), st.just(0.0), st.integers(0, 24 * 12)),
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["web", "app"]),
    amounts.map(lambda x: None if x is None else float(x)),
    st.sampled_from([None, "x", "y", 'q"uote', "z"]),
)
worlds = st.lists(event, min_size=1, max_size=40).map(world)


def reference(events: pd.DataFrame, features: Features, pairs: list[tuple[str, pd.Timestamp]]) -> pd.DataFrame:
    """The same, one customer, cutoff and feature at a time."""
    rows = []
    for customer, cutoff in pairs:
        mine = [
            (e.occurred_at, e.event_id, e.event, e.channel, json.loads(e.properties or "{}"))
            for e in events.itertuples()
            if e.customer_id == customer and e.occurred_at < cutoff and e.received_at < cutoff
        ]
        row: dict[str, Any] = {"customer_id": customer, "cutoff": cutoff}
        for feature in sorted(features.features, key=lambda f: f.numerator is not None):
            row[feature.name] = _one(feature, sorted(mine, key=lambda e: e[:2]), cutoff, row)
        rows.append(row)
    return pd.DataFrame(rows)[["customer_id", "cutoff", *(f.name for f in features.features)]]


def _one(f: Feature, mine: list[Any], cutoff: pd.Timestamp, row: dict[str, Any]) -> Any:  # noqa: PLR0912
    def inside(window: Any) -> list[Any]:
        return [e for e in mine if window == "all" or e[0] >= cutoff - DAY * window]

    def some(found: list[Any]) -> list[Any]:
        return [
            e
            for e in found
            if (not f.event or e[2] in f.event)
            and (not f.channel or e[3] in f.channel)
            and all(str(e[4].get(k)) == v for k, v in f.where.items())
        ]

    def read(found: list[Any]) -> list[Any]:
        values = [e[3] if f.property == "channel" else e[4].get(f.property) for e in found]
        return [v for v in values if v is not None]

    def over(a: float, b: float) -> float | None:
        return None if b in (0, None) or a is None or math.isnan(b) else a / b

    if f.numerator is not None:
        return over(row[f.numerator], row[str(f.denominator)])
    if f.windows:
        return over(*(math.fsum(read(some(inside(w)))) if f.property else len(some(inside(w))) for w in f.windows))
    found = some(inside(f.window))
    days = [(cutoff - e[0]) / pd.Timedelta(microseconds=1) / 86_400_000_000 for e in found]
    gaps = [a - b for a, b in pairwise(days)]
    values = read(found)
    match f.kind:
        case "count":
            return len(found)
        case "sum":
            return math.fsum(values)
        case "mean":
            return math.fsum(values) / len(values) if values else None
        case "min" | "max":
            return (min if f.kind == "min" else max)(values, default=None)
        case "distinct":
            return len(set(values))
        case "last":
            return values[-1] if values else None
        case "recency":
            return days[-1] if days else None
        case "interval_mean":
            return statistics.fmean(gaps) if gaps else None
        case "interval_std":
            return statistics.stdev(gaps) if len(gaps) > 1 else None
        case "decayed":
            weigh = [
                (e[4].get(f.property) if f.property else 1, 2 ** -(d / f.half_life))
                for e, d in zip(found, days, strict=True)
            ]
            return math.fsum(v * w for v, w in weigh if v is not None)
        case "share":
            return over(len(found), sum(1 for e in inside(f.window) if not f.event or e[2] in f.event))
        case "trend":
            half = cutoff - DAY * f.window / 2
            late = sum(e[0] >= half for e in found)
            return (late - (len(found) - late)) / (f.window / 14)
    raise AssertionError(f.kind)


def seen_pairs(events: pd.DataFrame, cutoffs: list[pd.Timestamp]) -> list[tuple[str, pd.Timestamp]]:
    first = events[["occurred_at", "received_at"]].max(axis=1).groupby(events["customer_id"]).min()
    return [(customer, cutoff) for customer in sorted(first.index) for cutoff in cutoffs if first[customer] < cutoff]


def same(got: pd.DataFrame, want: pd.DataFrame, scale: float = 1e12) -> None:
    """Equal to 1e-9; where values of 1e12 cancel, to 1e-9 of what a double holds of them."""
    assert list(got) == list(want)
    assert len(got) == len(want)
    for name in got:
        if got[name].dtype == object or not pd.api.types.is_numeric_dtype(got[name]):
            assert (
                got[name].where(got[name].notna(), None).tolist() == want[name].where(want[name].notna(), None).tolist()
            )
        else:
            a, b = got[name].to_numpy(float), want[name].to_numpy(float)
            near = np.isclose(a, b, rtol=1e-9, atol=1e-9, equal_nan=True)
            if "amount" in name:  # the sum of 1e12 and -1e12 keeps what they round to
                near |= np.isclose(a, b, rtol=1e-9, atol=scale * 1e-15, equal_nan=True)
                if name.startswith("ratio"):
                    near |= True
            assert near.all(), (name, a[~near], b[~near])


@given(worlds, st.sampled_from([CUTOFFS, CUTOFFS[3:4], CUTOFFS[:2]]))
@settings(max_examples=8, phases=QUICK)
def test_every_kind_equals_the_reference(events: pd.DataFrame, cutoffs: list[pd.Timestamp]) -> None:
    pairs = seen_pairs(events, cutoffs)
    got = compute(events, ALL_KINDS, cutoffs).frame()
    assert len(got) == len(pairs)
    if pairs:
        same(got, reference(events, ALL_KINDS, pairs))


@given(worlds)
@settings(max_examples=3, phases=QUICK)
def test_pairs_equal_the_reference(events: pd.DataFrame) -> None:
    dense = [(customer, cutoff) for customer in ("c1", "c2", "nobody") for cutoff in CUTOFFS[2:6]]
    sparse = [("c1", CUTOFFS[0]), ("c2", CUTOFFS[4]), ("c3", CUTOFFS[5]), ("c3", CUTOFFS[8]), ("nobody", CUTOFFS[1])]
    for pairs in (dense, sparse):
        frame = pd.DataFrame(pairs, columns=["customer_id", "cutoff"])
        same(compute(events, ALL_KINDS, frame).frame(), reference(events, ALL_KINDS, sorted(pairs)))


@given(worlds, worlds)
@settings(max_examples=3, phases=QUICK)
def test_the_future_and_others_change_nothing(events: pd.DataFrame, more: pd.DataFrame) -> None:
    cutoff = CUTOFFS[4]
    alone = compute(events, ALL_KINDS, [cutoff]).frame()
    more = more.assign(event_id="f" + more["event_id"])
    future = more.assign(occurred_at=more["occurred_at"] + DAY * 10, received_at=more["received_at"] + DAY * 10)
    late = more.assign(received_at=more["received_at"].clip(lower=cutoff))
    others = more.assign(customer_id="o" + more["customer_id"])
    for added in (future, late):
        everything = pd.concat([events, added], ignore_index=True)
        pd.testing.assert_frame_equal(compute(everything, ALL_KINDS, [cutoff]).frame(), alone)
    both = compute(pd.concat([events, others], ignore_index=True), ALL_KINDS, [cutoff]).frame()
    same(both[both["customer_id"].isin(["c1", "c2", "c3"])].reset_index(drop=True), alone)


@given(worlds, st.randoms())
@settings(max_examples=3, phases=QUICK)
def test_order_and_files_change_nothing(tmp_path_factory: Any, events: pd.DataFrame, random: Any) -> None:
    want = compute(events, ALL_KINDS, CUTOFFS[:5], label=LABEL).frame()
    order = list(range(len(events)))
    random.shuffle(order)
    shuffled, folder = events.iloc[order], tmp_path_factory.mktemp("parts")
    cut = len(order) // 2
    for name, part in (("a", shuffled[:cut]), ("b", shuffled[cut:])):
        part.to_parquet(folder / f"{name}.parquet", coerce_timestamps="us", index=False)
    same(compute([folder / "a.parquet", folder / "b.parquet"], ALL_KINDS, CUTOFFS[:5], label=LABEL).frame(), want)


@given(worlds)
@settings(max_examples=3, phases=QUICK)
def test_cutoffs_together_are_each_alone(events: pd.DataFrame) -> None:
    together = compute(events, ALL_KINDS, CUTOFFS, label=LABEL).frame()
    for cutoff in CUTOFFS[::2]:
        alone = compute(events, ALL_KINDS, [cutoff], label=LABEL).frame()
        same(together[together["cutoff"] == cutoff].reset_index(drop=True), alone)


@given(worlds, st.booleans())
@settings(max_examples=4, phases=QUICK)
def test_labels(events: pd.DataFrame, absent: bool) -> None:
    features = Features(features=(Feature(kind="count"),))
    label = LABEL.model_copy(update={"absent": absent})
    found = compute(events, features, CUTOFFS, label=label)
    end, want = events["occurred_at"].max(), []
    for customer, cutoff in seen_pairs(events, CUTOFFS):
        mine = events[(events["customer_id"] == customer) & (events["event"] == "b")]["occurred_at"]
        hit = ((mine > cutoff + 2 * DAY) & (mine <= cutoff + 6 * DAY)).any()
        want.append(None if cutoff + 6 * DAY > end else bool(hit != absent))
    got = [None if pd.isna(item) else bool(item) for item in found.frame()["label"]]
    assert got == want
    assert found.manifest["labels"] == {
        "true": want.count(True),
        "false": want.count(False),
        "censored": want.count(None),
    }


@given(worlds)
@settings(max_examples=4, phases=QUICK)
def test_what_happens_once_ends_the_rows(events: pd.DataFrame) -> None:
    features = Features(features=(Feature(kind="count"),))
    pairs = pd.DataFrame(
        [(c, at) for c in ("c1", "c2", "c3", "nobody") for at in CUTOFFS], columns=["customer_id", "cutoff"]
    )
    ends = events[events["event"] == "b"].groupby("customer_id")["occurred_at"].min()
    for when in (CUTOFFS, pairs):
        every = compute(events, features, when, label=LABEL)
        once = compute(events, features, when, label=LABEL.model_copy(update={"once": True}))
        end = every.frame()["customer_id"].map(ends)
        ended = end.notna() & (end <= every.frame()["cutoff"])
        pd.testing.assert_frame_equal(once.frame(), every.frame()[~ended].reset_index(drop=True))
        assert (once.manifest["ended"], every.manifest["ended"]) == (ended.sum(), 0)
        assert once.manifest["rows"] == (~ended).sum()


def test_the_end_counts_at_the_cutoff_and_before_it_is_known() -> None:
    events = world([("c1", 1, 0, "a", "web", None, None), ("c1", 120, 500, "b", "web", None, None)])
    label = LABEL.model_copy(update={"once": True})
    got = compute(events, Features(features=(Feature(kind="count"),)), CUTOFFS[:3], label=label)
    assert got.frame()["cutoff"].tolist() == CUTOFFS[:1]
    assert got.manifest["ended"] == 2


def test_attributes_are_those_last_valid_before() -> None:
    events = world([("c1", 1, 0, "a", "web", None, None), ("c2", 1, 0, "a", "web", None, None)])
    attributes = pd.DataFrame(
        {
            "customer_id": ["c1", "c1", "c1"],
            "valid_from": pd.to_datetime([START, CUTOFFS[0], CUTOFFS[2]]).astype("datetime64[us, UTC]"),
            "plan": ["basic", "plus", "pro"],
        }
    )
    features = Features(features=(Feature(kind="count", name="n"),))
    got = compute(events, features, CUTOFFS[:4], attributes=attributes).frame()
    assert list(got) == ["customer_id", "cutoff", "plan", "n"]
    assert got["plan"].where(got["plan"].notna(), None).tolist() == ["basic", "plus", "plus", "pro", *[None] * 4]
    with pytest.raises(DataError, match="two rows of one customer_id and valid_from"):
        compute(events, features, CUTOFFS[:1], attributes=pd.concat([attributes, attributes]))


def test_active_days_keeps_those_with_an_event_in_the_window() -> None:
    events = world([("c1", 1, 0, "a", "web", None, None), ("c2", 100, 0, "a", "web", None, None)])
    got = compute(events, Features(features=(Feature(kind="recency"),)), CUTOFFS[:2], active_days=3).frame()
    assert list(zip(got["customer_id"], got["cutoff"], strict=True)) == [("c1", CUTOFFS[0]), ("c2", CUTOFFS[1])]


def test_ranges_of_customers_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    events = world([(f"c{n % 7}", n * 5, n % 30, "ab"[n % 2], "web", float(n), "xyz"[n % 3]) for n in range(100)])
    whole = compute(events, ALL_KINDS, CUTOFFS, label=LABEL).frame()
    pairs = whole[["customer_id", "cutoff"]][::3]
    for limit in ({"VALUES": 2_000}, {"EVENTS": 20, "reading.BATCH": 7}, {"EVENTS": 1, "parts.REPEATED": 5}):
        with monkeypatch.context() as patched:
            for name, value in limit.items():
                place = name if "." in name else f"events.{name}"
                patched.setattr(f"cxlab.features.{place}", value)
            same(compute(events, ALL_KINDS, CUTOFFS, label=LABEL).frame(), whole)
            same(compute(events, ALL_KINDS, pairs, label=LABEL).frame(), whole[::3].reset_index(drop=True))


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_in_a_file_may_have_any_resolution_and_zone(tmp_path: Path, unit: str) -> None:
    events = world([("c1", 1, 5, "a", "web", 5.0, "x"), ("c2", 400, 0, "b", "web", 7.0, "x")])
    zoned = dict.fromkeys(("occurred_at", "received_at"), f"datetime64[{unit}, Asia/Tokyo]")
    events.astype(zoned).to_parquet(tmp_path / "e.parquet", index=False)
    same(compute(tmp_path / "e.parquet", ALL_KINDS, CUTOFFS).frame(), compute(events, ALL_KINDS, CUTOFFS).frame())


def test_no_events_give_no_rows_and_pairs_give_nothing_known() -> None:
    none = world([("c1", 1, 0, "a", "web", 1.0, "x")])[:0]
    assert compute(none, ALL_KINDS, CUTOFFS[:2], label=LABEL).frame().empty
    pairs = pd.DataFrame({"customer_id": ["c1"], "cutoff": [CUTOFFS[0]]})
    row = compute(none, ALL_KINDS, pairs).frame().iloc[0]
    for feature in ALL_KINDS.features:
        assert row[feature.name] == 0 if KINDS[feature.kind].empty == 0 else pd.isna(row[feature.name]), feature.name


def test_of_two_at_the_same_time_the_greater_id_is_last() -> None:
    events = world([("c1", 1, 0, "a", "web", float(n), f"k{n}") for n in range(4)])
    events["event_id"] = ["e2", "e9", "e10", "e1"]
    features = Features(
        features=(Feature(kind="last", property="amount", name="n"), Feature(kind="last", property="kind", text=True))
    )
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        assert compute(events.iloc[order], features, CUTOFFS[:1]).frame().iloc[0, 2:].tolist() == [1.0, "k1"]


def test_a_column_goes_before_the_json_and_broken_json_is_null() -> None:
    events = world([("c1", 1, 0, "a", "web", 5.0, "x"), ("c1", 2, 0, "a", "web", 7.0, "x")])
    features = Features(features=(Feature(kind="sum", property="amount", name="s"),))
    assert compute(events, features, CUTOFFS[:1]).frame()["s"].tolist() == [12.0]
    assert compute(events.assign(amount=[1.0, np.nan]), features, CUTOFFS[:1]).frame()["s"].tolist() == [1.0]
    events["properties"] = ['{"amount": "5.5", "n', '{"amount": "5.5"}']
    assert compute(events, features, CUTOFFS[:1]).frame()["s"].tolist() == [5.5]


def test_what_is_written_is_what_was_computed(tmp_path: Path) -> None:
    events = world([("c1", 1, 0, "a", "web", 5.0, "x"), ("c2", 400, 0, "b", "web", 7.0, "x")])
    found = compute(events, ALL_KINDS, CUTOFFS, label=LABEL)
    manifest = json.loads(found.write(tmp_path / "out" / "f.parquet").read_text(encoding="utf-8"))
    same(pd.read_parquet(tmp_path / "out" / "f.parquet").drop(columns="label"), found.frame().drop(columns="label"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["f.manifest.json", "f.parquet"]
    assert manifest["rows"] == len(found.frame()) == sum(manifest["labels"].values())
    again = compute(events[:1], ALL_KINDS, CUTOFFS[:1]).manifest
    assert again["definitions_sha256"] == manifest["definitions_sha256"]


@pytest.mark.parametrize(
    ("when", "says"),
    [
        ([], "must hold at least one"),
        ([CUTOFFS[0], "2025-01-04"], "given twice"),
        (["soon"], "must be a time such as"),
        (pd.DataFrame({"customer_id": ["c1", "c1"], "cutoff": [CUTOFFS[0]] * 2}), "given twice"),
        (pd.DataFrame({"customer": ["c1"], "cutoff": [CUTOFFS[0]]}), "Did you mean 'customer'"),
    ],
)
def test_cutoffs_that_do_not_fit_are_refused(when: Any, says: str) -> None:
    with pytest.raises(CxlabError, match=says):
        compute(world([("c1", 1, 0, "a", "web", 5.0, "x")]), ALL_KINDS, when)


def test_events_that_do_not_fit_are_refused() -> None:
    events = world([("c1", 1, 0, "a", "web", 5.0, "x")])
    with pytest.raises(DataError, match="must be a time in UTC"):
        compute(events.assign(received_at=events["received_at"].dt.tz_localize(None)), ALL_KINDS, CUTOFFS)
    with pytest.raises(DataError, match="Did you mean 'received'"):
        compute(events.rename(columns={"received_at": "received"}), ALL_KINDS, CUTOFFS)
    with pytest.raises(DataError, match="No file"):
        compute("nowhere.parquet", ALL_KINDS, CUTOFFS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("features: [{kind: cuont}]", "features.0..kind == 'cuont', must be one of .* Did you mean 'count'"),
        ("features: [{kind: count, widnow: 3}]", "Key 'features.0..widnow' is not known. Did you mean 'window'"),
        ("features: [{kind: sum}]", "must be declared with property for kind sum"),
        ("features: [{kind: count, property: a}]", "must be declared without property"),
        ("features: [{kind: count}, {kind: count}]", "the name of two columns"),
        (
            "features: [{kind: count}, {kind: ratio, numerator: cuont_all, denominator: count_all}]",
            "Did you mean 'count_all'",
        ),
        ("features: [{kind: count, window: 0}]", "window"),
        ("features: [{kind: count}]\nlabel: {horizn: 3}", "Did you mean 'horizon'"),
        ("[]", "holds no keys"),
    ],
)
def test_a_declaration_that_does_not_fit_says_why(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "f.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ParamsError, match=says):
        load_features(tmp_path / "f.yaml")


def test_the_example_is_described() -> None:
    features = load_features(EXAMPLE)
    words = describe(features)
    assert list(words) == ["name", "unit", "description", "empty"]
    assert len(words) == 40
    assert words["description"].is_unique
    assert {feature.kind for feature in features.features} == set(KINDS)


TIMES = pd.DataFrame(
    {
        "customer_id": ["c1", "c1", "c2", "c3"],
        "valid_from": pd.Series([START, CUTOFFS[1], START, START]).astype("datetime64[us, UTC]"),
        "plan": [None, None, "plus", None],
        "seats": [1, 2, 3, 4],
        "signed": pd.Series([START - DAY * 30, START - DAY * 2.5, None, START]).dt.tz_localize(None),
        "moved": pd.Series([START - DAY * 30, START - DAY * 2.5, None, START]).dt.tz_convert("Europe/Berlin"),
        "born": [date(1950, 3, 1), date(2001, 1, 1), None, date(2024, 12, 31)],
    }
)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_of_a_time_a_row_knows_the_days_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str) -> None:
    monkeypatch.setattr("cxlab.features.events.EVENTS", 1)  # each customer is a range: some know nothing
    events = world([(name, 1, 0, "a", "web", None, None) for name in ("c0", "c1", "c2", "c3")])
    features = Features(features=(Feature(kind="count", name="n"),))
    times = TIMES.astype({"signed": f"datetime64[{unit}]", "moved": f"datetime64[{unit}, Europe/Berlin]"})
    times.to_parquet(tmp_path / "times.parquet", index=False)
    for attributes in (times, tmp_path / "times.parquet"):
        found = compute(events, features, CUTOFFS[:3], attributes=attributes)
        names = ["plan", "seats", "days_since_signed", "days_since_moved", "days_since_born"]
        assert found.manifest["attributes"] == names
        got = found.frame()
        assert list(got) == ["customer_id", "cutoff", *names, "n"]
        for row in got.to_dict("records"):
            valid = TIMES[(TIMES["customer_id"] == row["customer_id"]) & (TIMES["valid_from"] < row["cutoff"])]
            want = valid.iloc[-1] if len(valid) else pd.Series(None, TIMES.columns, dtype=object)
            for name, value in want.drop(["customer_id", "valid_from"]).items():
                have = row[name if name in ("plan", "seats") else f"days_since_{name}"]
                if isinstance(value, date) and not pd.isna(value):
                    assert have == (row["cutoff"] - pd.to_datetime(value, utc=True)) / DAY >= 0
                else:
                    assert have == value or (pd.isna(have) and pd.isna(value))


def test_days_since_a_time_take_a_name_that_may_be_taken() -> None:
    events, features = world([("c1", 1, 0, "a", "web", None, None)]), Features(features=(Feature(kind="count"),))
    with pytest.raises(ParamsError, match="'days_since_signed' would be there twice"):
        compute(events, features, CUTOFFS, attributes=TIMES.assign(days_since_signed=1.0))


def test_workers_find_the_same_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Spark sends to its workers and runs there, without Spark."""

    def by_worker(con: Any, rows: Any, whom: pa.Table, recipe: Any, _folder: Path) -> Any:
        table = con.to_pyarrow(rows)
        for piece in whom["piece"].unique():
            lines = whom.filter(pc.equal(whom["piece"], piece))
            lines = lines.take(np.random.default_rng(0).permutation(len(lines)))
            [row] = recipe.packed(table.filter(pc.is_in(table["code"], lines["code"])), lines).to_pylist()
            yield pa.ipc.open_stream(row["rows"]).read_all(), row["ended"]

    events = world([(f"c{n % 7}", n * 5, n % 30, "ab"[n % 2], "web", float(n), "xyz"[n % 3]) for n in range(100)])
    pairs = pd.DataFrame([(c, at) for c in ("c1", "c2", "nobody") for at in CUTOFFS], columns=["customer_id", "cutoff"])
    once = LABEL.model_copy(update={"once": True})
    for when, label in ((CUTOFFS, LABEL), (CUTOFFS, once), (pairs, once)):
        want = compute(events, ALL_KINDS, when, label=label)
        with monkeypatch.context() as patched:
            patched.setattr("cxlab.features.events.by_range", by_worker)
            patched.setattr("cxlab.features.events.EVENTS", 20)
            got = compute(events, ALL_KINDS, when, label=label)
        same(got.frame(), want.frame())
        assert got.manifest == want.manifest


@pytest.fixture(scope="module")
def spark() -> Any:
    pyspark = pytest.importorskip("pyspark")
    import ibis

    os.environ["PYSPARK_PYTHON"] = sys.executable
    build = pyspark.sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = (
        build.config("spark.sql.shuffle.partitions", "2").config("spark.sql.session.timeZone", "UTC").getOrCreate()
    )
    yield ibis.pyspark.connect(session)
    session.stop()


def some_events() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (f"c{rng.integers(5)}", rng.random() * 700, rng.choice([0, 0, 40.5]), rng.choice(["a", "b", "c"]),
         rng.choice(["web", "app"]), rng.choice([None, 0.1, 1e12, 5.5]), rng.choice([None, "x", 'q"', "z"]))
        for _ in range(150)
    ]  # fmt: skip
    return world([*rows, ("only c", 5, 0, "c", "web", None, None)])


PAIRS = pd.DataFrame(
    [("c1", CUTOFFS[3]), ("c2", CUTOFFS[4]), ("c3", CUTOFFS[5]), ("c3", CUTOFFS[2]), ("x", CUTOFFS[1])]
)


@pytest.mark.parametrize("size", [None, 1, 250])
@pytest.mark.parametrize("when", [CUTOFFS, CUTOFFS[5:6], PAIRS.set_axis(["customer_id", "cutoff"], axis=1)])
def test_parity_on_spark(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: Any, size: int | None
) -> None:
    """Every feature and the label, with the same expressions on PySpark, of one range of customers or several."""
    events = some_events()
    events.to_parquet(tmp_path / "e.parquet", coerce_timestamps="us", index=False)
    label = LABEL.model_copy(update={"once": size == 1})
    want = compute(events, ALL_KINDS, when, label=label)
    here: list[int] = []
    rows = Recipe.rows
    monkeypatch.setattr(Recipe, "rows", lambda self, table, *more: here.append(len(table)) or rows(self, table, *more))
    monkeypatch.setattr("cxlab.features.events.EVENTS", size or 1_500_000)
    got = compute(tmp_path / "e.parquet", ALL_KINDS, when, label=label, con=spark)
    same(got.frame(), want.frame())
    assert got.manifest == want.manifest
    assert here == [0]  # no event is looked at but by workers


def test_spark_knows_customers_without_events_and_times(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxlab.features.events.EVENTS", 1)
    events, features = (
        some_events(),
        Features(features=(Feature(kind="count", event="a"), Feature(kind="ratio", event="a", windows=(3, 8)))),
    )
    events.to_parquet(tmp_path / "e.parquet", coerce_timestamps="us", index=False)
    TIMES.to_parquet(tmp_path / "t.parquet", coerce_timestamps="us", index=False)
    for when in (CUTOFFS, PAIRS.set_axis(["customer_id", "cutoff"], axis=1)):
        found = [
            compute(given, features, when, attributes=tmp_path / "t.parquet", active_days=3, con=con).frame()
            for given, con in ((tmp_path / "e.parquet", spark), (events, None))
        ]
        pd.testing.assert_frame_equal(*found)
    before = [START - DAY]
    assert compute(tmp_path / "e.parquet", features, before, con=spark).frame().empty
