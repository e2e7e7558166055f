"""Next best actions in simulated worlds: what they earn, whom they disturb, and whether intervals cover the truth.

python benchmarks/run.py actions
python benchmarks/actions.py 10          # this many seeds

200 worlds, seeds fixed beforehand, every one reported. In each the effects are learnt from the decisions whose outcomes
were known at week 53, and the catalogue of params/actions.yaml is laid over the decisions of the quarter that follows.

Value is what the suggestions truly add: worth x true effect - cost. Two oracles have the same budget, capacities and
customers. The oracle of the moment knows the effect planted for each customer and the state that makes them leave,
expected over what may happen next: a regression of the true effects on both, without noise. The clairvoyant knows each
customer's future as well, incidents and calls not yet made; nobody who decides can earn what it earns.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))
from common import ROOT, Found

from cxlab.data.world.clock import DAY, START, Clock
from cxlab.data.world.customers import ACTIONS, AGES, CHANNELS, STYLES, TARIFFS, Scene, people
from cxlab.data.world.draws import Draws
from cxlab.data.world.experience import contacts
from cxlab.data.world.hazard import AT_WORK, lives, uplift
from cxlab.data.world.plants import DEFAULT
from cxlab.decide.actions import ID, allocate, decide
from cxlab.decide.average_effects import average_effects
from cxlab.decide.off_policy import policy_value
from cxlab.decide.trials import read_trial
from cxlab.decide.uplift import learn_uplift
from cxlab.params.actions import load_actions

SEEDS = range(3000, 3200)
CUSTOMERS, SMALL = 30_000, 5_000
WEEKS, NOW = 78, 53
CHUNK = 5_000
ARMS = ("none", *ACTIONS)
FEATURES = [
    *("unresolved_60", "long_waits_60", "incident_60", "price_rise_60", "unhappy_60", "happy_60", "contacts_60"),
    *("tenure_years", "years_at_start", "since_anniversary", "visits", "household", "app_user"),
    *("tariff", "age_band", "language_style", "preferred_channel"),
]
STATE = ["logit", "need", "low_csat", "unresolved_60", "long_waits_60", "incident_60", "tenure_years", "price_rise_60"]
STATE += ["rises", "since_anniversary"]


def decisions(seed: int, customers: int) -> pd.DataFrame:
    """Decisions whose outcome the world knows: what was known, done and came of it; under `true_` and `state_` the
    truth.
    """
    clock, draws = Clock(WEEKS), Draws(seed)
    parts = [_part(draws, clock, np.arange(k, min(k + CHUNK, customers))) for k in range(0, customers, CHUNK)]
    return pd.concat(parts, ignore_index=True)


def _part(draws: Draws, clock: Clock, index: np.ndarray) -> pd.DataFrame:
    who = people(draws, index, clock.weeks, withdrawals=True)
    scene = Scene(draws, who, clock, frozenset(DEFAULT), clock.weeks + 1)
    seen = contacts(scene)
    life = lives(scene, seen)
    moved = uplift(who, life, clock)
    full = life.decisions["week"] + AT_WORK <= clock.weeks
    i, week = life.decisions["who"][full], life.decisions["week"][full]
    state = {name: values[i, week].astype(np.float64) for name, values in life.inputs.items()}
    effect = -moved["effect"].reshape(-1, len(ACTIONS))
    chances = life.decisions["chances"][full]
    tenure = who.tenure[i] + week - who.start[i]
    told = seen["asked"] & seen["answered"]
    unhappy, happy = (told & (seen["csat"] <= 2)) | seen["complains"], told & (seen["csat"] > 2)
    columns = {
        "customer_id": index[i],
        "week": week,
        "action": np.array(ARMS)[life.decisions["action"][full]],
        **{f"p_{name}": chances[:, place] for place, name in enumerate(ARMS)},
        "stayed": (life.closes[i] >= week + AT_WORK).astype(np.int64),
        **{name: state[name] for name in FEATURES if name in state},
        "unhappy_60": _before(seen["who"][unhappy], seen["reply"][unhappy], i, week, clock),
        "happy_60": _before(seen["who"][happy], seen["reply"][happy], i, week, clock),
        "contacts_60": _before(seen["who"], seen["at"], i, week, clock),
        "years_at_start": np.minimum(who.tenure[i] / 52, 10),
        "since_anniversary": (tenure % 52).astype(np.float64),
        "visits": _visits(draws, scene, life.inputs["low_csat_60"], i, week),
        "household": who.household[i],
        "app_user": who.app[i],
        "tariff": np.array(TARIFFS)[who.tariff[i]],
        "age_band": np.array(AGES)[who.age[i]],
        "language_style": np.array(STYLES)[who.style[i]],
        "preferred_channel": np.array(CHANNELS)[who.channel[i]],
        "marketing": chances[:, 0]
        < 1,  # who may be acted upon: consent, grown-up, not vulnerable, no holdout of theirs
        "minor": who.minor[i],
        "vulnerable": who.vulnerable[i],
        "state_logit": life.untreated[i, week],
        "state_need": who.need[i],
        "state_low_csat": state["low_csat_60"],
        "state_rises": who.rises[i].astype(np.float64),
        **{f"state_{name}": who.effects[i, place] for place, name in enumerate(ACTIONS)},
        **{f"true_{name}": effect[:, place] for place, name in enumerate(ACTIONS)},
        "true_stay": 1 - moved["without"].reshape(-1, len(ACTIONS))[:, 0],
        "disturbed": who.disturbed[i],
    }
    return pd.DataFrame(columns)


def _before(who: np.ndarray, at: np.ndarray, i: np.ndarray, week: np.ndarray, clock: Clock) -> np.ndarray:
    """How many of a customer's moments lie in the 60 days before the week of each decision."""
    far = 1 << 52
    place = np.sort(who * far + (at - START))
    end = clock.week_start(week) - START
    until = np.searchsorted(place, i * far + end)
    return until - np.searchsorted(place, i * far + np.maximum(end - 60 * DAY, 0))


def _visits(draws: Draws, scene: Scene, low_csat: np.ndarray, i: np.ndarray, week: np.ndarray) -> np.ndarray:
    """Visits of web and app a week, in the year before each decision or since the customer joined."""
    who, weeks = scene.people, np.arange(scene.clock.weeks)
    rate = who.activity[:, None] * 0.75 ** low_csat.astype(np.float64)
    count = draws.poisson("visits", rate, who.index[:, None], weeks[None], most=12)
    total = np.pad(np.where(weeks >= who.start[:, None], count, 0).cumsum(axis=1), ((0, 0), (1, 0)))
    span = np.minimum(week - who.start[i], 52)
    return (total[i, week] - total[i, week - span]) / span


def _trial(frame: pd.DataFrame) -> Any:
    chances = {name: f"p_{name}" for name in ARMS}
    return read_trial(
        frame, action="action", outcome="stayed", features=FEATURES, chances=chances, customer="customer_id"
    )


def ranking(frame: pd.DataFrame, seed: int, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What suggestions earn against both oracles, and whom they touch."""
    params = load_actions(ROOT / "params" / "actions.yaml", overrides)
    past, now = frame[frame["week"] + AT_WORK <= NOW], frame[(frame["week"] >= NOW) & frame["marketing"]]
    learnt = learn_uplift(_trial(past), seed=seed)
    now = now.drop_duplicates(ID).reset_index(drop=True)
    effects = learnt.effects(now)
    made = decide(now, effects, params)
    cost = np.array([action.cost for action in params.actions.values()])
    capacity = [action.capacity for action in params.actions.values()]
    open_to = (made.barred == "") & ~made.held[:, None]
    names = list(params.actions)
    truth = now[[f"true_{name}" for name in names]].to_numpy()

    def earned(choice: np.ndarray) -> float:
        touched = np.flatnonzero(choice)
        return float((params.worth * truth[touched, choice[touched] - 1] - cost[choice[touched] - 1]).sum())

    def oracle(effect: np.ndarray) -> float:
        gain = np.where(open_to, params.worth * effect - cost, 0.0)
        return earned(allocate(gain, cost, budget=params.budget, capacity=capacity).choice)

    moment = _of_the_moment(past, now, names)
    touched = made.choice > 0
    low, high = effects.bounds(0.95)
    places = [effects.arms.index(name) for name in names]
    return {
        "learner": learnt.learner,
        "decisions learnt from": learnt.n,
        "decided": len(now),
        "touched": touched.mean(),
        "earned": earned(made.choice),
        "share of the oracle": earned(made.choice) / oracle(moment),
        "share of the clairvoyant": earned(made.choice) / oracle(truth),
        "single": ((low[:, places] <= moment) & (moment <= high[:, places])).mean(),
        "disturbed": int(now["disturbed"].sum()),
        "disturbed touched": touched[now["disturbed"]].mean(),
    }


def _of_the_moment(past: pd.DataFrame, now: pd.DataFrame, names: list[str]) -> np.ndarray:
    from lightgbm import LGBMRegressor

    model = LGBMRegressor(n_estimators=200, num_leaves=31, learning_rate=0.08, verbose=-1, n_jobs=1)
    columns = [f"state_{name}" if f"state_{name}" in past else name for name in STATE]
    found = []
    for name in names:
        x = [*columns, f"state_{name}"]
        found.append(model.fit(past[x], past[f"true_{name}"]).predict(now[x]))
    return np.column_stack(found)


def policy(frame: pd.DataFrame) -> np.ndarray:
    """Fixed beforehand: a discount for those with an open problem, a call for the old, where one is allowed."""
    allowed = frame["marketing"].to_numpy()
    upset = (frame["unresolved_60"] > 0).to_numpy() | (frame["price_rise_60"] > 0).to_numpy()
    old = frame["age_band"].isin(["60-74", "75+"]).to_numpy()
    return np.select([~allowed, upset, old], ["none", "discount", "call"], "none")


def coverage(frame: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Estimates of a policy fixed beforehand and of average effects, with the truth in this world."""
    trial, chosen = _trial(frame), policy(frame)
    value = policy_value(trial, chosen, seed=seed).frame().set_index("estimate")
    average = average_effects(trial, seed=seed).frame().set_index("action")
    truth = frame["true_stay"].to_numpy().copy()
    for name in ACTIONS:
        truth += np.where(chosen == name, frame[f"true_{name}"], 0)
    out: dict[str, Any] = {"n": len(frame), "truth, policy": truth.mean()}
    for name in ("ips", "snips", "dr"):
        out |= {f"low, {name}": value.loc[name, "low"], f"high, {name}": value.loc[name, "high"]}
    open_to = frame[[f"p_{name}" for name in ARMS]].gt(0).all(axis=1)
    for name in ACTIONS:
        out |= {f"low, {name}": average.loc[name, "low"], f"high, {name}": average.loc[name, "high"]}
        out[f"truth, {name}"] = frame.loc[open_to, f"true_{name}"].mean()
    return out | {"open": int(open_to.sum())}


def _seed(seed: int, customers: int) -> dict[str, Any]:
    frame = decisions(seed, customers)
    small = frame[frame["customer_id"] < SMALL].reset_index(drop=True)
    return {"seed": seed, **ranking(frame, seed), **coverage(small, seed)}


def _says(frame: pd.DataFrame) -> tuple[str, ...]:
    n = len(frame)
    error = 2 * np.sqrt(0.05 * 0.95 / n)
    share, clear, hurt = (frame[k] for k in ("share of the oracle", "share of the clairvoyant", "disturbed touched"))
    said = [
        f"{n} worlds, {frame['decided'].mean():,.0f} decisions each after {frame['decisions learnt from'].mean():,.0f} "
        f"to learn from; touched {frame['touched'].mean():.1%}; learners: {frame['learner'].value_counts().to_dict()}.",
        f"Share of the value of the oracle of the moment: {share.mean():.3f} on average, {share.min():.3f} to "
        f"{share.max():.3f}; at least 0.85 in {(share >= 0.85).sum()} of {n} worlds.",
        f"Share of the clairvoyant's: {clear.mean():.3f} on average, {clear.min():.3f} to {clear.max():.3f}.",
        f"Of those better left alone {hurt.mean():.2%} are touched, at most {hurt.max():.2%}; at most 2 % in "
        f"{(hurt <= 0.02).sum()} of {n} worlds.",
    ]
    said.append(
        "95 % intervals of a single customer's effect hold that of the oracle of the moment in "
        f"{frame['single'].mean():.1%}."
        " They hold the luck of who was seen, not what few and shallow trees smooth away."
    )
    truth = {name: np.average(frame["truth, policy"], weights=frame["n"]) for name in ("ips", "snips", "dr")}
    truth |= {name: np.average(frame[f"truth, {name}"], weights=frame["open"]) for name in ACTIONS}
    for name, value in truth.items():
        rate = ((frame[f"low, {name}"] <= value) & (value <= frame[f"high, {name}"])).mean()
        what = f"policy, {name}" if name not in ACTIONS else f"average effect, {name}"
        fits = "within" if abs(rate - 0.95) <= error else "outside"
        said.append(f"95 % intervals of {what} cover {value:.4f} in {rate:.1%}: {fits} 95 % +- {error:.1%}.")
    return tuple(said)


def measure(seeds: int = len(SEEDS), customers: int = CUSTOMERS) -> Found:
    """A row a seed, and sentences that sum them up."""
    rows = joblib.Parallel(n_jobs=2)(joblib.delayed(_seed)(seed, customers) for seed in SEEDS[:seeds])
    frame = pd.DataFrame(rows)
    shown = [
        "seed",
        "learner",
        "touched",
        "earned",
        "share of the oracle",
        "share of the clairvoyant",
        "disturbed touched",
    ]
    table = frame[shown].map(lambda value: f"{value:.4f}" if isinstance(value, float) else value)
    return Found("Next best actions in simulated worlds, a row a seed", table, _says(frame))


if __name__ == "__main__":
    found = measure(*map(int, sys.argv[1:]))
    print(found.title, found.frame.to_string(index=False), *found.says, sep="\n")
