"""Why customers leave: a weekly hazard of what they lived through, a policy of actions, and what each action changes.

    logit(h) = intercept + sum of coefficient x input + effect of an action that is at work

The hazard of a week rests on what was so when the week began. Customers are simulated on after they would have left, so
that the effect of an action is exact: the same path with and without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cxlab.data.world.calls import Columns
from cxlab.data.world.clock import DAY, WEEK, Clock
from cxlab.data.world.customers import TARIFFS, People, Scene
from cxlab.data.world.experience import incidents, touched

INTERCEPT = -5.5
COEFFICIENTS = {
    "unresolved_60": 1.2,
    "incident_60": 1.2,
    "long_waits_60": 0.8,
    "low_csat_60": 0.9,
    "tenure_years": -0.4,
    "price_rise_60": 1.1,
    "tariff_flex": 0.9,
    "tariff_family": -0.7,
    "tariff_premium": -0.4,
    "tariff_energy": 0.3,
    "action": 1.0,
}
AFTER_DRIFT = {"intercept": -5.0, "long_waits_60": 1.6, "tenure_years": -0.1}
MEANING = {
    "unresolved_60": "contacts not resolved in the 60 days before the week, at most 3",
    "incident_60": "1 if an incident that touched the customer began in those 60 days",
    "long_waits_60": "contacts in those 60 days that waited more than 300 seconds, at most 3",
    "low_csat_60": "contacts in those 60 days with a satisfaction of 1 or 2, asked or not, at most 3",
    "tenure_years": "years as a customer when the week begins, at most 10",
    "price_rise_60": "1 if the price rose in the week or in the 8 weeks before",
    "action": "effect of an action that is at work, on the logit, else 0",
}
AT_WORK = 13  # weeks
POLICY = {  # probabilities of none, call, discount, message
    "high_risk": (0.45, 0.17, 0.21, 0.17),
    "low_risk": (0.73, 0.07, 0.08, 0.12),
    "never": (1.0, 0.0, 0.0, 0.0),
}


@dataclass(frozen=True)
class Lives:
    """Arrays of shape (n, weeks), the customers of a chunk; `untreated` is the logit without actions."""

    inputs: Columns
    untreated: np.ndarray
    hazard: np.ndarray
    closes: np.ndarray  # week, shape (n,); the number of weeks where they stay
    closed_at: np.ndarray  # microseconds, shape (n,)
    decisions: Columns  # shape (d,) each


def _recent(who: np.ndarray, at: np.ndarray, week: np.ndarray, n: int, clock: Clock) -> np.ndarray:
    """How many moments lie in the 60 days before each week: 8 weeks and the last 4 days of the one before."""
    place = who * clock.weeks + week
    late = at - clock.week_start(week) >= 3 * DAY
    each = [np.bincount(part, minlength=n * clock.weeks).reshape(n, -1) for part in (place, place[late])]
    before = np.pad(np.cumsum(each[0], axis=1), ((0, 0), (9, 0)))
    return before[:, 8:-1] - before[:, :-9] + np.pad(each[1], ((0, 0), (9, 0)))[:, : clock.weeks]


def _inputs(scene: Scene, seen: Columns) -> Columns:
    people, clock = scene.people, scene.clock
    n, weeks = len(people), np.arange(clock.weeks)
    table: Columns = {}
    for name, flag in {
        "unresolved_60": ~seen["resolved"],
        "long_waits_60": seen["long"],
        "low_csat_60": seen["csat"] <= 2,
    }.items():
        table[name] = np.minimum(_recent(seen["who"][flag], seen["at"][flag], seen["week"][flag], n, clock), 3)
    since = np.zeros((n, clock.weeks), dtype=bool)
    for item in incidents(scene):
        begin = clock.week_start(weeks)
        since |= touched(scene, item)[:, None] & (item.start < begin) & (begin - item.start <= 60 * DAY)
    tenure = np.maximum(people.tenure[:, None] + weeks - people.start[:, None], 0)
    table["incident_60"] = since
    table["tenure_years"] = np.round(np.minimum(tenure / 52, 10), 3)
    table["price_rise_60"] = people.rises[:, None] & (tenure >= 52) & (tenure % 52 <= 8)
    for place, name in enumerate(TARIFFS[1:], 1):
        table[f"tariff_{name}"] = np.broadcast_to((people.tariff == place)[:, None], since.shape)
    return {name: table[name].astype(np.float32) for name in COEFFICIENTS if name != "action"}


def logits(inputs: Columns, drift: int) -> np.ndarray:
    """Of the hazard, without actions, shape (n, weeks). Summed in a fixed order: a product of matrices is not."""
    new = np.arange(next(iter(inputs.values())).shape[1]) >= drift
    total = np.where(new, AFTER_DRIFT["intercept"], INTERCEPT)[None]
    for name, values in inputs.items():
        weight = COEFFICIENTS[name]
        total = total + values.astype(np.float64) * np.where(new, AFTER_DRIFT.get(name, weight), weight)
    return total


def sigmoid(logit: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-logit)))


def _decisions(scene: Scene, inputs: Columns) -> Columns:
    """Once a quarter the policy decides about each customer, at the first moment of a week."""
    draws, people = scene.draws, scene.people
    phase = draws.below("decision", AT_WORK, people.index)
    week = np.arange(scene.clock.weeks)
    due = ((week + phase[:, None]) % AT_WORK == 0) & (week >= people.start[:, None] + 4)
    who, when = np.nonzero(due)
    risk = (
        (inputs["unresolved_60"][who, when] >= 1)
        | (inputs["price_rise_60"][who, when] > 0)
        | (inputs["tenure_years"][who, when] < 0.5)
    )
    asked = people.withdrawn[who, 2] >= when  # marketing
    barred = ~asked | people.minor[who] | people.vulnerable[who] | people.holdout[who]
    rule = np.where(barred, 2, np.where(risk, 0, 1))
    chances = np.array(list(POLICY.values()))[rule]
    u = draws.uniform("action", people.index[who], when)
    action = (u[:, None] > np.cumsum(chances, axis=1)[:, :-1]).sum(axis=1)
    return {"who": who, "week": when, "rule": rule, "action": action, "chances": chances}


def lives(scene: Scene, seen: Columns) -> Lives:
    """Hazards, actions and who leaves when, from what the customers lived through."""
    draws, people, clock = scene.draws, scene.people, scene.clock
    inputs = _inputs(scene, seen)
    untreated = logits(inputs, scene.drift)
    decided = _decisions(scene, inputs)
    effect = np.zeros((len(people), clock.weeks + AT_WORK), dtype=np.float32)
    treated = decided["action"] > 0
    rows, first = decided["who"][treated], decided["week"][treated]
    effect[rows[:, None], first[:, None] + np.arange(AT_WORK)] = people.effects[
        rows, decided["action"][treated] - 1, None
    ]
    inputs["action"] = effect[:, : clock.weeks]
    hazard = sigmoid(untreated + inputs["action"].astype(np.float64))
    week = np.arange(clock.weeks)
    leaves = draws.uniform("leaves", people.index[:, None], week[None]) < hazard
    leaves &= week >= people.start[:, None]
    closes = np.where(leaves.any(axis=1), leaves.argmax(axis=1), clock.weeks)
    closed_at = clock.week_start(closes) + 1 + (draws.uniform("closes", people.index) * (WEEK - 2)).astype(np.int64)
    alive = decided["week"] <= closes[decided["who"]]
    return Lives(inputs, untreated, hazard, closes, closed_at, {key: item[alive] for key, item in decided.items()})


def uplift(people: People, life: Lives, clock: Clock) -> Columns:
    """The churn probability of the 91 days after each decision, without and with each action: a row each."""
    full = life.decisions["week"] + AT_WORK <= clock.weeks
    who, week = life.decisions["who"][full], life.decisions["week"][full]
    path = life.untreated[who[:, None], week[:, None] + np.arange(AT_WORK)]
    stay = [np.prod(1 - sigmoid(path), axis=1)]
    stay += [np.prod(1 - sigmoid(path + people.effects[who, k, None]), axis=1) for k in range(3)]
    return {
        "who": np.repeat(who, 3),
        "week": np.repeat(week, 3),
        "action": np.tile(np.arange(3), len(who)),
        "without": np.repeat(1 - stay[0], 3),
        "effect": np.column_stack([stay[0] - item for item in stay[1:]]).ravel(),
    }
