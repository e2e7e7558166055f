"""Events into point-in-time features: many customers, many cutoffs, one pass, no look ahead.

    features = load_features("params/features/service_company.yaml")
    found = compute("events.parquet", features, ["2025-01-01", "2025-02-01"], label=features.label)
    found.frame()                 # customer_id, cutoff, features, label
    found.write("features.parquet")

An event counts at a cutoff if it occurred and was received before it; windows reach back from the cutoff over when it
occurred. So each event is seen by a run of cutoffs [lo, hi), found by comparing with constants. The plan:

- one query a kind of grouping, not a cutoff: windows that belong to one cutoff each, and `all`, share a grouping by
  customer and lo; a window that several cutoffs share is grouped by customer, lo and hi. No event is repeated.
- the cells are summed up over the cutoffs in blocks no longer than the window (van Herk 1992; Gil and Werman 1993):
  running aggregates forwards from where cells are first seen, and backwards from where they are last seen, give every
  cutoff. Nothing is subtracted, so large values leave no residue. These are NumPy arrays of customers x cutoffs, made
  for as many customers at a time as fit.

DuckDB by default; the same expressions on PySpark, but for the names of two functions (`SPELLINGS`).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from cxlab.digest import canonical, sha256, sha256_of
from cxlab.display import Result, axes, row_height
from cxlab.errors import DataError, ParamsError, missing_column
from cxlab.params.features import ALL, Feature, Features, Label, describe, load_features

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from matplotlib.axes import Axes

__all__ = ["Computed", "Features", "Label", "compute", "describe", "load_features"]

DAY = 86_400_000_000  # microseconds
MOST_CUTOFFS = 1_000  # different ones that are compared with as constants; beyond, events are joined with pairs
VALUES = 24_000_000  # of features in memory at once; beyond, DuckDB takes ranges of customers in turn
SPELLINGS = {"duckdb": ("epoch_us", "json_extract_string"), "pyspark": ("unix_micros", "get_json_object")}

Key = tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[str, str], ...]]


class Part(NamedTuple):
    """One aggregate over some events in one window; features are made of parts.

    Attributes:
        key: Which events.
        op: n, values, sum, min, max, first, latest, last, decayed, distinct or gap_std.
        window: Microseconds back from the cutoff, or None.
        property: What is aggregated.
        half_life: Of a decayed sum, in days.
        text: The property is read as text.
    """

    key: Key
    op: str
    window: int | None
    property: str | None = None
    half_life: float | None = None
    text: bool = False


class Computed(Result):
    """Features of customers at cutoffs. They lie in a Parquet file that goes when this object does.

    Attributes:
        manifest: Definitions and their SHA-256, cutoffs, rows, customers, events, and how many labels are which.
    """

    title: ClassVar[str] = "Features"
    note: ClassVar[str] = "Each row knows only what was received before its cutoff."

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self._folder = folder
        self.manifest = manifest
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    @property
    def path(self) -> Path:
        """The Parquet file."""
        return self._folder / "features.parquet"

    def frame(self) -> pd.DataFrame:
        """customer_id, cutoff, attributes, features and label, sorted by customer and cutoff."""
        import pandas as pd

        frame = pd.read_parquet(self.path).sort_values(["customer_id", "cutoff"], ignore_index=True)
        return frame.astype({self.manifest["label"]["name"]: "boolean"}) if self.manifest["label"] else frame

    def plot(self) -> Axes:
        """How many rows know each feature."""
        frame, names = self.frame(), [item["name"] for item in self.manifest["definitions"]]
        ax = axes("Rows in which a feature has a value", height=row_height(names))
        ax.barh(names, frame[names].notna().mean().to_numpy())
        ax.invert_yaxis()
        return ax

    def write(self, path: str | Path) -> Path:
        """Writes the rows as Parquet and the manifest beside it, as NAME.manifest.json. Both replace what was there.

        Returns:
            The manifest's path.
        """
        path = Path(path)
        beside = path.with_name(f"{path.stem}.manifest.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {**self.manifest, "file": path.name, "sha256": sha256_of(self.path)}
        text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        _replace(path, self.path.read_bytes())
        _replace(beside, text.encode("utf-8"))
        return beside

    def _repr_html_(self) -> str:
        from cxlab.display import as_html

        return as_html(f"{self.title}: {self.manifest['rows']:,} rows", self.frame().head(20), self.note)


def compute(
    events: Any,
    features: Features,
    when: Any,
    *,
    attributes: Any = None,
    label: Label | None = None,
    active_days: int | None = None,
    con: Any = None,
) -> Computed:
    """Computes declared features at cutoffs, from what was received before each.

    Args:
        events: An Ibis table, a Parquet path or several, or a frame: event_id, customer_id, occurred_at and
            received_at (UTC), channel, event, properties (JSON). A column named as a property goes before the JSON.
        features: What to compute.
        when: Cutoffs (UTC where naive), at which all customers with an event before are taken; or pairs, a frame of
            customer_id and cutoff.
        attributes: A table customer_id, valid_from and columns, of which each row gets the last valid before its
            cutoff.
        label: The outcome; null where the events end before its horizon does.
        active_days: With cutoffs: only customers with an event in so many days before.
        con: An Ibis connection, DuckDB or PySpark with session time zone UTC; DuckDB in memory if None.
    Raises:
        DataError: A column is missing or no time in UTC, or a pair is given twice.
        ParamsError: There is no cutoff, or a name is taken twice.
    """
    con = con or (events._find_backend() if hasattr(events, "_find_backend") else _duckdb())
    if con.name not in SPELLINGS:
        raise ParamsError(f"con == {con.name!r}, must be duckdb or pyspark.")
    con.raw_sql("SET TimeZone = 'UTC'" if con.name == "duckdb" else "SET spark.sql.session.timeZone = UTC")
    base = _events(con, _table(con, events))
    versions = None if attributes is None else _versions(con, _table(con, attributes))
    extra = [] if versions is None else [name for name in versions.columns if name not in ("customer_id", "since")]
    names = [*extra, *(feature.name for feature in features.features), *([label.name] if label else [])]
    if twice := sorted({name for name in names if names.count(name) > 1 or name in _KEYS}):
        raise ParamsError(f"Column {twice[0]!r} would be there twice. Name the feature, label or attribute otherwise.")
    when = _When.of(when)
    end = con.to_pyarrow(base.aggregate(end=base.occ.max()))["end"][0].as_py()
    folder = Path(tempfile.mkdtemp(prefix="cxlab-features-"))
    written = _Written(folder / "features.parquet", label.name if label else None)
    for low, high in _ranges(con, base, when, len(names)):
        plan = _Plan(con, _between(base, low, high), when.between(low, high))
        table = plan.table(features, label, end, active_days)
        written.add(table if versions is None else _as_of(table, versions))
    written.close()
    definitions = features.definitions()
    manifest = {
        "definitions": definitions,
        "definitions_sha256": sha256(canonical(definitions)),
        "label": label.model_dump(mode="json") if label else None,
        "labels": written.labels if label else None,
        "attributes": extra,
        "active_days": active_days,
        "cutoffs": [_iso(cutoff) for cutoff in when.cutoffs[:MOST_CUTOFFS]],
        "cutoffs_count": len(when.cutoffs),
        "pairs_given": None if when.pairs is None else len(when.pairs),
        "rows": written.rows,
        "data_end": None if end is None else _iso(end),
    }
    return Computed(folder, manifest)


class _When(NamedTuple):
    """At which cutoffs: microseconds, ascending; and whose, where pairs were given: customer_id, at, k."""

    cutoffs: tuple[int, ...]
    pairs: pd.DataFrame | None

    @classmethod
    def of(cls, when: Any) -> _When:
        import pandas as pd

        if not isinstance(when, pd.DataFrame):
            given = [when] if isinstance(when, str) or not isinstance(when, Sequence | pd.Index) else list(when)
            micros = [_micros(item) for item in given]
            if not micros:
                raise ParamsError("cutoffs == [], must hold at least one. Give times such as 2025-01-01.")
            if twice := [item for item in set(micros) if micros.count(item) > 1]:
                raise DataError(f"Cutoff {_iso(min(twice))} is given twice. Give each once.")
            if len(micros) > MOST_CUTOFFS:
                raise ParamsError(f"{len(micros):,} cutoffs, must be at most {MOST_CUTOFFS:,}. Give pairs instead.")
            return cls(tuple(sorted(micros)), None)
        for name in ("customer_id", "cutoff"):
            if name not in when.columns:
                raise missing_column(name, when.columns)
        if when.empty:
            raise ParamsError("pairs are empty, must hold at least one customer and cutoff.")
        if when[["customer_id", "cutoff"]].isna().any(axis=None):
            raise DataError("pairs hold an empty customer_id or cutoff. Drop those rows.")
        at = pd.to_datetime(when["cutoff"], utc=True).astype("datetime64[us, UTC]").astype("int64")
        pairs = pd.DataFrame({"customer_id": when["customer_id"].astype(str).to_numpy(), "at": at.to_numpy()})
        if (again := pairs.duplicated()).any():
            customer, cutoff = pairs[again].iloc[0]
            raise DataError(f"Pair ({customer}, {_iso(cutoff)}) is given twice. Give each pair once.")
        cutoffs = tuple(int(item) for item in sorted(pairs["at"].unique()))
        return cls(cutoffs, pairs.assign(k=pairs["at"].map({at: k for k, at in enumerate(cutoffs)})))

    @property
    def joined(self) -> bool:
        """Events are joined with pairs: there are too many cutoffs to compare with, or each has few customers."""
        if self.pairs is None:
            return len(self.cutoffs) > MOST_CUTOFFS
        dense = self.pairs["customer_id"].nunique() * len(self.cutoffs)
        return len(self.cutoffs) > MOST_CUTOFFS or dense > 3 * len(self.pairs)

    def between(self, low: str | None, high: str | None) -> _When:
        if self.pairs is None:
            return self
        kept = (self.pairs["customer_id"] >= (low or "")) & (high is None or self.pairs["customer_id"] < high)
        return self._replace(pairs=self.pairs[kept])


class _Plan:
    """The queries for one range of customers, and the sums of their cells.

    Tables that come of events carry customer_id, occ and seen (microseconds: occurred; occurred and received). A cell
    holds what a customer's events of one run of cutoffs [lo, hi) add up to. In memory, parts are arrays of shape
    (customers, cutoffs); where events are joined with pairs, each pair is a customer with one cutoff.
    """

    def __init__(self, con: Any, base: Any, when: _When) -> None:
        import ibis
        import numpy as np

        self.con, self.when = con, when
        self.cutoffs, self.joined = when.cutoffs, when.joined
        self.base, self.events = base, base.filter(base.seen < when.cutoffs[-1])
        if when.pairs is not None and self.joined:
            self.n = 1
            ids = when.pairs["customer_id"].to_numpy(str).astype(object)
            self.ids, self.at = ids, when.pairs[["at"]].to_numpy()
            rows = when.pairs[["customer_id", "at"]].assign(row=np.arange(len(ids)))
            self.pairs = ibis.memtable(rows)
            self.known = np.ones((len(ids), 1), bool)
            return
        self.n = len(self.cutoffs)
        if when.pairs is not None:
            self.ids = np.sort(when.pairs["customer_id"].unique().astype(object))
            self.known = np.zeros((len(self.ids), self.n), bool)
            self.known[self._codes(when.pairs["customer_id"]), when.pairs["k"]] = True
        else:
            first = self.events.group_by("customer_id").aggregate(lo=_rank(self.events.seen.min(), self.cutoffs))
            found = con.to_pyarrow(first).to_pandas().sort_values("customer_id")
            self.ids = found["customer_id"].to_numpy(object)
            self.known = np.arange(self.n) >= found["lo"].to_numpy()[:, None]
        self.at = np.broadcast_to(np.array(self.cutoffs), (len(self.ids), self.n))

    def _codes(self, customers: Any) -> np.ndarray:
        import pyarrow as pa
        import pyarrow.compute as pc

        given = pa.array(self.ids, pa.string())
        found = pc.index_in(pa.array(customers, pa.string()) if not hasattr(customers, "chunks") else customers, given)
        return found.fill_null(-1).to_numpy()

    def cells(self, rows: Any, aggregates: dict[str, Any], keys: Sequence[str]) -> dict[str, np.ndarray]:
        """A query's columns as arrays, customers as their numbers; lo and hi where the query has none."""
        import numpy as np

        table = self.con.to_pyarrow(rows.group_by(list(keys)).aggregate(**aggregates) if aggregates else rows)
        out = {"code": table["row"].to_numpy() if self.joined else self._codes(table["customer_id"])}
        mine = out["code"] >= 0
        out["code"] = out["code"][mine].astype(np.int64)
        for name in table.column_names:
            if name not in ("customer_id", "row"):
                out[name] = table[name].to_numpy()[mine]
        zero = np.zeros(len(out["code"]), np.int64)
        out.setdefault("lo", zero)
        out.setdefault("hi", out["lo"] + 1)
        return out

    def matching(self, rows: Any, key: Key) -> Any:
        """The condition that an event is meant, or None for every event."""
        event, channel, where = key
        terms = [rows[name].isin(values) for name, values in (("event", event), ("channel", channel)) if values]
        for name, value in where:
            if name in rows.columns and rows[name].type().is_numeric():
                try:
                    terms.append(rows[name] == float(value))
                except ValueError:
                    raise DataError(f"{name} == {value!r}, must be a number: the column holds numbers.") from None
            else:
                terms.append(self.property(rows, name, text=True) == value)
        return _both(*terms)

    def property(self, rows: Any, name: str, *, text: bool) -> Any:
        if name in rows.columns:
            value = rows[name]
            if text:
                return value.cast("string")
            value = value.try_cast("float64") if value.type().is_string() else value.cast("float64")
        elif "properties" in rows.columns:
            value = _read_json(self.con.name, rows.properties, f"$.{name}")
            if text:
                return value
            value = value.try_cast("float64")
        else:
            raise missing_column(name, rows.columns)
        return (value.isnan() | value.isinf()).ifelse(None, value)

    def runs(self, rows: Any, window: int | None) -> Any:
        """Events with the cutoffs [lo, hi) at which they are seen in the window; joined, with their pair."""
        import ibis

        if self.joined:
            rows = rows.inner_join(self.pairs, "customer_id")
            rows = rows.filter(rows.seen < rows.at)
            return rows if window is None else rows.filter(rows.occ >= rows.at - window)
        n = ibis.literal(self.n, "int64")
        hi = n if window is None else _rank(rows.occ, [at - window for at in self.cutoffs])
        return rows.mutate(lo=_rank(rows.seen, self.cutoffs), hi=hi).filter(lambda t: t.lo < t.hi)

    # -- parts

    def parts(self, wanted: Sequence[Part]) -> dict[Part, np.ndarray]:
        """Each part at each customer and cutoff; missing is NaN (last: None)."""
        gaps = [after - before for before, after in pairwise(self.cutoffs)]
        apart = min(gaps, default=0) if self.n > 1 else None  # a window this long belongs to one cutoff
        found: dict[Part, np.ndarray] = {}
        plain = [part for part in wanted if part.op not in _OWN]
        near = [p for p in plain if p.window is None or apart is None or p.window <= apart]
        for group in (near, *([p for p in plain if p.window == w] for w in dict.fromkeys(p.window for p in plain))):
            some = [part for part in group if part not in found]
            if some:
                self._group(some, found, by_hi=group is not near)
        for part in wanted:
            if part.op in _OWN:
                found[part] = getattr(self, f"_{part.op}")(part)
        return found

    def _group(self, parts: list[Part], found: dict[Part, np.ndarray], *, by_hi: bool) -> None:
        """Parts that share a grouping, in one query."""
        import numpy as np

        events = self.events
        if all(part.key[0] for part in parts):
            events = events.filter(events.event.isin(sorted({name for part in parts for name in part.key[0]})))
        windows = [part.window for part in parts]
        widest = None if None in windows else max(window for window in windows if window is not None)
        rows = self.runs(events, widest)
        at = rows.at if self.joined else _pick(rows.lo, self.cutoffs)
        keys = ["row"] if self.joined else ["customer_id", *(["lo"] if self.n > 1 else []), *(["hi"] if by_hi else [])]
        aggregates = {}
        for number, part in enumerate(parts):
            inside = None if by_hi or part.window == widest else rows.occ >= at - part.window
            where = _both(self.matching(rows, part.key), inside)
            value = self.property(rows, part.property, text=False) if part.property else None
            aggregates[f"p{number}"] = _aggregate(part, rows, value, where, at)
        cells = self.cells(rows, aggregates, keys)
        for number, part in enumerate(parts):
            alone = self.n == 1 or (part.window is not None and not by_hi)
            values = cells[f"p{number}"]
            some = np.flatnonzero(~np.isnan(values) & ((values != 0) | (part.op not in _ADDS)))
            code, lo, hi = (cells[name][some] for name in ("code", "lo", "hi"))
            hi = lo + 1 if alone else np.full(len(some), self.n) if part.window is None else hi
            found[part] = self.rolled(part, code, lo, hi, values[some].astype(np.float64))

    def rolled(self, part: Part, code: np.ndarray, lo: np.ndarray, hi: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Cells summed up (or their least, or greatest) at every cutoff of their runs, block by block."""
        import numpy as np

        shape = (len(self.ids), self.n)
        adds, least = part.op in _ADDS, part.op in _LEAST
        empty = 0.0 if adds else np.inf if least else -np.inf
        combine = np.add if adds else np.minimum if least else np.maximum

        def placed(code: np.ndarray, k: np.ndarray, value: np.ndarray) -> np.ndarray:
            flat = code * self.n + k
            if adds:
                return np.bincount(flat, value, shape[0] * shape[1]).reshape(shape)
            out = np.full(shape[0] * shape[1], empty)
            combine.at(out, flat, value)
            return out.reshape(shape)

        if part.op == "decayed" and self.n > 1:
            return self._decayed(part, code, lo, hi, value)
        direct = np.zeros(len(lo), bool)
        out: np.ndarray | None = None
        if (hi - lo).max(initial=1) > 1:
            start, end = self._blocks(part.window)
            s, e = start[lo], end[lo]
            f, b, c = hi > e, (hi <= e) & (lo == s), hi > e + 1
            direct = ~f & ~b  # received late: seen after its block began, out of the window before it ends
            following = end[np.minimum(e + 1, self.n - 1)]
            forwards = placed(code[f], lo[f], value[f])
            backwards = placed(
                np.concatenate([code[b], code[c]]),
                np.concatenate([hi[b] - 1, np.minimum(hi[c] - 1, following[c])]),
                np.concatenate([value[b], value[c]]),
            )
            for first in np.unique(start):
                block = slice(first, end[first] + 1)
                forwards[:, block] = combine.accumulate(forwards[:, block], axis=1)
                backwards[:, block] = combine.accumulate(backwards[:, block][:, ::-1], axis=1)[:, ::-1]
            out = combine(forwards, backwards)
            code, lo, hi, value = code[direct], lo[direct], hi[direct], value[direct]
        if out is None or len(lo):
            cell, k = _each(lo, hi)
            single = placed(code[cell], k, value[cell])
            out = single if out is None else combine(out, single)
        return out if adds else np.where(np.isinf(out), np.nan, out)

    def _decayed(self, part: Part, code: np.ndarray, lo: np.ndarray, hi: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Cells, decayed until the cutoff lo, decay on from cutoff to cutoff."""
        import numpy as np

        ages = np.array(self.cutoffs) / (DAY * float(part.half_life or 1))
        out = np.zeros((len(self.ids), self.n))
        if part.window is None:
            np.add.at(out, (code, lo), value)
            for at in range(1, self.n):
                out[:, at] += out[:, at - 1] * np.exp2(ages[at - 1] - ages[at])
            return out
        cell, k = _each(lo, hi)
        np.add.at(out, (code[cell], k), value[cell] * np.exp2(ages[lo[cell]] - ages[k]))
        return out

    def _blocks(self, window: int | None) -> tuple[np.ndarray, np.ndarray]:
        """First and last cutoff of each cutoff's block: no more than a window of time lies between them."""
        import numpy as np

        first = [0]
        for k, at in enumerate(self.cutoffs[1:], start=1):
            fits = window is None or at - self.cutoffs[first[-1]] <= window
            first.append(first[-1] if fits else k)
        start = np.array(first)
        return start, np.searchsorted(start, start, side="right") - 1

    def _rows(self, part: Part) -> Any:
        rows = self.runs(self.events, part.window)
        meant = self.matching(rows, part.key)
        rows = rows if meant is None else rows.filter(meant)
        if part.property:
            rows = rows.mutate(value=self.property(rows, part.property, text=part.text))
            rows = rows.filter(rows.value.notnull())
        return rows

    def _last(self, part: Part) -> np.ndarray:
        """The value of the latest event; of two at the same time that of the greater event_id."""
        import numpy as np

        rows = self._rows(part)
        order = rows.occ.cast("string").lpad(20, "0") + rows.event_id.cast("string")
        keys = ["row"] if self.joined else ["customer_id", "lo", "hi"]
        cells = self.cells(rows, {"key": order.max(), "value": rows.value.argmax(order)}, keys)
        rank = np.empty(len(cells["code"]))
        rank[np.argsort(cells["key"].astype(str), kind="stable")] = np.arange(len(rank))
        newest = self.rolled(part._replace(op="latest"), cells["code"], cells["lo"], cells["hi"], rank)
        out = np.full(newest.shape, None if part.text else np.nan, object if part.text else float)
        known = ~np.isnan(newest)
        out[known] = cells["value"][np.argsort(rank)][newest[known].astype(int)]
        return out

    def _distinct(self, part: Part) -> np.ndarray:
        """How many values have an event in the window: runs of one value are laid over each other and counted once."""
        import numpy as np

        rows = self._rows(part)
        keys = ["row", "value"] if self.joined else ["customer_id", "value", *(["hi"] if part.window else [])]
        lo = {} if self.joined else {"lo": rows.lo.min()}
        if part.window and not self.joined:
            keys, lo = [*keys, "lo"], {}
        cells = self.cells(rows, lo or {"some": rows.count()}, keys)
        if part.window is None:
            cells["hi"] = np.full(len(cells["lo"]), self.n)
        values, number = np.unique(cells["value"].astype(str), return_inverse=True)
        pair, place = np.unique(cells["code"] * len(values) + number, return_inverse=True)
        held = self._held(place, cells["lo"], cells["hi"], len(pair))
        out = np.zeros((len(self.ids), self.n))
        np.add.at(out, pair // max(len(values), 1), held)
        return out

    def _held(self, place: np.ndarray, lo: np.ndarray, hi: np.ndarray, size: int) -> np.ndarray:
        """At which cutoffs any run holds, shape (size, cutoffs)."""
        import numpy as np

        wide = self.n + 1
        entered, left = (np.bincount(place * wide + edge, minlength=size * wide) for edge in (lo, hi))
        return (entered - left).reshape(size, wide).cumsum(axis=1)[:, : self.n] > 0

    def _gap_std(self, part: Part) -> np.ndarray:
        """Which events are neighbours depends on what had been received: each cutoff looks at its own."""
        import ibis
        import numpy as np

        rows = self._rows(part)
        if not self.joined:
            rows = rows.mutate(k=ibis.range(rows.lo, rows.hi).unnest()).drop("lo", "hi").rename(lo="k")
        keys = ["row"] if self.joined else ["customer_id", "lo"]
        order = ibis.window(group_by=[rows[key] for key in keys], order_by=rows.occ)
        rows = rows.mutate(gap=(rows.occ - rows.occ.lag().over(order)).cast("float64") / DAY)
        cells = self.cells(rows, {"value": rows.gap.std(how="sample")}, keys)
        out = np.full((len(self.ids), self.n), np.nan)
        out[cells["code"], cells["lo"]] = cells["value"].astype(float)
        return out

    def hits(self, label: Label) -> np.ndarray:
        """Where the event occurs in the horizon, shape (customers, cutoffs)."""
        rows, purge, span = self.base, label.purge * DAY, label.horizon * DAY
        meant = self.matching(rows, label.which())
        rows = rows if meant is None else rows.filter(meant)
        if self.joined:
            rows = rows.inner_join(self.pairs, "customer_id")
            rows = rows.filter(rows.occ > rows.at + purge, rows.occ <= rows.at + purge + span).select("row").distinct()
        else:
            lo = _rank(rows.occ, [at + purge + span + 1 for at in self.cutoffs])
            hi = _rank(rows.occ, [at + purge + 1 for at in self.cutoffs])
            rows = rows.select("customer_id", lo=lo, hi=hi).filter(lambda t: t.lo < t.hi).distinct()
        cells = self.cells(rows, {}, ())
        return self._held(cells["code"], cells["lo"], cells["hi"], len(self.ids))

    def table(self, features: Features, label: Label | None, end: int | None, active_days: int | None) -> pa.Table:
        """customer_id, cutoff, features and label."""
        import numpy as np
        import pyarrow as pa

        wanted = dict.fromkeys(part for feature in features.features for part in _parts(feature))
        active = Part(_EVERYTHING, "n", active_days * DAY) if active_days and self.when.pairs is None else None
        parts = self.parts([*wanted, *([active] if active and active not in wanted else [])])
        known = self.known & (parts[active] > 0) if active else self.known
        rows, k = np.nonzero(known)
        found: dict[str, np.ndarray] = {}
        for feature in sorted(features.features, key=lambda feature: feature.numerator is not None):
            mine = [parts[part][rows, k] for part in _parts(feature)]
            if feature.numerator is not None:
                mine = [found[feature.numerator], found[str(feature.denominator)]]
            found[feature.name] = _formula(feature, mine, self.at[rows, k])
        columns = {
            "customer_id": pa.array(self.ids, pa.string()).take(rows),
            "cutoff": pa.array(self.at[rows, k], pa.timestamp("us", tz="UTC")),
        }
        for feature in features.features:
            kind = pa.string() if feature.text else pa.float64()
            columns[feature.name] = pa.array(found[feature.name], kind, from_pandas=True)
        if label is not None:
            censored = columns["cutoff"].cast(pa.int64()).to_numpy() + (label.purge + label.horizon) * DAY > (end or 0)
            columns[label.name] = pa.array(self.hits(label)[rows, k] != label.absent, pa.bool_(), mask=censored)
        return pa.table(columns)


_KEYS = ("customer_id", "cutoff", "valid_from")
_EVERYTHING: Key = ((), (), ())
_ADDS = {"n", "values", "sum", "decayed"}
_LEAST = {"min", "first"}
_OWN = {"last", "distinct", "gap_std"}  # parts with a query of their own


def _parts(feature: Feature) -> tuple[Part, ...]:
    """What a feature is made of, in the order in which `_formula` takes it."""
    key, name = feature.which(), feature.property
    window = None if feature.window == ALL else int(feature.window) * DAY
    if feature.kind == "ratio":
        op = "sum" if name else "n"
        return tuple(Part(key, op, days * DAY, name) for days in feature.windows or ())
    if feature.kind == "trend":
        return Part(key, "n", int(window or 0) // 2), Part(key, "n", window)
    if feature.kind == "share":
        return Part(key, "n", window), Part((key[0], (), ()), "n", window)
    if feature.kind in ("distinct", "last"):
        return (Part(key, feature.kind, window, name, text=feature.text or feature.kind == "distinct"),)
    if feature.kind == "decayed":
        return (Part(key, "decayed", window, name, feature.half_life),)
    ops = {
        "count": ("n",),
        "mean": ("sum", "values"),
        "recency": ("latest",),
        "interval_mean": ("first", "latest", "n"),
        "interval_std": ("gap_std",),
    }
    return tuple(Part(key, op, window, name) for op in ops.get(feature.kind, (feature.kind,)))


def _formula(feature: Feature, parts: list[np.ndarray], at: np.ndarray) -> np.ndarray:
    """A feature from its parts."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        if feature.kind in ("mean", "share", "ratio"):
            return np.where(parts[1] == 0, np.nan, parts[0] / parts[1])
        if feature.kind == "recency":
            return (at - parts[0]) / DAY
        if feature.kind == "interval_mean":
            return np.where(parts[2] > 1, (parts[1] - parts[0]) / DAY / (parts[2] - 1), np.nan)
    if feature.kind == "trend":
        return (2 * parts[0] - parts[1]) * 14 / int(feature.window)
    return parts[0]


def _aggregate(part: Part, rows: Any, value: Any, where: Any, at: Any) -> Any:
    import ibis

    if part.op == "n":
        return rows.count(where=where)
    if part.op == "decayed":
        weight = ibis.literal(2.0) ** ((rows.occ - at).cast("float64") / (DAY * float(part.half_life or 1)))
        return (weight if value is None else value * weight).sum(where=where)
    if part.op in ("values", "sum"):
        return value.count(where=where) if part.op == "values" else value.sum(where=where)
    value = rows.occ if part.op in ("first", "latest") else value
    return value.min(where=where) if part.op in _LEAST else value.max(where=where)


def _each(lo: np.ndarray, hi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each cutoff of each run [lo, hi): the run's number and the cutoff's."""
    import numpy as np

    length = hi - lo
    cell = np.repeat(np.arange(len(lo)), length)
    return cell, np.arange(len(cell)) - np.repeat(np.cumsum(length) - length - lo, length)


def _both(*terms: Any) -> Any:
    given = [term for term in terms if term is not None]
    out = given[0] if given else None
    for term in given[1:]:
        out = out & term
    return out


def _rank(x: Any, points: Sequence[int]) -> Any:
    """How many of the ascending points are <= x: a tree of comparisons with constants."""
    import ibis

    def among(low: int, high: int) -> Any:
        if low == high:
            return ibis.literal(low, "int64")
        middle = (low + high) // 2
        return (x >= ibis.literal(points[middle], "int64")).ifelse(among(middle + 1, high), among(low, middle))

    return among(0, len(points))


def _pick(k: Any, values: Sequence[int]) -> Any:
    """The value of number k, by a tree of comparisons; neighbours that are equal share a leaf."""
    import ibis

    starts = [n for n, value in enumerate(values) if n == 0 or value != values[n - 1]]

    def among(low: int, high: int) -> Any:
        if low == high:
            return ibis.literal(values[starts[low]], "int64")
        middle = (low + high + 1) // 2
        return (k >= ibis.literal(starts[middle], "int64")).ifelse(among(middle, high), among(low, middle - 1))

    return among(0, len(starts) - 1)


# -- what comes in, what goes out


def _duckdb() -> Any:
    import ibis

    con = ibis.duckdb.connect()
    con.raw_sql("SET enable_progress_bar = false")
    return con


def _table(con: Any, given: Any) -> Any:
    """An Ibis table of whatever was given."""
    import ibis
    import pandas as pd

    if isinstance(given, pd.DataFrame):
        zoned = {c: "datetime64[us, UTC]" for c, t in given.dtypes.items() if isinstance(t, pd.DatetimeTZDtype)}
        return ibis.memtable(given.astype(zoned))
    if not isinstance(given, str | Path | list | tuple):
        return given
    paths = [Path(item) for item in ([given] if isinstance(given, str | Path) else given)]
    if absent := [path for path in paths if not path.exists()]:
        raise DataError(f"No file {absent[0]}. Give a Parquet file of events, or several.")
    with warnings.catch_warnings():  # Ibis 12 asks DuckDB 2.0 in the old way
        warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)
        tables = [con.read_parquet(str(path)) for path in paths]
    # a column without any value has no type in some Parquet files
    tables = [
        t.mutate(**{c: t[c].cast("string") for c, kind in t.schema().items() if kind.is_unknown()}) for t in tables
    ]
    return ibis.union(*tables) if len(tables) > 1 else tables[0]


def _micros_of(con: Any, table: Any, name: str) -> Any:
    """A time as microseconds since 1970 UTC."""
    if name not in table.columns:
        raise missing_column(name, table.columns)
    kind = table[name].type()
    if not kind.is_timestamp() or (kind.timezone is None and con.name != "pyspark"):  # there, times are instants
        raise DataError(f"Column {name!r} is {kind}, must be a time in UTC. Say in which zone it was written first.")
    return _builtin(SPELLINGS[con.name][0], ("timestamp('UTC')",), "int64")(table[name].cast("timestamp('UTC')"))


@cache
def _builtin(name: str, takes: tuple[str, ...], gives: str) -> Any:
    """A function of the engine's own, made once, so that equal expressions are equal."""
    import ibis

    def one(_a: Any) -> Any: ...
    def two(_a: Any, _b: Any) -> Any: ...

    return ibis.udf.scalar.builtin(one if len(takes) == 1 else two, name=name, signature=(takes, gives))


def _read_json(engine: str, column: Any, path: str) -> Any:
    """The text of a JSON value; null where it is null or the text is no JSON."""
    value = _builtin(SPELLINGS[engine][1], ("string", "string"), "string")(column, path)
    return _builtin("try", ("string",), "string")(value) if engine == "duckdb" else value


def _events(con: Any, table: Any) -> Any:
    """Events with occ and seen in microseconds; those without a customer or a time are left out."""
    import ibis

    for name in ("customer_id", "event"):
        if name not in table.columns:
            raise missing_column(name, table.columns)
    occurred, received = (_micros_of(con, table, name) for name in ("occurred_at", "received_at"))
    given = table.filter(table.customer_id.notnull(), table.occurred_at.notnull(), table.received_at.notnull())
    plain = {name: given[name] for name in given.columns if name not in ("customer_id", "occurred_at", "received_at")}
    seen = ibis.greatest(occurred, received)
    return given.select(customer_id=given.customer_id.cast("string"), occ=occurred, seen=seen, **plain)


def _versions(con: Any, table: Any) -> pd.DataFrame:
    """Attributes in the order of since, the microseconds from which they are valid."""
    if "customer_id" not in table.columns:
        raise missing_column("customer_id", table.columns)
    table = table.mutate(customer_id=table.customer_id.cast("string"), since=_micros_of(con, table, "valid_from"))
    frame = con.to_pyarrow(table.drop("valid_from")).to_pandas().sort_values("since", kind="stable", ignore_index=True)
    if frame.duplicated(["customer_id", "since"]).any():
        raise DataError("attributes hold two rows of one customer_id and valid_from. Keep the one that is right.")
    return frame


def _as_of(table: pa.Table, versions: pd.DataFrame) -> pa.Table:
    """With the attributes that were last valid before each cutoff."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    whose = pd.DataFrame({"customer_id": table["customer_id"].to_pandas(), "row": np.arange(table.num_rows)})
    whose["since"] = table["cutoff"].cast(pa.int64()).to_numpy()
    found = pd.merge_asof(
        whose.sort_values("since"), versions, on="since", by="customer_id", allow_exact_matches=False
    ).sort_values("row")
    for place, name in enumerate([name for name in versions.columns if name not in ("customer_id", "since")]):
        table = table.add_column(2 + place, name, pa.Array.from_pandas(found[name]))
    return table


def _between(table: Any, low: str | None, high: str | None) -> Any:
    table = table if low is None else table.filter(table.customer_id >= low)
    return table if high is None else table.filter(table.customer_id < high)


def _ranges(con: Any, base: Any, when: _When, width: int) -> list[tuple[str | None, str | None]]:
    """Ranges of customers whose features fit into memory together."""
    customers = con.execute(base.customer_id.nunique()) if when.pairs is None else when.pairs["customer_id"].nunique()
    pieces = -(-int(customers) * len(when.cutoffs) * width // VALUES)
    if pieces <= 1:
        return [(None, None)]
    some = base.select("customer_id").distinct().order_by("customer_id")
    ids = con.execute(some)["customer_id"] if when.pairs is None else when.pairs["customer_id"].drop_duplicates()
    ids = ids.sort_values(ignore_index=True)
    edges = [None, *dict.fromkeys(ids[len(ids) * piece // pieces] for piece in range(1, pieces)), None]
    return list(pairwise(edges))


class _Written:
    """A Parquet file that grows by tables of one schema, each in the order of customer and cutoff."""

    def __init__(self, path: Path, label: str | None) -> None:
        self.rows, self.labels = 0, {"true": 0, "false": 0, "censored": 0}
        self._path, self._label = path, label
        self._writer: Any = None

    def add(self, found: pa.Table) -> None:
        import pyarrow.parquet as pq

        if self._label:
            values = found[self._label].value_counts().to_pylist()
            for item in values:
                self.labels[{True: "true", False: "false", None: "censored"}[item["values"]]] += item["counts"]
        self._writer = self._writer or pq.ParquetWriter(self._path, found.schema)
        self._writer.write_table(found)
        self.rows += found.num_rows

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(path)


def _micros(when: Any) -> int:
    import pandas as pd

    try:
        at = pd.Timestamp(when)
    except (ValueError, TypeError):
        raise ParamsError(f"cutoff == {when!r}, must be a time such as 2025-01-01.") from None
    if pd.isna(at):
        raise ParamsError(f"cutoff == {when!r}, must be a time such as 2025-01-01.")
    at = at.tz_localize("UTC") if at.tzinfo is None else at.tz_convert("UTC")
    return int(at.as_unit("us").asm8.astype("int64"))


def _iso(micros: int) -> str:
    import pandas as pd

    return pd.Timestamp(micros, unit="us", tz="UTC").isoformat()
