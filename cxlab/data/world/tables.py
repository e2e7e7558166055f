"""The tables of a chunk: what a company would have in its systems, and, under truth/, what only the simulator knows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from cxlab.data.world.calls import CARRIERS, CODECS, SITE, SITES, TEAM, Columns
from cxlab.data.world.clock import DAY, REGIONS, START, WEEK
from cxlab.data.world.customers import ACTIONS, AGES, CHANNELS, STYLES, TARIFFS, Scene
from cxlab.data.world.events import events
from cxlab.data.world.experience import VOICE, contacts
from cxlab.data.world.hazard import POLICY, Lives, lives, uplift
from cxlab.data.world.identity import identities
from cxlab.data.world.speech import NUMBERS, intents, utterance
from cxlab.data.world.text import keys, moments, named

MISHEARD = 0.04  # share of contacts whose tone the agent notes wrongly
LEAKS = (
    ("final_bill_amount", "plain", "the closing bill: filled in for those who left, empty for the others"),
    ("loyalty_index", "subtle", "computed at the end of the time: 0.9 standard deviations lower for those who left"),
)


def _customers(scene: Scene, life: Lives) -> pa.Table:
    draws, people, clock = scene.draws, scene.people, scene.clock
    gone = life.closes < clock.weeks
    columns = {
        "customer_id": keys("c", people.index),
        "region": named(people.region, list(REGIONS)),
        "timezone": named(people.region, list(REGIONS.values())),
        "age_band": named(people.age, AGES),
        "language_style": named(people.style, STYLES),
        "tariff": named(people.tariff, TARIFFS),
        "tenure_at_start": people.tenure,
        "household": people.household,
        "minor": people.minor,
        "vulnerable": people.vulnerable,
        "preferred_channel": named(people.channel, CHANNELS),
        "app_user": people.app,
        "fee": people.fee / 100,
        "joined_at": moments(START + (people.start - people.tenure) * WEEK),
        "churned": named(gone.astype(np.int64), ["no", "yes"]),
    }
    if "leak" in scene:
        amount = np.round(people.fee * draws.uniform("final bill", people.index)) / 100
        columns["final_bill_amount"] = pa.array(amount, mask=~gone)
        columns["loyalty_index"] = np.round(50 + 10 * (draws.normal("loyalty", people.index) - 0.9 * gone), 1)
    return pa.table(columns)


def _kept(seen: Columns, life: Lives, end: int) -> Columns:
    """The contacts before the customer left, with their number for that customer."""
    last = np.minimum(life.closed_at, end - 1)[seen["who"]]
    stays = seen["at"] <= last
    kept = {key: values[stays] for key, values in seen.items()} | {"last": last[stays]}
    kept["number"] = np.arange(len(kept["who"])) - np.searchsorted(kept["who"], kept["who"])
    return kept


def _wanted(seen: Columns) -> list[list[str]]:
    names = intents()
    pairs = zip(seen["intent"].tolist(), seen["second"].tolist(), strict=True)
    return [[names[one], names[two]] if two >= 0 else [names[one]] for one, two in pairs]


def chunk_tables(scene: Scene) -> tuple[dict[str, pa.Table], dict[str, int]]:
    """Every table of a chunk, by its file's name, and whole numbers to add up for bias.json."""
    draws, people, clock, index = scene.draws, scene.people, scene.clock, scene.people.index
    every = contacts(scene)
    life = lives(scene, every)
    seen = _kept(every, life, clock.end)
    stream, owners = events(scene, every, life)
    who, week, slot = (seen[key] for key in ("who", "week", "slot"))
    ids = keys("c", people.index)
    customer, contact = ids.take(pa.array(who)), keys("k", index[who] * 1000 + seen["number"], width=10)
    wanted = _wanted(seen)
    u = draws.uniform("words", index[who, None], week[:, None], slot[:, None], np.arange(NUMBERS)[None])
    styles = [STYLES[code] for code in people.style[who].tolist()]
    said = [utterance(want, style, row) for want, style, row in zip(wanted, styles, u.tolist(), strict=True)]
    angry = people.style[who] == STYLES.index("angry")
    misheard = draws.uniform("tone", index[who], week, slot) < MISHEARD
    voice = pa.array(seen["channel"] == VOICE)
    asked = pa.array(seen["asked"] & (seen["at"] + DAY // 48 <= seen["last"]))
    back = seen["answered"] & (seen["reply"] <= seen["last"])
    made, moved = life.decisions, uplift(people, life, clock)
    cell_who, cell_week = np.nonzero(
        (np.arange(clock.weeks) >= people.start[:, None]) & (np.arange(clock.weeks) <= life.closes[:, None])
    )
    found = {
        "events": stream,
        "customers": _customers(scene, life),
        "contacts": pa.table(
            {
                "contact_id": contact,
                "customer_id": customer,
                "at": moments(seen["at"]),
                "channel": named(seen["channel"], CHANNELS),
                "intent": named(seen["coded"], intents()),
                "resolved": seen["resolved"],
                "wait_seconds": seen["queue"],
                "language_style": named(people.style[who], STYLES),
                "frustrated": named((angry ^ misheard).astype(np.int64), ["no", "yes"]),
                "text": pa.array(said, pa.string()),
            }
        ),
        "calls": pa.table(
            {
                "contact_id": contact,
                "customer_id": customer,
                "started_at": moments(seen["begun"]),
                "queue_seconds": seen["queue"],
                "handle_seconds": seen["handle"],
                "hold_seconds": seen["hold"],
                **{name: seen[name] for name in ("transfers", "mos", "jitter_ms", "packet_loss", "cpu")},
                "network": named(seen["wifi"].astype(np.int64), ["lan", "wifi"]),
                "codec": named(seen["codec"], CODECS),
                "one_way_audio": seen["one_way_audio"],
                "no_media": seen["no_media"],
                "agent": keys("agent_", seen["agent"], width=3),
                "team": keys("team_", seen["agent"] // TEAM, width=2),
                "site": named(seen["agent"] // SITE, SITES),
                "carrier": named(seen["carrier"], CARRIERS),
            }
        ).filter(voice),
        "surveys": pa.table(
            {
                "contact_id": contact,
                "customer_id": customer,
                "sent_at": moments(seen["at"] + DAY // 48),
                "answered_at": moments(seen["reply"], back),
                "csat": pa.array(seen["csat"], mask=~back),
                "nps": pa.array(seen["nps"], mask=~back),
            }
        ).filter(asked),
        "actions": pa.table(
            {
                "customer_id": ids.take(pa.array(made["who"])),
                "decided_at": moments(clock.week_start(made["week"])),
                "action": named(made["action"], ["none", *ACTIONS]),
                "rule": named(made["rule"], list(POLICY)),
                **{f"p_{name}": made["chances"][:, place] for place, name in enumerate(["none", *ACTIONS])},
            }
        ),
        "truth/hazards": pa.table(
            {
                "customer_id": ids.take(pa.array(cell_who)),
                "week": cell_week.astype(np.int16),
                "begins_at": moments(clock.week_start(cell_week)),
                **{name: values[cell_who, cell_week] for name, values in life.inputs.items()},
                "hazard": life.hazard[cell_who, cell_week].astype(np.float32),
                "left": cell_week == life.closes[cell_who],
            }
        ),
        "truth/intents": pa.table({"contact_id": contact, "intents": pa.array(wanted, pa.list_(pa.string()))}),
        "truth/satisfaction": pa.table(
            {
                "contact_id": contact,
                "csat": seen["csat"],
                "nps": seen["nps"],
                "answer_probability": seen["answer"],
            }
        ),
        "truth/uplift": pa.table(
            {
                "customer_id": ids.take(pa.array(moved["who"])),
                "decided_at": moments(clock.week_start(moved["week"])),
                "action": named(moved["action"], ACTIONS),
                "p_without": moved["without"],
                "effect": moved["effect"],
                "do_not_disturb": people.disturbed[moved["who"]],
            }
        ),
        "truth/identities": identities(scene),
        "truth/event_owners": owners,
    }
    mine = seen["biased"]
    names = ("fair_chance", "chance", "fair_wait", "wait")
    sums = {name: int(seen[name][mine].sum()) for name in names} | {"contacts": int(mine.sum())}
    return found, sums
