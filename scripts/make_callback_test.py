"""Writes data_samples/callback_test.csv, a simulated experiment, and the plan that was written before it.

    python scripts/make_callback_test.py [OUT.csv [PLAN.json]]

The same bytes come out every time, with the same version of numpy. The truth: a call back takes 7 points off the share
that comes back with the same problem and adds 0.15 to satisfaction, the same in every region; complaints do not change.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parent.parent
OUT, PLAN = ROOT / "data_samples" / "callback_test.csv", ROOT / "params" / "callback_test_plan.json"
START = datetime(2026, 1, 12, tzinfo=UTC)  # a Monday
EFFECT = {"recontacted": -0.07, "satisfaction": 0.15}


def customers(n: int, seed: int, prefix: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Customers with an unresolved contact, before anything is tried; and how likely each comes back with it."""
    rng = np.random.default_rng(seed)
    before = rng.poisson(rng.gamma(2.0, 0.8, n))
    frame = pd.DataFrame(
        {
            "customer_id": [f"{prefix}{number:05d}" for number in range(n)],
            "region": rng.choice(["north", "south", "west"], n, p=[0.5, 0.3, 0.2]),
            "tenure_months": np.ceil(rng.gamma(1.5, 24.0, n)).astype(int),
            "contacts_before": before,
        }
    )
    return frame, np.clip(0.16 + 0.09 * before, 0.0, 0.85)


def outcomes(frame: pd.DataFrame, risk: np.ndarray, called: np.ndarray, seed: int) -> pd.DataFrame:
    """What came of them within 28 days."""
    rng = np.random.default_rng(seed)
    n = len(frame)
    back = rng.random(n) < np.clip(risk + EFFECT["recontacted"] * called, 0.0, 1.0)
    felt = 3.6 - 0.8 * back + EFFECT["satisfaction"] * called + rng.normal(0, 0.9, n)
    return frame.assign(
        recontacted=back.astype(int),
        satisfaction=np.clip(np.rint(felt), 1, 5).astype(int),
        complained=(rng.random(n) < 0.04).astype(int),
    )


def make(out: Path, plan_file: Path) -> None:
    """The plan from a simulated past, then the experiment as long as planned."""
    os.environ["CXLAB_USER"] = "a simulated analyst"
    from cxlab.decide.assignment import assign
    from cxlab.decide.plans import plan
    from cxlab.params import load_params

    params = load_params(ROOT / "params" / "experiment.yaml")
    assert params.experiment is not None and params.experiment.salt is not None
    past, risk = customers(4000, 1, "p")
    written = plan(params, outcomes(past, risk, np.zeros(len(past)), 2), at=datetime(2026, 1, 5, 9, tzinfo=UTC))
    written.write(plan_file)
    frame, risk = customers(written.customers, 3, "c")
    arm = assign(frame["customer_id"], salt=params.experiment.salt, split=params.experiment.split)
    seconds = np.sort(np.random.default_rng(4).integers(0, (written.days or 0) * 86_400, len(frame)))
    when = pd.to_datetime(START) + pd.to_timedelta(seconds, unit="s")
    frame.insert(1, "arm", arm)
    frame.insert(2, "assigned_at", when.strftime("%Y-%m-%dT%H:%M:%SZ"))
    done = outcomes(frame, risk, arm == "callback", 5)
    out.write_bytes(done.to_csv(index=False, lineterminator="\n").encode())


if __name__ == "__main__":
    given = [Path(word) for word in sys.argv[1:]]
    make(*[*given, *[OUT, PLAN][len(given) :]])
