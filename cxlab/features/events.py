"""Events into point-in-time features: many customers, many cutoffs, one pass, no look ahead.

    features = load_features("params/features/service_company.yaml")
    found = compute("events.parquet", features, ["2025-01-01", "2025-02-01"], label=features.label)
    found.frame()                 # customer_id, cutoff, features, label
    found.write("features.parquet")

An event counts at a cutoff if it occurred and was received before it; windows reach back from the cutoff over when it
occurred. `reading` has DuckDB or PySpark hand over what the features need, for as many customers at a time as fit;
`ranges` and `parts` add it up for all their cutoffs together, here or in Spark's workers.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cxlab.digest import canonical, sha256, sha256_of
from cxlab.display import Result, axes, row_height
from cxlab.errors import ParamsError
from cxlab.features.cutoffs import MOST_CUTOFFS, When, iso
from cxlab.features.parts import DAY, EVERYTHING, Part, parts_of
from cxlab.features.ranges import Recipe
from cxlab.features.reading import by_range, connection, events_of, narrow, people, versions_of
from cxlab.params.features import Features, Label, describe, load_features

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Computed", "Features", "Label", "compute", "describe", "load_features"]

VALUES = 8_000_000  # of features in memory at once; beyond, ranges of customers are taken in turn
EVENTS = 1_500_000  # likewise; more are slower, as memory has to be fetched anew
AT_ONCE = 8  # ranges, each by so much smaller, that a machine of Spark's may compute at the same time
TAKEN = ("customer_id", "cutoff", "valid_from")  # names of columns


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
        parts = [target.with_name(f".{target.name}.{os.getpid()}") for target in (path, beside)]
        shutil.copyfile(self.path, parts[0])
        parts[1].write_text(text, encoding="utf-8")
        for part, target in zip(parts, (path, beside), strict=True):
            part.replace(target)
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
            cutoff; of a time or date (naive: UTC) the days from it to the cutoff (below 0: ahead), as days_since_NAME.
        label: The outcome; null where the events end before its horizon does. With `once`, no row is made where it
            occurred before or at the cutoff.
        active_days: With cutoffs: only customers with an event in so many days before.
        con: An Ibis connection, DuckDB or PySpark with session time zone UTC; DuckDB in memory if None. Spark's
            workers (cxlab must be installed there) each hold one range of customers at a time, bounded by `EVENTS` and
            `VALUES` over `AT_ONCE`, or by one customer; Spark keeps what they find, of which this process holds a
            partition at a time, besides what grows with customers (not events), pairs and attributes.
    Raises:
        DataError: A column is missing or no time in UTC, or a pair is given twice.
        ParamsError: There is no cutoff, or a name is taken twice.
    """
    con = connection(con, events)
    base = events_of(con, events)
    versions = None if attributes is None else versions_of(con, attributes)
    extra = [] if versions is None else versions[1].column_names
    names = [*extra, *(feature.name for feature in features.features), *([label.name] if label else [])]
    if twice := sorted({name for name in names if names.count(name) > 1 or name in TAKEN}):
        raise ParamsError(f"Column {twice[0]!r} would be there twice. Name the feature, label or attribute otherwise.")
    when = When.of(when)
    every = when.cutoffs if when.pairs is None else ()
    active = Part(EVERYTHING, "n", active_days * DAY) if active_days and every else None
    parts = tuple(dict.fromkeys([p for f in features.features for p in parts_of(f)] + ([active] if active else [])))
    everyone = people(con, base)
    end = pc.max(everyone["last"]).as_py()
    share = 1 if con.name == "duckdb" else AT_ONCE
    customers = when.customers(everyone, events=EVENTS / share, rows=VALUES / share / len(names))
    rows, layout = narrow(con, base, customers, parts, label=label.which() if label else None, cutoffs=when.cutoffs)
    recipe = Recipe(features, label, parts, active, layout, every, end or 0)
    folder = Path(tempfile.mkdtemp(prefix="cxlab-features-"))
    written = _Written(folder / "features.parquet", label.name if label else None)
    for found, ended in by_range(con, rows, when.whom(customers), recipe, folder):
        written.ended += ended
        written.add(found if versions is None else _as_of(found, versions))
    written.close()
    definitions = features.definitions()
    manifest = {
        "definitions": definitions,
        "definitions_sha256": sha256(canonical(definitions)),
        "label": label.model_dump(mode="json") if label else None,
        "labels": written.labels if label else None,
        "attributes": extra,
        "active_days": active_days,
        "cutoffs": [iso(cutoff) for cutoff in when.cutoffs[:MOST_CUTOFFS]],
        "cutoffs_count": len(when.cutoffs),
        "pairs_given": None if when.pairs is None else len(when.pairs),
        "rows": written.rows,
        "ended": written.ended,
        "data_end": None if end is None else iso(end),
    }
    return Computed(folder, manifest)


def _as_of(table: pa.Table, versions: tuple[pd.DataFrame, pa.Table]) -> pa.Table:
    """With the attributes that were last valid before each cutoff; of times, the days from them to it."""
    at = table["cutoff"].cast(pa.int64())
    rows = pd.DataFrame({"customer_id": table["customer_id"].to_pandas(), "since": at.to_numpy()})
    found = pd.merge_asof(
        rows.sort_values("since").reset_index(), versions[0], on="since", by="customer_id", allow_exact_matches=False
    ).sort_values("index")
    places = pa.array(found["place"], pa.int64(), from_pandas=True)
    for number, (name, column) in enumerate(zip(versions[1].column_names, versions[1].columns, strict=True)):
        value = column.take(places)
        if pa.types.is_timestamp(value.type):
            value = pc.divide(pc.subtract(at, value.cast(pa.int64())).cast(pa.float64(), safe=False), DAY)
        table = table.add_column(2 + number, name, value)
    return table


class _Written:
    """A Parquet file that grows by tables of one schema, each in the order of customer and cutoff."""

    def __init__(self, path: Path, label: str | None) -> None:
        self.rows, self.ended, self.labels = 0, 0, {"true": 0, "false": 0, "censored": 0}
        self._path, self._label = path, label
        self._writer: Any = None

    def add(self, found: pa.Table) -> None:
        if self._label:
            for item in found[self._label].value_counts().to_pylist():
                self.labels[{True: "true", False: "false", None: "censored"}[item["values"]]] += item["counts"]
        self._writer = self._writer or pq.ParquetWriter(self._path, found.schema)
        self._writer.write_table(found)
        self.rows += found.num_rows

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
