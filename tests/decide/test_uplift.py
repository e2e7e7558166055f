"""Effects are found where they are planted, none where none is, and differences are never called effects."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from cxlab.decide.average_effects import average_effects
from cxlab.decide.lot import balance, require_lot
from cxlab.decide.qini import qini
from cxlab.decide.trials import Trial, read_trial
from cxlab.decide.uplift import learn_uplift
from cxlab.errors import DataError, ParamsError

ARMS = ("none", "call", "message")
CHANCES = {name: f"p_{name}" for name in ARMS}
FEATURES = ["risk", "old", "colour"]


def table(seed: int, n: int = 4000, *, call: float = 0.0, young: float = 0.0, by_risk: float = 0.0) -> pd.DataFrame:
    """Decisions by lot; `call` is added to the log-odds of the old, `young` to those of the others."""
    rng = np.random.default_rng(seed)
    risk, old = rng.normal(size=n), rng.random(n) < 0.5
    p = np.column_stack([np.where(old, 0.5, 0.6), np.where(old, 0.3, 0.2), np.full(n, 0.2)])
    real = p + by_risk * (risk > 0)[:, None] * [-0.2, 0.2, 0.0]
    action = (rng.random(n)[:, None] > real.cumsum(axis=1)[:, :-1]).sum(axis=1)
    gain = (action == 1) * np.where(old, call, young)
    stayed = rng.random(n) < expit(1 - risk + gain)
    frame = pd.DataFrame({"customer": np.arange(n), "risk": risk, "old": old, "colour": rng.choice(["red", "blue"], n)})
    frame["action"], frame["stayed"] = np.array(ARMS)[action], stayed
    frame["effect"] = expit(1 - risk + np.where(old, call, young)) - expit(1 - risk)
    return frame.assign(**{CHANCES[name]: p[:, place] for place, name in enumerate(ARMS)})


def trial(frame: pd.DataFrame, **more: object) -> Trial:
    options = {"action": "action", "outcome": "stayed", "features": FEATURES, "chances": CHANCES} | more
    return read_trial(frame, **options)  # type: ignore[arg-type]


@given(st.integers(0, 99), st.integers(1, 5))
@settings(max_examples=15, deadline=None)
def test_a_qini_curve_rests_on_the_order_alone(seed: int, power: int) -> None:
    frame = table(seed, 400)
    score = np.random.default_rng(seed).normal(size=400)
    one = qini(trial(frame), score, "call", resamples=20)
    other = qini(trial(frame), np.exp(power * score) - 7, "call", resamples=20)
    pd.testing.assert_frame_equal(one.frame(), other.frame())
    assert one.coefficient == other.coefficient


@given(st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_where_all_score_alike_no_order_is_better_than_chance(seed: int) -> None:
    found = qini(trial(table(seed, 400)), np.zeros(400), "call", resamples=20)
    assert found.coefficient == (0.0, 0.0, 0.0)
    assert found.frame()["gain"].tolist() == pytest.approx([found.total.value])


def test_a_qini_curve_is_that_of_the_paper() -> None:
    frame = table(3, 900, call=1.0).drop(columns=list(CHANCES.values()))
    frame = frame[frame["action"] != "message"].reset_index(drop=True)
    one = trial(frame, chances=None, features=["risk"])
    score = np.random.default_rng(0).permutation(len(frame))
    found = qini(one, score, "call", resamples=10).frame()
    order = frame.iloc[np.argsort(-score)].reset_index(drop=True)
    treated, y = (order["action"] == "call").to_numpy(), order["stayed"].to_numpy()
    for share, gain in found[["share", "gain"]].to_numpy()[4::20]:
        top = np.arange(len(frame)) < round(share * len(frame))
        n_t, n_c = (top & treated).sum(), (top & ~treated).sum()
        lifted = y[top & treated].sum() - y[top & ~treated].sum() * n_t / n_c  # Radcliffe 2007, section 3
        assert gain == pytest.approx(share * lifted / n_t)


def test_average_effects_are_those_planted() -> None:
    frame = table(0, 12_000, call=1.0)
    found = average_effects(trial(frame)).frame().set_index("action")
    low, high = found.loc["call", ["low", "high"]]
    assert low < frame["effect"].mean() < high
    assert low > 0.05
    assert found.loc["message", "low"] < 0 < found.loc["message", "high"]
    naive = found.loc["call", "rate"] - found.loc["call", "rate_control"]
    assert found.loc["call", "effect"] == pytest.approx(naive, abs=0.02)


def test_a_customers_decisions_count_as_one_customer() -> None:
    frame = pd.concat([table(1, 2000, call=0.5)] * 4, ignore_index=True)
    own, shared = (average_effects(trial(frame, customer=name)).frame() for name in (None, "customer"))
    wide = [(t["high"] - t["low"]).iloc[0] for t in (own, shared)]
    assert wide[1] > 1.6 * wide[0]


def test_for_whom_an_action_works_is_found() -> None:
    frame = table(2, 12_000, call=1.2, young=-0.8)
    uplift = learn_uplift(trial(frame))
    new = table(99, 4000, call=1.2, young=-0.8)
    effects = uplift.effects(new)
    assert uplift.learner in ("boosted_60", "boosted_240")
    assert np.corrcoef(effects.of("call"), new["effect"])[0, 1] > 0.9
    low, high = effects.bounds(0.95)
    within = (low[:, 0] <= new["effect"]) & (new["effect"] <= high[:, 0])
    assert within.mean() > 0.7
    order = qini(trial(new), effects.of("call"), "call")
    assert order.coefficient.low > 0
    driven = uplift.driven_by(new.head(50), np.ones(50, dtype=np.intp))
    assert np.abs(driven).mean(axis=0).argmax() == FEATURES.index("old")


def test_where_nothing_is_planted_customers_are_told_apart_by_risk_alone() -> None:
    chosen = [learn_uplift(trial(table(seed, 3000)), bags=4).learner for seed in range(5)]
    assert chosen.count("constant") >= 4


def test_the_same_seed_gives_the_same_effects() -> None:
    frame = table(4, 2000, call=1.0, young=-1.0)
    one, other = (learn_uplift(trial(frame), bags=4, seed=7).effects(frame) for _ in range(2))
    assert one.draws.tobytes() == other.draws.tobytes()


def test_amounts_are_outcomes_too() -> None:
    frame = table(5, 6000)
    rng = np.random.default_rng(0)
    frame["spent"] = 20 + frame["risk"] + 3.0 * ((frame["action"] == "call") & frame["old"]) + rng.normal(size=6000)
    one = trial(frame, outcome="spent")
    average = average_effects(one).frame().set_index("action").loc["call"]
    assert average["low"] < 3 * frame["old"].mean() < average["high"]
    found = learn_uplift(one).effects(frame).of("call")
    assert found[frame["old"]].mean() == pytest.approx(3, abs=0.4)
    assert found[~frame["old"]].mean() == pytest.approx(0, abs=0.4)


def test_a_lot_passes_and_seldom_looks_like_none() -> None:
    p = np.array([balance(trial(table(seed, 500))).p for seed in range(200)])
    assert abs((p < 0.05).mean() - 0.05) <= 2 * np.sqrt(0.05 * 0.95 / 200)


def test_what_was_not_given_by_lot_has_no_effects() -> None:
    frame = table(6, 4000, by_risk=1.0)
    for ask in (require_lot, average_effects, learn_uplift):
        with pytest.raises(DataError, match=r"not given by lot: risk tell who got which.*differences, not effects"):
            ask(trial(frame))
    shares = trial(frame.drop(columns=list(CHANCES.values())), chances=None)
    with pytest.raises(DataError, match=r"Give the chances each customer had"):
        require_lot(shares)


def test_no_effect_without_a_control_group() -> None:
    frame = table(7, 500)
    with pytest.raises(DataError, match=r"No row has action 'none'.*keep a control group"):
        trial(frame[frame["action"] != "none"])


def test_an_action_that_follows_from_the_outcome_is_no_cause() -> None:
    frame = table(8, 2000)
    frame.loc[frame["action"] == "call", "stayed"] = True
    with pytest.raises(DataError, match="'call' has outcome 1: the action follows from the outcome"):
        trial(frame)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stayed": "maybe"}, "no number in 'stayed', the first 'maybe'"),
        ({"p_none": 0.9}, "must be >= 0 and add up to 1"),
        ({"stayed": True}, "Every outcome is 1"),
        ({"p_none": 1.0, "p_call": 0.0, "p_message": 0.0}, "was taken although its chance is 0"),
        ({"action": None}, "have no 'action'"),
    ],
)
def test_bad_tables_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        trial(table(9, 300).assign(**change))


def test_other_mistakes_are_named() -> None:
    frame = table(10, 400, call=1.0)
    with pytest.raises(DataError, match="Did you mean 'risk'"):
        trial(frame, features=["rusk"])
    with pytest.raises(DataError, match="'stayed' is the action, its chance or the outcome"):
        trial(frame, features=["risk", "stayed"])
    with pytest.raises(DataError, match="'message' was taken in"):
        trial(frame.drop(index=frame.index[frame["action"] == "message"][5:]))
    with pytest.raises(ParamsError, match="Did you mean 'call'"):
        qini(trial(frame), np.zeros(400), "cal")
    with pytest.raises(ParamsError, match="Learner 'forest' is not known"):
        learn_uplift(trial(frame), learners=["forest"])


def test_categories_never_seen_and_gaps_are_scored() -> None:
    frame = table(11, 1500, call=1.0)
    frame.loc[::7, "colour"] = None
    uplift = learn_uplift(trial(frame), bags=4)
    effects = uplift.effects(pd.DataFrame({"risk": [0.0, np.nan], "old": [True, False], "colour": ["green", None]}))
    assert np.isfinite(effects.effect).all()


def test_results_draw_themselves() -> None:
    one = trial(table(12, 1500, call=1.0))
    uplift = learn_uplift(one, bags=4)
    for found in (average_effects(one), uplift, balance(one), qini(one, one.features["risk"], "call", resamples=20)):
        assert len(found.frame())
        found.plot()
    plt.close("all")


MIRROR = os.environ.get("CXLAB_DATA_MIRROR")


@pytest.mark.skipif(MIRROR is None, reason="CXLAB_DATA_MIRROR is not set: no public data here")
def test_bank_marketing_is_no_experiment() -> None:
    paths = sorted(Path(MIRROR or "", "bank_marketing").rglob("*.csv"))
    frame = pd.read_csv(paths[0], sep=None, engine="python")
    frame["stayed"] = (frame["y"] == "yes").astype(int)
    found = read_trial(
        frame, action="contact", outcome="stayed", features=["age", "job", "housing", "loan"], control="cellular"
    )
    with pytest.raises(DataError, match="not given by lot"):
        average_effects(found)


@pytest.mark.skipif(
    MIRROR is None or not Path(MIRROR, "hillstrom").is_dir(), reason="Hillstrom's experiment is not in a mirror here"
)
def test_hillstroms_emails() -> None:
    frame = pd.read_csv(sorted(Path(MIRROR or "", "hillstrom").rglob("*.csv"))[0])
    known = ["recency", "history", "mens", "womens", "zip_code", "newbie", "channel"]
    one = read_trial(frame, action="segment", outcome="visit", features=known, control="No E-Mail")
    average = average_effects(one).frame().set_index("action")
    for name, published in (("Mens E-Mail", 0.0766), ("Womens E-Mail", 0.0452)):  # differences of the published rates
        assert average.loc[name, "low"] < published < average.loc[name, "high"]
    half = np.random.default_rng(0).random(len(one)) < 0.5
    learnt = learn_uplift(one.part(half))
    held = one.part(~half)
    found = qini(held, learnt.effects(held.features).of("Womens E-Mail"), "Womens E-Mail")
    assert found.coefficient.low <= found.coefficient.value <= found.coefficient.high
    assert found.coefficient.high > 0
