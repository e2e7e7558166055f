"""Suggestions keep every limit, earn what can be earned within them, and leave alone whom they should."""

from __future__ import annotations

import importlib.util
import sys
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxlab.decide.actions import allocate, decide, promises, suggest, what_if_limits
from cxlab.decide.assignment import held_out
from cxlab.decide.average_effects import AverageEffects
from cxlab.decide.uplift import Effects
from cxlab.errors import DataError, ParamsError
from cxlab.params.actions import ActionsParams, load_actions
from cxlab.params.files import checked

ROOT = Path(__file__).parents[2]
CATALOGUE = ROOT / "params" / "actions.yaml"


def catalogue(**more: Any) -> ActionsParams:
    common = {"owner": "a team", "channel": "voice", "risk": "low", "approve": False}
    tree = {
        "outcome": "stays",
        "worth": 100,
        "holdout": {"share": 0.1},
        "actions": {
            "call": {"title": "a call", "cost": 5, "eligible": {"require": ["consent"], "exclude": ["minor"]}} | common,
            "message": {"title": "a message", "cost": 1} | common,
        },
    }
    return checked(tree | more, ActionsParams, "test.yaml")


def people(n: int = 200, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {"customer_id": [f"c{k}" for k in range(n)], "consent": rng.random(n) < 0.7, "minor": rng.random(n) < 0.1}
    )


def effects(n: int = 200, seed: int = 0, *, error: float = 0.01) -> Effects:
    rng = np.random.default_rng(seed)
    mean = rng.normal(0.05, 0.08, (n, 2))
    draws = mean + error * rng.normal(size=(16, n, 2))
    return Effects(("call", "message"), np.full(n, 0.9), draws.mean(axis=0), draws.astype(np.float32))


@st.composite
def knapsacks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, float | None, list[int | None]]:
    n, k = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    gain = draw(st.lists(st.floats(-3, 8), min_size=n * k, max_size=n * k))
    cost = draw(st.lists(st.integers(0, 5), min_size=k, max_size=k))
    most = draw(st.lists(st.none() | st.integers(0, 3), min_size=k, max_size=k))
    return np.array(gain).reshape(n, k), np.array(cost, float), draw(st.none() | st.floats(0, 12)), most


@given(knapsacks())
@settings(max_examples=60, deadline=None)
def test_no_choice_within_the_limits_exceeds_the_bound_and_ours_is_within(
    case: tuple[np.ndarray, np.ndarray, float | None, list[int | None]],
) -> None:
    gain, cost, budget, capacity = case
    found = allocate(gain, cost, budget=budget, capacity=capacity)

    def fits(choice: np.ndarray) -> bool:
        count = np.bincount(choice, minlength=len(cost) + 1)[1:]
        rooms = all(most is None or many <= most for many, most in zip(count, capacity, strict=True))
        return rooms and (budget is None or count @ cost <= budget + 1e-9)

    def total(choice: np.ndarray) -> float:
        return sum(gain[i, place - 1] for i, place in enumerate(choice) if place)

    every = (np.array(item) for item in product(range(len(cost) + 1), repeat=len(gain)))
    best = max(total(choice) for choice in every if fits(choice))
    assert fits(found.choice)
    assert found.total == pytest.approx(total(found.choice))
    assert found.total <= best + 1e-9
    assert best <= found.bound + 1e-6 * (1 + abs(found.bound))


def test_with_many_customers_little_is_lost() -> None:
    gain = np.random.default_rng(0).normal(0, 30, (20_000, 3))
    found = allocate(gain, np.array([6.0, 5.0, 1.0]), budget=15_000, capacity=[400, None, 2_000])
    assert found.bound - found.total < 1e-3 * found.total
    assert found.price > 0


@given(st.integers(0, 99), st.floats(0, 300), st.integers(0, 30))
@settings(max_examples=25, deadline=None)
def test_every_limit_is_kept(seed: int, budget: float, capacity: int) -> None:
    params = catalogue(budget=budget)
    params = checked(
        params.model_dump() | {"actions": {"call": params.actions["call"].model_dump() | {"capacity": capacity}}},
        ActionsParams,
        "test.yaml",
    )
    found = suggest(people(seed=seed), effects(seed=seed), params)
    table = found.frame()
    some = table[table["action"] != "none"].merge(people(seed=seed), on="customer_id")
    assert some["cost"].sum() <= budget + 1e-9
    assert len(some) <= capacity
    assert some["consent"].all() and not some["minor"].any()
    assert (some["low"] > 0).all() and (some["confidence"] >= 0.8).all()
    assert len(table) == 200 and table["customer_id"].is_unique
    assert table["reason"].str.len().min() > 10 and table["what_would_change"].str.len().min() > 10


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=50, unique=True), st.floats(0.01, 0.5))
def test_a_holdout_does_not_depend_on_who_else_is_there(customers: list[int], share: float) -> None:
    whole = held_out(customers, share=share, salt="s")
    assert whole[:1].tolist() == held_out(customers[:1], share=share, salt="s").tolist()
    assert (whole <= held_out(customers, share=min(0.99, 2 * share), salt="s")).all()  # more are held, none let go


def test_the_holdout_has_its_share_and_gets_nothing() -> None:
    assert held_out(range(20_000), share=0.1, salt="a").mean() == pytest.approx(0.1, abs=0.01)
    table = suggest(people(), effects(), catalogue()).frame()
    held = table[table["status"] == "held out"]
    assert len(held) and (held["action"] == "none").all()


def test_to_do_nothing_is_what_is_left_where_nothing_pays() -> None:
    bad = effects()
    none = Effects(bad.arms, bad.expected, bad.effect - 1, bad.draws - np.float32(1))
    table = suggest(people(), none, catalogue()).frame()
    assert (table["action"] == "none").all()
    assert set(table["status"]) == {"held out", "not worth it"}


def test_the_less_is_known_the_less_is_done() -> None:
    touched = [(decide(people(), effects(error=e), catalogue()).choice > 0).sum() for e in (0.001, 0.05, 0.5)]
    assert touched == sorted(touched, reverse=True)
    assert touched[-1] < touched[0] / 5


def test_what_would_change_a_suggestion_does() -> None:
    params = catalogue(holdout={"share": 0.01}, budget=200)
    first = suggest(people(), effects(), params)
    row = first.frame().query("action == 'call'").iloc[0]
    edge = float(row["what_would_change"].split()[-1].rstrip("."))
    place = first.place(row["customer_id"])
    made, price = first.decision, first.decision.allocation.price
    net = made.low[place] - price * np.array([5.0, 1.0])
    other = max(0.0, net[1] if made.candidate[place, 1] else 0.0)
    assert net[0] - (1 + price) * (edge - 5) == pytest.approx(other, abs=0.02 * (1 + price))
    assert "instead if a call cost more than" in row["what_would_change"]


def test_what_is_not_known_is_a_no_and_says_so() -> None:
    frame = people().astype({"consent": object})
    frame["consent"] = None
    table = suggest(frame, effects(), catalogue()).frame()
    assert "call" not in set(table["action"])
    only = catalogue(actions={"call": catalogue().actions["call"].model_dump()})
    status = suggest(frame, effects(), only).frame().query("status != 'held out'")
    assert set(status["status"]) == {"not eligible"}
    assert status["reason"].str.contains("no consent|minor").all()


def test_caps_of_frequency_hold() -> None:
    params = catalogue(guardrails={"contacts": {"most": 2, "days": 30}})
    before = decide(people(), effects(), params)
    who = people()["customer_id"][before.choice > 0]
    days = pd.to_datetime(["2025-01-01", "2025-01-20"] * len(who), utc=True)
    past = pd.DataFrame({"customer_id": np.repeat(who, 2), "action": "message", "at": days})
    after = decide(people(), effects(), params, history=past, now="2025-01-25")
    assert (after.choice[before.choice > 0] == 0).all()
    assert (after.barred[before.choice > 0] == "was contacted often enough lately").any()
    later = decide(people(), effects(), params, history=past, now="2025-06-01")
    assert later.choice.tolist() == before.choice.tolist()
    with pytest.raises(ParamsError, match="pass now="):
        decide(people(), effects(), params, history=past)


def test_an_action_without_an_owner_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"'actions.call.owner' is missing"):
        catalogue(actions={"call": {"title": "a call", "channel": "voice", "cost": 1}})
    with pytest.raises(ParamsError, match="to do nothing is always a candidate"):
        catalogue(actions={"none": {"title": "a", "owner": "a", "channel": "a", "cost": 1}})
    with pytest.raises(ParamsError, match=r"holdout.share == 0, must be greater than 0"):
        catalogue(holdout={"share": 0})


def test_our_catalogue_is_good() -> None:
    params = load_actions(CATALOGUE, ["budget=2000"])
    assert params.budget == 2000
    assert all(action.owner for action in params.actions.values())


def test_what_owners_expect_is_held_against_what_was_seen() -> None:
    table = {"action": ["call", "message"], "n": 9, "effect": [0.1, 0.1], "low": [0.05, 0.05], "high": [0.15, 0.15]}
    average = AverageEffects(pd.DataFrame(table), 0.95, 0)
    said = {"call": 0.2, "message": 0.12}
    tree = catalogue().model_dump()
    for name, expected in said.items():
        tree["actions"][name]["expected"] = expected
    found = promises(checked(tree, ActionsParams, "test.yaml"), average)
    assert found.frame()["verdict"].tolist() == ["less", "as expected"]
    assert set(promises(catalogue(), average).frame()["verdict"]) == {"nothing said"}
    found.plot()
    plt.close("all")


def test_mistakes_are_named() -> None:
    with pytest.raises(ParamsError, match="Action 'call' has no learnt effect; learnt are visit"):
        decide(people(), Effects(("visit",), np.ones(200), np.ones((200, 1)), np.ones((4, 200, 1), "f4")), catalogue())
    with pytest.raises(DataError, match="200 customers and effects on 100"):
        decide(people(), effects(100), catalogue())
    with pytest.raises(DataError, match="'consent' is not in the data"):
        decide(people().drop(columns="consent"), effects(), catalogue())
    with pytest.raises(DataError, match="Column 'minor' holds 3"):
        decide(people().assign(minor=3), effects(), catalogue())
    with pytest.raises(DataError, match="missing or repeated"):
        decide(people().assign(customer_id="c1"), effects(), catalogue())
    with pytest.raises(ParamsError, match=r"Limit 'budgt' is not one that can vary. Did you mean 'budget'"):
        what_if_limits(people(), effects(), catalogue(), budgt=[1])
    with pytest.raises(ParamsError, match=r"guardrails.level == 2"):
        what_if_limits(people(), effects(), catalogue(), level=[2])


def test_more_budget_never_brings_less() -> None:
    found = what_if_limits(people(), effects(error=0.001), catalogue(), budget=[0, 50, 200, 1000], level=[0.5, 0.9])
    table = found.frame()
    for _, part in table.groupby("level"):
        assert (np.diff(part["value"]) >= -1.0).all()  # an indivisible last action may cost a little
    assert (table["spent"] <= table["budget"]).all()
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()
    found.plot()
    suggest(people(), effects(), catalogue()).plot()
    plt.close("all")


def benchmark() -> ModuleType:
    """`benchmarks/actions.py`, which is no package: its folder is on the path while it loads."""
    folder = ROOT / "benchmarks"
    spec = importlib.util.spec_from_file_location("benchmark_actions", folder / "actions.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(folder))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


def test_suggestions_in_a_simulated_world() -> None:
    """One world of fewer customers, with a budget to match; the benchmark has 200 of 30,000."""
    worlds = benchmark()
    found = worlds.ranking(worlds.decisions(1, 12_000), 1, ["budget=2000"])
    assert found["touched"] > 0.05
    assert found["disturbed touched"] <= 0.02
    assert found["share of the oracle"] >= 0.7  # the fewer customers to learn from, the less
