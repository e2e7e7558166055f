"""Laws of roles and of the schema: what a model reads depends on values alone, not on types, order or extra columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxlab.data.schema import MISSING, as_text, schema_of
from cxlab.data.table import Source, Table, binary, read_table
from cxlab.errors import CxlabError, DataError, ParamsError
from cxlab.params import DataParams

NUMBERS = st.one_of(st.none(), st.integers(-(10**6), 10**6), st.floats(width=32, allow_nan=True, allow_infinity=True))
TEXTS = st.one_of(st.none(), st.text("ab 1", max_size=3))


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    n = draw(st.integers(1, 12))

    def many(values: st.SearchStrategy) -> list:
        return draw(st.lists(values, min_size=n, max_size=n))

    flag = many(st.booleans())
    return pd.DataFrame({"x": pd.array(many(NUMBERS), dtype=float), "kind": many(TEXTS), "flag": flag})


COLUMNS = ["x", "kind", "flag"]


@settings(deadline=None)
@given(frames())
def test_encoding_again_changes_nothing(frame: pd.DataFrame) -> None:
    schema = schema_of(frame, COLUMNS)
    once = schema.encode(frame)
    pd.testing.assert_frame_equal(schema.encode(once), once)


@settings(deadline=None)
@given(frames(), st.randoms())
def test_a_row_is_encoded_the_same_wherever_it_stands(frame: pd.DataFrame, random: object) -> None:
    schema = schema_of(frame, COLUMNS)
    order = np.arange(len(frame))
    random.shuffle(order)  # type: ignore[attr-defined]
    pd.testing.assert_frame_equal(schema.encode(frame.iloc[order]), schema.encode(frame).iloc[order])
    alone = pd.concat([schema.encode(frame.iloc[[i]]) for i in range(len(frame))])
    pd.testing.assert_frame_equal(alone, schema.encode(frame))


@settings(deadline=None)
@given(frames())
def test_other_columns_and_their_order_do_not_matter(frame: pd.DataFrame) -> None:
    schema = schema_of(frame, COLUMNS)
    other = frame[COLUMNS[::-1]].assign(extra="z")
    pd.testing.assert_frame_equal(schema.encode(other), schema.encode(frame))


@settings(deadline=None)
@given(frames())
def test_encoded_values_are_finite_or_missing_and_texts(frame: pd.DataFrame) -> None:
    encoded = schema_of(frame, COLUMNS).encode(frame)
    assert encoded["x"].dtype == np.float32
    assert not np.isinf(encoded["x"]).any()
    assert all(isinstance(value, str) for name in ("kind", "flag") for value in encoded[name])
    assert encoded["kind"].eq(MISSING).tolist() == frame["kind"].isna().tolist()


@given(st.lists(st.sampled_from(["yes", "no"]), min_size=2).filter(lambda values: len(set(values)) == 2))
def test_the_outcome_has_as_many_ones_as_positives_and_the_other_way_round(values: list[str]) -> None:
    column = pd.Series(values, name="churn")
    assert binary(column, "yes").tolist() == [int(value == "yes") for value in values]
    assert (binary(column, "yes") + binary(column, "no") == 1).all()


@pytest.mark.parametrize("positive", ["yes", "true", "True", "1"])
@pytest.mark.parametrize("values", [[True, False], ["True", "False"], [1, 0], [1.0, 0.0], ["Yes", "No"], ["1", "0"]])
def test_true_1_and_yes_are_one(values: list, positive: str) -> None:
    assert binary(pd.Series(values), positive).tolist() == [1, 0]


@pytest.mark.parametrize("positive", ["no", "false", "0"])
def test_false_0_and_no_are_one(positive: str) -> None:
    assert binary(pd.Series([True, False]), positive).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("values", "positive", "message"),
    [
        (["yes", "yes"], "yes", "has 1 values .* must have 2"),
        (["yes", "no", "maybe"], "yes", "has 3 values .*maybe"),
        (["yes", None, "no"], "yes", "missing in 1 of 3 rows .*row 2"),
        (["left", "stayed"], "yes", "data.positive == 'yes', must be one of .*left, stayed"),
        (["Yes ", "no"], "left", "data.positive == 'left'"),
        ([1, 2], "yes", "data.positive == 'yes'"),
    ],
)
def test_an_outcome_that_is_not_two_values_is_refused(values: list, positive: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        binary(pd.Series(values, name="churn"), positive)


def test_unseen_categories_and_unreadable_numbers() -> None:
    schema = schema_of(pd.DataFrame({"x": [1.0, 2.0], "kind": ["a", "b"]}), ["x", "kind"])
    encoded = schema.encode(pd.DataFrame({"x": ["3.5", "n/a"], "kind": ["c", None]}))
    assert encoded["kind"].tolist() == ["c", MISSING]
    assert encoded["x"].iloc[0] == 3.5
    assert np.isnan(encoded["x"].iloc[1])
    assert schema.columns[1].categories == ("a", "b")
    assert (schema.columns[0].low, schema.columns[0].high) == (1.0, 2.0)


def test_the_text_of_a_number_does_not_depend_on_its_type() -> None:
    for column in ([1, 2], [1.0, 2.0], ["1", "2"], pd.array([1, 2], dtype="Int64")):
        assert as_text(pd.Series(column)).tolist() == ["1", "2"]


def test_a_missing_column_names_the_nearest() -> None:
    schema = schema_of(pd.DataFrame({"tenure": [1]}), ["tenure"])
    with pytest.raises(DataError, match="Did you mean 'tenur'"):
        schema.encode(pd.DataFrame({"tenur": [1]}))


FRAME = pd.DataFrame(
    {
        "customer_id": ["a", "b"],
        "area": ["x", "y"],
        "spent": [1.0, 2.0],
        "day": ["2026-01-01"] * 2,
        "churn": ["yes", "no"],
    }
)


def table(**roles: object) -> Table:
    given = {"path": "t.csv", "target": "churn", **roles}
    return Table(FRAME, DataParams.model_validate(given), Source("t.csv", "", len(FRAME)))


def test_features_are_what_has_no_other_role() -> None:
    assert table(id="customer_id", time="day").features == ("area", "spent")
    assert table(id="customer_id", time="day", segments=["area"]).features == ("area", "spent")
    assert table(id="customer_id", drop=["day", "area"], segments=["area"]).features == ("spent",)
    assert table(features=["spent"]).features == ("spent",)


def test_without_an_id_the_row_number_is_the_id() -> None:
    assert table().ids().tolist() == [0, 1]
    assert table(id="customer_id").ids().tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"target": None}, "data.target is missing"),
        ({"target": "chrun"}, "Did you mean 'churn'"),
        ({"id": "customer"}, "'customer' is not in the data"),
        ({"segments": ["region"]}, "'region' is not in the data"),
        ({"drop": ["spend"]}, "Did you mean 'spent'"),
        ({"features": ["spent", "churn"]}, "'churn' is the target"),
        ({"features": []}, "No column is left"),
        ({"known_after": ["spent"]}, r"refused as features: 'spent' \(says the params\).*data.drop: \[spent\]"),
    ],
)
def test_roles_that_do_not_fit_are_refused(roles: dict, message: str) -> None:
    with pytest.raises(CxlabError, match=message):
        table(**roles).check_roles()


def test_known_after_set_aside_is_no_error() -> None:
    table(id="customer_id", drop=["spent", "day"], known_after=["spent"]).check_roles()
    table(time="(row)").check_roles()


def test_a_published_test_part_must_have_the_same_columns(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "train.csv", index=False)
    FRAME.drop(columns="spent").to_csv(tmp_path / "test.csv", index=False)
    data = DataParams(path=str(tmp_path / "train.csv"), test_path=str(tmp_path / "test.csv"), target="churn")
    with pytest.raises(DataError, match=r"test.csv: Column 'spent'"):
        read_table(data)
    FRAME.to_csv(tmp_path / "test.csv", index=False)
    read = read_table(data)
    assert read.test is not None
    assert read.source.rows == len(FRAME) == len(read.test)
    assert read.outcome(read.test).tolist() == [1, 0]


def test_a_data_set_that_is_not_in_the_catalogue() -> None:
    with pytest.raises(ParamsError, match="Did you mean 'ibm_telco'"):
        read_table(DataParams(path="catalog:ibm_telko", target="Churn"))
