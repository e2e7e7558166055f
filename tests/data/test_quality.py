"""Planted problems are found, and nothing is found where nothing was planted."""

from __future__ import annotations

import os
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxlab.data.leaks import suspects
from cxlab.data.quality import CHECKS, Check, Quality, check
from cxlab.data.table import Source, Table, read_table
from cxlab.params import DataParams

ROOT = Path(__file__).parents[2]
ROLES = {"path": "t.csv", "id": "customer_id", "target": "churn", "time": "day"}


def clean(n: int = 400, seed: int = 0) -> pd.DataFrame:
    """Customers with nothing wrong: several honest columns share what is known of the outcome."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    risk = 1 / (1 + np.exp(-x.sum(axis=1)))
    days = pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 90, n), unit="D")
    return pd.DataFrame(
        {
            "customer_id": [f"C{i:05d}" for i in rng.permutation(n)],
            "tenure": x[:, 0],
            "spent": x[:, 1],
            "visits": np.round(x[:, 2], 1),
            "calls": np.round(x[:, 3], 1),
            "plan": rng.choice(["basic", "plus", "pro"], n),
            "member": rng.random(n) < 0.5,
            "day": days.strftime("%Y-%m-%d"),
            "churn": np.where(rng.random(n) < risk, "yes", "no"),
        }
    )


def quality(frame: pd.DataFrame, test: pd.DataFrame | None = None, **roles: object) -> Quality:
    data = DataParams.model_validate(ROLES | roles)
    return check(Table(frame, data, Source("t.csv", "", len(frame)), test))


def answer(code: str, frame: pd.DataFrame, **roles: object) -> Check:
    return next(item for item in quality(frame, **roles).checks if item.code == code)


def statuses(found: Quality) -> dict[str, str]:
    return {item.code: item.status for item in found.checks}


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_found_where_nothing_was_planted(seed: int) -> None:
    found = quality(clean(seed=seed))
    assert set(statuses(found).values()) == {"pass"}, found
    assert not found.failed
    assert all(item.rows == 0 or item.code == "class_counts" for item in found.checks)


@settings(max_examples=5, deadline=None)
@given(st.randoms())
def test_the_order_of_rows_changes_no_answer(random: object) -> None:
    frame = clean().assign(flat=1, ended=lambda f: f["day"])
    frame.loc[3, "ended"] = "2027-01-01"
    order = list(range(len(frame)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert statuses(quality(frame.iloc[order].reset_index(drop=True))) == statuses(quality(frame))


@settings(max_examples=25, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from([None, "customer_id", "nowhere"]),
            "target": st.sampled_from([None, "churn", "nowhere", "plan", "tenure"]),
            "time": st.sampled_from([None, "day", "(row)", "nowhere", "plan"]),
            "positive": st.sampled_from(["yes", "left"]),
            "features": st.sampled_from([None, [], ["tenure"], ["tenure", "nowhere"], ["churn", "plan"]]),
            "drop": st.sampled_from([[], ["plan", "nowhere"]]),
            "known_after": st.sampled_from([[], ["tenure"], ["nowhere"]]),
        }
    ),
    st.integers(0, 3),
)
def test_wrong_roles_never_stop_the_checks(roles: dict, rows: int) -> None:
    frame = clean(60)
    for part in (frame, frame.iloc[:rows], frame.assign(plan=None), frame[["churn"]]):
        found = quality(part, **roles)
        assert [item.code for item in found.checks] == list(CHECKS)
        assert all(0 <= item.rows <= len(part) for item in found.checks)
        assert all(item.reason.endswith((".", "?")) for item in found.checks)
        if roles["target"] == "nowhere":
            assert statuses(found)["missing_columns"] == "fail"
            assert statuses(found)["labels"] == "cannot_tell"


def test_a_missing_column_names_the_nearest_and_the_rest_is_checked() -> None:
    found = quality(clean().assign(flat=1), id="custmer_id")
    assert statuses(found)["missing_columns"] == "fail"
    assert "Did you mean 'customer_id'" in found.checks[0].reason
    assert statuses(found)["duplicate_ids"] == "cannot_tell"
    assert statuses(found)["constant_columns"] == "fail"


@pytest.mark.parametrize(
    ("values", "rows", "message"),
    [
        (
            ["n/a"] * 3 + [f"{i}.5" for i in range(397)],
            3,
            r"'x' holds numbers, but 3 texts \('n/a'; the first in row 0",
        ),
        ([1, 2.5, "a", None] * 100, 200, "'x' mixes types"),
        ([np.inf] + [1.0] * 399, 1, "'x' has 1 infinite"),
        ([[1], [2]] * 200, 0, "'x' mixes types: 400 list"),
    ],
)
def test_unexpected_types(values: list, rows: int, message: str) -> None:
    found = answer("types", clean().assign(x=values))
    assert found.status == "fail"
    assert found.rows == rows
    assert pd.Series([found.reason]).str.contains(message).all(), found.reason


def test_codes_that_mix_numbers_and_letters_are_no_mistake() -> None:
    assert answer("types", clean().assign(x=["415", "408", "A1", "B2"] * 100)).status == "pass"


def test_duplicates() -> None:
    frame = clean()
    again = pd.concat([frame, frame.iloc[:7]], ignore_index=True)
    assert answer("duplicate_rows", again).rows == 7
    assert "the first: row 401" in answer("duplicate_rows", again).reason
    assert answer("duplicate_ids", again).rows == 7
    frame.loc[:4, "customer_id"] = None
    assert "missing in 5 rows" in answer("duplicate_ids", frame).reason
    assert answer("duplicate_ids", frame, id=None).status == "cannot_tell"


def test_columns_without_anything_to_learn() -> None:
    found = answer("constant_columns", clean().assign(empty=None, flat="a", sparse=[1.0] + [None] * 399))
    assert found.status == "fail"
    assert "'empty': no value" in found.reason
    assert "'flat' is always 'a'" in found.reason
    assert "data.drop: [empty, flat]." in found.reason  # whether `sparse` is there at all may tell something


@pytest.mark.parametrize(
    ("name", "values", "status"),
    [
        ("phone", [f"555-{i}" for i in range(400)], "fail"),
        ("rownames", list(range(1, 401)), "fail"),
        ("account_id", list(np.random.default_rng(0).permutation(400)), "fail"),
        ("accountID", [float(i) for i in np.random.default_rng(0).permutation(400)], "fail"),
        ("points", list(np.random.default_rng(0).permutation(400)), "pass"),
        ("amount", [i + 0.5 for i in range(400)], "pass"),
        ("city", ["a", "b", "c", "d"] * 100, "pass"),
    ],
)
def test_identifiers_used_as_features(name: str, values: list, status: str) -> None:
    frame = clean().assign(**{name: values})
    assert answer("identifiers", frame).status == status
    assert answer("identifiers", frame, drop=[name]).status == "pass"


def test_what_is_known_only_afterwards_is_refused_by_name() -> None:
    found = answer("known_after", clean(), known_after=["spent"])
    assert found.status == "fail"
    assert "'spent' (says the params)" in found.reason
    assert "data.drop: [spent]" in found.reason
    assert answer("known_after", clean(), known_after=["spent"], drop=["spent"]).status == "pass"
    assert "'churn'" in answer("known_after", clean(), features=["spent", "churn"]).reason


def leaking(frame: pd.DataFrame, flipped: float) -> np.ndarray:
    """The outcome again, with a share of the rows flipped and some noise."""
    rng = np.random.default_rng(1)
    churn = frame["churn"].eq("yes").to_numpy() ^ (rng.random(len(frame)) < flipped)
    return churn + rng.normal(0, 0.1, len(frame))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("flipped", [0.0, 0.02, 0.1])
def test_a_planted_leak_is_listed_and_never_dropped(flipped: float, seed: int) -> None:
    frame = clean(2000, seed)
    frame["leak"] = leaking(frame, flipped)
    found = answer("leak_suspects", frame)
    assert found.status == "cannot_tell"
    assert "'leak'" in found.reason
    assert not any(f"'{name}'" in found.reason for name in ("tenure", "spent", "visits", "calls", "plan"))
    assert not quality(frame).failed


def test_a_leak_hidden_behind_its_copy_is_listed_with_it() -> None:
    frame = clean(2000)
    frame["minutes"] = leaking(frame, 0.1)
    frame["seconds"] = 60 * frame["minutes"]
    found = suspects(frame, ["tenure", "spent", "minutes", "seconds"], frame["churn"].eq("yes").to_numpy())
    assert found is not None
    assert [suspect.columns for suspect in found] == [("minutes", "seconds")]


def test_a_column_filled_in_only_for_those_who_left_is_a_suspect() -> None:
    frame = clean(1000)
    frame["end_reason"] = np.where(frame["churn"].eq("yes"), "moved", None)
    assert "'end_reason' alone" in answer("leak_suspects", frame).reason


def caused(seed: int, n: int = 4000) -> tuple[pd.DataFrame, np.ndarray]:
    """Three causes of an outcome, each for itself, and a fourth column that goes along with one of them."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["tenure", "waits", "price"])
    frame["fee"] = frame["price"] + rng.normal(size=n)
    y = rng.random(n) < 1 / (1 + np.exp(1 - frame[["tenure", "waits", "price"]].sum(axis=1)))
    return frame, y.to_numpy()


@pytest.mark.parametrize("seed", range(6))
def test_an_effect_of_the_outcome_is_a_suspect_and_a_cause_as_strong_is_none(seed: int) -> None:
    frame, y = caused(seed)
    assert suspects(frame, frame.columns.tolist(), y) == []
    frame["index"] = np.random.default_rng((seed, 1)).normal(size=len(y)) - 0.9 * y
    frame["copy"] = frame["index"].rank()
    [found] = suspects(frame, frame.columns.tolist(), y) or []
    assert set(found.columns) == {"index", "copy"}
    assert "looks like an effect of the outcome" in found.reason


@pytest.mark.parametrize("half", ["first", "last"])
def test_a_column_without_a_value_in_half_of_the_rows_tells_nothing(half: str) -> None:
    frame, y = caused(0, 400)
    rows = np.random.default_rng(0).permutation(400)[slice(None, 200) if half == "first" else slice(200, None)]
    names = frame.columns.tolist()
    sparse = frame.assign(sparse=np.where(np.isin(np.arange(400), rows), 1.0, np.nan))
    assert suspects(sparse, [*names, "sparse"], y) == suspects(frame, names, y)


def test_leaks_cannot_be_told_from_few_rows() -> None:
    assert answer("leak_suspects", clean(60)).status == "cannot_tell"
    assert answer("leak_suspects", clean(), target="plan").status == "cannot_tell"
    assert "needs" in answer("leak_suspects", clean(60)).reason


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%d/%m/%Y %H:%M", None])
def test_a_time_after_the_event(form: str | None) -> None:
    frame = clean()
    days = pd.to_datetime(frame["day"])
    ended = days.where(frame.index >= 5, days + pd.Timedelta(days=30)) - pd.Timedelta(days=1)
    if form:
        frame["day"], ended = days.dt.strftime(form), ended.dt.strftime(form)
    found = answer("late_timestamps", frame.assign(ended=ended))
    assert (found.status, found.rows) == ("cannot_tell", 5)
    assert "'ended' is later than 'day' in 5 rows" in found.reason
    before = answer("late_timestamps", frame.iloc[5:].assign(ended=ended))
    assert before.status == "pass"
    assert answer("late_timestamps", frame.assign(ended=ended), time=None).status == "cannot_tell"


@pytest.mark.parametrize(
    ("churn", "rows", "message"),
    [
        (["yes", "no", "no", None] * 100, 100, "missing in 100"),
        (["yes", "no", "no", "maybe"] * 100, 100, "has 3 values"),
        (["yes"] * 400, 400, "has 1 values"),
        (["left", "stayed"] * 200, 400, "data.positive == 'yes'"),
    ],
)
def test_labels_outside_the_declared_ones(churn: list, rows: int, message: str) -> None:
    frame = clean().assign(churn=churn)
    found = answer("labels", frame)
    assert (found.status, found.rows) == ("fail", rows)
    assert message in found.reason
    assert answer("class_counts", frame).status == "cannot_tell"


def test_labels_of_a_published_test_part() -> None:
    found = quality(clean(), test=clean().assign(churn="yes"))
    assert statuses(found)["labels"] == "fail"
    assert "Test part: " in next(item.reason for item in found.checks if item.code == "labels")


@pytest.mark.parametrize(("positives", "status"), [(13, "fail"), (14, "pass")])
def test_classes_too_small_to_split(positives: int, status: str) -> None:
    churn = ["yes"] * positives + ["no"] * (400 - positives)
    found = answer("class_counts", clean().assign(churn=churn))
    assert (found.status, "at least 14" in found.reason) == (status, True)


def test_the_result_shows_itself() -> None:
    found = quality(clean().assign(flat=1))
    assert found.failed
    assert list(found.frame()) == ["code", "title", "status", "rows", "reason"]
    assert "flat" in found._repr_html_() and "Data quality" in repr(found)
    assert len(found.plot().get_yticklabels()) == len(CHECKS)
    plt.close("all")


def test_the_sample_is_clean() -> None:
    data = DataParams(path=str(ROOT / "data_samples" / "telecom_churn.csv"), id="customer_id", target="churn")
    found = check(read_table(data))
    assert set(statuses(found).values()) == {"pass"}, found


MIRROR = os.environ.get("CXLAB_DATA_MIRROR")
public = pytest.mark.skipif(MIRROR is None, reason="CXLAB_DATA_MIRROR is not set: no public data here")


def published(path: str, **roles: object) -> Quality:
    return check(read_table(DataParams.model_validate({"path": str(Path(str(MIRROR)) / path), **roles})))


@public
def test_duration_is_refused_where_declared_and_suspected_where_not(tmp_path: Path) -> None:
    declared = published("bank_marketing/bank-additional-full.csv", target="y")
    assert statuses(declared)["known_after"] == "fail"
    assert statuses(declared)["leak_suspects"] == "pass"
    content = (Path(str(MIRROR)) / "bank_marketing" / "bank-additional-full.csv").read_bytes()
    (tmp_path / "copy.csv").write_bytes(content.rstrip())
    start = time.monotonic()
    undeclared = published(str(tmp_path / "copy.csv"), target="y")
    assert time.monotonic() - start < 20  # 1 s on an idle machine
    assert statuses(undeclared)["known_after"] == "pass"
    found = next(item for item in undeclared.checks if item.code == "leak_suspects")
    assert found.status == "cannot_tell"
    assert "Suspected leak: 'duration' is far ahead" in found.reason
    assert "euribor3m" not in found.reason


@public
def test_honest_public_data_sets_have_no_suspects() -> None:
    telco = published("ibm_telco/Telco-Customer-Churn.csv", target="Churn", positive="Yes", id="customerID")
    assert set(statuses(telco).values()) == {"pass"}
    iranian = published("iranian_churn/Customer_Churn.csv", target="Churn", positive=1)
    assert next(item.rows for item in iranian.checks if item.code == "duplicate_rows") == 300
    assert {code for code, status in statuses(iranian).items() if status == "fail"} == {"duplicate_rows"}
    assert statuses(iranian)["leak_suspects"] == "pass"


@public
def test_an_identifier_of_the_telco_is_found() -> None:
    raw = published("ibm_telco/Telco-Customer-Churn.csv", target="Churn", positive="Yes")
    assert "'customerID'" in next(item.reason for item in raw.checks if item.code == "identifiers")
