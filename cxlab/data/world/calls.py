"""How a call sounds: network, codec, loss and delay, and the opinion score that follows from them.

The score is the E-model's (ITU-T G.107, R = 93.2 - Id - Ie,eff, and its equation for MOS), with the simplified delay
impairment of Cole and Rosenbluth (2001, "Voice over IP performance monitoring").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cxlab.data.world.draws import Draws, cumulative

Columns = dict[str, np.ndarray]

AGENTS, TEAM, SITE = 120, 10, 40  # agents; in a team; at a site
SITES = ("harbour", "hill", "home")
CODECS = ("opus", "g711", "g729")
IE = np.array([2.0, 0.0, 11.0])  # equipment impairment without loss
BPL = np.array([25.0, 10.0, 19.0])  # robustness to loss
CARRIERS = ("alpha", "beta", "gamma")  # gamma loses more
TROUBLES = ("no_media", "one_way_audio", "packet_loss")
HEAVY_LOSS = 15.0  # percent; whatever the codec, the opinion score is below 3 with it


@dataclass(frozen=True)
class BadCalls:
    """Where calls go wrong: a carrier at a site (places in their tuples), from a week on, in a share of the calls."""

    carrier: int
    site: int
    week: int
    trouble: str
    share: float = 0.35


def bad_calls(draws: Draws, weeks: int) -> BadCalls:
    """What goes wrong in a world of a seed, between a quarter and a half of its weeks on."""
    carrier, site, trouble = (
        int(draws.below(f"bad {name}", len(of))[0])
        for name, of in (("carrier", CARRIERS), ("site", SITES), ("trouble", TROUBLES))
    )
    return BadCalls(carrier, site, weeks // 4 + int(draws.below("bad week", max(1, weeks // 4))[0]), TROUBLES[trouble])


def mean_opinion(delay_ms: np.ndarray, loss_percent: np.ndarray, codec: np.ndarray) -> np.ndarray:
    """MOS in [1, 4.5] of one-way delay, packet loss and codec (a place in CODECS), shape (n,)."""
    delay = 0.024 * delay_ms + 0.11 * np.maximum(delay_ms - 177.3, 0)
    loss = IE[codec] + (95 - IE[codec]) * loss_percent / (loss_percent + BPL[codec])
    r = np.clip(93.2 - delay - loss, 0, 100)
    return np.asarray(np.clip(1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6, 1, 4.5))


def calls(draws: Draws, customer: np.ndarray, week: int, slot: np.ndarray, bad: BadCalls | None = None) -> Columns:
    """Agent and line of each contact of a week, shape (n,), as if it were a call; `bad` is what is planted."""
    key = (customer, week, slot)
    agent = draws.below("agent", AGENTS, *key)
    site = agent // SITE
    wifi = draws.uniform("wifi", *key) < np.array([0.08, 0.15, 0.65])[site]
    carrier = draws.choice("carrier", cumulative([45, 35, 20]), *key)
    codec = draws.choice("codec", cumulative([50, 35, 15]), *key)
    cpu = np.clip(42 + 14 * draws.normal("cpu", *key) + 8 * wifi, 3, 100)
    jitter = np.exp(np.where(wifi, 3.0, 2.0) + 0.5 * draws.normal("jitter", *key) + 0.01 * np.maximum(cpu - 70, 0))
    loss = np.exp(np.where(wifi, -0.2, -1.9) + 0.8 * draws.normal("loss", *key) + 0.9 * (carrier == 2))
    no_media = draws.uniform("no media", *key) < 0.003
    one_way = draws.uniform("one way", *key) < np.where(wifi, 0.015, 0.004)
    if bad is not None and week >= bad.week:
        hit = (carrier == bad.carrier) & (site == bad.site) & (draws.uniform("bad call", *key) < bad.share)
        loss = np.where(hit & (bad.trouble == "packet_loss"), np.maximum(loss, HEAVY_LOSS), loss)
        no_media |= hit & (bad.trouble == "no_media")
        one_way |= hit & (bad.trouble == "one_way_audio")
    mos = np.where(no_media, 1.0, mean_opinion(60 + 2 * jitter, np.minimum(loss, 30), codec))
    return {
        "agent": agent,
        "wifi": wifi,
        "carrier": carrier,
        "codec": codec,
        "cpu": np.round(cpu, 1),
        "jitter_ms": np.round(jitter, 1),
        "packet_loss": np.round(np.minimum(loss, 30), 2),
        "no_media": no_media,
        "one_way_audio": ~no_media & one_way,
        "mos": np.round(mos, 2),
    }
