"""Writes data_samples/decisions.parquet: actions that a simulated company gave by lot, and who stayed.

    python scripts/make_decisions.py [OUT.parquet]

The same bytes come out every time, with the same versions of numpy, duckdb and pyarrow. A world of 12,000 customers is
simulated into a folder of its own, its events are turned into what was known at each decision, and the truth is left
behind: `cxlab simulate --out world --customers 12000 --seed 8` has it under world/truth/uplift.parquet.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pandas as pd

from cxlab.data.world import World, simulate
from cxlab.features.events import compute
from cxlab.params.features import Features

OUT = Path(__file__).parent.parent / "data_samples" / "decisions.parquet"
CUSTOMERS, SEED, DAYS = 12_000, 8, 91
KNOWN = Features.model_validate(
    {
        "features": [
            {"kind": "count", "event": "contact", "window": 60, "name": "contacts_60"},
            {"kind": "count", "event": "contact", "where": {"resolved": False}, "window": 60, "name": "unresolved_60"},
            {"kind": "max", "event": "call_answered", "property": "queue_seconds", "window": 60, "name": "queue_60"},
            {"kind": "count", "event": "complaint", "window": 60, "name": "complaints_60"},
            {"kind": "count", "event": ["login", "app_open", "page_view"], "window": 90, "name": "visits_90"},
            {"kind": "last", "event": "bill_issued", "property": "amount", "name": "last_bill"},
            {"kind": "mean", "event": "bill_issued", "property": "amount", "window": 365, "name": "mean_bill"},
        ]
    }
)
ABOUT = [
    "tariff",
    "age_band",
    "language_style",
    "preferred_channel",
    "app_user",
    "household",
    "fee",
    "minor",
    "vulnerable",
]


def decisions(world: World) -> pd.DataFrame:
    """A row a decision whose outcome is known: what was known of the customer, what was done, and who stayed."""
    events, customers = world.read("events"), world.read("customers")
    given = world.read("actions").sort_values(["decided_at", "customer_id"], ignore_index=True)
    pairs = given[["customer_id", "decided_at"]].rename(columns={"decided_at": "cutoff"})
    known = compute(events, KNOWN, pairs).frame()
    made = given.merge(known, left_on=["customer_id", "decided_at"], right_on=["customer_id", "cutoff"], how="left")
    made = made.drop(columns=["cutoff", "rule"]).merge(
        customers[["customer_id", "joined_at", *ABOUT]], on="customer_id", how="left"
    )
    made["tenure_years"] = ((made["decided_at"] - made.pop("joined_at")).dt.days / 365.25).clip(upper=10).round(2)
    closed = events[events["event"] == "account_closed"].groupby("customer_id")["occurred_at"].min()
    left_after = (made["customer_id"].map(closed) - made["decided_at"]).dt.total_seconds() / 86_400
    made["stayed"] = ~(left_after <= DAYS)
    # The company acts on nobody without this consent, nor on minors or the vulnerable: they have no other chance.
    made["marketing"] = made["p_none"] < 1
    whole = made["decided_at"] + pd.Timedelta(days=DAYS) <= events["occurred_at"].max()
    return made[whole & ~(left_after <= 0)].reset_index(drop=True)


def main(out: Path) -> None:
    """Simulates, and writes the table."""
    with tempfile.TemporaryDirectory() as folder:
        made = decisions(simulate(Path(folder) / "world", customers=CUSTOMERS, seed=SEED))
    made.to_parquet(out, index=False, compression="zstd")
    print(f"{out}: {len(made):,} decisions of {made['customer_id'].nunique():,} customers")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
