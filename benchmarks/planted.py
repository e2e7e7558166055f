"""Whether what is planted in simulated worlds is found, and nothing where nothing is: 20 seeds, every one reported.

Leaks: the columns of `truth/leaks.json` fail a check of the customers' table or are listed as suspects, and no honest
column is, in worlds with the plant and without.

Identity: pairs of events of one customer. Precision is the share of the pairs joined that truth joins, recall the share
of truth's pairs that are joined. A pair is knowable if a chain of keys ties the two events together in which every key
is as it was issued and is one customer's alone: those in `truth/identities` that are not marked as shared, and the
customer_id where an event carries it. What only a device shared in a household or the call centre's telephone ties to a
customer is not knowable, nor what only a telephone does that was never seen with anything else. Recall is given for all
pairs and for the knowable ones, and beside it the recall of an oracle that knows which keys are shared: no resolver of
exact keys can have more without joining different people.

Hazard: a logistic regression on the true inputs, its 95 % intervals against the true coefficients, and how far its AUC
is from that of the true hazard itself.

Events: which checks of events fail where one trouble is planted, and where none is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import joblib
import numpy as np
import pandas as pd
from common import Found
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cxlab.data.event_quality import EventQuality, check_events
from cxlab.data.events import Events, read_events
from cxlab.data.identity import KINDS, pseudonym, pseudonymise, resolve
from cxlab.data.quality import check
from cxlab.data.table import read_table
from cxlab.data.world import DEFAULT, World, simulate
from cxlab.params import DataParams
from cxlab.params.events import EventThresholds

SEEDS = range(100, 120)
SMALL, CUSTOMERS, LIVES = 1_000, 4_000, 3_000
KEY = b"a key of no value" * 2
TROUBLES = ("late_events", "duplicates", "clock_skew", "incidents")
STRICT = EventThresholds(late=0.01)  # a source that promises 99 % within a day
NORMAL_95 = 1.959964


def measure() -> Found:
    """A column a seed, and sentences that sum them up."""
    rows = joblib.Parallel(n_jobs=2)(joblib.delayed(_seed)(seed) for seed in SEEDS)
    frame = pd.DataFrame(rows, index=pd.Index(SEEDS))
    shown = frame.map(lambda value: f"{value:.4f}" if isinstance(value, float) else value).T
    return Found("Planted truths, a column a seed", shown.reset_index(names="what"), _says(frame))


def _seed(seed: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for n in (SMALL, CUSTOMERS):
        out |= {f"{name}, {n:,} customers": value for name, value in leaks(seed, n).items()}
    return out | identity(seed, SMALL) | hazard(seed, LIVES) | troubles(seed, SMALL)


def _says(frame: pd.DataFrame) -> tuple[str, ...]:
    n, names = len(frame), [str(name) for name in frame]
    ranges = {name: f"{frame[name].min():.4f} to {frame[name].max():.4f}" for name in frame.select_dtypes(float)}
    held, of = frame["intervals that hold"].sum(), frame["intervals"].sum()
    honest = frame[[name for name in names if name.startswith("honest suspects")]]
    said = []
    for size in (SMALL, CUSTOMERS):
        whole = frame[f"leaks missed, {size:,} customers"].eq("").sum()
        said.append(f"Leaks, {size:,} customers: all are caught or under suspicion in {whole} of {n} worlds.")
    said += [
        f"Worlds in which an honest column is under suspicion: {(honest != '').to_numpy().sum()} of {honest.size}.",
        f"Pairs: precision {ranges['precision']}, recall {ranges['recall']} (of the oracle "
        f"{ranges['recall of oracle']}), recall of knowable pairs {ranges['recall of knowable']}.",
        f"The planted telephone is flagged in {frame['telephone flagged'].sum()} of {n} worlds. Flagged as well: "
        f"{frame['own keys flagged'].sum()} keys of one customer alone; without the plant, "
        f"{frame['flags without'].sum()}.",
        f"{held} of {of} intervals hold their coefficient ({held / of:.1%}); AUC gap {ranges['AUC gap']}.",
    ]
    for name in names:
        if name.startswith("fails, "):
            told = (f"{codes or 'none'} in {count}" for codes, count in frame[name].value_counts().items())
            said.append(f"Checks that fail, {name.removeprefix('fails, ')}: {'; '.join(told)} of {n} worlds.")
    return tuple(said)


def _with_world(
    call: Callable[[World], Any], seed: int, n: int, plant: Sequence[str], without: Sequence[str] = ()
) -> Any:
    with TemporaryDirectory() as folder:
        return call(simulate(Path(folder) / "world", customers=n, seed=seed, plant=plant, without=without))


def leaks(seed: int, n: int) -> dict[str, str]:
    """Planted leaks that no check names, and honest columns that one does, as text."""
    with_plant, planted = _with_world(_named, seed, n, ["leak"])
    without, none = _with_world(_named, seed, n, [])
    assert planted and not none, "the plant is not there, or where it was not asked for"
    return {
        "leaks missed": " ".join(sorted(planted - with_plant)),
        "honest suspects with the plant": " ".join(sorted(with_plant - planted)),
        "honest suspects without": " ".join(sorted(without)),
    }


def _named(world: World) -> tuple[set[str], set[str]]:
    """Columns that a check fails or suspects, and those planted as leaks."""
    path = str(world.folder / "customers.parquet")
    roles = DataParams(
        path=path, id="customer_id", target="churned", segments=("region", "age_band"), drop=("joined_at",)
    )
    table = read_table(roles)
    found = set[str]()
    for item in check(table).checks:
        if item.status == "fail":
            found |= {name for name in table.features if repr(name) in item.reason}
        elif item.code == "leak_suspects" and item.status == "cannot_tell":
            listed = re.search(r"data\.drop: \[(.*?)\]", item.reason)
            assert listed, item.reason
            found |= set(listed[1].split(", "))
    return found, {item["column"] for item in world.truth("leaks")}


def identity(seed: int, n: int) -> dict[str, Any]:
    """Precision and recall of pairs of events, and what is flagged."""
    found = _with_world(_resolved, seed, n, ["broken_identities"])
    return found | {"flags without": _with_world(_flags, seed, n, [])}


def _flags(world: World) -> int:
    return len(resolve(pseudonymise(read_events(world.folder / "events.parquet").accepted, key=KEY)).flagged())


def _resolved(world: World) -> dict[str, Any]:
    frame = read_events(world.folder / "events.parquet").accepted
    owners = world.read("truth/event_owners").set_index("event_id")["customer_id"]
    true = frame["customer_id"].astype(object).where(frame["customer_id"].notna(), frame["event_id"].map(owners))
    who = resolve(pseudonymise(frame, key=KEY))
    keys = world.read("truth/identities")
    told, knowable, truth = who.customer_of.reindex(frame["event_id"]), ties(frame, true, keys), pd.factorize(true)[0]
    joined = pd.factorize(told)[0]
    joined = np.where(joined < 0, len(frame) + np.arange(len(frame)), joined)  # each of the unknown for itself
    flagged = who.flagged()
    own = {pseudonym(kind, key, KEY) for kind, key in keys.loc[~keys["shared"], ["kind", "key"]].to_numpy()}
    giant = pseudonym("phone", world.truth("plants")["shared_phone"], KEY)
    return {
        "precision": pairs(truth, joined) / pairs(joined),
        "recall": pairs(truth, joined) / pairs(truth),
        "recall of oracle": pairs(knowable) / pairs(truth),
        "recall of knowable": pairs(knowable, joined) / pairs(knowable),
        "telephone flagged": bool(((flagged["what"] == "shared") & (flagged["key"] == giant)).any()),
        "own keys flagged": int(flagged["key"].isin(own).sum()),
    }


def ties(frame: pd.DataFrame, true: pd.Series, keys: pd.DataFrame) -> np.ndarray:
    """Number of the part that each event belongs to, tied by keys that are one customer's alone, shape (n,)."""
    alone = keys[~keys["shared"]]
    owner = alone.drop_duplicates("key", keep=False).set_index("key")["customer_id"]
    events, places, size = [], [], len(frame)
    for kind in KINDS:
        whose = frame[kind] if kind == "customer_id" else frame[kind].map(owner)
        codes, values = pd.factorize(frame[kind].where(whose.astype(object) == true))
        events.append(np.flatnonzero(codes >= 0))
        places.append(size + codes[codes >= 0])
        size += len(values)
    rows, columns = np.concatenate(events), np.concatenate(places)
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(size, size))
    return connected_components(graph, directed=False)[1][: len(frame)]


def pairs(*labels: np.ndarray) -> float:
    """Pairs of rows that are alike in every label."""
    count = pd.DataFrame(dict(enumerate(labels))).value_counts().to_numpy(np.float64)
    return float((count * (count - 1) / 2).sum())


def hazard(seed: int, n: int) -> dict[str, Any]:
    """How many intervals hold their coefficient, and how far the model's AUC is from the true hazard's."""
    return _with_world(_fitted, seed, n, [])


def _fitted(world: World) -> dict[str, Any]:
    weeks, truth = world.read("truth/hazards"), world.truth("coefficients")
    names = [name for name in weeks if name in truth]
    x, y = weeks[names].to_numpy(np.float64), weeks["left"].to_numpy()
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=2_000).fit(x, y)
    p = model.predict_proba(x)[:, 1]
    whole = np.column_stack([np.ones(len(x)), x])
    error = np.sqrt(np.diag(np.linalg.inv((whole * (p * (1 - p))[:, None]).T @ whole)))
    off = np.append(model.intercept_, model.coef_) - [truth["intercept"], *(truth[name] for name in names)]
    return {
        "intervals that hold": int((np.abs(off) < NORMAL_95 * error).sum()),
        "intervals": len(off),
        "AUC gap": float(roc_auc_score(y, p) - roc_auc_score(y, weeks["hazard"])),
    }


def troubles(seed: int, n: int) -> dict[str, str]:
    """Codes of the checks that fail in a world with one trouble, and with none."""
    out = {}
    for trouble in (None, *TROUBLES):
        plant = [trouble] if trouble else []
        without = [name for name in DEFAULT if name in TROUBLES and name not in plant]
        events = _with_world(_read, seed, n, plant, without)
        out[f"fails, {trouble or 'nothing planted'}"] = _failed(check_events(events))
        if trouble in (None, "late_events"):
            strict = check_events(events, thresholds=STRICT)
            out[f"fails, {trouble or 'nothing planted'}, 1 % may be late"] = _failed(strict)
    return out


def _read(world: World) -> Events:
    last = world.read("events")["received_at"].max()
    return read_events(world.folder / "events.parquet", now=last + pd.Timedelta(hours=1))


def _failed(quality: EventQuality) -> str:
    """Codes that fail; of a break in volume, what makes it."""
    return " ".join(_code(item.code, item.reason) for item in quality.checks if item.status == "fail")


def _code(code: str, reason: str) -> str:
    made: Iterable[str] = re.findall(r"mostly (?:on )?(\w+)", reason) if code == "volume" else ()
    return f"{code} ({', '.join(sorted(set(made))) or 'unnamed'})" if code == "volume" else code
