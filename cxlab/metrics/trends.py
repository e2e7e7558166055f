"""How the outcome and the columns went over time: what a person looks at before splitting a table by time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from scipy import stats

from cxlab.data.schema import MISSING, Column
from cxlab.data.split import times
from cxlab.data.table import Table
from cxlab.display import PALETTE, Result, axes_grid, date_axis, sentence
from cxlab.errors import listed, missing_column
from cxlab.metrics.bootstrap import wilson
from cxlab.params import ROW_ORDER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TIMES = 24  # distinct times up to which each is shown
PERIODS = 12  # into which more of them are cut
LEVEL = 0.95
IN_VIEW = 0.5  # standard deviations that a drawing spans at least, so that a small move looks small
NAMED = 3  # columns that the note names


@dataclass(frozen=True, repr=False)
class Trends(Result):
    """The outcome and the features by time.

    Attributes:
        rows: One a time and column: `time, column, n, value, low, high, meaning`, the outcome first; empty where no
            column tells time. `value` is the outcome's rate, a number's mean, or the share of a text's commonest
            level among the `n` rows that have one; `time` is the first of a period. A mean of one row has no
            interval.
        moves: How far each feature's value went from its lowest to its highest, in standard deviations of the
            feature; the farthest first.
        most: How many features are drawn.
    """

    rows: pd.DataFrame = field(repr=False)
    moves: Mapping[str, float]
    most: int

    title: ClassVar[str] = "The outcome and the columns over time"

    @property
    def applies(self) -> bool:
        return not self.rows.empty

    @property
    def note(self) -> str:  # type: ignore[override]
        if not self.applies:
            return "Not applicable: data.time names no column with two or more times, so nothing says what came later."
        farthest = [f"{name} ({move:.2g})" for name, move in list(self.moves.items())[:NAMED]]
        said = f" Moved most, in standard deviations: {listed(farthest)}." if farthest else ""
        return f"95 % intervals: of a mean by Student's t, of a share by Wilson's formula.{said}"

    def frame(self) -> pd.DataFrame:
        return self.rows

    def plot(self) -> Axes:
        """The outcome's rate, from 0, and the features that moved most, each over half a standard deviation or more."""
        if not self.applies:
            return sentence(self.title, self.note)
        outcome = str(self.rows["column"].iloc[0])
        parts = dict(list(self.rows.groupby("column", sort=False)))
        shown = [outcome, *list(self.moves)[: self.most]]
        grid = axes_grid([_heading(parts[name]) for name in shown])
        for name, ax in zip(shown, grid, strict=True):
            part = parts[name]
            when = part["time"]
            dated = isinstance(when.dtype, pd.DatetimeTZDtype)
            place = when.dt.tz_localize(None) if dated else when
            ax.vlines(place, part["low"], part["high"], color=PALETTE[0], linewidth=2)
            ax.plot(place, part["value"], "o-", color=PALETTE[0], markersize=4, linewidth=1)
            if name == outcome:
                ax.set_ylim(bottom=0)
            else:
                _widen(ax, part["value"], self.moves[name])
            if dated:
                date_axis(ax, most=5)
        return grid[0]


def _heading(part: pd.DataFrame) -> str:
    """A column's name, and what of it is drawn where it is no mean."""
    measure = str(part["meaning"].iloc[0]).partition(":")[0]
    name = str(part["column"].iloc[0])
    return name if measure == "mean" else f"{name}: {measure}"


def _widen(ax: Axes, value: pd.Series, move: float) -> None:
    """Puts at least `IN_VIEW` standard deviations in view; `move` is the span of `value` in that unit."""
    low, high = ax.get_ylim()
    least = IN_VIEW * float(value.max() - value.min()) / move if move > 0 else 0.0
    more = max(0.0, least - (high - low)) / 2
    ax.set_ylim(low - more, high + more)


def trends(table: Table, *, most: int = 8) -> Trends:
    """The outcome's rate and each feature's mean or commonest share, by time.

    Up to 24 distinct times are shown as they are; more are cut into up to 12 periods of about as many rows each, where
    rows of one time stay together.

    Args:
        table: The data; `data.time` says when. Without it the answer does not apply.
        most: How many features are drawn, >= 0: those whose value moved most against their standard deviation.
    Raises:
        ValueError: `most` is negative.
        DataError: The time's column is not there, a time cannot be read, or the target is not binary.
    """
    if most < 0:
        raise ValueError(f"most == {most}, must be >= 0.")
    name = table.roles.time
    if name is None or name == ROW_ORDER:
        return Trends(pd.DataFrame(), {}, most)
    if name not in table.frame:
        raise missing_column(name, map(str, table.frame.columns))
    when = times(table)
    starts, period = _periods(when)
    if len(starts) < 2:
        return Trends(pd.DataFrame(), {}, most)
    numeric = pd.api.types.is_numeric_dtype(table.frame[name])
    moments = pd.Series(starts) if numeric else pd.to_datetime(pd.Series(starts), unit="us", utc=True)
    said = f"share of {table.roles.positive}"
    parts = [_shares(pd.Series(table.outcome(), dtype=float), period, len(starts), str(table.roles.target), said)]
    moves = {}
    for column in (each for each in table.schema().columns if each.name != table.roles.target):
        part, move = _column(column, table, period, len(starts))
        parts.append(part)
        moves[column.name] = move
    rows = pd.concat([part.assign(time=moments) for part in parts], ignore_index=True)
    ordered = dict(sorted(moves.items(), key=lambda item: -item[1]))
    return Trends(rows[["time", "column", "n", "value", "low", "high", "meaning"]], ordered, most)


def _periods(when: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first time of each period, shape (periods,), and each row's period, shape (n,)."""
    distinct, period = np.unique(when, return_inverse=True)
    if len(distinct) <= TIMES:
        return distinct, period
    ordered = np.sort(when)
    borders = np.unique(ordered[[round(len(when) * i / PERIODS) for i in range(1, PERIODS)]])
    starts = np.unique([distinct[0], *borders])
    return starts, np.searchsorted(starts, when, side="right") - 1


def _column(column: Column, table: Table, period: np.ndarray, periods: int) -> tuple[pd.DataFrame, float]:
    """A feature's rows, and how far it moved in its own standard deviations."""
    values = pd.Series(column.encode(table.frame[column.name]))
    meaning = table.meaning(column.name)
    if column.kind == "number":
        values = values.astype(float)
        part, spread = _means(values, period, periods, column.name, _says("mean", meaning)), float(values.std(ddof=0))
    else:
        known = values[values != MISSING]
        common = known.value_counts().sort_index().sort_values(ascending=False, kind="stable").index[:1]
        level = common[0] if len(common) else MISSING
        is_level = (values == level).astype(float).where(values != MISSING)
        part = _shares(is_level, period, periods, column.name, _says(f"share of {level}", meaning))
        spread = float(is_level.std(ddof=0))
    span = float(part["value"].max() - part["value"].min())
    return part, span / spread if spread > 0 and np.isfinite(span) else 0.0


def _says(measure: str, meaning: str) -> str:
    return f"{measure}: {meaning}" if meaning else measure


def _shares(hits: pd.Series, period: np.ndarray, periods: int, name: str, meaning: str) -> pd.DataFrame:
    """The share of ones among the values that are there, by period."""
    found = hits.groupby(period).agg(["count", "sum"]).reindex(range(periods))
    low, high = wilson(found["sum"], found["count"], level=LEVEL)
    value = found["sum"] / found["count"].where(found["count"] > 0)
    return pd.DataFrame(
        {"column": name, "n": found["count"], "value": value, "low": low, "high": high, "meaning": meaning}
    )


def _means(values: pd.Series, period: np.ndarray, periods: int, name: str, meaning: str) -> pd.DataFrame:
    """The mean of the values that are there, by period."""
    found = values.groupby(period).agg(["count", "mean", "std"]).reindex(range(periods))
    error = found["std"] / np.sqrt(found["count"].where(found["count"] > 1))
    half = error * stats.t.ppf((1 + LEVEL) / 2, found["count"].clip(lower=2) - 1)
    low, high = found["mean"] - half, found["mean"] + half
    return pd.DataFrame(
        {"column": name, "n": found["count"], "value": found["mean"], "low": low, "high": high, "meaning": meaning}
    )
