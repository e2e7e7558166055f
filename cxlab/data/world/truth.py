"""The small truths of a world, as JSON: coefficients, policy, bias, drift, leaks, incidents, causes, plants."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cxlab.data.world.calls import CARRIERS, SITES, bad_calls
from cxlab.data.world.clock import REGIONS, SECOND
from cxlab.data.world.customers import TARIFFS, Scene
from cxlab.data.world.experience import BIAS, incidents
from cxlab.data.world.hazard import AFTER_DRIFT, AT_WORK, COEFFICIENTS, INTERCEPT, MEANING, POLICY
from cxlab.data.world.identity import GIANT
from cxlab.data.world.plants import PLANTS
from cxlab.data.world.tables import LEAKS

DRIFT = "fewer visits, more of them in the app; more contacts, chats for calls, more slow internet; other coefficients"


def moment(at: int) -> str:
    """Microseconds since 1970, as ISO 8601 in UTC."""
    return datetime.fromtimestamp(at / SECOND, UTC).isoformat()


def _bias(planted: bool, sums: dict[str, int]) -> dict[str, Any]:
    if not planted:
        return {"planted": False}
    many = max(1, sums["contacts"])
    measured = {
        "contacts": sums["contacts"],
        "resolved": round(sums["chance"] / many / 1e6, 6),
        "resolved_if_fair": round(sums["fair_chance"] / many / 1e6, 6),
        "mean_wait_seconds": round(sums["wait"] / many / 1e3, 3),
        "mean_wait_seconds_if_fair": round(sums["fair_wait"] / many / 1e3, 3),
    }
    return {"planted": True, **BIAS, "measured": measured}


def write_truth(folder: Path, scene: Scene, sums: dict[str, int], asked: dict[str, int]) -> None:
    """Writes every JSON file under `folder`; `asked` is what the world was made of."""
    drifts: dict[str, Any] = {"planted": "drift" in scene}
    if "drift" in scene:
        begins = moment(int(scene.clock.week_start(scene.drift)))
        drifts |= {"week": scene.drift, "begins_at": begins, "what": DRIFT, "coefficients": AFTER_DRIFT}
    touched = [
        {
            "incident": item.name,
            "intent": item.intent,
            "column": item.column,
            "value": (TARIFFS if item.column == "tariff" else list(REGIONS))[item.value],
            "begins_at": moment(item.start),
            "ends_at": moment(item.end),
            "share_touched": item.share,
            "contacts_a_week_more": item.rate,
        }
        for item in incidents(scene)
    ]
    rules = {
        "high_risk": "unresolved_60 >= 1, or price_rise_60, or less than half a year with us",
        "low_risk": "everybody else",
        "never": "no consent to marketing, minors, vulnerable customers, a holdout of one in ten",
    }
    files = {
        "coefficients": {"intercept": INTERCEPT, **COEFFICIENTS, "meaning": MEANING, "after_drift": drifts},
        "policy": {
            "every_weeks": AT_WORK,
            "actions": ["none", "call", "discount", "message"],
            "rules": {name: {"who": rules[name], "probabilities": chances} for name, chances in POLICY.items()},
            "at_work_weeks": AT_WORK,
        },
        "bias": _bias("bias" in scene, sums),
        "drift": drifts,
        "leaks": [{"column": c, "kind": k, "why": why} for c, k, why in LEAKS if "leak" in scene],
        "incidents": touched,
        "plants": {
            "made_of": asked,
            "planted": sorted(scene.plants),
            "meaning": {name: PLANTS[name] for name in PLANTS if name in scene or name != "bad_calls"},
            "shared_phone": GIANT if "broken_identities" in scene else None,
        },
    }
    if "bad_calls" in scene:  # else no file: worlds made before there was such a plant keep their bytes
        bad = bad_calls(scene.draws, scene.clock.weeks)
        files["causes"] = {
            "segments": {"carrier": CARRIERS[bad.carrier], "site": SITES[bad.site]},
            "begins_at": moment(int(scene.clock.week_start(bad.week))),
            "trouble": bad.trouble,
            "share_touched": bad.share,
        }
    for name, facts in files.items():
        text = json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
