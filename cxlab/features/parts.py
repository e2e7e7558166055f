"""What features are made of, added up in NumPy: each event counts for a run of rows, and runs are added up at once.

Rows are customers at cutoffs, in the order of both, so the cutoffs that see an event in a window are a run [lo, hi) of
its customer's rows. Counts are what has begun less what has ended. Sums, least and greatest cut each run into pieces
whose lengths are powers of two, and halve the pieces from the longest to the shortest (`spread`): nothing is
subtracted, so large values leave no residue, and no event is looked at once a cutoff.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from cxlab.params.features import ALL, Feature, Label

if TYPE_CHECKING:
    from cxlab.features.cutoffs import Rows

DAY = 86_400_000_000  # microseconds
REPEATED = 4_000_000  # events, once for each row that sees them, that are sorted at a time
EVERYTHING: Key = ((), (), ())

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


class Layout(NamedTuple):
    """What the columns of narrow events hold, beside code, occ, seen (microseconds), and both codes.

    Attributes:
        events: Names of events; event_code holds their places, from 1.
        channels: The same of channels.
        columns: The column that holds a where (1 if it is met), number, text or event_id, by (what, property, value).
    """

    events: tuple[str, ...]
    channels: tuple[str, ...]
    columns: dict[tuple[str, str, str], str]


class Decay(NamedTuple):
    """When each value was whole, when each row looks at it, and the age at which half is left, in microseconds."""

    occ: np.ndarray
    at: np.ndarray
    half_life: float


def parts_of(feature: Feature) -> tuple[Part, ...]:
    """What a feature is made of, in the order in which `formula` takes it."""
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


def formula(feature: Feature, parts: list[np.ndarray], at: np.ndarray) -> np.ndarray:
    """A feature from its parts."""
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


class Events:
    """Narrow events of one range of customers, as arrays.

    Args:
        table: As `ranges.split` gives it, with numbers in place of texts.
        texts: The texts of each such column.
        layout: What its columns hold.
        start: The first customer's number.
    """

    def __init__(self, table: pa.Table, texts: dict[str, pa.Array], layout: Layout, start: int) -> None:
        self._table, self._texts, self._layout = table, texts, layout
        self.code = table["code"].to_numpy().astype(np.int64) - start
        self.occ, self.seen = table["occ"].to_numpy(), table["seen"].to_numpy()
        self._read: dict[str, np.ndarray] = {}
        names = self._column("event_code")
        self._order = np.argsort(names, kind="stable")  # those of one name are neighbours
        self._edges = np.bincount(names + 1, minlength=len(layout.events) + 2).cumsum()

    def meant(self, key: Key) -> np.ndarray | slice:
        """Which events a key means."""
        names, channels, where = key
        out: np.ndarray | slice = slice(None)
        if names:
            places = [self._layout.events.index(name) + 1 for name in names]
            out = np.concatenate([self._order[self._edges[place] : self._edges[place + 1]] for place in places])
        masks = [self._column(self._layout.columns["where", name, value])[out] == 1 for name, value in where]
        if channels:
            known = np.array([False, *(name in channels for name in self._layout.channels)])
            masks.append(known[self._column("channel_code")[out]])
        if not masks:
            return out
        met = np.flatnonzero(np.logical_and.reduce(masks))
        return met if isinstance(out, slice) else out[met]

    def numbers(self, name: str) -> np.ndarray:
        """A property; NaN (or infinite) where there is none."""
        return self._column(self._layout.columns["number", name, ""])

    def texts(self, name: str) -> tuple[np.ndarray, pa.Array]:
        """A property as the place of its text, -1 where there is none; and the texts."""
        column = self._layout.columns["text", name, ""]
        return self._column(column), self._texts[column]

    def in_order(self, events: np.ndarray) -> np.ndarray:
        """Places of some events in the order of when they occurred, at the same time that of event_id."""
        order = np.argsort(self.occ[events], kind="stable")
        times = self.occ[events][order]
        again = times[1:] == times[:-1]
        tied = np.flatnonzero(np.append(again, False) | np.append(False, again))
        if len(tied):
            ids = self._table[self._layout.columns["text", "event_id", ""]].take(events[order[tied]])
            names = ids.to_numpy(zero_copy_only=False).astype(str)
            order[tied] = order[tied][np.lexsort((names, times[tied]))]
        return order

    def _column(self, name: str) -> np.ndarray:
        if name not in self._read:
            self._read[name] = self._table[name].to_numpy()
        return self._read[name]


def add_up(parts: Sequence[Part], events: Events, rows: Rows) -> dict[Part, np.ndarray]:
    """Each part at each row; missing is NaN (last of a text: None)."""
    found: dict[Part, np.ndarray] = {}
    widest_first = sorted(parts, key=lambda part: (part.key, -(part.window or np.inf)))
    for key, mine in groupby(widest_first, key=lambda part: part.key):
        which = events.meant(key)
        code, occ = events.code[which], events.occ[which]
        lo = rows.after(code, events.seen[which])
        which = np.arange(len(lo)) if isinstance(which, slice) else which
        for window, some in groupby(mine, key=lambda part: part.window):
            hi = rows.after(code, None if window is None else occ + window)
            live = np.flatnonzero(lo < hi)
            if len(live) < len(lo):
                which, code, occ, lo, hi = (array[live] for array in (which, code, occ, lo, hi))
            for part in some:
                found[part] = _part(part, events, rows, (which, lo, hi))
    return found


def outcome(label: Label, events: Events, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """At each row: whether the label's event occurs in the horizon, and whether it occurred before or at the cutoff."""
    meant = events.meant(label.which())
    code, occ = events.code[meant], events.occ[meant]
    start = occ - label.purge * DAY
    hits = _count(rows.after(code, start - label.horizon * DAY - 1), rows.after(code, start - 1), len(rows.at))
    return hits > 0, _count(rows.after(code, occ - 1), rows.after(code, None), len(rows.at)) > 0


def _part(part: Part, events: Events, rows: Rows, runs: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """One part at each row, from events and the run of rows that sees each."""
    which, lo, hi = runs
    size, occ = len(rows.at), events.occ[which]
    if part.op == "n":
        return _count(lo, hi, size).astype(float)
    if part.op == "gap_std":
        return _gap_std(lo, hi, occ, rows)
    if part.op in ("first", "latest"):
        return spread(lo, hi, occ.astype(float), size, np.minimum if part.op == "first" else np.maximum)
    value, texts = np.ones(len(which)), None
    if part.text and part.property:
        value, texts = events.texts(part.property)
        value = value[which]
        known = np.flatnonzero(value >= 0)
    elif part.property:
        value = events.numbers(part.property)[which]
        known = np.flatnonzero(np.isfinite(value))
    if part.property and len(known) < len(which):
        which, lo, hi, value, occ = which[known], lo[known], hi[known], value[known], occ[known]
    match part.op:
        case "values":
            return _count(lo, hi, size).astype(float)
        case "sum":
            return spread(lo, hi, value, size, np.add)
        case "min" | "max":
            return spread(lo, hi, value, size, np.minimum if part.op == "min" else np.maximum)
        case "decayed":
            decay = Decay(occ, rows.at, DAY * float(part.half_life or 1))
            return spread(lo, hi, value, size, np.add, decay=decay)
        case "distinct":
            return _distinct(lo, hi, value.astype(np.int64), size)
    order = events.in_order(which)
    rank = np.empty(len(order))
    rank[order] = np.arange(len(order))
    newest = spread(lo, hi, rank, size, np.maximum)
    out = np.full(size, np.nan) if texts is None else np.full(size, None, object)
    known = np.flatnonzero(~np.isnan(newest))
    value = value[order[newest[known].astype(np.int64)]]
    out[known] = value if texts is None else texts.take(pa.array(value)).to_numpy(zero_copy_only=False)
    return out


def spread(
    lo: np.ndarray, hi: np.ndarray, value: np.ndarray, size: int, combine: Any, *, decay: Decay | None = None
) -> np.ndarray:
    """The sum, least or greatest of the values whose run [lo, hi) covers each row.

    Args:
        lo: The first row of each run.
        hi: The row behind its last.
        value: What is combined.
        size: How many rows there are.
        combine: np.add, np.minimum or np.maximum.
        decay: How values halve with age, in a sum.
    Returns:
        Shape (size,): 0 for a sum of none, NaN for the least and greatest of none.
    """
    adds = combine is np.add
    empty = 0.0 if adds else np.inf if combine is np.minimum else -np.inf
    length = hi - lo
    out = np.full(size, empty)
    for level in reversed(range(int(length.max(initial=0)).bit_length())):
        step = 1 << level
        halves = out[:-step]  # of pieces twice as long; the second begins a step later
        if decay:
            halves = halves * np.exp2(np.minimum(decay.at[:-step] - decay.at[step:], 0) / decay.half_life)
        out[step:] = combine(out[step:], halves)
        mine = np.flatnonzero(length & step)
        start, whole = lo[mine] + (length[mine] >> level + 1 << level + 1), value[mine]
        if decay:
            whole = whole * np.exp2((decay.occ[mine] - decay.at[start]) / decay.half_life)
        if adds:
            out += np.bincount(start, whole, size)
        else:
            combine.at(out, start, whole)
    return out if adds else np.where(np.isinf(out), np.nan, out)


def _count(lo: np.ndarray, hi: np.ndarray, size: int) -> np.ndarray:
    """How many runs cover each row: those that have begun less those that have ended; a run may be empty."""
    return (np.bincount(lo, minlength=size + 1) - np.bincount(hi, minlength=size + 1)).cumsum()[:size]


def _distinct(lo: np.ndarray, hi: np.ndarray, value: np.ndarray, size: int) -> np.ndarray:
    """How many values cover each row; of a value's runs each counts from where those before it end."""
    base, longest = value * (size + 1), (hi - lo).max(initial=0) + 1
    packed = np.sort((base + lo) * longest + hi - lo)  # one number sorts much faster than an order of two
    start = packed // longest
    end = start + packed % longest
    start[1:] = np.maximum(start[1:], np.maximum.accumulate(end)[:-1])
    new = start < end
    return _count(start[new] % (size + 1), end[new] % (size + 1), size).astype(float)


def _gap_std(lo: np.ndarray, hi: np.ndarray, occ: np.ndarray, rows: Rows) -> np.ndarray:
    """Which events are neighbours depends on what had been received: each row looks at its own."""
    out = np.full(len(rows.at), np.nan)
    order = np.lexsort((occ, rows.code[lo]))
    code, lo, length, occ = rows.code[lo][order], lo[order], (hi - lo)[order], occ[order]
    before = (length.cumsum() - length)[np.searchsorted(code, code)]  # of other customers: these stay together
    for some in np.split(np.arange(len(lo)), np.flatnonzero(np.diff(before // REPEATED)) + 1):
        if len(some) == 0:
            continue
        total = length[some].cumsum()
        event = np.repeat(np.arange(len(some)), length[some])
        row = np.arange(len(event)) - np.repeat(total - length[some] - lo[some], length[some])
        row, event = np.divmod(np.sort(row * len(some) + event), len(some))
        first = int(row[0])
        row -= first
        gap, whose = np.diff(occ[some][event]) / DAY, row[1:]
        inside = whose == row[:-1]
        gap, whose = gap[inside], whose[inside]
        n = np.bincount(whose)
        several = np.flatnonzero(n > 1)
        mean = np.bincount(whose, gap) / np.maximum(n, 1)
        squares = np.bincount(whose, (gap - mean[whose]) ** 2)
        out[first + several] = np.sqrt(squares[several] / (n[several] - 1))
    return out
