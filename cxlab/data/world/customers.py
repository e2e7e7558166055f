"""Who the customers are: segments, habits, consents, and how an action would move each of them."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

import numpy as np

from cxlab.data.world.clock import Clock
from cxlab.data.world.draws import Draws, cumulative

AGES = ("under_18", "18-29", "30-44", "45-59", "60-74", "75+")
STYLES = ("plain", "polite", "terse", "angry", "non_native")
TARIFFS = ("basic", "flex", "family", "premium", "energy")
FEES = np.array([1_900, 2_900, 4_900, 6_900, 8_400])  # cents for four weeks
CHANNELS = ("voice", "chat", "email", "store")  # of contacts
CHANNEL_SHARES = cumulative([0.42, 0.3, 0.2, 0.08])
PURPOSES = ("analytics", "personalisation", "marketing")
CONSENT = (0.92, 0.8, 0.75)  # share that grants each purpose
ACTIONS = ("call", "discount", "message")
NEVER = 1_000_000  # a week that does not come


@dataclass(frozen=True)
class People:
    """Customers of a chunk; every array has shape (n,) unless said. Categories are places in the tuples above.

    Attributes:
        start: Week in which they join; 0 for those who were there.
        tenure: Weeks as a customer at `start`.
        activity: Visits of web or app a week.
        need: Contacts a week when nothing special happens.
        rises: Their price rises at every anniversary.
        disturbed: Better left alone: few visits, long with us.
        effects: On the logit of the weekly hazard while an action works, shape (n, actions).
        withdrawn: Week in which a consent ends, shape (n, purposes); -1 where it was never given.
    """

    index: np.ndarray
    start: np.ndarray
    tenure: np.ndarray
    region: np.ndarray
    age: np.ndarray
    style: np.ndarray
    tariff: np.ndarray
    household: np.ndarray
    minor: np.ndarray
    vulnerable: np.ndarray
    channel: np.ndarray
    rhythm: np.ndarray
    app: np.ndarray
    activity: np.ndarray
    need: np.ndarray
    fee: np.ndarray
    rises: np.ndarray
    disturbed: np.ndarray
    holdout: np.ndarray
    effects: np.ndarray
    withdrawn: np.ndarray

    def __len__(self) -> int:
        return len(self.index)


def people(draws: Draws, index: np.ndarray, weeks: int, *, withdrawals: bool) -> People:
    """The customers with these numbers, shape (n,)."""
    i = index
    joins = draws.uniform("joins", i) < 0.2
    start = np.where(joins, 1 + draws.below("start", max(1, weeks * 3 // 5), i), 0)
    tenure = np.where(joins, 0, np.minimum(np.exp(4.6 + 0.9 * draws.normal("tenure", i)), 1500).astype(np.int64))
    age = draws.choice("age", cumulative([2, 18, 27, 25, 18, 10]), i)
    older = age >= 4
    tariff = draws.choice("tariff", cumulative([30, 25, 20, 12, 13]), i)
    household = 1 + draws.poisson("household", np.where(tariff == 2, 2.4, 0.9), i, most=5)
    app = draws.uniform("app", i) < np.where(older, 0.3, 0.7)
    activity = np.minimum(np.exp(-0.75 + 0.8 * draws.normal("activity", i) - 0.3 * older), 4)
    disturbed = (activity < 0.4) & (tenure > 104)
    prefers = np.where(older[:, None], cumulative([60, 10, 15, 15]), cumulative([30, 42, 22, 6]))
    channel = (draws.uniform("channel", i)[:, None] > prefers).sum(axis=1)
    price_minded = (tariff <= 1) | (household >= 4)
    effects = np.column_stack(
        [
            np.where(disturbed, 0.9, np.where(older, -0.7, -0.25)),
            np.where(disturbed, -0.05, np.where(price_minded, -0.9, -0.3)),
            np.where(disturbed, 0.5, np.where(app, -0.35, 0.0)),
        ]
    ) + 0.15 * draws.normal("effect", i[:, None], np.arange(3)[None])
    given = draws.uniform("consent", i[:, None], np.arange(3)[None]) < np.array(CONSENT)
    ends = np.full((len(i), 3), NEVER)
    if withdrawals:  # a geometric number of weeks after joining
        wait = np.log(draws.uniform("withdraws", i[:, None], np.arange(3)[None])) / np.log1p(-0.0016)
        ends = np.where(start[:, None] + 2 + wait < weeks, start[:, None] + 2 + wait, NEVER).astype(np.int64)
    return People(
        index=i,
        start=start,
        tenure=tenure,
        region=draws.choice("region", cumulative([28, 24, 20, 20, 8]), i),
        age=age,
        style=draws.choice("style", cumulative([42, 20, 16, 8, 14]), i),
        tariff=tariff,
        household=household,
        minor=age == 0,
        vulnerable=draws.uniform("vulnerable", i) < np.where(age == 5, 0.2, 0.045),
        channel=channel,
        rhythm=draws.choice("rhythm", cumulative([45, 40, 15]), i),
        app=app,
        activity=activity,
        need=np.minimum(0.05 * np.exp(0.5 * draws.normal("need", i)), 0.3),
        fee=(FEES[tariff] * (1 + 0.12 * (household - 1))).astype(np.int64),
        rises=draws.uniform("rises", i) < 0.6,
        disturbed=disturbed,
        holdout=draws.uniform("holdout", i) < 0.1,
        effects=np.round(effects, 4),
        withdrawn=np.where(given, ends, -1),
    )


@dataclass(frozen=True)
class Scene:
    """What every step needs to know of a chunk: its draws, customers and clock, what is planted, and since when the
    drift is there: a week, beyond the end where there is none.
    """

    draws: Draws
    people: People
    clock: Clock
    plants: Set[str]
    drift: int

    def __contains__(self, plant: str) -> bool:
        return plant in self.plants
