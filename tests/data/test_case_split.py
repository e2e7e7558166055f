from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxlab.data.case_split import split_cases
from cxlab.data.log import LogTable, ordered
from cxlab.data.split import Split
from cxlab.data.table import Source
from cxlab.errors import DataError, ParamsError
from cxlab.params import DataParams, SequenceParams, SplitParams


def log(cases: int, seed: int, **roles: Any) -> LogTable:
    rng = np.random.default_rng(seed)
    rows = []
    for case in range(cases):
        start = pd.Timestamp("2024-01-01") + pd.Timedelta(hours=int(rng.integers(0, 24 * 90)))
        steps = np.cumsum(np.append(0, rng.exponential(48, rng.integers(0, 7))))
        rows += [(f"c{case}", rng.choice(["x", "y"]), start + pd.Timedelta(hours=float(step))) for step in steps]
    told = DataParams(path="x.csv", case="case", event="event", time="time", **roles)
    frame = ordered(pd.DataFrame(rows, columns=["case", "event", "time"]), told)[0]
    return LogTable(frame, told, Source("x", "0", len(frame)))


def split(table: LogTable, **params: Any) -> Split:
    return split_cases(table, SplitParams(**{"method": "time", "test": 0.3} | params), SequenceParams())


@settings(max_examples=30)
@given(st.integers(20, 300), st.integers(0, 10_000), st.sampled_from(["time", "group"]), st.booleans())
def test_no_case_is_on_both_sides(cases: int, seed: int, method: str, cut: bool) -> None:
    table = log(cases, seed)
    made = split(table, method=method, cut=cut, seed=seed)
    of = table.cases
    assert not set(of[made.train]) & set(of[made.test])
    for learnt, valid in made.folds:
        assert not set(of[made.train[learnt]]) & set(of[made.train[valid]])
    whole = np.isin(of, of[made.test])
    assert np.array_equal(np.flatnonzero(whole), made.test)
    assert made.judged is not None and not made.judged[made.train[made.censored]].any()


@settings(max_examples=30)
@given(st.integers(20, 300), st.integers(0, 10_000))
def test_cut_at_the_border_nothing_later_is_learnt(cases: int, seed: int) -> None:
    table = log(cases, seed)
    made = split(table, cut=True)
    when = table.frame["time"].astype("int64").to_numpy()
    first = when[made.test].min()
    assert when[made.train].max() < first == made.border
    # Who was open then is there, censored at the last event before.
    of = table.cases
    open_then = {case for case in set(of[made.train]) if when[of == case].max() >= first}
    assert open_then == set(of[made.train[made.censored]])


def test_whole_cases_go_on_after_the_border() -> None:
    table = log(200, 1)
    made = split(table)
    assert len(made.train) + len(made.test) == len(table.frame)
    assert made.purged == 0 and made.censored is not None and not len(made.censored)


def test_many_cases_are_validated_forwards_and_few_at_random() -> None:
    table = log(400, 2)
    made = split(table)
    assert made.forward
    for learnt, valid in made.folds:
        assert table.cases[made.train[learnt]].max() < table.cases[made.train[valid]].min()
    few = split(log(40, 2))
    assert not few.forward
    assert sorted(np.concatenate([valid for _, valid in few.folds])) == list(range(len(few.train)))


def test_an_open_case_counts_for_what_is_known() -> None:
    table = log(60, 3, ends=("y",))
    made = split(table, method="group")
    last = np.append(table.cases[1:] != table.cases[:-1], True)
    unknown = last & (table.frame["event"] != "y").to_numpy()
    assert made.judged is not None and not made.judged[unknown].any()
    assert set(made.train[made.censored]) == set(np.flatnonzero(unknown)) & set(made.train)


def test_a_prefix_counts_from_its_least_length_on() -> None:
    table = log(60, 4)
    made = split_cases(table, SplitParams(method="time"), SequenceParams(min_prefix=3))
    place = table.frame.groupby(table.cases).cumcount().to_numpy()
    assert made.judged is not None and np.array_equal(made.judged, place >= 2)


@pytest.mark.parametrize(
    ("cases", "params", "error", "said"),
    [
        (1, {}, DataError, "The log has 1 cases, must have at least 10"),
        (60, {"method": "stratified"}, ParamsError, "must be time or group"),
    ],
)
def test_what_cannot_be_split_is_refused(cases: int, params: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        split(log(cases, 0), **params)


def test_cases_that_began_at_once_are_refused() -> None:
    table = log(30, 0)
    frame = table.frame.assign(time=pd.Timestamp("2024-01-01", tz="UTC"))
    with pytest.raises(DataError, match="All cases began at the same time"):
        split(LogTable(frame, table.roles, table.source))


def test_cases_of_one_event_have_nothing_to_judge() -> None:
    table = log(40, 5)
    frame = table.frame.groupby("case", sort=False).head(1).reset_index(drop=True)
    with pytest.raises(DataError, match="No case of the test part has 2 events"):
        split(LogTable(frame, table.roles, table.source))


def test_ends_that_never_occur_are_refused() -> None:
    with pytest.raises(DataError, match="no event of 'event' is called so"):
        split(log(40, 6, ends=("z",)))
