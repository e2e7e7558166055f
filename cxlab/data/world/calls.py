"""How a call sounds: network, codec, loss and delay, and the opinion score that follows from them.

The score is the E-model's (ITU-T G.107, R = 93.2 - Id - Ie,eff, and its equation for MOS), with the simplified delay
impairment of Cole and Rosenbluth (2001, "Voice over IP performance monitoring").
"""

from __future__ import annotations

import numpy as np

from cxlab.data.world.draws import Draws, cumulative

Columns = dict[str, np.ndarray]

AGENTS, TEAM, SITE = 120, 10, 40  # agents; in a team; at a site
SITES = ("harbour", "hill", "home")
CODECS = ("opus", "g711", "g729")
IE = np.array([2.0, 0.0, 11.0])  # equipment impairment without loss
BPL = np.array([25.0, 10.0, 19.0])  # robustness to loss
CARRIERS = ("alpha", "beta", "gamma")  # gamma loses more


def mean_opinion(delay_ms: np.ndarray, loss_percent: np.ndarray, codec: np.ndarray) -> np.ndarray:
    """MOS in [1, 4.5] of one-way delay, packet loss and codec (a place in CODECS), shape (n,)."""
    delay = 0.024 * delay_ms + 0.11 * np.maximum(delay_ms - 177.3, 0)
    loss = IE[codec] + (95 - IE[codec]) * loss_percent / (loss_percent + BPL[codec])
    r = np.clip(93.2 - delay - loss, 0, 100)
    return np.asarray(np.clip(1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6, 1, 4.5))


def calls(draws: Draws, customer: np.ndarray, week: int, slot: np.ndarray) -> Columns:
    """Agent and line of each contact of a week, shape (n,), as if it were a call."""
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
        "one_way_audio": ~no_media & (draws.uniform("one way", *key) < np.where(wifi, 0.015, 0.004)),
        "mos": np.round(mos, 2),
    }
