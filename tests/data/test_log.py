from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.data import log
from cxlab.data.log import LogTable, ordered, read_log, times_of
from cxlab.errors import DataError, ParamsError
from cxlab.params import DataParams

ROLES: dict[str, Any] = {"path": "x.csv", "case": "case", "event": "event", "time": "time"}


def frame(*rows: tuple[Any, ...], columns: tuple[str, ...] = ("case", "event", "time")) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns))


SMALL = frame(
    ("b", "open", "2024-01-02"), ("a", "close", "2024-01-03"), ("a", "open", "2024-01-01"), ("b", "close", "2024-01-02")
)


def told(made: pd.DataFrame) -> list[str]:
    return [f"{case}:{event}" for case, event in zip(made["case"], made["event"], strict=True)]


@given(st.permutations(range(4)))
def test_the_order_of_rows_matters_to_ties_alone(order: list[int]) -> None:
    made, notes = ordered(SMALL.iloc[order], DataParams(**ROLES))
    assert told(made)[:2] == ["a:open", "a:close"]
    tied = [f"b:{SMALL['event'][row]}" for row in order if SMALL["case"][row] == "b"]
    assert told(made)[2:] == tied
    assert notes == ["1 events have the time of the one before in their case; they stay in the order of the rows."]


def test_an_order_column_settles_ties_and_backward_clocks() -> None:
    rows = frame(
        ("a", "second", "2024-01-01", 2), ("a", "first", "2024-01-05", 1), columns=("case", "event", "time", "n")
    )
    made, notes = ordered(rows, DataParams(**ROLES, order="n"))
    assert told(made) == ["a:first", "a:second"]
    assert notes == ["1 events have a time before the event that n puts first: no time passed."]


def test_the_case_that_began_first_comes_first() -> None:
    rows = frame(
        ("a", "x", "2024-02-01", "2024-01-09"),
        ("b", "x", "2024-01-31", "2024-01-10"),
        columns=("case", "event", "time", "opened"),
    )
    assert told(ordered(rows, DataParams(**ROLES))[0]) == ["b:x", "a:x"]
    assert told(ordered(rows, DataParams(**ROLES, opened="opened"))[0]) == ["a:x", "b:x"]


def test_cases_that_began_at_once_come_by_name_or_by_rank() -> None:
    rows = frame(("b", "x", "2024-01-01"), ("a", "x", "2024-01-01"))
    assert told(ordered(rows, DataParams(**ROLES))[0]) == ["a:x", "b:x"]
    assert told(ordered(rows, DataParams(**ROLES), rank=pd.Series({"b": 0, "a": 1}))[0]) == ["b:x", "a:x"]


def test_rows_that_lack_something_are_counted() -> None:
    rows = frame(("a", "x", "2024-01-01"), (None, "x", "2024-01-01"), ("a", None, None), ("a", "y", None))
    made, notes = ordered(rows, DataParams(**ROLES))
    assert told(made) == ["a:x"]
    assert notes == ["3 of 4 rows are left out: 1 without case, 1 without event, 2 without time."]
    with pytest.raises(DataError, match="No row has a case"):
        ordered(rows.iloc[1:], DataParams(**ROLES))


def test_ignored_events_are_no_steps() -> None:
    made, notes = ordered(SMALL, DataParams(**ROLES, ignore=("open",)))
    assert told(made) == ["b:close", "a:close"]
    assert notes == ["2 of 4 events are ignored: open."]
    with pytest.raises(DataError, match=r"Event 'opne' is not in the log. Did you mean 'open'"):
        ordered(SMALL, DataParams(**ROLES, ignore=("opne",)))


def test_a_long_case_is_cut_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LONGEST_CASE", 3)
    rows = frame(*(("a", f"e{n}", f"2024-01-{n + 1:02d}") for n in range(5)), ("b", "x", "2024-01-01"))
    made, notes = ordered(rows, DataParams(**ROLES))
    assert told(made) == ["a:e0", "a:e1", "a:e2", "b:x"]
    assert notes == ["2 rows of 1 cases are left out: a case keeps its first 3 events."]


@pytest.mark.parametrize(
    ("values", "first"),
    [
        (["2024-03-31T10:00:00", "2024-12-01T00:00:00"], "2024-03-31 10:00"),
        (["31/3/2024 10:00", "1/12/2024 00:00"], "2024-03-31 10:00"),
        (["03/31/2024", "12/01/2024"], "2024-03-31 00:00"),
        (["31.03.2024 10:00:05", "01.12.2024 00:00:00"], "2024-03-31 10:00:05"),
        (["2024-03-31T12:00:00+02:00", "2024-04-01T12:00:00+00:00"], "2024-03-31 10:00"),
    ],
)
def test_times_that_leave_no_doubt_are_read(values: list[str], first: str) -> None:
    found = times_of(pd.Series(values, name="time", dtype=object), DataParams(**ROLES))
    assert found.iloc[0] == pd.Timestamp(first, tz="UTC")
    assert str(found.dtype) == "datetime64[us, UTC]"


def test_a_time_with_an_offset_leaves_the_others_alone() -> None:
    values = pd.Series(["2024-07-01T12:00:00+02:00", "2024-07-01T12:00:00"], name="t", dtype=object)
    found = times_of(values, DataParams(**ROLES, timezone="UTC"))
    assert found.dt.hour.tolist() == [10, 12]


def test_naive_times_are_of_the_time_zone() -> None:
    found = times_of(pd.Series(["2024-07-01 12:00"], name="t"), DataParams(**ROLES, timezone="Europe/Berlin"))
    assert found.iloc[0] == pd.Timestamp("2024-07-01 10:00", tz="UTC")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["1/2/2024", "3/4/2024"], "may be day or month first"),
        (["2024-01-01", "soon"], r"1 of 2 values are no times \(row 2: 'soon'\)"),
        ([1.5, 2.5], "holds numbers such as 1.5"),
    ],
)
def test_times_in_doubt_are_refused(values: list[Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        times_of(pd.Series(values, name="time"), DataParams(**ROLES))


def test_a_format_settles_what_is_in_doubt() -> None:
    found = times_of(pd.Series(["1/2/2024"], name="time"), DataParams(**ROLES, time_format="%d/%m/%Y"))
    assert found.iloc[0] == pd.Timestamp("2024-02-01", tz="UTC")


@pytest.mark.parametrize(
    ("roles", "error", "said"),
    [
        ({"event": None}, ParamsError, "data.event is missing"),
        ({"case": "csae"}, DataError, "Did you mean 'case'"),
        ({"attributes": ("event",)}, ParamsError, "has two roles"),
        ({"attributes": ("nothing",)}, DataError, "'nothing' is not in the data"),
    ],
)
def test_roles_that_do_not_fit_are_refused(roles: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        ordered(SMALL, DataParams(**ROLES | roles))


def table(rows: pd.DataFrame, **more: Any) -> LogTable:
    from cxlab.data.table import Source

    roles = DataParams(**ROLES | more)
    return LogTable(ordered(rows, roles)[0], roles, Source("x", "0", len(rows)))


def test_what_is_known_only_afterwards_is_refused_as_an_attribute() -> None:
    rows = SMALL.assign(closed_code="c")
    with pytest.raises(DataError, match=r"'closed_code' .says the params."):
        table(rows, attributes=("closed_code",), known_after=("closed_code",)).check_roles()
    table(rows, known_after=("closed_code",)).check_roles()


def test_a_time_after_its_event_is_a_suspect() -> None:
    rows = SMALL.assign(resolved="2024-01-02 12:00", name="a")
    assert table(rows).suspects() == {"resolved": "resolved: 3 of 4 rows hold a time after their event (not used)."}


def test_a_file_is_read_with_its_notes(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    SMALL.to_csv(path, index=False)
    found = read_log(DataParams(**ROLES | {"path": str(path)}))
    assert told(found.frame) == ["a:open", "a:close", "b:open", "b:close"]
    assert found.cases.tolist() == [0, 0, 1, 1]
    assert found.features == ("event",)
    assert len(found.source.notes) == 1
    assert np.diff(found.opened.astype("int64")).tolist()[0] == 0
