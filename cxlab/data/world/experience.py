"""What happens to customers: incidents, contacts and how they end, surveys. Week by week, all customers of a chunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cxlab.data.world.calls import Columns, bad_calls, calls
from cxlab.data.world.clock import DAY, HOUR, REGIONS, RHYTHMS, SECOND, START, WEEK
from cxlab.data.world.customers import CHANNEL_SHARES, CHANNELS, STYLES, TARIFFS, Scene
from cxlab.data.world.draws import cumulative
from cxlab.data.world.speech import intents, numbers

VOICE, CHAT, _, STORE = range(len(CHANNELS))
LONG_WAIT = 300  # seconds
BIAS: dict[str, Any] = {"column": "language_style", "value": "non_native", "wait_factor": 1.8, "resolved_logit": -0.9}
SURVEYED = 0.4  # share of contacts after which we ask
ANSWERS = np.array([0.62, 0.32, 0.24, 0.3, 0.48])  # probability of an answer by the satisfaction 1..5


@dataclass(frozen=True)
class Incident:
    """Something that goes wrong for a segment: column and place in its tuple, from start to end (microseconds)."""

    name: str
    intent: str
    column: str
    value: int
    start: int
    end: int
    share: float
    rate: float  # more contacts a week


def incidents(scene: Scene) -> tuple[Incident, ...]:
    """The wrong bills and the outage, at their place in the time; none where none are planted."""
    if "incidents" not in scene:
        return ()
    bills = START + int(scene.clock.weeks * 0.3) * WEEK + 9 * HOUR
    down = START + int(scene.clock.weeks * 0.6) * WEEK + DAY + 17 * HOUR
    return (
        Incident("wrong_bills", "billing_error", "tariff", TARIFFS.index("flex"), bills, bills + 13 * DAY, 0.8, 0.35),
        Incident("outage", "outage", "region", list(REGIONS).index("north"), down, down + 3 * DAY, 0.9, 0.5),
    )


def touched(scene: Scene, incident: Incident) -> np.ndarray:
    """Whom an incident reaches, shape (n,)."""
    people = scene.people
    reached = scene.draws.uniform(incident.name, people.index) < incident.share
    here = people.start * WEEK + START <= incident.start
    return reached & here & (getattr(people, incident.column) == incident.value)


def _shares() -> np.ndarray:
    """Of intents by tariff, cumulative; no network troubles where only energy is sold."""
    table = np.tile(numbers("weight"), (len(TARIFFS), 1))
    network = [intents().index(name) for name in ("slow_internet", "roaming", "porting")]
    table[TARIFFS.index("energy"), network] = 0
    table[TARIFFS.index("premium"), intents().index("downgrade")] *= 2
    return cumulative(table)


def seconds(values: np.ndarray) -> np.ndarray:
    """Whole seconds as microseconds."""
    return values.astype(np.int64) * SECOND


def contacts(scene: Scene) -> Columns:
    """Every contact, in order of customer and time, shape (m,) each; `who` is a place among the scene's people.

    Contacts go on after a customer would have left; the tables leave those out.
    """
    people, n = scene.people, len(scene.people)
    reached = [(item, touched(scene, item)) for item in incidents(scene)]
    open_before, last, shares = np.zeros(n), np.zeros(n, dtype=np.int64), _shares()
    bad = bad_calls(scene.draws, scene.clock.weeks) if "bad_calls" in scene else None
    found: list[Columns] = []
    for week in range(scene.clock.weeks):
        begin = START + week * WEEK
        now = [(item, hit * item.rate) for item, hit in reached if item.start < begin + WEEK and item.end > begin]
        rates = [people.need * (1.25 if week >= scene.drift else 1.0), 0.4 * open_before, *(more for _, more in now)]
        bounds = np.cumsum(np.where(people.start <= week, rates, 0.0), axis=0)
        count = scene.draws.poisson("contacts", bounds[-1], people.index, week, most=3)
        who = np.repeat(np.arange(n), count)
        slot = np.arange(len(who)) - np.repeat(np.cumsum(count) - count, count)
        part = {"who": who, "week": np.full(len(who), week), "slot": slot}
        part |= _needs(scene, part, bounds, [item for item, _ in now], shares, last)
        part |= calls(scene.draws, people.index[who], week, slot, bad)
        part |= _service(scene, part, busy=bool(now))
        part |= _feelings(scene, part)
        found.append(part)
        open_before = np.zeros(n)
        open_before[who[~part["resolved"]]] = 1.0
        last[who] = part["intent"]
    merged = {key: np.concatenate([part[key] for part in found]) for key in found[0]}
    order = np.lexsort((merged["slot"], merged["at"], merged["who"]))
    return {key: values[order] for key, values in merged.items()}


def _key(scene: Scene, part: Columns) -> tuple[np.ndarray, ...]:
    return scene.people.index[part["who"]], part["week"], part["slot"]


def _needs(  # noqa: PLR0917
    scene: Scene, part: Columns, bounds: np.ndarray, now: list[Incident], shares: np.ndarray, last: np.ndarray
) -> Columns:
    """What each contact is about, on which channel, and when.

    Args:
        scene: The chunk.
        part: Contacts of a week, shape (m,) each.
        bounds: Cumulative rates of the causes, shape (causes, n): the usual, the last one unresolved, each incident.
        now: Incidents of the week.
        shares: Of intents by tariff, cumulative, shape (tariffs, intents).
        last: Intent of the last contact, shape (n,).
    """
    draws, people, names, key, who = scene.draws, scene.people, intents(), _key(scene, part), part["who"]
    m, begin, new = len(who), START + part["week"] * WEEK, part["week"] >= scene.drift
    mix = shares[people.tariff[who]]
    cause = (draws.uniform("cause", *key) * bounds[-1, who] > bounds[:, who]).sum(axis=0)
    intent = (draws.uniform("intent", *key)[:, None] > mix).sum(axis=1)
    intent = np.where(new & (draws.uniform("new need", *key) < 0.15), names.index("slow_internet"), intent)
    tired = np.where(draws.uniform("tired", *key) < 0.5, names.index("complaint_wait"), names.index("speak_to_person"))
    same = draws.uniform("again", *key) < 0.55
    intent = np.where(cause == 1, np.where(same, last[who], tired), intent)
    start = begin
    for place, item in enumerate(now, 2):
        intent = np.where(cause == place, names.index(item.intent), intent)
        start = np.where(cause == place, np.maximum(start, item.start), start)
    second = (draws.uniform("second", *key)[:, None] > mix).sum(axis=1)
    chatter = len(names) - 1
    two = (draws.uniform("two", *key) < 0.08) & (second != intent) & (second != chatter) & (intent != chatter)
    other = draws.choice("other channel", CHANNEL_SHARES, *key)
    channel = np.where(draws.uniform("usual channel", *key) < 0.65, people.channel[who], other)
    channel = np.where(new & (channel == VOICE) & (draws.uniform("to chat", *key) < 0.4), CHAT, channel)
    service = np.full(m, RHYTHMS.index("service"))
    at = scene.clock.moment(draws, "contact", service, people.region[who], part["week"], key[0], key[2])
    soon = start + (draws.uniform("soon", *key) * (begin + WEEK - start)).astype(np.int64)
    coded = np.where(draws.uniform("coded", *key) < 0.92, intent, draws.below("wrong", len(names), *key))
    at = np.where(at < start, soon, at)
    return {"intent": intent, "second": np.where(two, second, -1), "channel": channel, "at": at, "coded": coded}


def _service(scene: Scene, part: Columns, *, busy: bool) -> Columns:
    """How long they wait, who helps, whether it helps. `fair` is what would be without the bias."""
    draws, key, said = scene.draws, _key(scene, part), part["channel"] == VOICE
    monday = part["at"] - scene.clock.week_start(part["week"]) < DAY
    wait = np.exp(4.35 + 0.5 * busy + 0.35 * monday + draws.normal("queue", *key))
    wait = wait * np.array([1.0, 0.5, 0.0, 0.0])[part["channel"]]
    multiple = part["second"] >= 0
    transfers = draws.poisson("transfers", 0.22 + 0.5 * multiple, *key, most=3) * said
    solved = np.log(numbers("solved") / (1.001 - numbers("solved")))[part["intent"]]
    skill = 0.35 * draws.normal("skill", part["agent"])
    logit = solved + skill - 0.55 * transfers - 0.7 * (said & (part["mos"] < 3)) - 0.5 * multiple
    biased = scene.people.style[part["who"]] == STYLES.index(BIAS["value"])
    worse = biased & ("bias" in scene)
    chance = 1 / (1 + np.exp(-np.where(worse, logit + BIAS["resolved_logit"], logit)))
    felt = np.where(worse, wait * BIAS["wait_factor"], wait)
    handle = np.round(np.exp(5.6 + 0.45 * draws.normal("handle", *key) + 0.3 * multiple)).astype(np.int64)
    return {
        "resolved": draws.uniform("resolved", *key) < chance,
        "transfers": transfers,
        "queue": np.round(felt).astype(np.int64),
        "long": np.round(felt) > LONG_WAIT,
        "handle": handle,
        "hold": np.round(handle * 0.3 * draws.uniform("hold", *key) ** 2 + 40 * transfers).astype(np.int64),
        "begun": np.maximum(part["at"] - seconds(handle), scene.clock.week_start(part["week"])),
        "biased": biased,
        "chance": np.round(1e6 * chance).astype(np.int64),  # whole numbers: their sum does not depend on the order
        "fair_chance": np.round(1e6 / (1 + np.exp(-logit))).astype(np.int64),
        "wait": np.round(1e3 * felt).astype(np.int64),
        "fair_wait": np.round(1e3 * wait).astype(np.int64),
    }


def _feelings(scene: Scene, part: Columns) -> Columns:
    """How satisfied they are, whether we ask, and whether they tell: the very unhappy and the happy do more often."""
    draws, people, key, who = scene.draws, scene.people, _key(scene, part), part["who"]
    mood = np.array([0.0, 0.25, 0.0, -0.5, 0.0])[people.style[who]] + 0.7 * draws.normal("mood", *key)
    grief = np.isin(part["intent"], [intents().index(name) for name in ("billing_error", "outage", "complaint_wait")])
    poor = (part["channel"] == VOICE) & (part["mos"] < 3)
    bad = 0.6 * part["long"] + 0.3 * part["transfers"] + 0.4 * poor + 0.3 * grief
    feel = 2.6 + 1.6 * part["resolved"] - bad + mood
    csat = np.clip(np.round(feel), 1, 5).astype(np.int64)
    answer = np.minimum(ANSWERS[csat - 1] * np.where(people.age[who] >= 4, 1.3, 0.95), 0.95)
    return {
        "csat": csat,
        "nps": np.clip(np.round(2.3 * feel - 1.4 + 0.8 * draws.normal("nps", *key)), 0, 10).astype(np.int64),
        "answer": np.round(answer, 4),
        "asked": (part["channel"] != STORE) & (draws.uniform("asked", *key) < SURVEYED),
        "answered": draws.uniform("answered", *key) < answer,
        "reply": part["at"] + HOUR + (draws.uniform("reply", *key) ** 2 * 70 * HOUR).astype(np.int64),
        "complains": (csat <= 2) & (draws.uniform("complains", *key) < 0.3),
    }
