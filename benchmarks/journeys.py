"""The journey map of ten million events by cxlab and by pandas; and how often comparisons report what is not there.

python benchmarks/run.py journeys
python benchmarks/journeys.py 1_000_000     # this many events, ten a case

Pandas makes what the map holds but for its intervals: transitions with counts, cases and three quantiles of the time,
states with visits, cases and who leaves. The worlds of the comparisons are simulated from seeds 0, 1, 2, ... fixed
beforehand, and every one counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent))
from common import Found
from events import _peak
from scipy import stats

EVENTS = 10_000_000
STATES = 20
WORLDS, PEOPLE = 400, 400
KINDS = ("cxlab", "cxlab, two groups compared", "pandas")


def make(path: Path, n: int) -> None:
    """Events of n / 10 cases, in the order of time, of twenty states that follow each other more or less."""
    rng = np.random.default_rng(0)
    case = rng.integers(0, n // 10, n)
    at = np.sort(rng.integers(0, 365 * 86_400_000_000, n)) + np.datetime64("2024-01-01", "us").astype(np.int64)
    state = ((at >> 36) + rng.geometric(0.3, n)) % STATES
    names = pa.array([f"touchpoint {k}" for k in range(STATES)])
    columns = {
        "case": pa.array(case).cast(pa.string()),
        "event": pa.DictionaryArray.from_arrays(pa.array(state.astype(np.int32)), names).cast(pa.string()),
        "time": pa.array(at).cast(pa.timestamp("us", tz="UTC")),
        "segment": pa.DictionaryArray.from_arrays(pa.array((case % 2).astype(np.int32)), ["a", "b"]).cast(pa.string()),
    }
    pq.write_table(pa.table(columns), path, row_group_size=250_000)


def by_pandas(path: str) -> pd.DataFrame:
    """The transitions of a log: sort, group, shift."""
    frame = pd.read_parquet(path, columns=["case", "event", "time"]).sort_values(["case", "time"], kind="stable")
    case = frame.groupby("case", sort=False)
    frame["target"] = case["event"].shift(-1).fillna("(end)")
    frame["seconds"] = (case["time"].shift(-1) - frame["time"]).dt.total_seconds()
    pairs = frame.groupby(["event", "target"])
    made = pairs.agg(n=("case", "size"), cases=("case", "nunique"))
    made[["seconds_p10", "seconds_median", "seconds_p90"]] = pairs["seconds"].quantile([0.1, 0.5, 0.9]).unstack()
    states = frame.groupby("event").agg(of=("case", "size"), visitors=("case", "nunique"))
    made = made.reset_index().merge(states, on="event")
    starts = frame[~frame["case"].duplicated()]["event"].value_counts()
    first = pd.DataFrame({"event": "(start)", "target": starts.index, "n": starts.to_numpy()})
    made = pd.concat([made, first.assign(cases=first["n"], of=first["n"].sum())])
    return made.assign(share=made["n"] / made["of"]).rename(columns={"event": "source"})


def contend(kind: str, path: str, out: str) -> None:
    """One contender in a process of its own; prints its seconds and peak memory."""
    started, used = time.perf_counter(), time.process_time()
    if kind == "pandas":
        found = by_pandas(path)
    elif kind == "cxlab":
        from cxlab.journey.map import journey_map

        found = journey_map(path).frame()
    else:
        from cxlab.journey.compare import compare_journeys

        found = compare_journeys(path, by="segment").frame()
    taken = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - used, "GB": _peak()}
    found.to_parquet(out)
    print(json.dumps(taken))


def _apart(left: Path, right: Path) -> float:
    """The largest difference of counts and shares, and of times relative to themselves."""
    key = ["source", "target"]
    a, b = (pd.read_parquet(path).sort_values(key, ignore_index=True) for path in (left, right))
    if not a[key].equals(b[key]):
        return np.inf
    gaps = [(a[name] - b[name]).abs().max() for name in ("n", "cases", "of", "share")]
    for name in ("seconds_p10", "seconds_median", "seconds_p90"):
        gaps.append(((a[name] - b[name]).abs() / b[name].clip(lower=1)).max())
    return float(max(gaps))


def world(seed: int, people: int, *, share: float, total: float, planted: float) -> pd.DataFrame:
    """Cases of two groups whose own probabilities are drawn around one matrix (Dirichlet, of this total).

    Busy cases come back for long. `planted` of state 0's visits go elsewhere in group b, of a share of the cases.
    """
    rng = np.random.default_rng(seed)
    states = 6
    base = rng.dirichlet(np.full(states + 1, 1.0), states)
    base[:, states] = 0.2
    base /= base.sum(axis=1, keepdims=True)
    group = rng.random(people) < share
    order = np.argsort(base[0, :states])
    moved = min(planted, base[0, order[-1]])
    every = np.repeat(base[None], people, axis=0)
    every[group, 0, order[-1]] -= moved
    every[group, 0, order[0]] += moved
    own = rng.standard_gamma(np.maximum(total * every, 1e-3)) + 1e-9
    own[:, :, states] *= np.exp(rng.normal(0, 1, people))[:, None]
    chance = np.cumsum(own / own.sum(axis=2, keepdims=True), axis=2)
    who, at, rows = np.arange(people), np.zeros(people, int), []
    for step in range(80):
        rows.append(pd.DataFrame({"case": seed * people + who, "event": at, "step": step, "b": group[who]}))
        at = (rng.random(len(who))[:, None] > chance[who, at]).sum(axis=1)
        who, at = who[at < states], at[at < states]
    return pd.concat(rows).assign(world=seed)


def alarms(*, share: float, total: float, planted: float = 0.0) -> dict[str, float]:
    """Of the worlds, the share with any difference reported: by cxlab, and where visits are taken for independent."""
    from cxlab.journey.compare import CASES, differences, sums
    from cxlab.journey.events import START, steps

    frame = pd.concat([world(seed, PEOPLE, share=share, total=total, planted=planted) for seed in range(WORLDS)])
    frame["group"] = np.where(frame.pop("b"), "b", "a")
    when = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(frame["step"], unit="h")
    log = frame.assign(event=frame["event"].astype(str), time=when)
    found = steps(log, keep=["world", "group"])
    given, every = (sums(found, found.table, by=("world", "group"), visits=visits) for visits in (3, 1_000))
    tested = [differences(part)[0] for _, part in given.groupby("world")]
    naive = []
    for _, part in every[every["event"] != START].groupby("world"):
        a, b = (part[part["group"] == name].set_index(["event", "next_event"]) for name in "ab")
        a, b = a.align(b, join="inner", axis=0)
        q = (a["n"] + b["n"]) / (a["visits"] + b["visits"])
        error = np.sqrt(q * (1 - q) * (1 / a["visits"] + 1 / b["visits"]))
        p = 2 * stats.norm.sf((a["n"] / a["visits"] - b["n"] / b["visits"]).abs() / error)
        naive.append(stats.false_discovery_control(p[a["n"] + b["n"] >= 2 * CASES], method="by").min() < 0.05)
    p = pd.concat(tested)["p"].dropna()
    differs = [t[t["verdict"] == "differs"] for t in tested]
    return {
        "compared": len(p) / WORLDS,
        "p below 5 %": float((p < 0.05).mean()),
        "any": float(np.mean([len(t) > 0 for t in differs])),
        "elsewhere": float(np.mean([(t["source"] != "0").any() for t in differs])),
        "naive": float(np.mean(naive)),
    }


def _contests(n: int) -> list[dict[str, Any]]:
    rows = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        make(path, n)
        for kind in KINDS:
            call = [sys.executable, __file__, "--contend", kind, str(path), f"{folder}/{kind}.parquet"]
            said = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
            rows.append({"what": f"{n:,} events, {kind}", **{name: f"{x:.1f}" for name, x in said.items()}})
            rows[-1]["raw"] = said["seconds"]
        rows[0]["differs"] = f"{_apart(Path(folder) / 'cxlab.parquet', Path(folder) / 'pandas.parquet'):.0e}"
    return rows


def measure(n: int = EVENTS) -> Found:
    """Seconds and memory of the map, of a comparison and of pandas; rates of alarms."""
    rows = _contests(n)
    says = [
        f"The map took {rows[0]['raw'] / rows[2]['raw']:.2f} of pandas' time; figures differ by {rows[0]['differs']}.",
        f"Rates of {WORLDS} worlds of {PEOPLE} cases: where nothing differs at most 5 % may report anything, "
        f"{0.05 + 2 * np.sqrt(0.05 * 0.95 / WORLDS):.1%} with two binomial standard errors.",
    ]
    kinds = {
        "half and half, cases differ much": {"share": 0.5, "total": 2.0},
        "a group of 20 %, cases differ much": {"share": 0.2, "total": 2.0},
        "a group of 20 %, cases differ very much": {"share": 0.2, "total": 0.5},
        "half and half, 0.3 planted in one state": {"share": 0.5, "total": 2.0, "planted": 0.3},
    }
    for name, options in kinds.items():
        found = alarms(**options)
        rates = {
            "any": f"{found['any']:.1%}",
            "elsewhere": f"{found['elsewhere']:.1%}",
            "naive": f"{found['naive']:.1%}",
        }
        single = f"{found['compared']:.1f} ({found['p below 5 %']:.1%})"
        rows.append({"what": name, "compared (p < 5 %)": single, **rates})
    frame = pd.DataFrame(rows).drop(columns=["raw", "differs"]).fillna("")
    return Found("Journeys: the map of many events, and false alarms of comparisons", frame, tuple(says))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contend"]:
        contend(sys.argv[2], sys.argv[3], sys.argv[4])
    else:
        found = measure(int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS)
        print(found.title, found.frame.to_string(index=False), *found.says, sep="\n")
