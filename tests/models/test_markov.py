from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.errors import ParamsError
from cxlab.features.prefixes import LogRoles, PrefixSchema, prefix_schema
from cxlab.models.calibration import log_loss_many
from cxlab.models.markov import KneserNey, held_out

ROLES = LogRoles("case", "event", "time")


def log(sequences: list[str]) -> pd.DataFrame:
    rows = [(number, event) for number, each in enumerate(sequences) for event in each]
    frame = pd.DataFrame(rows, columns=["case", "event"])
    time = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.arange(len(frame)), unit="h")
    return frame.assign(time=time.astype("datetime64[us, UTC]"))


def learnt(sequences: list[str], **settings: int) -> tuple[KneserNey, PrefixSchema, pd.DataFrame, np.ndarray]:
    frame = log(sequences)
    schema = prefix_schema(frame, ROLES)
    X, y = schema.encode(frame), schema.following(frame)
    return KneserNey(len(schema.labels), **settings).fit(X, y), schema, X, y


sequences = st.lists(st.text("abc", min_size=1, max_size=8), min_size=1, max_size=12)


@given(sequences, st.integers(1, 6))
def test_probabilities_are_some(cases: list[str], order: int) -> None:
    model, _, X, _ = learnt(cases, order=order)
    found = model.predict_proba(X)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    assert (found > 0).all(), "what was never seen may still come"
    strange = X.assign(event="never seen")
    np.testing.assert_allclose(model.predict_proba(strange).sum(axis=1), 1, atol=1e-12)


@given(sequences)
def test_the_order_of_cases_changes_nothing(cases: list[str]) -> None:
    one, schema, X, y = learnt(cases, order=3)
    place = np.random.default_rng(0).permutation(len(X))
    other = KneserNey(len(schema.labels), order=3).fit(X.iloc[place], y[place])
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), atol=1e-12)


def test_an_example_by_hand() -> None:
    """After a: b twice, a once, the end once; discounts of 1/3 leave 1/4 to share. Of the empty history b and a were
    led to by one history, the end by two; discounts of 1/2 leave 3/8 to four equal classes."""
    model, schema, X, _ = learnt(["ab", "ab", "aa"], order=1)
    found = dict(zip(schema.labels, model.predict_proba(X.iloc[:1])[0], strict=True))
    none = 3 / 8 / 4
    assert found["b"] == pytest.approx(5 / 12 + (1 / 8 + none) / 4)
    assert found["a"] == pytest.approx(1 / 6 + (1 / 8 + none) / 4)
    assert found["(end)"] == pytest.approx(1 / 6 + (3 / 8 + none) / 4)
    assert found["(other)"] == pytest.approx(none / 4)


def test_a_chain_of_the_second_order_is_found() -> None:
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.full(4, 0.4), (4, 4))
    cases, losses = [], []
    for number in range(2000):
        case = [0, 0]
        while rng.random() > 0.1:
            case.append(int(rng.choice(4, p=table[case[-2], case[-1]])))
        cases.append("".join("abcd"[event] for event in case))
        if number >= 1500:
            steps = zip(case, case[1:], case[2:], strict=False)
            losses += [-np.log(0.9 * table[one, two, three]) for one, two, three in steps] + [-np.log(0.1)]
    frame = log(cases)
    schema = prefix_schema(frame, ROLES)
    X, y = schema.encode(frame), schema.following(frame)
    train = np.flatnonzero(frame["case"] < 1500)
    test = np.flatnonzero((frame["case"] >= 1500) & (frame.groupby("case").cumcount() >= 1))
    model = KneserNey(len(schema.labels)).fit(X.iloc[train], y[train])
    assert model.order_ == 2
    assert log_loss_many(y[test], model.predict_proba(X.iloc[test])) < 1.01 * float(np.mean(losses))


def test_the_table_is_the_model() -> None:
    model, *_ = learnt(["abab", "aab", "ba"], order=2)
    table = model.table()
    assert table.groupby(["history", "length"])["kept"].sum().add(
        table.groupby(["history", "length"])["shared"].first()
    ).to_numpy() == pytest.approx(1)
    assert set(table["length"]) == {0, 1, 2}


def test_the_latest_cases_are_held_out() -> None:
    index = pd.MultiIndex.from_product([range(100), (1, 2)])
    early, late = held_out(index)
    assert len(late) == 30 and early.max() < late.min()
    assert not len(held_out(index[:40])[1])


def test_an_order_out_of_range_is_refused() -> None:
    with pytest.raises(ParamsError, match="order == 7, must be from 1 to 6"):
        learnt(["ab"], order=7)
