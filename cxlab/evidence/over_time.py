"""The same data by period: has the world moved while they were gathered?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from scipy import stats

from cxlab.data.schema import Column, Schema
from cxlab.data.split import NO_TIME, times
from cxlab.display import PALETTE, Result, axes_grid, sentence
from cxlab.errors import DataError
from cxlab.evidence.shift import MIN_WEIGHT, weights_of
from cxlab.metrics.bootstrap import wilson
from cxlab.models.subject import Subject
from cxlab.params import ROW_ORDER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PSI_LOUD = 0.25  # Siddiqi (2006), Credit risk scorecards, chapter 8: a major shift; from 0.1 a minor one
RATE_LOUD, P_LOUD = 0.05, 0.001  # difference of outcome rates between periods, and how often chance may claim one


@dataclass(frozen=True, repr=False)
class OverTime(Result):
    """The same data by period, against the first period.

    Attributes:
        rows: One a period and measure: `period, start, end, measure, n, value, low, high`; empty where no column
            tells time. Measures: `outcome rate`, `mean score` of rows not learnt from, and `PSI of COLUMN`.
        loud: What moved, in words.
    """

    rows: pd.DataFrame = field(repr=False)
    loud: tuple[str, ...]

    title: ClassVar[str] = "Over time"

    @property
    def applies(self) -> bool:
        return not self.rows.empty

    @property
    def moved(self) -> bool:
        return bool(self.loud)

    @property
    def note(self) -> str:  # type: ignore[override]
        if not self.applies:
            return NO_TIME
        if not self.loud:
            return "Nothing moved by much between the first period and the later ones."
        return f"THE WORLD MOVED: {'; '.join(self.loud)}. Trust what the latest periods say."

    def frame(self) -> pd.DataFrame:
        return self.rows

    def plot(self) -> Axes:
        """A small drawing a measure."""
        if not self.applies:
            return sentence(self.title, self.note)
        parts = list(self.rows.groupby("measure", sort=False))
        grid = axes_grid([str(name) for name, _ in parts])
        for ax, (_, part) in zip(grid, parts, strict=True):
            ax.vlines(part["period"], part["low"], part["high"], color=PALETTE[0], linewidth=2)
            ax.plot(part["period"], part["value"], "o-", color=PALETTE[0], markersize=4)
            ax.set_ylim(bottom=0)
        return grid[0]


def over_time(
    subject: Subject, *, periods: int = 6, importance: Mapping[str, float] | None = None, most: int = 4
) -> OverTime:
    """Outcome rate, score and columns by period, each with about as many rows; rows of one time stay together.

    PSI, the population stability index of Siddiqi (2006), is the sum of (q - p) log(q / p) over the bins; two samples
    of one world already have (bins - 1)(1/n + 1/m) of it (Yurdakul and Naranjo 2020), which is not held against them.

    Args:
        subject: The model and its data; `data.time` says when.
        periods: How many, >= 2.
        importance: See `drift.compare_samples`.
        most: Columns shown: those that moved most, weighed by their use.
    Raises:
        DataError: times cannot be read, or are all equal.
    """
    table = subject.table
    if table.roles.time is None:
        return OverTime(pd.DataFrame(), ())
    when, outcome = times(table), table.outcome()
    place = np.unique(np.sort(when)[[round(len(when) * i / periods) for i in range(1, periods)]])
    period = np.searchsorted(place, when, side="right")
    parts = [np.flatnonzero(period == number) for number in np.unique(period)]
    if len(parts) < 2:
        raise DataError("All rows have one time; drift over time needs data.time with more than one value.")
    score = np.full(len(when), np.nan)
    score[subject.valid_rows] = subject.score_valid
    if table.test is None:
        score[subject.split.test] = subject.score_test
    moments = pd.Series(when) if table.roles.time == ROW_ORDER else table.frame[table.roles.time]
    columns, loud = _instability(subject.model.schema, table.frame, parts, importance, most)
    rows: list[tuple[Any, ...]] = []
    for number, part in enumerate(parts):
        order = part[np.argsort(when[part], kind="stable")]
        head = (number + 1, str(moments.iloc[order[0]]), str(moments.iloc[order[-1]]))
        hits, scored = int(outcome[part].sum()), score[part][np.isfinite(score[part])]
        low, high = wilson(hits, len(part))
        rows.append((*head, "outcome rate", len(part), hits / len(part), float(low), float(high)))
        mean = float(scored.mean()) if len(scored) else np.nan
        half = 1.96 * float(scored.std()) / max(len(scored), 1) ** 0.5 if len(scored) else np.nan
        rows.append((*head, "mean score", len(scored), mean, mean - half, mean + half))
        rows += [(*head, f"PSI of {name}", len(part), psi[number], np.nan, np.nan) for name, psi in columns.items()]
    rates = np.array([outcome[part].mean() for part in parts])
    counts = np.array([[outcome[part].sum(), (1 - outcome[part]).sum()] for part in parts])
    if np.ptp(rates) >= RATE_LOUD and stats.chi2_contingency(counts).pvalue < P_LOUD:
        span = f"between {rates.min():.0%} and {rates.max():.0%}"
        loud.insert(0, f"the outcome's rate went from {rates[0]:.0%} to {rates[-1]:.0%}, {span}")
    names = ["period", "start", "end", "measure", "n", "value", "low", "high"]
    return OverTime(pd.DataFrame(rows, columns=names), tuple(loud))


def _instability(
    schema: Schema, frame: pd.DataFrame, parts: list[np.ndarray], importance: Mapping[str, float] | None, most: int
) -> tuple[dict[str, list[float]], list[str]]:
    """PSI by period of the columns that moved most, and those that moved loudly."""
    encoded, weights = schema.encode(frame), weights_of(schema.names, importance)
    every, loud = {}, []
    for column in schema.columns:
        codes = _bins(column, encoded[column.name].to_numpy(), parts[0])
        shares = [(np.bincount(codes[part], minlength=codes.max() + 1) + 0.5) for part in parts]
        shares = [count / count.sum() for count in shares]
        psi = [float(((q - shares[0]) * np.log(q / shares[0])).sum()) for q in shares]
        luck = [codes.max() * (1 / len(parts[0]) + 1 / len(part)) for part in parts]
        every[column.name] = psi
        if weights[column.name] >= MIN_WEIGHT and max(np.subtract(psi, luck)) > PSI_LOUD:
            loud.append((weights[column.name] * max(psi), f"{column.name} is not what it was (PSI {max(psi):.2f})"))
    top = sorted(every, key=lambda name: -weights[name] * max(every[name]))[:most]
    return {name: every[name] for name in top}, [text for _, text in sorted(loud, reverse=True)[:most]]


def _bins(column: Column, values: np.ndarray, first: np.ndarray, bins: int = 10) -> np.ndarray:
    """Tenths of the first period's numbers, or its commonest categories; missing values are a bin, others one."""
    if column.kind == "number":
        known = values[first][np.isfinite(values[first])]
        cuts = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1])) if len(known) else np.array([])
        return np.where(np.isnan(values), len(cuts) + 1, np.searchsorted(cuts, values, side="left"))
    common = pd.Series(values[first]).value_counts().index[: 2 * bins]
    codes = common.get_indexer(pd.Index(values))
    return np.where(codes < 0, len(common), codes)
