"""Customers at cutoffs: which rows of features there are, and which of them see an event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cxlab.errors import DataError, ParamsError, missing_column

MOST_CUTOFFS = 1_000  # that every customer is taken at


class Rows(NamedTuple):
    """Customers at cutoffs, in the order of both.

    Attributes:
        code: The customer of each row, from 0.
        at: Its cutoff in microseconds.
        times: The different cutoffs, ascending.
        keys: code and cutoff as one ascending number; None where every customer is there at every cutoff.
    """

    code: np.ndarray
    at: np.ndarray
    times: np.ndarray
    keys: np.ndarray | None

    @classmethod
    def of(cls, whom: pa.Table, cutoffs: Sequence[int]) -> Rows:
        """Of some lines of `When.whom`, in their order; without `at`, each at every cutoff."""
        code = whom["code"].to_numpy().astype(np.int64)
        code = code - code[:1]
        if "at" not in whom.column_names:
            times = np.array(cutoffs, np.int64)
            return cls(np.repeat(code, len(times)), np.tile(times, len(code)), times, None)
        times, place = np.unique(at := whom["at"].to_numpy(), return_inverse=True)
        return cls(code, at, times, code * (len(times) + 1) + place)

    def after(self, code: np.ndarray, time: np.ndarray | None) -> np.ndarray:
        """The first row of a customer whose cutoff is later; where there is none, or no time, the next customer's."""
        place = len(self.times) if time is None else np.searchsorted(self.times, time, side="right")
        if self.keys is None:
            return code * len(self.times) + place
        return np.searchsorted(self.keys, code * (len(self.times) + 1) + place)


class When(NamedTuple):
    """At which cutoffs: microseconds, ascending; and whose, where pairs were given: customer_id, at, in that order."""

    cutoffs: tuple[int, ...]
    pairs: pd.DataFrame | None

    @classmethod
    def of(cls, when: Any) -> When:
        if not isinstance(when, pd.DataFrame):
            given = [when] if isinstance(when, str) or not isinstance(when, Sequence | pd.Index) else list(when)
            micros = [micros_of(item) for item in given]
            if not micros:
                raise ParamsError("cutoffs == [], must hold at least one. Give times such as 2025-01-01.")
            if twice := [item for item in set(micros) if micros.count(item) > 1]:
                raise DataError(f"Cutoff {iso(min(twice))} is given twice. Give each once.")
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
            raise DataError(f"Pair ({customer}, {iso(cutoff)}) is given twice. Give each pair once.")
        return cls(tuple(sorted(pairs["at"].unique().tolist())), pairs.sort_values(["customer_id", "at"]))

    def customers(self, everyone: pa.Table, *, events: float, rows: float) -> pa.Table:
        """Who gets rows, of all who have events (as `reading.people` gives them), or whom pairs name; by name.

        Returns:
            customer_id; code, its number; first, after which its rows begin (when its first event was seen; with pairs
            long ago); cutoffs, how many it has; piece, the number of its range, ascending from 0: a range has about so
            many events or rows.
        """
        if self.pairs is None:
            some = everyone.filter(pc.field("first") < self.cutoffs[-1])
            first, count = some["first"].to_numpy(), np.full(len(some), len(self.cutoffs))
        else:
            found = self.pairs.groupby("customer_id", sort=True).size()
            names = pa.table({"customer_id": pa.array(found.index, pa.string())})
            some = names.join(everyone, "customer_id").sort_by("customer_id")
            first, count = np.full(len(some), np.iinfo(np.int64).min), found.to_numpy()
        filled = some["events"].fill_null(0).to_numpy() / events + count / rows
        piece = np.unique((filled.cumsum() - filled).astype(np.int64), return_inverse=True)[1]
        numbers = {"code": np.arange(len(some), dtype=np.int32), "first": first, "cutoffs": count, "piece": piece}
        return pa.table({"customer_id": some["customer_id"], **numbers})

    def whom(self, customers: pa.Table) -> pa.Table:
        """The same; where pairs were given, with a line a pair and its cutoff, at."""
        if self.pairs is None:
            return customers
        lines = customers.take(np.repeat(customers["code"], customers["cutoffs"]))
        return lines.append_column("at", pa.array(self.pairs["at"].to_numpy()))


def micros_of(when: Any) -> int:
    """A time as microseconds since 1970 UTC."""
    try:
        at = pd.Timestamp(when)
    except (ValueError, TypeError):
        raise ParamsError(f"cutoff == {when!r}, must be a time such as 2025-01-01.") from None
    if pd.isna(at):
        raise ParamsError(f"cutoff == {when!r}, must be a time such as 2025-01-01.")
    at = at.tz_localize("UTC") if at.tzinfo is None else at.tz_convert("UTC")
    return int(at.as_unit("us").asm8.astype("int64"))


def iso(micros: int) -> str:
    """Microseconds since 1970 UTC in words."""
    return pd.Timestamp(micros, unit="us", tz="UTC").isoformat()
