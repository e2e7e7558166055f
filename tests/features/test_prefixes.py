from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxlab.features.prefix_matrix import Matrix
from cxlab.features.prefixes import END, OTHER, Cases, LogRoles, PrefixSchema, prefix_schema

ROLES = LogRoles("case", "event", "time", attributes=("team", "level"))


def log(lengths: list[int], seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = sum(lengths)
    hours = rng.exponential(10, n)
    return pd.DataFrame(
        {
            "case": np.repeat([f"c{number}" for number in range(len(lengths))], lengths),
            "event": rng.choice(["open", "wait", "close"], n),
            "time": pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.cumsum(hours), unit="h"),
            "team": rng.choice(["red", "blue", None], n),
            "level": rng.choice([1.0, 2.0, np.nan], n),
        }
    ).astype({"time": "datetime64[us, UTC]"})


lengths = st.lists(st.integers(1, 9), min_size=1, max_size=8)


@settings(max_examples=50)
@given(lengths, st.integers(0, 100), st.data())
def test_the_future_changes_nothing(sizes: list[int], seed: int, data: st.DataObject) -> None:
    frame = log(sizes, seed)
    schema = prefix_schema(frame, ROLES)
    whole = schema.encode(frame)
    kept = data.draw(st.integers(1, max(sizes)))
    cut = frame.groupby("case", sort=False).head(kept)
    there = np.flatnonzero(frame.groupby("case").cumcount() < kept)
    pd.testing.assert_frame_equal(schema.encode(cut.reset_index(drop=True)), whole.iloc[there])


@settings(max_examples=30)
@given(lengths, st.integers(0, 100))
def test_a_case_is_the_same_alone(sizes: list[int], seed: int) -> None:
    frame = log(sizes, seed)
    schema = prefix_schema(frame, ROLES)
    whole = schema.encode(frame)
    for number in range(len(sizes)):
        alone = schema.encode(frame[frame["case"] == f"c{number}"])
        assert alone.reset_index(drop=True).equals(whole.loc[[number]].reset_index(drop=True))


def test_what_is_counted_adds_up() -> None:
    frame = log([5, 1, 8], 3)
    made = prefix_schema(frame, ROLES).encode(frame)
    counts = made[[name for name in made if name.startswith("count of ")]]
    assert (counts.sum(axis=1) == made["position"]).all()
    assert (made["run"] <= made["position"]).all()


def test_every_feature_is_declared() -> None:
    frame = log([3, 4])
    schema = prefix_schema(frame, ROLES)
    made = schema.encode(frame)
    assert list(made.columns) == schema.features.names
    for column in schema.features.columns:
        assert (made[column.name].dtype == np.float32) == (column.kind == "number")


def test_a_case_step_by_step() -> None:
    times = pd.to_datetime(["2024-01-01 10:30", "2024-01-01 12:30", "2024-01-02 12:30"], utc=True)
    frame = pd.DataFrame({"case": "a", "event": ["open", "wait", "wait"], "time": times, "team": ["r", "b", "b"]})
    schema = prefix_schema(frame, LogRoles("case", "event", "time", attributes=("team",), timezone="Europe/Berlin"))
    made = schema.encode(frame)
    last = made.iloc[2]
    assert made.index.tolist() == [(0, 1), (0, 2), (0, 3)]
    assert last[["event", "event_1", "event_2", "event_3"]].tolist() == ["wait", "wait", "open", "(start)"]
    assert last[["gap", "gap_1", "elapsed", "in_event", "run", "changes"]].tolist() == [24, 2, 26, 24, 2, 2]
    assert made["hour"].tolist() == [11.5, 13.5, 13.5]
    assert last[["team", "changes of team", "rows since team"]].tolist() == ["b", 1, 1]
    assert schema.labels == ("wait", "open", OTHER, END)
    assert [schema.labels[code] for code in schema.following(frame)] == ["wait", "wait", END]


def test_what_was_never_seen_is_another() -> None:
    frame = log([3, 3])
    schema = prefix_schema(frame, ROLES)
    strange = frame.assign(event="new", team="green")
    assert {schema.labels[code] for code in schema.following(strange)} == {OTHER, END}
    assert (schema.encode(strange)["event"] == "new").all()


def test_a_clock_that_runs_backwards_passes_no_time() -> None:
    frame = log([3]).assign(time=lambda f: f["time"].to_numpy()[::-1])
    frame["time"] = pd.to_datetime(frame["time"], utc=True)
    made = prefix_schema(frame, ROLES).encode(frame)
    assert made["gap"].tolist()[1:] == [0, 0]
    assert (made["elapsed"] == 0).all()


def test_the_schema_is_read_back_the_same() -> None:
    schema = prefix_schema(log([4, 4]), ROLES)
    assert PrefixSchema.of_plain_log(schema.plain(), schema.plain_log()) == schema


def test_no_row_is_no_case() -> None:
    assert len(Cases.of(pd.Series([], dtype=object)).last) == 0


def test_a_matrix_says_what_each_column_is_of() -> None:
    told: dict[str, Any] = {"red": (0.5, 0.25)}
    matrix = Matrix(("gap",), {"event": ("open", "wait")}, {"team": told}, (0.1, 0.2))
    rows = pd.DataFrame({"gap": np.float32([1, np.nan]), "event": ["wait", "new"], "team": ["red", "green"]})
    made = matrix.apply(rows)
    np.testing.assert_allclose(made, [[1, 0, 1, 0.5, 0.25], [np.nan, 0, 0, 0.1, 0.2]])
    assert matrix.origin == ["gap", "event", "event", "team", "team"]
    assert Matrix.of_plain(matrix.plain()).apply(rows).tobytes() == made.tobytes()


@pytest.mark.parametrize("length", [50_000])
def test_a_very_long_case_is_no_trouble(length: int) -> None:
    frame = log([length])
    made = prefix_schema(frame, ROLES).encode(frame)
    assert made["position"].iloc[-1] == length
