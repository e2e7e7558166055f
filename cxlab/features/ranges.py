"""Features of one range of customers, from their narrow events: the same here and in Spark's workers.

Workers import this module and what it imports: NumPy, pandas, pyarrow and pydantic, but neither Ibis nor DuckDB.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cxlab.features.cutoffs import Rows
from cxlab.features.parts import DAY, Events, Layout, Part, add_up, formula, outcome, parts_of
from cxlab.params.features import Features, Label

UTC = pa.timestamp("us", tz="UTC")
SMALL = pa.ipc.IpcWriteOptions(compression="lz4")


class Recipe(NamedTuple):
    """What is computed of every range of customers."""

    features: Features
    label: Label | None
    parts: tuple[Part, ...]  # that features are made of, and active
    active: Part | None  # rows are those where it is above 0
    layout: Layout
    cutoffs: tuple[int, ...]  # at which every customer is taken
    end: int  # when the last event occurred

    def each(self, batches: pa.RecordBatchReader, whom: pa.Table, folder: Path) -> Iterator[tuple[pa.Table, int]]:
        """What `rows` makes of narrow events, range by range; `whom` as `When.whom` gives it."""
        places = np.unique(whom["code"].to_numpy(), return_index=True)[1]
        piece = np.unique(whom["piece"].to_numpy(), return_inverse=True)[1]
        for number, (table, texts) in enumerate(split(batches, self.layout, piece[places], folder)):
            start, stop = np.searchsorted(piece, [number, number + 1])
            yield self.rows(table, texts, whom.slice(start, stop - start))

    def rows(self, table: pa.Table, texts: dict[str, pa.Array], whom: pa.Table) -> tuple[pa.Table, int]:
        """customer_id, cutoff, features and label of a range; and how many more it had without `once`.

        table and texts are as `split` gives them, `whom` has its lines alone.
        """
        label, rows = self.label, Rows.of(whom, self.cutoffs)
        seen = Events(table, texts, self.layout, whom["code"][0].as_py() if len(whom) else 0)
        found = add_up(self.parts, seen, rows)
        line = rows.code if rows.keys is None else np.arange(len(rows.at))
        kept = rows.at > whom["first"].to_numpy()[line]
        if self.active:
            kept &= found[self.active] > 0
        hit, ended = outcome(label, seen, rows) if label else np.zeros((2, len(kept)), bool)
        ended = kept & ended & bool(label and label.once)
        which = np.flatnonzero(kept & ~ended)
        at = rows.at[which]
        columns = {"customer_id": whom["customer_id"].take(line[which]), "cutoff": pa.array(at, UTC)}
        values: dict[str, np.ndarray] = {}
        for feature in sorted(self.features.features, key=lambda feature: feature.numerator is not None):
            made_of = [found[part][which] for part in parts_of(feature)]
            if feature.numerator is not None:
                made_of = [values[feature.numerator], values[str(feature.denominator)]]
            values[feature.name] = formula(feature, made_of, at)
        for feature in self.features.features:
            kind = pa.string() if feature.text else pa.float64()
            columns[feature.name] = pa.array(values[feature.name], kind, from_pandas=True)
        if label:
            censored = at + (label.purge + label.horizon) * DAY > self.end
            columns[label.name] = pa.array(hit[which] != label.absent, pa.bool_(), mask=censored)
        return pa.table(columns), int(ended.sum())

    def packed(self, events: pa.Table, whom: pa.Table) -> pa.Table:
        """What one range gives, as one row: rows (in Arrow's bytes: Spark makes an object of each value), and ended."""
        whom = whom.sort_by([(name, "ascending") for name in whom.column_names if name in ("code", "at")])
        found, ended = next(self.each(events.combine_chunks().to_reader(), whom, Path()))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, found.schema, options=SMALL) as stream:
            stream.write_table(found)
        return pa.table({"rows": [sink.getvalue().to_pybytes()], "ended": [ended]})


def split(
    batches: pa.RecordBatchReader, layout: Layout, piece: np.ndarray, folder: Path
) -> Iterator[tuple[pa.Table, dict[str, pa.Array]]]:
    """Narrow events of each range of customers, with numbers for texts (-1 for none), and the texts of each column.

    `piece` is the range of each customer, by code; where there is one range, it may be of any customers.
    """
    count = int(piece.max(initial=0)) + 1
    named = [column for what, column in layout.columns.items() if what[0] == "text" and what[1] != "event_id"]
    texts = {name: pa.array([], batches.schema.field(name).type) for name in named}
    schema = pa.schema([(f.name, pa.int32() if f.name in texts else f.type) for f in batches.schema])
    numbered = (_numbered(batch, texts, schema) for batch in batches)
    if count == 1:
        yield pa.Table.from_batches(numbered, schema), texts
        return
    paths = [folder / f"{place}.arrow" for place in range(count)]
    files = [pa.ipc.new_file(str(path), schema, options=SMALL) for path in paths]
    for batch in numbered:
        mine = piece[batch["code"].to_numpy()]
        ordered = batch.take(pa.array(np.argsort(mine, kind="stable")))
        edges = np.bincount(mine, minlength=count).cumsum()
        for file, start, end in zip(files, [0, *edges], edges, strict=False):
            if start < end:
                file.write_batch(ordered.slice(start, end - start))
    for file in files:
        file.close()
    for path in paths:
        with pa.OSFile(str(path)) as source:
            yield pa.ipc.open_file(source).read_all(), texts
        path.unlink()


def _numbered(batch: pa.RecordBatch, texts: dict[str, pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    """A batch with numbers in place of texts; new ones are added to those that are known."""
    columns = dict(zip(schema.names, batch.columns, strict=True))
    for name, known in texts.items():
        number = pc.index_in(columns[name], known)
        if len(new := columns[name].filter(pc.and_(number.is_null(), columns[name].is_valid()))):
            texts[name] = pa.concat_arrays([known, new.unique()])
            number = pc.index_in(columns[name], texts[name])
        columns[name] = number.fill_null(-1)
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=schema)
