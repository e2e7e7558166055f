"""The hinge basis: what a linear model on it can and cannot do."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import LinearRegression

from cxlab.data.schema import Column, Schema
from cxlab.features.tabular import HingeBasis, columns

COLUMNS = arrays(np.float32, st.integers(2, 40), elements=st.integers(-50, 50).map(lambda cell: cell / 4))
TABLES = arrays(
    np.float32,
    st.tuples(st.integers(2, 30), st.integers(1, 4)),
    elements=st.integers(-20, 20).map(float) | st.just(np.nan),
)
KNOTS = st.integers(1, 8)
FRACTIONS = st.floats(0, 1)


def hinges(basis: HingeBasis, *cells: float) -> np.ndarray:
    return basis.transform(np.array(cells, np.float32)[:, None])


@given(COLUMNS, KNOTS, FRACTIONS)
def test_between_neighbouring_knots_it_is_a_straight_line(column, n_knots, fraction):
    basis = HingeBasis(n_knots).fit(column[:, None])
    ends = np.append(basis.knot_, basis.high_)
    for low, high in pairwise(ends):
        left, inside, right = hinges(basis, low, low + fraction * (high - low), high)
        np.testing.assert_allclose(inside, (1 - fraction) * left + fraction * right, atol=1e-4)


@given(COLUMNS, KNOTS, st.floats(0, 1e6))
def test_beyond_the_training_range_it_is_constant(column, n_knots, beyond):
    basis = HingeBasis(n_knots).fit(column[:, None])
    low, high, below, above = hinges(basis, column.min(), column.max(), column.min() - beyond, column.max() + beyond)
    np.testing.assert_array_equal(below, low)
    np.testing.assert_array_equal(above, high)


@given(COLUMNS, KNOTS)
def test_it_never_falls(column, n_knots):
    basis = HingeBasis(n_knots).fit(column[:, None])
    assert (np.diff(hinges(basis, *np.sort(column)), axis=0) >= 0).all()


@given(COLUMNS, KNOTS)
def test_a_straight_line_is_among_what_it_can_say(column, n_knots):
    basis = HingeBasis(n_knots).fit(column[:, None])
    line = LinearRegression().fit(basis.transform(column[:, None]).astype(float), column)
    np.testing.assert_allclose(line.predict(basis.transform(column[:, None])), column, atol=1e-3)


@given(TABLES, KNOTS)
def test_a_missing_value_is_the_median_with_a_flag(table, n_knots):
    basis = HingeBasis(n_knots).fit(table)
    empty = np.full((1, table.shape[1]), np.nan, np.float32)
    missing, median = basis.transform(empty)[0], basis.transform(basis.fill_[None, :])[0]
    k = len(basis.knot_)
    np.testing.assert_array_equal(missing[:k], median[:k])
    np.testing.assert_array_equal(missing[k:], 1)
    np.testing.assert_array_equal(median[k:], 0)
    np.testing.assert_array_equal(basis.indicator_, np.flatnonzero(np.isnan(table).any(axis=0)))


@given(TABLES, KNOTS, st.randoms(use_true_random=False))
def test_the_order_of_training_rows_does_not_matter(table, n_knots, random):
    order = random.sample(range(len(table)), len(table))
    one, other = HingeBasis(n_knots).fit(table), HingeBasis(n_knots).fit(table[order])
    np.testing.assert_allclose(one.transform(table), other.transform(table), rtol=1e-6)


@given(TABLES, KNOTS)
def test_pandas_and_numpy_give_the_same(table, n_knots):
    frame = pd.DataFrame(table, columns=[f"x{j}" for j in range(table.shape[1])])
    ours = HingeBasis(n_knots).fit_transform(frame)
    np.testing.assert_array_equal(ours, HingeBasis(n_knots).fit_transform(table))
    assert ours.dtype == np.float64


@given(TABLES, KNOTS)
def test_every_column_of_the_result_has_a_name_and_is_finite(table, n_knots):
    frame = pd.DataFrame(table, columns=[f"x{j}" for j in range(table.shape[1])])
    basis = HingeBasis(n_knots)
    values = basis.fit_transform(frame)
    assert len(basis.get_feature_names_out()) == values.shape[1]
    assert np.isfinite(values).all()
    assert set(basis.source_) == set(range(table.shape[1]))  # no column is lost


@pytest.mark.parametrize("cells", [[5, 5, 5], [np.nan, np.nan], [0, 1e-45], [-1e30, 0, 1e30]])
def test_odd_columns_give_finite_numbers(cells):
    column = np.array(cells, np.float32)[:, None]
    assert np.isfinite(HingeBasis().fit_transform(column)).all()


def test_a_named_example():
    basis = HingeBasis(2).fit(pd.DataFrame({"tenure": [0.0, 10.0, 20.0, 30.0, np.nan]}))
    assert list(basis.get_feature_names_out()) == ["tenure above 0", "tenure above 10", "tenure missing"]
    assert basis.fill_ == 15
    scaled = basis.transform(pd.DataFrame({"tenure": [25.0]}))[0, :2] * basis.scale_
    np.testing.assert_allclose(scaled, [25, 15], rtol=1e-6)


# --- the columns of a schema


def encoded(n: int = 200):
    rng = np.random.default_rng(0)
    cities = [f"c{i}" for i in rng.integers(0, 30, n)]
    frame = pd.DataFrame({"x": rng.normal(size=n).astype(np.float32), "plan": ["a", "b"] * (n // 2), "city": cities})
    kinds = {"plan": "category", "city": "category", "x": "number"}
    levels = {name: tuple(sorted(frame[name].unique())) for name in ("plan", "city")}
    schema = Schema(tuple(Column(name, kind, levels.get(name, ())) for name, kind in kinds.items()))
    return schema, frame, (rng.random(n) < 0.5).astype(int)


def test_few_levels_become_columns_and_many_become_a_rate():
    schema, frame, y = encoded()
    table = columns(schema, numbers=HingeBasis(1), seed=0)
    table.set_output(transform="pandas")
    assert list(table.fit_transform(frame, y).columns) == [
        "x above " + f"{frame['x'].min():g}",
        "plan_a",
        "plan_b",
        "city",
    ]


def test_outcome_rates_are_cross_fitted_and_repeat():
    schema, frame, y = encoded()
    first, again = (columns(schema, numbers="passthrough", seed=0).fit_transform(frame, y) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    later = columns(schema, numbers="passthrough", seed=0).fit(frame, y).transform(frame)
    assert not np.allclose(first[:, -1], later[:, -1])  # a training row's rate has not seen its own outcome


def test_an_unseen_level_is_no_error():
    schema, frame, y = encoded()
    table = columns(schema, numbers="passthrough", seed=0).fit(frame, y)
    row = table.transform(frame.head(1).assign(plan="never seen", city="nowhere"))
    assert np.isfinite(row).all()
    np.testing.assert_array_equal(row[0, 1:3], [0, 0])
