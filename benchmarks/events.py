"""Events to 40 features: ours against pandas, at one cutoff and at twelve; time, memory, growth, equal results.

python benchmarks/run.py events              # small enough for a shared machine
python benchmarks/events.py 10_000_000       # this many events, 50 a customer
python benchmarks/events.py 1_000_000 10_000_000 30_000_000    # and how time grows with them

Plain pandas filters and groups anew at each of the twelve cutoffs; that takes long, so beyond a million events it is
asked for one cutoff alone, and beyond twelve million not at all.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent))
from common import ROOT, Found

from cxlab.params.features import Feature, Features, load_features

EVENTS = 500_000
PLAIN = {1: 12_000_000, 12: 1_000_000}  # the most events that plain pandas is asked for, by cutoffs
DAY = 86_400_000_000
MONTHS = [f"2024-{month:02d}-01" for month in range(7, 13)] + [f"2025-{month:02d}-01" for month in range(1, 7)]
NAMES = {
    "page_view": 40, "login": 15, "app_open": 12, "bill_issued": 6, "bill_paid": 5.5, "contact": 5, "order": 4,
    "call_answered": 4, "survey_answered": 2.5, "chat_started": 2, "incident_notified": 2, "complaint": 1,
    "consent_granted": 1,
}  # fmt: skip
INTENTS = ["billing", "technical", "cancel", "upgrade", "address", "payment", "outage", "other"]


def make(path: Path, n: int, customers: int) -> None:
    """Events of 18 months in the order of time, 1 in 20 received days late; properties as columns, as pandas likes."""
    rng = np.random.default_rng(0)
    occurred = np.sort(rng.integers(0, 540 * DAY, n)) + np.datetime64("2024-01-01", "us").astype(np.int64)
    late = np.where(rng.random(n) < 0.05, rng.exponential(2 * DAY, n), rng.exponential(6e7, n)).astype(np.int64)
    chance = np.array(list(NAMES.values()))
    event = rng.choice(len(NAMES), n, p=chance / chance.sum()).astype(np.int8)

    def only(values: Any, *names: str) -> pa.Array:
        return pa.array(values, mask=~np.isin(event, [list(NAMES).index(name) for name in names]))

    def texts(codes: Any, words: list[str]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(codes, words).cast(pa.string())

    def ids(letter: str, numbers: np.ndarray) -> pa.Array:
        padded = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 9, "0")
        return pc.binary_join_element_wise(pa.scalar(letter), padded, "")

    stamp = pa.timestamp("us", tz="UTC")
    columns = {
        "event_id": ids("e", np.arange(n)),
        "customer_id": ids("c", (rng.beta(1, 2, n) * customers).astype(np.int64)),
        "occurred_at": pa.array(occurred).cast(stamp),
        "received_at": pa.array(occurred + late).cast(stamp),
        "channel": texts(pa.array(rng.choice(4, n, p=[0.5, 0.3, 0.15, 0.05])), ["web", "app", "phone", "email"]),
        "event": texts(pa.array(event), list(NAMES)),
        "amount": only(rng.lognormal(3, 1, n).round(2), "order", "bill_issued", "bill_paid"),
        "handle_seconds": only(rng.lognormal(5.5, 0.7, n).round(1), "call_answered"),
        "hold_seconds": only(rng.exponential(40, n).round(1), "call_answered"),
        "csat": only(rng.integers(1, 6, n).astype(float), "survey_answered"),
        "intent": texts(only(rng.choice(len(INTENTS), n), "contact"), INTENTS),
        "resolved": texts(only(rng.integers(0, 2, n), "contact"), ["false", "true"]),
    }
    pq.write_table(pa.table(columns), path, row_group_size=250_000, compression="zstd")


class Tuned:
    """Pandas by hand: customers and names as codes, times as integers, one bincount a feature on its few rows."""

    def __init__(self, path: Path) -> None:
        columns = [name for name in pq.read_schema(path).names if name != "event_id"]
        texts = ["customer_id", "channel", "event", "intent", "resolved"]
        frame = pq.read_table(path, columns=columns, read_dictionary=texts).to_pandas()
        self.customers = frame["customer_id"].cat.categories
        order = np.argsort(np.argsort(self.customers))
        self.size = len(order)
        self.code = order[frame["customer_id"].cat.codes.to_numpy()]
        self.occ = frame["occurred_at"].astype("int64").to_numpy()
        self.seen = np.maximum(self.occ, frame["received_at"].astype("int64").to_numpy())
        self.frame = frame.drop(columns=["customer_id", "occurred_at", "received_at"])
        names = frame["event"].cat.categories
        self.of = {name: np.flatnonzero(frame["event"].cat.codes.to_numpy() == k) for k, name in enumerate(names)}

    def rows(self, f: Feature, at: int, *, base: bool = False, window: int | None = None) -> np.ndarray:
        many = [self.of[name] for name in f.event]
        rows = np.arange(len(self.occ)) if not many else many[0] if len(many) == 1 else np.sort(np.concatenate(many))
        days = window or f.window
        keep = self.seen[rows] < at
        if days != "all":
            keep &= self.occ[rows] >= at - int(days) * DAY
        rows = rows[keep]
        if not base:
            for name, values in (("channel", f.channel), *((k, (v,)) for k, v in f.where.items())):
                rows = rows[self.frame[name].iloc[rows].isin(values).to_numpy()] if values else rows
        return rows

    def count(self, rows: np.ndarray, weights: Any = None) -> np.ndarray:
        return np.bincount(self.code[rows], weights, self.size).astype(float)

    def feature(self, f: Feature, at: int, found: dict[str, np.ndarray]) -> np.ndarray:  # noqa: PLR0912
        if f.numerator is not None:
            return _over(found[f.numerator], found[str(f.denominator)])
        if f.windows:
            return _over(*(self.count(self.rows(f, at, window=window)) for window in f.windows))
        rows = self.rows(f, at)
        code, occ = self.code[rows], self.occ[rows]
        if f.property and f.kind not in ("distinct", "last"):
            value = self.frame[f.property].to_numpy()[rows]
        match f.kind:
            case "count":
                return self.count(rows)
            case "sum":
                return self.count(rows, value)
            case "mean":
                return _over(self.count(rows, value), self.count(rows))
            case "min" | "max":
                out = np.full(self.size, np.inf if f.kind == "min" else -np.inf)
                (np.minimum if f.kind == "min" else np.maximum).at(out, code, value)
                return np.where(np.isinf(out), np.nan, out)
            case "decayed":
                weight = np.exp2((occ - at) / (DAY * float(f.half_life or 1)))
                return self.count(rows, weight * value if f.property else weight)
            case "share":
                return _over(self.count(rows), self.count(self.rows(f, at, base=True)))
            case "trend":
                late = self.occ[rows] >= at - int(f.window) * DAY // 2
                return self.count(rows, np.where(late, 1.0, -1.0)) * 14 / int(f.window)
            case "recency":  # rows are in the order of time: what is written last stays
                out = np.full(self.size, np.nan)
                out[code] = (at - occ) / DAY
                return out
            case "last":
                column = self.frame[str(f.property)].iloc[rows]
                out = np.full(self.size, None if f.text else np.nan, object if f.text else float)
                out[code] = column.astype(object).to_numpy() if f.text else column.to_numpy()
                return out
            case "distinct":
                categories = self.frame[str(f.property)].cat
                values = categories.codes.to_numpy()[rows].astype(np.int64)
                pairs = np.unique((code * len(categories.categories) + values)[values >= 0])
                return np.bincount(pairs // len(categories.categories), minlength=self.size).astype(float)
        order = np.argsort(code, kind="stable")
        same = code[order][1:] == code[order][:-1]
        gaps = (np.diff(occ[order]) / DAY)[same]
        whose, n = code[order][1:][same], self.count(rows) - 1
        mean = _over(np.bincount(whose, gaps, self.size), np.maximum(n, 0))
        if f.kind == "interval_mean":
            return mean
        return np.sqrt(_over(np.bincount(whose, (gaps - mean[whose]) ** 2, self.size), np.maximum(n - 1, 0)))

    def at(self, features: Features, cutoff: str) -> pd.DataFrame:
        at = pd.Timestamp(cutoff, tz="UTC").value // 1000
        found: dict[str, np.ndarray] = {}
        for f in sorted(features.features, key=lambda f: f.numerator is not None):
            found[f.name] = self.feature(f, at, found)
        there = np.bincount(self.code[self.seen < at], minlength=self.size) > 0
        columns = {"customer_id": np.sort(self.customers), "cutoff": pd.Timestamp(cutoff, tz="UTC").as_unit("us")}
        return pd.DataFrame(columns | {f.name: found[f.name] for f in features.features})[there]


def _over(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(b == 0, np.nan, a / b)


class Plain:
    """Pandas as first written: one masked group-by a feature."""

    def __init__(self, path: Path) -> None:
        self.frame = pd.read_parquet(path, columns=[n for n in pq.read_schema(path).names if n != "event_id"])

    def at(self, features: Features, cutoff: str) -> pd.DataFrame:
        at = pd.Timestamp(cutoff, tz="UTC")
        frame = self.frame[(self.frame["occurred_at"] < at) & (self.frame["received_at"] < at)]
        out = pd.DataFrame(index=pd.Index(sorted(frame["customer_id"].unique()), name="customer_id"))
        for f in sorted(features.features, key=lambda f: f.numerator is not None):
            if f.numerator is not None:
                out[f.name] = out[f.numerator] / out[f.denominator].where(out[f.denominator] != 0)
                continue
            many = [self.one(frame, f, at, window) for window in f.windows or (f.window,)]
            filled = [item.reindex(out.index) for item in many]
            if f.kind in ("count", "sum", "distinct", "decayed", "trend", "ratio"):
                filled = [item.fillna(0) for item in filled]
            out[f.name] = filled[0] / filled[1].where(filled[1] != 0) if f.windows else filled[0]
        return out[[f.name for f in features.features]].reset_index().assign(cutoff=at.as_unit("us"))

    def one(self, frame: pd.DataFrame, f: Feature, at: pd.Timestamp, window: Any) -> pd.Series:
        mask = frame["event"].isin(f.event) if f.event else pd.Series(True, index=frame.index)
        if window != "all":
            mask &= frame["occurred_at"] >= at - pd.Timedelta(days=window)
        base = frame[mask]
        for name, values in (("channel", f.channel), *((k, (v,)) for k, v in f.where.items())):
            mask &= frame[name].isin(values) if values else True
        rows = frame[mask]
        group = rows.groupby("customer_id")
        ages = (at - rows["occurred_at"]) / pd.Timedelta(days=1)
        by = rows["customer_id"]
        gaps = -ages.groupby(by).diff() if f.kind.startswith("interval") else ages
        match f.kind:
            case "count" | "ratio":
                return group.size()
            case "sum" | "mean" | "min" | "max" | "last":
                return group[f.property].agg(f.kind)
            case "distinct":
                return group[f.property].nunique()
            case "recency":
                return ages.groupby(by).min()
            case "interval_mean" | "interval_std":
                return gaps.groupby(by).agg(f.kind.removeprefix("interval_"))
            case "decayed":
                return (np.exp2(-ages / f.half_life) * (rows[f.property] if f.property else 1)).groupby(by).sum()
            case "share":
                return (group.size() / base.groupby("customer_id").size()).fillna(0)
        return pd.Series(np.where(ages <= window / 2, 1.0, -1.0), rows.index).groupby(by).sum() * 14 / window


def contend(name: str, path: str, out: str, cutoffs: list[str]) -> None:
    """One contender in a process of its own: Parquet in, Parquet out; prints its seconds and peak memory."""
    features = load_features(ROOT / "params" / "features" / "service_company.yaml")
    started, used = time.perf_counter(), time.process_time()
    if name == "cxlab":
        from cxlab.features.events import compute

        compute(path, features, cutoffs).write(out)
    else:
        contender = (Tuned if name == "pandas, tuned" else Plain)(Path(path))
        writer = None
        for cutoff in cutoffs:
            columns = ["customer_id", "cutoff", *(f.name for f in features.features)]
            table = pa.Table.from_pandas(contender.at(features, cutoff)[columns], preserve_index=False)
            writer = writer or pq.ParquetWriter(out, table.schema)
            writer.write_table(table.cast(writer.schema))
        if writer:
            writer.close()
    peak = _peak()
    taken = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - used, "GB": peak}
    print(json.dumps(taken))


def _peak() -> float:
    """GB of memory at most, of this process alone where Linux tells it; else of the one that started it, if larger."""
    import resource

    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line[:6] == "VmHWM:") / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def largest_difference(left: Path, right: Path) -> float:
    """Of any value, relative to itself where it is above 1; NaN against a number is infinite."""
    tables = [pd.read_parquet(path).sort_values(["customer_id", "cutoff"], ignore_index=True) for path in (left, right)]
    worst = 0.0 if len(tables[0]) == len(tables[1]) else np.inf
    for name in tables[0].columns[2:] if not worst else ():
        a, b = tables[0][name], tables[1][name]
        if not pd.api.types.is_numeric_dtype(a):
            worst = max(worst, 0.0 if a.fillna("").equals(b.fillna("").astype(a.dtype)) else np.inf)
            continue
        x, y = a.to_numpy(float), b.to_numpy(float)
        both = ~np.isnan(x) & ~np.isnan(y)
        worst = max(worst, np.inf if (np.isnan(x) != np.isnan(y)).any() else 0.0)
        worst = max(worst, float((np.abs(x - y)[both] / np.maximum(1, np.abs(y[both]))).max(initial=0)))
    return worst


def _contests(folder: Path, sizes: list[int]) -> Iterator[dict[str, Any]]:
    for n in sizes:
        path = folder / f"{n}.parquet"
        make(path, n, n // 50)
        for cutoffs in (["2025-03-01"], MONTHS):
            for name in ("cxlab", "pandas, tuned", "pandas, plain"):
                if name == "pandas, plain" and n > PLAIN[len(cutoffs)]:
                    continue
                out = folder / f"{name}.parquet"
                call = [sys.executable, __file__, "--contend", name, str(path), str(out), *cutoffs]
                said = subprocess.run(call, check=True, capture_output=True, text=True).stdout
                worst = largest_difference(folder / "cxlab.parquet", out)
                yield {"events": n, "cutoffs": len(cutoffs), "by": name, "differs": worst, **json.loads(said)}
        path.unlink()


def measure(sizes: tuple[int, ...] = (EVENTS,)) -> Found:
    with TemporaryDirectory() as folder:
        frame = pd.DataFrame(list(_contests(Path(folder), list(sizes))))
    says = []
    for (n, cutoffs), part in frame.groupby(["events", "cutoffs"]):
        ours = part[part["by"] == "cxlab"].iloc[0]
        for _, other in part[part["by"] != "cxlab"].iterrows():
            faster, cheaper, smaller = (other[name] / ours[name] for name in ("seconds", "cpu", "GB"))
            says.append(
                f"{n:,} events, cutoffs {cutoffs}: {faster:.1f} times as fast as {other['by']} "
                f"({cheaper:.1f} by processor time), at {1 / smaller:.2f} of its memory."
            )
    if len(sizes) > 1:
        for (by, cutoffs), part in frame.groupby(["by", "cutoffs"]):
            power = np.polyfit(np.log(part["events"]), np.log(part["seconds"]), 1)[0] if len(part) > 1 else np.nan
            says.append(f"{by}, cutoffs {cutoffs}: seconds grow as n^{power:.2f}.")
    shown = frame.assign(
        events=frame["events"].map("{:,}".format),
        differs=frame["differs"].map("{:.0e}".format),
        **{name: frame[name].map("{:.2f}".format) for name in ("seconds", "cpu", "GB")},
    )
    return Found("40 features, Parquet in and out, each contender in a process of its own", shown, tuple(says))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contend"]:
        contend(sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
    else:
        found = measure(tuple(int(text) for text in sys.argv[1:]) or (EVENTS,))
        print(found.title, found.frame.to_string(index=False), *found.says, sep="\n")
