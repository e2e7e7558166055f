"""A small service desk, simulated: what happens next depends on the state, the team and how long it took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxlab.data.log import LogTable, read_log
from cxlab.params import DataParams, Params

NEXT = {"open": ("assigned", "waiting"), "assigned": ("waiting", "solved"), "waiting": ("assigned", "solved")}


def tickets(cases: int, seed: int = 0) -> pd.DataFrame:
    """Rows of cases, columns case, event, time, team, region, late; the slow team waits more and is late more often."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[Any, ...]] = []
    for case in range(cases):
        team, region = rng.choice(["fast", "slow"]), rng.choice(["north", "south"])
        when = pd.Timestamp("2024-01-01") + pd.Timedelta(hours=6 * case)
        event, told = "open", []
        while True:
            told.append((f"c{case:05d}", event, when, team, region))
            if event == "solved":
                break
            often = {"slow": 0.75, "fast": 0.25}[team] if event != "open" else 0.5
            event = str(rng.choice(NEXT[event], p=[often, 1 - often]))
            when += pd.Timedelta(hours=float(rng.exponential(20 if team == "slow" else 5)))
        late = (when - told[0][2]) > pd.Timedelta(hours=24)
        rows += [(*row, "yes" if late else "no") for row in told]
    return pd.DataFrame(rows, columns=["case", "event", "time", "team", "region", "late"])


def params_of(path: Path, **more: Any) -> Params:
    """The params of such a file, quick to train."""
    data = {"path": str(path), "case": "case", "event": "event", "time": "time", "attributes": ["team"]}
    data |= {"segments": ["region"]} | more.pop("data", {})
    told = {"task": "sequence", "name": "tickets", "data": data, "search": {"trials": 3}}
    told |= {"sequence": {"outcome": {"column": "late"}, "horizons_days": [1, 3]}}
    return Params.model_validate(told | more)


def written(folder: Path, cases: int = 300, seed: int = 0) -> Path:
    """A file of tickets."""
    path = folder / "tickets.csv"
    tickets(cases, seed).to_csv(path, index=False)
    return path


def table_of(path: Path, **roles: Any) -> LogTable:
    """A log read with the roles of its columns."""
    told: dict[str, Any] = {"path": str(path), "case": "case", "event": "event", "time": "time"}
    return read_log(DataParams(**told | roles))
