"""Estimates of a policy cover its value, agree where they must, and refuse where nothing can be told."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from cxlab.decide.off_policy import policy_value
from cxlab.decide.trials import Trial, read_trial
from cxlab.errors import DataError, ParamsError

ARMS = ("none", "call")
RULE = {"none": 0, "call": 5}


def log(seed: int, n: int = 1000, each: int = 2) -> tuple[Trial, np.ndarray]:
    """Decisions by lot about n / each customers, and the policy: a call for those at risk."""
    rng = np.random.default_rng(seed)
    own = np.repeat(rng.normal(size=n // each), each)
    risk = own + 0.3 * rng.normal(size=n)
    p_call = np.where(risk > 0, 0.5, 0.2)
    action = rng.random(n) < p_call
    stayed = rng.random(n) < expit(1 - own + 0.8 * action * (risk > 0))
    frame = pd.DataFrame({"customer": np.repeat(np.arange(n // each), each), "risk": risk, "stayed": stayed})
    frame["action"], frame["p_call"], frame["p_none"] = np.where(action, "call", "none"), p_call, 1 - p_call
    chances = {"none": "p_none", "call": "p_call"}
    trial = read_trial(
        frame, action="action", outcome="stayed", features=["risk"], chances=chances, customer="customer"
    )
    return trial, np.where(risk > 0, "call", "none")


def truth() -> float:
    rng = np.random.default_rng(12345)
    own = rng.normal(size=2_000_000)
    risk = own + 0.3 * rng.normal(size=len(own))
    return float((100 * expit(1 - own + 0.8 * (risk > 0)) - 5 * (risk > 0)).mean())


@given(st.integers(0, 999))
@settings(max_examples=10, deadline=None)
def test_of_what_was_done_with_its_chances_all_estimates_are_the_mean(seed: int) -> None:
    trial, _ = log(seed, 400)
    found = policy_value(trial, trial.chances, worth=100).frame().set_index("estimate")["value"]
    assert found["ips"] == pytest.approx(found["logged"])
    assert found["snips"] == pytest.approx(found["logged"])


@pytest.mark.parametrize("estimate", ["ips", "snips", "dr"])
def test_intervals_cover_the_truth(estimate: str, cover: pd.DataFrame) -> None:
    rate, n = cover[estimate].mean(), len(cover)
    assert abs(rate - 0.95) <= 2 * np.sqrt(0.95 * 0.05 / n) + 1e-9


@pytest.fixture(scope="module")
def cover() -> pd.DataFrame:
    value, rows = truth(), []
    for seed in range(200):
        trial, policy = log(seed, 600)
        table = policy_value(trial, policy, worth=100, costs=RULE).frame().set_index("estimate")
        rows.append(
            {name: table.loc[name, "low"] <= value <= table.loc[name, "high"] for name in ("ips", "snips", "dr")}
        )
    return pd.DataFrame(rows)


def test_a_better_policy_is_seen_and_a_worse_one() -> None:
    trial, policy = log(0, 6000)
    found = policy_value(trial, policy, worth=100)
    assert found.verdict == "better" and found.reason == ""
    turned = np.where(policy == "call", "none", "call")
    assert policy_value(trial, turned, worth=100).verdict == "worse"
    assert found.agreed == pytest.approx((np.array(ARMS)[trial.action] == policy).mean())
    found.plot()
    plt.close("all")


def test_doubly_robust_intervals_are_narrower() -> None:
    trial, policy = log(1, 4000)
    table = policy_value(trial, policy, worth=100).frame().set_index("estimate")
    wide = table["high"] - table["low"]
    assert wide["dr"] < wide["ips"]


def test_what_had_no_chance_cannot_be_told() -> None:
    trial, policy = log(2)
    chances = trial.chances.copy()
    never = (trial.action == 0) & (np.arange(len(trial)) % 3 == 0)
    chances[never] = [1.0, 0.0]
    fixed = Trial(trial.features, trial.arms, trial.action, trial.outcome, chances, trial.who, stated=True)
    found = policy_value(fixed, np.full(len(trial), "call"))
    assert found.verdict == "cannot tell"
    assert found.unsupported == pytest.approx(never.mean())
    assert "had no chance" in found.note
    assert found.frame().set_index("estimate")["value"].drop("logged").isna().all()
    found.plot()
    left = policy_value(fixed, np.where(never, "none", policy))
    assert left.unsupported == 0 and np.isfinite(left.frame()["value"]).all()
    plt.close("all")


def test_too_few_that_agree_cannot_be_told() -> None:
    trial, _ = log(3, 240)
    rare = np.where(trial.features["risk"] > 1.8, "call", "none")
    small = policy_value(trial, np.full(240, "call"))
    assert small.effective < 100 and small.verdict == "cannot tell"
    assert "worth only" in small.reason
    assert np.isfinite(policy_value(trial, rare).frame()["value"]).all()


def test_mistakes_are_named() -> None:
    trial, policy = log(4)
    with pytest.raises(DataError, match=r"Action 'cal' is not in this trial. Did you mean 'call'"):
        policy_value(trial, np.where(policy == "call", "cal", "none"))
    with pytest.raises(DataError, match=r"policy has shape \(3,\), must be \(1000,\) names"):
        policy_value(trial, np.array(["call"] * 3))
    with pytest.raises(DataError, match="must be >= 0 and add up to 1"):
        policy_value(trial, np.ones((1000, 2)))
    with pytest.raises(ParamsError, match="Action 'visit' is not in this trial"):
        policy_value(trial, policy, costs={"visit": 1})
