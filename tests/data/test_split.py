from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from cxlab.data.split import FOLDS, make_split
from cxlab.data.table import Source, Table
from cxlab.errors import DataError, ParamsError
from cxlab.params import DataParams, SplitParams


def table(n: int, seed: int = 0, test: pd.DataFrame | None = None, **roles: object) -> tuple[Table, np.ndarray]:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "who": rng.integers(0, max(n // 3, 1), n),
            "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 60, n), unit="D"),
            "x": rng.normal(size=n),
            "y": rng.random(n) < 0.4,
        }
    )
    frame["day"] = frame["day"].dt.strftime("%Y-%m-%d")
    roles = {"path": "x.csv", "target": "y", "id": "who"} | roles
    return Table(frame, DataParams(**roles), Source("x.csv", "0", n), test), frame["y"].to_numpy(int)


@given(st.integers(80, 300), st.integers(0, 5), st.sampled_from(["stratified", "time", "group"]))
def test_every_row_is_on_one_side_and_folds_stay_inside(n: int, seed: int, method: str) -> None:
    data, y = table(n, seed, time="day")
    split = make_split(data, y, SplitParams(method=method, seed=seed))
    assert sorted([*split.train, *split.test]) == list(range(n))
    for rows, valid in split.folds:
        assert not set(rows) & set(valid)
        assert max(*rows, *valid) < len(split.train)
    validated = np.concatenate([valid for _, valid in split.folds])
    assert len(validated) == len(set(validated))
    if method != "time":
        assert len(validated) == len(split.train)
        assert len(split.folds) == FOLDS


@given(st.integers(80, 300), st.integers(0, 5))
def test_the_test_part_begins_after_the_training_ends(n: int, seed: int) -> None:
    data, y = table(n, seed, time="day")
    split = make_split(data, y, SplitParams(method="time"))
    day = data.frame["day"].to_numpy()
    assert day[split.train].max() < day[split.test].min()
    for rows, valid in split.folds:
        assert day[split.train][rows].max() <= day[split.train][valid].min()


@given(st.integers(80, 300), st.integers(0, 5))
def test_a_customer_is_on_one_side(n: int, seed: int) -> None:
    data, y = table(n, seed)
    split = make_split(data, y, SplitParams(method="group", seed=seed))
    who = data.frame["who"].to_numpy()
    assert not set(who[split.train]) & set(who[split.test])
    for rows, valid in split.folds:
        assert not set(who[split.train][rows]) & set(who[split.train][valid])


def test_stratified_is_the_split_that_everyone_uses() -> None:
    data, y = table(200)
    split = make_split(data, y, SplitParams(seed=3))
    train, test = train_test_split(np.arange(200), test_size=0.25, stratify=y, random_state=3)
    assert split.train.tolist() == train.tolist()
    assert split.test.tolist() == test.tolist()


def test_a_published_test_part_is_used_as_it_is() -> None:
    data, y = table(100, test=table(30, 1)[0].frame)
    split = make_split(data, y, SplitParams())
    assert (len(split.train), len(split.test), split.method) == (100, 30, "published")


def test_row_order_can_be_time() -> None:
    data, y = table(100, time="(row)")
    split = make_split(data, y, SplitParams(method="time"))
    assert split.test.tolist() == list(range(75, 100))


@pytest.mark.parametrize(
    ("roles", "method", "change", "error", "says"),
    [
        ({}, "time", {}, ParamsError, "needs data.time"),
        ({"time": "day"}, "time", {"day": "2026-01-01"}, DataError, "more than one value"),
        ({"time": "day"}, "time", {"day": "31.12.2026"}, DataError, "no ISO 8601 times"),
        ({"id": None}, "group", {}, ParamsError, "needs data.id"),
        ({}, "group", {"who": 1}, DataError, "Only 1 customers"),
    ],
)
def test_a_split_that_cannot_be_made_says_why(
    roles: dict[str, object], method: str, change: dict[str, object], error: type[Exception], says: str
) -> None:
    data, y = table(100, **roles)
    for name, value in change.items():
        data.frame[name] = value
    with pytest.raises(error, match=says):
        make_split(data, y, SplitParams(method=method))


def test_a_class_too_small_is_refused() -> None:
    data, y = table(100)
    y[:] = 0
    y[:11] = 1
    with pytest.raises(DataError, match="smaller class has 8 of 75 rows in the training part, must be at least 10"):
        make_split(data, y, SplitParams())


DAY = pd.Timedelta(days=1)


def panel(cutoffs: list[int], customers: int, outcome_days: float) -> tuple[Table, np.ndarray]:
    """Each customer once at each cutoff; every third row is positive."""
    start = pd.Timestamp("2025-01-01", tz="UTC")
    when = np.repeat([(start + day * DAY).isoformat() for day in cutoffs], customers)
    frame = pd.DataFrame({"who": np.tile(np.arange(customers), len(cutoffs)), "when": when, "x": 1.0})
    roles = DataParams(path="x.csv", id="who", target="y", time="when", outcome_days=outcome_days)
    y = (np.arange(len(frame)) % 3 == 0).astype(np.int8)
    return Table(frame, roles, Source("x.csv", "", len(frame))), y


@given(
    st.lists(st.integers(0, 400), min_size=3, max_size=8, unique=True).map(sorted),
    st.integers(0, 120),
    st.floats(0.1, 0.5),
)
def test_nobody_learns_from_an_outcome_that_was_not_known_yet(days: list[int], horizon: int, share: float) -> None:
    data, y = panel(days, 60, horizon)
    when = pd.to_datetime(data.frame["when"])
    try:
        split = make_split(data, y, SplitParams(method="time", test=share))
    except DataError as error:
        assert any(text in str(error) for text in ("was known when the test part begins", "can be validated"))
        return
    assert len(split.train) + len(split.test) + split.purged == len(y)
    assert (when.iloc[split.train] + horizon * DAY).max() <= when.iloc[split.test].min()
    left = np.setdiff1d(np.arange(len(y)), [*split.train, *split.test])
    assert (when.iloc[left] + horizon * DAY > when.iloc[split.test].min()).all()
    for rows, valid in split.folds if split.forward else ():
        learnt, tested = when.iloc[split.train[rows]], when.iloc[split.train[valid]]
        assert (learnt + horizon * DAY).max() <= tested.min()
        assert learnt.max() < tested.min()
    sizes = pd.Series(when.iloc[split.test]).nunique()
    shares = [(len(days) - n) / len(days) for n in range(1, len(days))]
    assert abs(sizes / len(days) - share) == pytest.approx(min(abs(item - share) for item in shares))


def test_one_time_to_learn_from_is_validated_at_random() -> None:
    data, y = panel([0, 200], 60, 180)
    split = make_split(data, y, SplitParams(method="time", test=0.5))
    assert (len(split.train), len(split.test), split.forward, len(split.folds)) == (60, 60, False, FOLDS)


def test_an_outcome_takes_days_of_a_time_that_is_one() -> None:
    data, y = panel([0, 100, 200], 60, 30)
    rows = Table(data.frame, data.roles.model_copy(update={"time": "(row)"}), data.source)
    with pytest.raises(ParamsError, match=r"outcome_days == 30 needs data.time to be a column of ISO 8601 times"):
        make_split(rows, y, SplitParams(method="time"))
