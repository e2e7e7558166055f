"""Experiments of known truth, read out: how often something is told that is not there, and how often the truth is held.

python benchmarks/run.py experiments

The experiments are simulated from seeds 0, 1, 2, ... fixed beforehand, and every one counts. Each goes through the
whole readout, as a person's would: shares of 10 %, a skewed spend, a covariate, two segments.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))
from common import Found

EXPERIMENTS, CUSTOMERS = 200, 4000
TOLD = ("better", "worse")


def people(seed: int, *, effect: float = 0.0, lost: float = 0.0) -> pd.DataFrame:
    """Customers of two arms; `lost` of those who got the mail and did not visit are missing."""
    rng = np.random.default_rng(seed)
    n = CUSTOMERS
    mail, before = rng.random(n) < 0.5, rng.normal(size=n)
    visit = rng.random(n) < np.clip(0.1 + 0.03 * np.clip(before, -2, 2) + effect * mail, 0, 1)
    spend = np.where(visit, rng.lognormal(2, 1, n), 0.0) + np.clip(before, 0, None)
    frame = pd.DataFrame({"arm": np.where(mail, "mail", "none"), "visit": visit * 1, "spend": spend, "before": before})
    frame["region"] = rng.choice(["north", "south"], n)
    return frame[~(mail & ~visit & (rng.random(n) < lost))].reset_index(drop=True)


def asked(**keys: Any) -> Any:
    """Params as a person would write them."""
    from cxlab.params import Params

    told = {"id": None, "control": "none", "primary": "visit", "metrics": ["visit", "spend"], "covariates": ["before"]}
    data = {"path": "x.csv", "segments": ["region"]}
    return Params.model_validate({"name": "a", "data": data, "experiment": {**told, **keys}})


def _cell(name: str, hits: int, limit: float, *, at_least: bool = False) -> dict[str, str]:
    rate, luck = hits / EXPERIMENTS, 2 * math.sqrt(limit * (1 - limit) / EXPERIMENTS)
    good = rate >= limit - luck if at_least else rate <= limit + luck
    sign = ">=" if at_least else "<="
    return {
        "what": name,
        "rate": f"{rate:.2%}",
        "nominal": f"{sign} {limit:.1%}",
        "within 2 SE": "yes" if good else "NO",
    }


def measure() -> Found:
    """False alarms, coverage, power and mismatches over simulated experiments."""
    from scipy import stats

    from cxlab.decide.readout import readout

    hits = dict.fromkeys(
        ["looked primary", "looked any", "peeked", "end primary", "end secondary", "apart", "srm", "odd"], 0
    )
    hits |= dict.fromkeys(["held looked", "held end", "caught", "seen looked", "seen end"], 0)
    often, once = asked(customers=CUSTOMERS), asked(customers=CUSTOMERS, looks=1)
    for seed in range(EXPERIMENTS):
        null, planted = people(seed), people(seed, effect=0.04)
        told, naive, held = [], False, True
        for k in range(1, 11):
            n = CUSTOMERS * k // 10
            rows = readout(often, null[:n]).frame()
            told.append(rows[rows["verdict"].isin(TOLD)])
            arms = [null[:n].loc[null["arm"][:n] == arm, "visit"] for arm in ("mail", "none")]
            naive |= bool(stats.ttest_ind(*arms, equal_var=False).pvalue < 0.05)
            item = readout(often, planted[:n]).frame().iloc[1]
            held &= bool(item["low"] <= 0.04 <= item["high"])
        last = readout(once, null)
        rows, end = last.frame(), readout(once, planted).frame().iloc[1]
        hits["looked primary"] += any((rows_["name"] == "visit").any() for rows_ in told)
        hits["looked any"] += any(len(rows_) > 0 for rows_ in told)
        hits["peeked"] += naive
        hits["held looked"] += held
        hits["seen looked"] += item["verdict"] == "better"
        hits["end primary"] += rows["verdict"].iloc[1] in TOLD
        hits["end secondary"] += rows["verdict"].iloc[3] in TOLD
        hits["apart"] += (last.segments["apart_verdict"] == "differs").any()
        hits["held end"] += end["low"] <= 0.04 <= end["high"]
        hits["seen end"] += end["verdict"] == "better"
        hits["srm"] += last.srm.verdict == "fail"
        hits["odd"] += last.alike.random is False
        hits["caught"] += readout(once, people(seed, lost=0.15)).srm.verdict == "fail"
    rows_out = [
        _cell("nothing there, ten looks: primary metric told at any", hits["looked primary"], 0.05),
        _cell("nothing there, ten looks: any metric told at any", hits["looked any"], 0.05),
        _cell("nothing there, one look: primary metric told", hits["end primary"], 0.05),
        _cell("nothing there, one look: other metric told", hits["end secondary"], 0.05),
        _cell("nothing there, one look: a segment told apart", hits["apart"], 0.05),
        _cell("4 points there: intervals of all ten looks hold it", hits["held looked"], 0.95, at_least=True),
        _cell("4 points there: the interval of one look holds it", hits["held end"], 0.95, at_least=True),
        _cell("split as planned: mismatch told", hits["srm"], 0.001),
        _cell("assigned at random: called not random", hits["odd"], 0.002),
    ]
    says = [
        f"{EXPERIMENTS} experiments of {CUSTOMERS:,} customers each. Ten looks at a test of one look would tell the "
        f"primary metric in {hits['peeked'] / EXPERIMENTS:.1%} where nothing is there.",
        f"Of 4 points, one look at the end sees {hits['seen end'] / EXPERIMENTS:.0%}, the last of ten looks "
        f"{hits['seen looked'] / EXPERIMENTS:.0%}: the price of looking.",
        f"Where 15 % of the mailed who did not visit were lost, a mismatch was told in "
        f"{hits['caught'] / EXPERIMENTS:.1%}.",
    ]
    return Found("Experiments: false alarms, coverage and mismatches", pd.DataFrame(rows_out), tuple(says))


if __name__ == "__main__":
    found = measure()
    print(found.title, found.frame.to_string(index=False), *found.says, sep="\n")
