"""A million calls scored by cxlab and row by row in Python; causes found where planted, and none where none is.

python benchmarks/run.py risk
python benchmarks/risk.py 40     # this many seeds

Worlds are simulated from the seeds 0, 1, 2, ... fixed beforehand, and every one counts. A planted world has the causes
that every simulated world has (a carrier that loses more, Wi-Fi at home, Mondays) and one planted cause: a carrier at a
site. A world without causes is a simulated one whose measurements are dealt anew to its calls, so that no segment has
anything to do with them; where agents are alike, each agent has an own rate of one-way audio besides, so that some team
or site is always the worst, by luck.
"""

from __future__ import annotations

import sys
import time
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))
from common import Found

from cxlab.data.world.calls import CARRIERS, CODECS, SITE, SITES, TEAM, BadCalls, bad_calls
from cxlab.data.world.clock import Clock
from cxlab.data.world.customers import Scene, people
from cxlab.data.world.draws import Draws
from cxlab.data.world.experience import VOICE, contacts
from cxlab.decide.risk import assess, risk_params, risk_scores
from cxlab.decide.risk_compare import compare_risks
from cxlab.decide.risk_rules import RISKS
from cxlab.decide.root_causes import root_causes
from cxlab.params.risk import RiskParams

CALLS, SEEDS, CUSTOMERS, WEEKS = 1_000_000, 300, 2_500, 78
MEASURED = ["queue_seconds", "handle_seconds", "hold_seconds", "mos", "cpu", "one_way_audio", "no_media"]
AGENTS_ALIKE = 2.0  # beta(2, 38): a rate of one-way audio of 5 %, from about 1 % to 12 % by agent


def calls_of(seed: int, customers: int = CUSTOMERS, *, planted: bool = True) -> tuple[pd.DataFrame, BadCalls]:
    """The calls of a world, as its calls.parquet has them but for identifiers, and what is planted."""
    draws, clock = Draws(seed), Clock(WEEKS)
    who = people(draws, np.arange(customers), WEEKS, withdrawals=True)
    plants = {"incidents", "bad_calls"} if planted else {"incidents"}
    seen = contacts(Scene(draws, who, clock, plants, WEEKS + 1))
    seen = {name: values[seen["channel"] == VOICE] for name, values in seen.items()}

    def named(codes: np.ndarray, names: Any) -> pd.Categorical:
        return pd.Categorical.from_codes(codes.astype(np.int64), list(names))

    teams = [f"team_{k:02d}" for k in range(1 + int(seen["agent"].max()) // TEAM)]
    frame = pd.DataFrame(
        {
            "started_at": pd.to_datetime(seen["begun"], unit="us", utc=True),
            "queue_seconds": seen["queue"],
            "handle_seconds": seen["handle"],
            "hold_seconds": seen["hold"],
            **{name: seen[name] for name in ("mos", "cpu", "one_way_audio", "no_media", "agent")},
            "network": named(seen["wifi"], ["lan", "wifi"]),
            "codec": named(seen["codec"], CODECS),
            "team": named(seen["agent"] // TEAM, teams),
            "site": named(seen["agent"] // SITE, SITES),
            "carrier": named(seen["carrier"], CARRIERS),
        }
    )
    return frame, bad_calls(draws, WEEKS)


def without_causes(frame: pd.DataFrame, seed: int, *, alike: bool = False) -> pd.DataFrame:
    """The calls with their measurements dealt anew; with `alike`, an own rate of one-way audio for each agent."""
    rng = np.random.default_rng(seed)
    dealt = frame[MEASURED].iloc[rng.permutation(len(frame))].reset_index(drop=True)
    made = frame.assign(**{name: dealt[name] for name in MEASURED})
    if alike:
        own = rng.beta(AGENTS_ALIKE, 19 * AGENTS_ALIKE, int(frame["agent"].max()) + 1)
        made["one_way_audio"] = rng.random(len(frame)) < own[frame["agent"]]
    return made


def place_of(seed: int, params: RiskParams) -> int:
    """At which place the planted cause stands among those of technology, 0 for none."""
    frame, bad = calls_of(seed)
    found = root_causes(assess(frame, params)).frame()
    mine = found[(found["area"] == "technology") & (found["cause"] == cause_of(bad))]
    return int(mine["place"].iloc[0]) if len(mine) else 0


def cause_of(bad: BadCalls) -> str:
    """What the planted cause is called."""
    return f"site={SITES[bad.site]} & carrier={CARRIERS[bad.carrier]}"


def alarms(seed: int, params: RiskParams) -> dict[str, bool]:
    """What is told where there is nothing to tell."""
    frame, _ = calls_of(seed, planted=False)
    still, alike = without_causes(frame, seed), without_causes(frame, seed, alike=True)
    independent = params.model_copy(update={"cluster": None})
    plain, own, naive = assess(still, params), assess(alike, params), assess(alike, independent)
    sites, times = {"by": "site", "a": "harbour", "b": "hill"}, {"by": "time", "at": "2024-10-01"}

    def differs(calls: Any, options: dict[str, Any]) -> bool:
        return bool((compare_risks(calls, **options).frame()["verdict"] != "cannot tell").any())

    return {
        "a cause": len(root_causes(plain).frame()) > 0,
        "a cause, agents alike": len(root_causes(own).frame()) > 0,
        "a cause, agents alike and taken for independent": len(root_causes(naive).frame()) > 0,
        "two sites differ": differs(plain, sites),
        "two sites differ, agents alike": differs(own, sites),
        "two sites differ, agents alike and taken for independent": differs(naive, sites),
        "two periods differ": differs(plain, times),
    }


def many(n: int) -> pd.DataFrame:
    """Calls as a million of them may be, each measurement missing in one of a hundred."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "queue_seconds": rng.exponential(120, n).round(),
            "handle_seconds": np.exp(rng.normal(5.6, 0.8, n)).round(),
            "hold_seconds": rng.exponential(40, n).round(),
            "mos": np.clip(rng.normal(4.2, 0.4, n), 1, 4.5).round(2),
            "cpu": np.clip(rng.normal(45, 18, n), 1, 100).round(1),
        }
    )
    frame = frame.mask(rng.random(frame.shape) < 0.01)
    frame["no_media"], frame["one_way_audio"] = rng.random(n) < 0.003, rng.random(n) < 0.01
    frame["network"] = pd.Categorical.from_codes(rng.integers(0, 2, n), ["lan", "wifi"])
    for name, k in (("site", 3), ("team", 12), ("carrier", 3), ("agent", 120)):
        frame[name] = pd.Categorical.from_codes(rng.integers(0, k, n), [f"{name}_{j}" for j in range(k)])
    return frame


def by_row(frame: pd.DataFrame, params: RiskParams) -> list[tuple[str, str]]:
    """Risk and rule of technology and operations, one call after the other, as somebody would write it down."""
    compare = {
        "<": lambda x, y: x < y,
        "<=": lambda x, y: x <= y,
        ">": lambda x, y: x > y,
        ">=": lambda x, y: x >= y,
        "is": lambda x, y: x == y or (isinstance(y, tuple) and x in y),
    }
    names = list(frame.columns)
    rules = {
        (area, risk): [
            (rule.code, [(item.measure, compare[item.op], item.value) for item in rule.when])
            for rule in params.rules
            if (rule.area, rule.risk) == (area, risk)
            and all(item.measure in names or item.measure.startswith("hold_or") for item in rule.when)
        ]
        for area in ("technology", "operations")
        for risk in ("high", "medium")
    }
    found = []
    for values in frame.itertuples(index=False, name=None):
        row = {
            name: None if isinstance(value, float) and isnan(value) else value
            for name, value in zip(names, values, strict=True)
        }
        handle, hold = row["handle_seconds"], row["hold_seconds"]
        row["hold_or_mute_seconds"] = hold
        row["hold_or_mute_share"] = hold / handle if hold is not None and handle else None
        gone = {"mos"} if row["no_media"] else set()
        if handle == 0:
            gone |= {"handle_seconds", "hold_or_mute_seconds", "hold_or_mute_share"}

        def ask(which: list[Any], row: dict[str, Any] = row, gone: set[str] = gone) -> tuple[str, bool]:
            untold = False
            for code, conditions in which:
                parts = [
                    False if name in gone else None if row[name] is None else holds(row[name], value)
                    for name, holds, value in conditions
                ]
                if all(parts):
                    return code, untold
                untold = untold or (None in parts and False not in parts)
            return "", untold

        for area in ("technology", "operations"):
            code, untold = ask(rules[area, "high"])
            if code or untold:
                found.append(("high", code) if code else ("not measured", ""))
                continue
            code, untold = ask(rules[area, "medium"])
            found.append(("medium", code) if code else ("not high" if untold else "low", ""))
    return found


def _contest(params: RiskParams) -> tuple[list[dict[str, str]], str]:
    frame = many(CALLS)
    took = []
    started = time.perf_counter()
    calls = assess(frame, params)
    took.append(time.perf_counter() - started)
    risk_scores(calls)
    took.append(time.perf_counter() - started)
    root_causes(calls)
    took.append(time.perf_counter() - started - took[1])
    started = time.perf_counter()
    rows = by_row(frame, params)
    took.append(time.perf_counter() - started)
    codes = [*(rule.code for rule in params.rules), ""]
    same = all(
        rows[place::2] == [(RISKS[r], codes[k]) for r, k in zip(calls.risk[area], calls.rule[area], strict=True)]
        for place, area in enumerate(("technology", "operations"))
    )
    kinds = ("rules", "rules and scores", "root causes", "rules, row by row in Python")
    shown = [
        {"what": f"{CALLS:,} calls: {kind}", "measured": f"{x:.1f} s"} for kind, x in zip(kinds, took, strict=True)
    ]
    return shown, (
        f"Row by row takes {took[3] / took[0]:.0f} times as long; risks and rules are "
        f"{'the same for every call' if same else 'NOT the same'}."
    )


def measure(seeds: int = SEEDS) -> Found:
    """Seconds for many calls, and rates over the seeds."""
    params = risk_params()
    rows, said = _contest(params)
    places = np.array([place_of(seed, params) for seed in range(seeds)])
    told = pd.DataFrame([alarms(seed, params) for seed in range(seeds)])
    hits = {
        "the planted cause is the first": int((places == 1).sum()),
        "the planted cause is among the first three": int(((places > 0) & (places <= 3)).sum()),
        "the planted cause is told at all": int((places > 0).sum()),
    }
    hits |= {f"nothing there, told: {name}": int(told[name].sum()) for name in told}
    rows += [{"what": name, "measured": f"{hit} of {seeds}: {hit / seeds:.1%}"} for name, hit in hits.items()]
    limits = [share + sign * 2 * np.sqrt(share * (1 - share) / seeds) for share, sign in ((0.9, -1), (0.05, 1))]
    says = (
        said,
        f"With two binomial standard errors of {seeds} worlds, 90 % is {limits[0]:.1%} or more, 5 % is {limits[1]:.1%} "
        "or less.",
    )
    return Found("Risk scores: a million calls, and causes that are planted or not", pd.DataFrame(rows), says)


if __name__ == "__main__":
    found = measure(int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS)
    print(found.title, found.frame.to_string(index=False), *found.says, sep="\n")
