"""Assignment by hash, and whether arms are alike: laws, then the mistakes people make."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cxlab.decide.assignment import Balance, assign, balance, held_out, uniform
from cxlab.errors import DataError, ParamsError

ids = st.lists(st.text("abc0123456789", min_size=1, max_size=6), min_size=1, max_size=30)
HALVES = {"none": 1, "mail": 1}


@given(ids, ids, st.text(min_size=1, max_size=8))
def test_new_customers_move_nobody(old: list[str], new: list[str], salt: str) -> None:
    before = assign(old, salt=salt, split=HALVES)
    assert (assign(old + new, salt=salt, split=HALVES)[: len(old)] == before).all()
    assert (assign(old[::-1], salt=salt, split=HALVES)[::-1] == before).all()
    assert (assign(old, salt=salt, split=dict(reversed(HALVES.items()))) == before).all()


@given(ids, st.floats(0.1, 10))
def test_weights_are_shares(people: list[str], times: float) -> None:
    scaled = {name: weight * times for name, weight in HALVES.items()}
    assert (assign(people, salt="s", split=scaled) == assign(people, salt="s", split=HALVES)).all()


def test_hashes_are_even_and_salts_independent() -> None:
    people = [f"c{i}" for i in range(20_000)]
    one = uniform(people, "spring")
    assert one.min() >= 0 and one.max() < 1
    assert stats.kstest(one, "uniform").pvalue > 0.001
    table = pd.crosstab(assign(people, salt="spring", split=HALVES), assign(people, salt="summer", split=HALVES))
    assert stats.chi2_contingency(table.to_numpy()).pvalue > 0.001
    arm = assign(people, salt="spring", split={"none": 0.8, "a": 0.15, "b": 0.05})
    counts = [(arm == name).sum() for name in ("none", "a", "b")]
    assert stats.chisquare(counts, np.array([0.8, 0.15, 0.05]) * len(people)).pvalue > 0.001


def test_a_customer_is_one_by_its_text() -> None:
    assert len(set(uniform([7, 7.0, "7", " 7 "], "s").tolist())) == 1
    assert uniform(["b"], "a").tolist() != uniform(["ab"], "x").tolist()


def test_who_is_held_out_is_held_out_of_every_experiment() -> None:
    people = [f"c{i}" for i in range(5000)]
    out = held_out(people, salt="holdout 2026", share=0.1)
    assert (out == held_out(people, salt="holdout 2026", share=0.1)).all()
    assert abs(out.mean() - 0.1) < 0.02
    more = held_out(people, salt="holdout 2026", share=0.2)
    assert (more | ~out).all()  # a larger holdout holds the smaller one


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: assign(["a"], salt="", split=HALVES), ParamsError, "salt == ''"),
        (lambda: assign(["a"], salt="s", split={"a": 1}), ParamsError, "two arms at least"),
        (lambda: assign(["a"], salt="s", split={"a": 1, "b": 0}), ParamsError, "split.b == 0"),
        (lambda: assign(["a", None], salt="s", split=HALVES), DataError, "Customer 2 is missing"),
        (lambda: held_out(["a"], salt="s", share=1.0), ParamsError, "share == 1.0"),
    ],
)
def test_what_cannot_be_assigned_says_why(call, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call()


def people(seed: int, n: int = 1000) -> tuple[pd.DataFrame, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    number = rng.gamma(2.0, 10.0, n)
    number[rng.random(n) < 0.1] = np.nan
    frame = pd.DataFrame({"fee": number, "region": rng.choice(["n", "s", "w"], n), "same": 1})
    return frame, rng.choice(["none", "mail"], n), rng


def test_a_random_assignment_is_called_random() -> None:
    found = [balance(*people(seed)[:2], "none", ["fee", "region", "same"]) for seed in range(60)]
    assert sum(not item.random for item in found) <= 1  # at 0.001 each
    frame = found[0].frame()
    assert frame["covariate"].tolist() == ["fee", "region", "same"] and (frame["verdict"] == "alike").all()
    assert "after a random assignment" in found[0].note
    found[0].plot()


@pytest.mark.parametrize("by", ["fee", "region", "missing", "bent"])
def test_an_assignment_that_follows_a_covariate_is_named(by: str) -> None:
    frame, _, rng = people(1, 4000)
    fee = frame["fee"].fillna(0)
    lean = {
        "fee": fee > fee.median(),
        "region": frame["region"] == "w",
        "missing": frame["fee"].isna(),
        "bent": (fee - fee.median()).abs() > 8,  # the extremes, of which means know nothing
    }[by]
    arm = np.where(rng.random(len(frame)) < np.where(lean, 0.75, 0.45), "mail", "none")
    found = balance(frame, arm, "none", ["fee", "region"])
    assert found.random is False
    assert "no effects of them" in found.note
    assert (found.told["low"] > 0.5).all()


def test_nothing_asked_is_nothing_said() -> None:
    frame, arm, _ = people(0)
    for found in (balance(frame, arm, "none", []), balance(frame[:40], arm[:40], "none", ["fee"])):
        assert isinstance(found, Balance) and found.random is None and found.frame().empty
        found.plot()
