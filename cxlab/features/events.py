"""Events into point-in-time features: many customers, many cutoffs, one pass, no look ahead.

    features = load_features("params/features/service_company.yaml")
    found = compute("events.parquet", features, ["2025-01-01", "2025-02-01"], label=features.label)
    found.frame()                 # customer_id, cutoff, features, label
    found.write("features.parquet")

An event counts at a cutoff if it occurred and was received before it; windows reach back from the cutoff over when it
occurred. `reading` has DuckDB or PySpark hand over what the features need, for as many customers at a time as fit;
`parts` adds it up for all their cutoffs together.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cxlab.digest import canonical, sha256, sha256_of
from cxlab.display import Result, axes, row_height
from cxlab.errors import ParamsError
from cxlab.features.cutoffs import MOST_CUTOFFS, When, iso
from cxlab.features.parts import DAY, EVERYTHING, Events, Part, add_up, formula, outcome, parts_of
from cxlab.features.reading import connection, events_of, narrow, people, split, versions_of
from cxlab.params.features import Features, Label, describe, load_features

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Computed", "Features", "Label", "compute", "describe", "load_features"]

VALUES = 8_000_000  # of features in memory at once; beyond, ranges of customers are taken in turn
EVENTS = 1_500_000  # likewise; more are slower, as memory has to be fetched anew
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
            cutoff.
        label: The outcome; null where the events end before its horizon does. With `once`, no row is made where it
            occurred before or at the cutoff.
        active_days: With cutoffs: only customers with an event in so many days before.
        con: An Ibis connection, DuckDB or PySpark with session time zone UTC; DuckDB in memory if None.
    Raises:
        DataError: A column is missing or no time in UTC, or a pair is given twice.
        ParamsError: There is no cutoff, or a name is taken twice.
    """
    con = connection(con, events)
    base = events_of(con, events)
    versions = None if attributes is None else versions_of(con, attributes)
    extra = [] if versions is None else [name for name in versions.columns if name not in ("customer_id", "since")]
    names = [*extra, *(feature.name for feature in features.features), *([label.name] if label else [])]
    if twice := sorted({name for name in names if names.count(name) > 1 or name in TAKEN}):
        raise ParamsError(f"Column {twice[0]!r} would be there twice. Name the feature, label or attribute otherwise.")
    when = When.of(when)
    active = Part(EVERYTHING, "n", active_days * DAY) if active_days and when.pairs is None else None
    parts = [part for feature in features.features for part in parts_of(feature)] + ([active] if active else [])
    parts = list(dict.fromkeys(parts))
    everyone = people(con, base)
    end = pc.max(everyone["last"]).as_py()
    customers = when.customers(everyone)
    piece = customers.pieces(events=EVENTS, rows=VALUES / len(names))
    key = label.which() if label else None
    span = when.cutoffs[0], when.cutoffs[-1]
    batches, layout = narrow(con, base, customers.ids, parts, label=key, span=span)
    folder = Path(tempfile.mkdtemp(prefix="cxlab-features-"))
    written = _Written(folder / "features.parquet", label.name if label else None)
    for number, (table, texts) in enumerate(split(batches, layout, piece, folder)):
        start, stop = np.searchsorted(piece, [number, number + 1])
        rows, seen = when.rows(customers, start, stop), Events(table, texts, layout, start)
        found = add_up(parts, seen, rows)
        kept = np.ones(len(rows.at), bool) if when.pairs is not None else rows.at > customers.first[start + rows.code]
        if active:
            kept &= found[active] > 0
        hit = np.zeros(len(kept), bool)
        if label:
            hit, ended = outcome(label, seen, rows)
            written.ended += int((kept & ended).sum()) if label.once else 0
            kept &= ~(ended & label.once)
        which = np.flatnonzero(kept)
        ids = customers.ids.take(pa.array(start + rows.code[which]))
        columns = {"customer_id": ids, "cutoff": pa.array(rows.at[which], pa.timestamp("us", tz="UTC"))}
        columns |= _columns(features, found, which, rows.at[which])
        if label:
            censored = rows.at[which] + (label.purge + label.horizon) * DAY > (end or 0)
            columns[label.name] = pa.array(hit[which] != label.absent, pa.bool_(), mask=censored)
        written.add(pa.table(columns) if versions is None else _as_of(pa.table(columns), versions))
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


def _columns(features: Features, parts: dict[Part, np.ndarray], which: np.ndarray, at: np.ndarray) -> dict[str, Any]:
    """The features of some rows, in their order."""
    found: dict[str, np.ndarray] = {}
    for feature in sorted(features.features, key=lambda feature: feature.numerator is not None):
        mine = [parts[part][which] for part in parts_of(feature)]
        if feature.numerator is not None:
            mine = [found[feature.numerator], found[str(feature.denominator)]]
        found[feature.name] = formula(feature, mine, at)
    kinds = {feature.name: pa.string() if feature.text else pa.float64() for feature in features.features}
    return {name: pa.array(found[name], kind, from_pandas=True) for name, kind in kinds.items()}


def _as_of(table: pa.Table, versions: pd.DataFrame) -> pa.Table:
    """With the attributes that were last valid before each cutoff."""
    whose = pd.DataFrame({"customer_id": table["customer_id"].to_pandas(), "row": np.arange(table.num_rows)})
    whose["since"] = table["cutoff"].cast(pa.int64()).to_numpy()
    found = pd.merge_asof(
        whose.sort_values("since"), versions, on="since", by="customer_id", allow_exact_matches=False
    ).sort_values("row")
    for place, name in enumerate([name for name in versions.columns if name not in ("customer_id", "since")]):
        table = table.add_column(2 + place, name, pa.Array.from_pandas(found[name]))
    return table


class _Written:
    """A Parquet file that grows by tables of one schema, each in the order of customer and cutoff."""

    def __init__(self, path: Path, label: str | None) -> None:
        self.rows, self.ended, self.labels = 0, 0, {"true": 0, "false": 0, "censored": 0}
        self._path, self._label = path, label
        self._writer: Any = None

    def add(self, found: pa.Table) -> None:
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
