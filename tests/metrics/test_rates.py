from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.data.table import Source, Table
from cxlab.errors import DataError
from cxlab.metrics.rates import rates
from cxlab.params import DataParams


def table(frame: pd.DataFrame) -> Table:
    return Table(frame, DataParams(path="x.csv", target="churn"), Source("x.csv", "0", len(frame)))


@given(st.integers(20, 200), st.integers(0, 9), st.floats(0, 0.5))
def test_groups_add_up_to_everybody(n: int, seed: int, missing: float) -> None:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "k": rng.integers(0, 30, n).astype(str),
            "churn": [True, False] * (n // 2) + [True] * (n % 2),
        }
    )
    frame.loc[rng.random(n) < missing, ["x", "k"]] = None
    found = rates(table(frame))
    for _, part in found.frame().groupby("column"):
        assert part["n"].sum() == n
        assert part["positives"].sum() == frame["churn"].sum()
        assert (part["low"] <= part["rate"]).all()
        assert (part["rate"] <= part["high"]).all()


def test_planted_groups_stand_apart(customers: Callable[..., pd.DataFrame]) -> None:
    found = rates(table(customers(2000)), ["plan", "region"]).frame().set_index(["column", "group"])
    assert found.loc[("plan", "basic"), "low"] > found.loc[("plan", "pro"), "high"]
    north, south = found.loc[("region", "north")], found.loc[("region", "south")]
    assert north["low"] < south["high"]
    assert south["low"] < north["high"]


def test_missing_values_are_a_group_and_no_columns_are_no_rows() -> None:
    frame = pd.DataFrame({"x": [1, None, 2, None], "churn": ["yes", "no", "yes", "no"]})
    assert rates(table(frame)).frame()["group"].tolist() == ["1", "2", "(missing)"]
    assert rates(table(frame), []).frame().empty


def test_a_column_that_is_not_there() -> None:
    with pytest.raises(DataError, match="Did you mean 'x1'"):
        rates(table(pd.DataFrame({"x1": [1, 2], "churn": ["yes", "no"]})), ["x"])
