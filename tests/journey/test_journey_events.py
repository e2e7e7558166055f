"""Steps are what a person would write down by hand, whatever the log looks like; nothing is left out silently."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxlab.errors import CxlabError, DataError, ParamsError
from cxlab.journey import events
from cxlab.journey.events import END, OTHER, Steps, group_rare, seconds_between, steps

COLUMNS = ["case", "event", "time", "position", "next_event", "next_time"]
START = pd.Timestamp("2024-01-01")


def log(rows: list[tuple[Any, Any, Any]]) -> pd.DataFrame:
    """Events at hours from a start; a missing one has no time."""
    frame = pd.DataFrame(rows, columns=["case", "event", "hour"])
    hours = pd.to_numeric(frame.pop("hour"))
    return frame.assign(time=(START + pd.to_timedelta(hours, unit="h")).astype("datetime64[us]"), rank=range(len(rows)))


def rows_of(found: Steps) -> pd.DataFrame:
    return found.ask(found.table.order_by("case_number", "position"))


def by_hand(frame: pd.DataFrame) -> pd.DataFrame:
    """The same by pandas."""
    frame = frame.dropna(subset=["case", "event", "time"]).sort_values("time", kind="stable")
    case = frame.groupby("case")
    frame = frame.assign(
        position=case.cumcount() + 1, next_event=case["event"].shift(-1).fillna(END), next_time=case["time"].shift(-1)
    )
    return frame.sort_values(["case", "position"], ignore_index=True)[COLUMNS]


small = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", None]), st.sampled_from(["x", "y", "z", None]), st.sampled_from([0, 1, 2, None])
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=15)
@given(small)
def test_steps_are_those_of_pandas(rows: list[tuple[Any, Any, Any]]) -> None:
    frame = log(rows)
    expected = by_hand(frame)
    if expected.empty:
        with pytest.raises(DataError, match="None of"):
            steps(frame)
        return
    found = steps(frame)
    seen = rows_of(found).sort_values(["case", "position"], ignore_index=True)
    pd.testing.assert_frame_equal(seen[COLUMNS], expected, check_dtype=False)
    assert (found.rows, found.cases) == (len(expected), expected["case"].nunique())
    lost = len(frame) - len(expected)
    said = [note for note in found.notes if "left out" in note]
    assert (len(said) == 1 and said[0].startswith(f"{lost} of {len(frame)} rows")) if lost else not said


@settings(max_examples=8)
@given(small, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter_where_a_column_says_it(
    rows: list[tuple[Any, Any, Any]], random: Any
) -> None:
    frame = log([("a", "x", 0), *rows])
    mixed = frame.sample(frac=1, random_state=random.randrange(1000))
    one, two = (rows_of(steps(item, order="rank")) for item in (frame, mixed))
    sort = ["case", "position"]
    left, right = (item.sort_values(sort, ignore_index=True)[COLUMNS] for item in (one, two))
    pd.testing.assert_frame_equal(left, right)


def test_files_hold_the_same_as_the_frame(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 3_000  # many events at one instant: the place in the file counts
    frame = log(list(zip(rng.integers(0, 200, n), rng.choice(["x", "y", "z"], n), rng.integers(0, 3, n), strict=True)))
    frame["csat"] = np.where(rng.random(n) < 0.5, rng.integers(1, 6, n), np.nan)
    frame.to_parquet(tmp_path / "log.parquet", row_group_size=100)
    frame.to_csv(tmp_path / "log.csv.gz", index=False)
    frame.iloc[:1000].to_parquet(tmp_path / "one.parquet")
    frame.iloc[1000:].to_parquet(tmp_path / "two.parquet")
    expected = rows_of(steps(frame, keep=["csat"]))
    assert expected["csat"].notna().any()
    parts = [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    for source in (tmp_path / "log.parquet", str(tmp_path / "log.csv.gz"), parts):
        pd.testing.assert_frame_equal(rows_of(steps(source, keep=["csat"])), expected)


def test_a_log_is_read_by_its_position() -> None:
    frame = log([("a", "second", 0), ("a", "first", 0)]).assign(position=[2, 1])
    found = rows_of(steps(SimpleNamespace(frame=frame)))
    assert found["event"].tolist() == ["first", "second"]
    assert found["position"].tolist() == [1, 2]
    again = steps(frame)
    assert steps(again) is again


def test_one_case_and_cases_of_one_event_are_logs_too() -> None:
    one = steps(log([("a", "x", 0)]))
    assert rows_of(one)[["position", "next_event"]].values.tolist() == [[1, END]]
    assert rows_of(one)["next_time"].isna().all()
    assert steps(log([("a", "x", 0), ("b", "x", 0)])).cases == 2


def test_times_with_zones_dates_and_iso_text_are_one_instant() -> None:
    texts = ["2024-02-29T13:45:00+01:00", "2024-02-29 12:45", "2024-02-29T12:45:00.000Z", "20240229T1245"]
    frame = pd.DataFrame({"case": "a", "event": "x", "time": texts[:3]})
    instant = pd.Timestamp("2024-02-29 12:45")
    assert rows_of(steps(frame))["time"].eq(instant).all()
    zoned = pd.Series([instant.tz_localize("UTC").tz_convert("Asia/Tokyo")] * 3)
    assert rows_of(steps(frame.assign(time=zoned)))["time"].eq(instant).all()
    day = frame.assign(time=[instant.date()] * 3)
    assert rows_of(steps(day))["time"].eq(instant.normalize()).all()
    with pytest.raises(DataError, match=r"holds '20240229T1245', one of 1 values.*pandas.to_datetime"):
        steps(frame.assign(time=["2024-02-29", "2024-02-29", texts[3]]))


@pytest.mark.parametrize("text", ["29/2/2016 01:16", "2024-02-30", "soon", "1456708560", "infinity"])
def test_times_that_are_not_iso_are_refused(text: str) -> None:
    with pytest.raises(DataError, match=f"holds '{text}'"):
        steps(pd.DataFrame({"case": ["a", "a"], "event": "x", "time": ["2024-01-01", text]}))


def test_what_cannot_be_a_log_is_refused(tmp_path: Path) -> None:
    frame = log([("a", "x", 0), ("b", "y", 1)])
    bad: list[tuple[Any, dict[str, Any], type[CxlabError], str]] = [
        (frame, {"case": "cas"}, DataError, "Column 'cas' is not in the data. Did you mean 'case'"),
        (frame, {"keep": ["csat"]}, DataError, "Column 'csat'"),
        (frame, {"keep": ["time"]}, ParamsError, "keep names 'time'"),
        (frame, {"time": "rank"}, DataError, "Column 'rank' is int64, must be times"),
        (frame.iloc[:0], {}, DataError, "has no rows"),
        (frame.assign(case=[1, "b"]), {}, DataError, "mixes kinds"),
        (frame.replace("x", END), {}, DataError, "reserved"),
        (frame, {"states": {"x": END}}, DataError, "reserved"),
        (frame, {"states": {"x": 3}}, ParamsError, "states holds 3"),
        (7, {}, ParamsError, "source is int"),
        ([], {}, ParamsError, "source is list"),
        (tmp_path / "no.parquet", {}, DataError, "No file"),
        (steps(frame), {"states": {"x": "y"}}, ParamsError, "Give them to steps"),
        (steps(frame), {"keep": ["csat"]}, ParamsError, "'csat' is not in the steps"),
    ]
    for source, options, kind, match in bad:
        with pytest.raises(kind, match=match):
            steps(source, **options)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "bad.txt").write_text("case,event,time\n")
    for name, match in (("bad.parquet", "cannot be read"), ("bad.txt", "must all be")):
        with pytest.raises(DataError, match=match):
            steps(tmp_path / name)


def test_events_that_are_ids_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "NAMES", 3)
    with pytest.raises(DataError, match="over 3 different events"):
        steps(log([("a", f"id {k}", k) for k in range(4)]))


def test_numbers_and_categories_are_names() -> None:
    frame = log([(1, "x", 0), (2, "y", 1)])
    found = rows_of(steps(frame.assign(event=frame["event"].astype("category"))))
    assert found["case"].tolist() == ["1", "2"]
    assert found["event"].tolist() == ["x", "y"]


def test_what_was_mended_is_said_with_counts() -> None:
    frame = log([("a", "x", 0), ("a", "y", 0), ("", "x", 1), ("b", None, 1), ("b", "x", None), ("b", "x", 3)])
    said = " ".join(steps(frame, states={"x": "z", "none": "z"}).notes)
    assert "3 of 6 rows are left out: 1 no case, 1 no event, 1 no time." in said
    assert "name no zone and are read as UTC" in said
    assert "1 events happened at the same instant" in said
    assert "1 events that the log does not have: none" in said
    assert steps(log([("a", "x", 0)]).assign(time=pd.Timestamp("2024-01-01", tz="UTC"))).notes == ()


def test_states_group_events_before_they_are_steps() -> None:
    frame = log([("a", "login", 0), ("a", "chat", 1), ("a", "call", 2), ("b", "call", 0)])
    names = {"login": "digital", "chat": "digital"}
    grouped, renamed = steps(frame, states=names), steps(frame.replace(names))
    pd.testing.assert_frame_equal(rows_of(grouped), rows_of(renamed))
    assert "3 events are grouped into 2 states." in grouped.notes


def test_rare_events_become_one() -> None:
    counts = {"a": 4, "b": 3, "c": 3, "d": 1}
    frame = log([(f"{name}{k}", name, 0) for name, n in counts.items() for k in range(n)])
    found = group_rare(steps(frame), most=2)
    seen = found.ask(found.table.group_by("event").aggregate(n=found.table.count()))
    assert dict(zip(seen["event"], seen["n"], strict=True)) == {
        "a": 4,
        "b": 3,
        OTHER: 4,
    }  # of b and c the first by name
    assert found.notes[-1] == "2 of 4 states are joined as (other): the rarest, 36.4% of the events."
    assert group_rare(found, most=2) is found
    with pytest.raises(ParamsError, match="most == 0"):
        group_rare(found, most=0)


def test_times_between_steps_are_seconds() -> None:
    found = steps(log([("a", "x", 0), ("a", "y", 1.5)]))
    t = found.table
    taken = found.ask(t.order_by("position").select(s=seconds_between(t.next_time, t.time)))["s"]
    assert taken[0] == 5_400.0
    assert np.isnan(taken[1])
