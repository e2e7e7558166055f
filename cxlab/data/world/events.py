"""The stream of events: what each customer did and what was done, under the keys that were known at the time.

Rows are in order of customer and time. `service` events are what the contract needs; `analytics` are visits and
surveys, `personalisation` the app, `marketing` our actions. What is collected without consent is there to be filtered.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cxlab.data.world.calls import Columns
from cxlab.data.world.clock import DAY, HOUR, SECOND, START, WEEK
from cxlab.data.world.customers import ACTIONS, NEVER, PURPOSES, Scene
from cxlab.data.world.draws import cumulative
from cxlab.data.world.experience import CHAT, VOICE, incidents, seconds, touched
from cxlab.data.world.hazard import Lives
from cxlab.data.world.identity import known_keys
from cxlab.data.world.speech import intents
from cxlab.data.world.text import hexed, keys, moments, named, objects, quoted

CHANNELS = ("web", "app", "chat", "voice", "email", "store", "survey", "billing")
OF_CONTACT = np.array([3, 2, 4, 5])  # voice, chat, email, store
PURPOSE = {
    **{"page_view": "analytics", "survey_sent": "analytics", "survey_answered": "analytics"},
    **{"app_open": "personalisation", "action_taken": "marketing"},
}
REASONS = ("price", "service", "moving", "competitor")


@dataclass
class _Batches:
    """Events as they come; `add` takes arrays of shape (k,) or one value for all."""

    who: list[np.ndarray] = field(default_factory=list)
    at: list[np.ndarray] = field(default_factory=list)
    event: list[np.ndarray] = field(default_factory=list)
    channel: list[np.ndarray] = field(default_factory=list)
    properties: list[pa.Array] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def add(
        self, event: str, who: np.ndarray, at: np.ndarray, channel: np.ndarray | str, what: pa.Array | None = None
    ) -> None:
        code = CHANNELS.index(channel) if isinstance(channel, str) else channel
        if event not in self.names:
            self.names.append(event)
        self.who.append(who)
        self.at.append(at)
        self.event.append(np.full(len(who), self.names.index(event)))
        self.channel.append(np.broadcast_to(code, who.shape))
        self.properties.append(named(np.zeros(len(who), np.int64), ["{}"]) if what is None else what)


def _visits(scene: Scene, life: Lives, out: _Batches) -> None:
    draws, people, clock, drift = scene.draws, scene.people, scene.clock, scene.drift
    weeks = np.arange(clock.weeks)
    rate = people.activity[:, None] * 0.75 ** life.inputs["low_csat_60"].astype(np.float64)
    rate = np.where((weeks >= people.start[:, None]) & (weeks <= life.closes[:, None]), rate, 0)
    rate = np.where(weeks >= drift, rate * 0.7, rate)
    count = draws.poisson("visits", rate, people.index[:, None], weeks[None], most=12)
    cell = np.repeat(np.arange(count.size), count.ravel())
    who, week = cell // clock.weeks, cell % clock.weeks
    slot = np.arange(len(cell)) - np.repeat(np.cumsum(count.ravel()) - count.ravel(), count.ravel())
    key = (people.index[who], slot)
    at = clock.moment(draws, "visit", people.rhythm[who], people.region[who], week, *key)
    kind = draws.uniform("kind", *key, week)
    app = people.app[who] | ((week >= drift) & (draws.uniform("new app", people.index) < 0.4)[who])
    opened, login = app & (kind < 0.55), (kind >= 0.75)
    viewed = ~opened & ~login
    out.add("app_open", who[opened], at[opened], "app")
    out.add("login", who[login], at[login], np.where(app[login], 1, 0))
    out.add("page_view", who[viewed], at[viewed], "web")


def _money(scene: Scene, out: _Batches) -> None:
    draws, people, clock = scene.draws, scene.people, scene.clock
    phase, weeks = draws.below("bill", 4, people.index), np.arange(clock.weeks)
    who, week = np.nonzero(((weeks + phase[:, None]) % 4 == 0) & (weeks > people.start[:, None]))
    key = (people.index[who], week)
    years = (people.tenure[who] + week - people.start[who]) // 52 - people.tenure[who] // 52
    cents = people.fee[who] * np.where(people.rises[who], 1.06**years, 1.0) * (0.97 + 0.06 * draws.uniform("use", *key))
    at = clock.week_start(week) + 3 * HOUR + seconds(draws.below("issued", 7200, *key))
    for item in incidents(scene)[:1]:
        wrong = touched(scene, item)[who] & (at > item.start) & (at < item.end)
        cents = np.where(wrong, cents * 1.4, cents)
    amount = np.round(cents) / 100
    out.add("bill_issued", who, at, "billing", objects(amount=amount))
    paid = draws.uniform("pays", *key) < 0.95
    after = at + DAY + (draws.uniform("paid", *key) ** 2 * 26 * DAY).astype(np.int64)
    out.add("bill_paid", who[paid], after[paid], "billing", objects(amount=amount[paid]))
    orders = draws.uniform("orders", people.index[:, None], weeks[None]) < 0.012
    who, week = np.nonzero(orders & (weeks >= people.start[:, None]))
    key = (people.index[who], week)
    at = clock.moment(draws, "order", people.rhythm[who], people.region[who], week, key[0])
    price = np.round(np.exp(3.6 + 0.8 * draws.normal("price", *key)), 2)
    out.add("order", who, at, np.where(people.app[who], 1, 0), objects(amount=price))


def _service(seen: Columns, out: _Batches) -> None:
    voice, chat = seen["channel"] == VOICE, seen["channel"] == CHAT
    call = {f"{name}_seconds": seen[name][voice] for name in ("queue", "handle", "hold")}
    what = objects(**call, transfers=seen["transfers"][voice], mos=seen["mos"][voice])
    out.add("call_answered", seen["who"][voice], seen["begun"][voice], "voice", what)
    out.add("chat_started", seen["who"][chat], seen["begun"][chat], "chat")
    what = objects(intent=quoted(seen["coded"], intents()), resolved=seen["resolved"])
    out.add("contact", seen["who"], seen["at"], OF_CONTACT[seen["channel"]], what)
    sad = seen["complains"]
    topic = quoted(seen["coded"][sad], intents())
    out.add("complaint", seen["who"][sad], seen["reply"][sad] + HOUR, "email", objects(topic=topic))
    asked = seen["asked"]
    out.add("survey_sent", seen["who"][asked], seen["at"][asked] + HOUR // 2, "survey")
    back = asked & seen["answered"]
    what = objects(csat=seen["csat"][back], nps=seen["nps"][back])
    out.add("survey_answered", seen["who"][back], seen["reply"][back], "survey", what)


def _company(scene: Scene, life: Lives, out: _Batches) -> None:
    draws, people, clock = scene.draws, scene.people, scene.clock
    everyone = np.arange(len(people))
    for item in incidents(scene):
        told = touched(scene, item) & (draws.uniform(f"{item.name} told", people.index) < 0.6)
        at = item.start + 2 * HOUR + (draws.uniform(f"{item.name} at", people.index) * DAY).astype(np.int64)
        what = objects(incident=quoted(np.zeros(told.sum(), np.int64), [item.name]))
        out.add("incident_notified", everyone[told], at[told], "email", what)
    done = life.decisions["action"] > 0
    what = objects(action=quoted(life.decisions["action"][done] - 1, ACTIONS))
    by = np.array([3, 7, 4])[life.decisions["action"][done] - 1]
    out.add("action_taken", life.decisions["who"][done], clock.week_start(life.decisions["week"][done]), by, what)
    at = clock.week_start(people.start) + seconds(draws.below("granted", 7200, people.index))
    for place, purpose in enumerate(PURPOSES):
        ends = people.withdrawn[:, place]
        for event, flag in (("consent_granted", ends >= 0), ("consent_withdrawn", (ends >= 0) & (ends < NEVER))):
            who = everyone[flag]
            if event == "consent_withdrawn":
                at_end = clock.moment(
                    draws, f"withdrawn {purpose}", people.rhythm[who], people.region[who], ends[who], people.index[who]
                )
            what = objects(purpose=quoted(np.full(len(who), place), PURPOSES))
            out.add(event, who, at[who] if event == "consent_granted" else at_end, "web", what)
    gone = everyone[life.closes < clock.weeks]
    week = life.closes[gone]
    weight = np.column_stack(
        [
            1 + 3 * life.inputs["price_rise_60"][gone, week],
            1 + 2 * life.inputs["unresolved_60"][gone, week],
            np.full(len(gone), 0.6),
            np.full(len(gone), 1.0),
        ]
    )
    reason = (draws.uniform("reason", people.index[gone])[:, None] > cumulative(weight)).sum(axis=1)
    out.add("account_closed", gone, life.closed_at[gone], "web", objects(reason=quoted(reason, REASONS)))


def events(scene: Scene, seen: Columns, life: Lives) -> tuple[pa.Table, pa.Table]:
    """The events of a chunk, and whose the events are that carry no customer_id."""
    draws, people, clock, out = scene.draws, scene.people, scene.clock, _Batches()
    _company(scene, life, out)
    _visits(scene, life, out)
    _money(scene, out)
    _service(seen, out)
    who, at = np.concatenate(out.who), np.concatenate(out.at)
    order = np.lexsort((at, who))
    last = np.where(life.closes < clock.weeks, life.closed_at, clock.end - 1)[who[order]]
    order = order[at[order] <= last]
    who, at = who[order], at[order]
    event, channel = np.concatenate(out.event)[order], np.concatenate(out.channel)[order]
    number = np.arange(len(who)) - np.searchsorted(who, who)
    index = people.index[who]
    lag = seconds(np.exp(1.5 + 1.2 * draws.normal("lag", index, number))) + SECOND
    lag = np.where(channel == CHANNELS.index("billing"), lag + 2 * HOUR, np.minimum(lag, HOUR))
    if "late_events" in scene:
        late = draws.uniform("late", index, number) < 0.025
        lag = lag + late * (DAY + (draws.uniform("how late", index, number) ** 2 * 9 * DAY).astype(np.int64))
    received = at + lag
    if "clock_skew" in scene:
        ahead = HOUR // 10 + (draws.uniform("ahead", people.index) * 3 * HOUR).astype(np.int64)
        ahead = np.where(draws.uniform("skewed", people.index) < 0.05, ahead, 0)[who]
        at = np.where(channel <= CHANNELS.index("chat"), at + ahead, at)
    week = (received - lag - START) // WEEK
    login = event == out.names.index("login")
    table = pa.table(
        {
            "event_id": hexed(draws.bits("event", index, number)),
            **known_keys(scene, who, number=number, week=week, login=login, channel=channel),
            "occurred_at": moments(at),
            "received_at": moments(received),
            "channel": named(channel, CHANNELS),
            "event": named(event, out.names),
            "properties": pa.concat_arrays(out.properties).take(pa.array(order)),
            "purpose": named(event, [PURPOSE.get(name, "service") for name in out.names]),
        }
    )
    unknown = pc.is_null(table["customer_id"])
    owners = pa.table({"event_id": table["event_id"], "customer_id": keys("c", index)}).filter(unknown)
    if "duplicates" in scene:
        twice = draws.uniform("twice", index, number) < 0.01
        rows = np.repeat(np.arange(len(who)), 1 + twice)
        second = np.concatenate([[False], rows[1:] == rows[:-1]])
        again = seconds(60 + draws.below("again after", 2 * 86_400, index, number))[rows]
        table = table.take(pa.array(rows))
        place = table.column_names.index("received_at")
        table = table.set_column(place, "received_at", moments(received[rows] + np.where(second, again, 0)))
    return table, owners
