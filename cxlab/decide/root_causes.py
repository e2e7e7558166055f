"""Root causes: the segments and conditions that raise the risk most, beyond luck and beyond those found before.

    causes = root_causes(calls)          # of `assess`
    causes.frame(); causes.plot()

Candidates are the values of the segments, of the params' conditions (numbers cut at their quantiles) and periods, and
pairs of them, with enough calls; columns of more than 200 values are left out. No candidate lies in a column that a
high rule of the area asks about: it would explain the score by itself. Candidates are named before the risks are looked
at.

One is taken at a time, the one with the strongest evidence, the least p: that of its high calls beyond what calls that
are alike in all causes taken before would lead to (`chance.upper_tail`). So a correlate of a cause taken before has
nothing left to explain, and of a pair and its halves the one wins that the excess is confined to. Calls of one agent
count for less than as many of different ones (the params' cluster).

All candidates are adjusted together at every step (Benjamini and Hochberg 1995), at half the rate for each of two
areas, and the search ends where none is left. So where nothing raises any risk, the chance to tell a cause is held to
`false_discoveries`. Causes after the first are tested given those before: that holds the rate of each step, not of all.
Effects are of calls as they happened: a cause here is a condition under which to look, not yet what to mend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cxlab.decide.chance import cluster_codes, correlation, design_effect, sizes, upper_tail
from cxlab.decide.risk import grouped
from cxlab.decide.risk_rules import CallRisks
from cxlab.display import Result, axes, interval_plot, row_height, sentence
from cxlab.metrics.bootstrap import wilson
from cxlab.metrics.rates import groups
from cxlab.params.risk import DERIVED, Area, CauseParams

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KNOWN_HIGH = 5  # high calls within, below which a candidate is not told whatever its p
MOST_VALUES = 200  # of a column; with more it names calls rather than segments


@dataclass(frozen=True, repr=False, eq=False)
class RootCauses(Result):
    """What raises the risk.

    Attributes:
        rows: See `frame`.
        tested: Candidates by area.
        alike: Intra-cluster correlation by area, at the first step; 0 where no cluster is known.
        cluster: The column of what calls share, None if they were taken for independent.
        false_discoveries: The rate that is held.
    """

    title: ClassVar[str] = "What raises the risk?"

    rows: pd.DataFrame = field(repr=False)
    tested: dict[Area, int]
    alike: dict[Area, float]
    cluster: str | None
    false_discoveries: float

    @property
    def note(self) -> str:  # type: ignore[override]
        tests = ", ".join(f"{count:,} of {area}" for area, count in self.tested.items())
        which = f"calls of one {self.cluster} are alike" if self.cluster else "calls are taken for independent"
        return (
            f"Candidates: {tests or 'none'}; false discovery rate {self.false_discoveries:.0%}; {which}. Each cause is "
            "compared with calls that are alike in the causes above it. It says where to look, not what to mend."
        )

    def frame(self) -> pd.DataFrame:
        """A row a cause, in the order found, which is that of evidence.

        area, place (1 is the first), cause (as `carrier=gamma & site=home`), calls and high within, share (high /
        calls), expected (share of comparable calls outside), difference with low and high_bound, ratio (share /
        expected), excess (high calls that would not be there at the expected share), attributable (excess over all high
        calls of the area), p and p_adjusted. Intervals are Newcombe's (1998, method 10), with effective numbers of
        calls, at the level that belongs to the adjustment (Benjamini and Yekutieli 2005).
        """
        return self.rows

    def plot(self) -> Axes:
        """How much each cause raises the share of high calls."""
        if self.rows.empty:
            return sentence(self.title, "No segment or condition raises the risk beyond luck.")
        ax = axes(self.title, height=row_height(self.rows))
        labels = [f"{row['area']}: {row['cause']}" for row in self.rows.to_dict("records")]
        interval_plot(
            ax, labels, self.rows["difference"], self.rows["low"], self.rows["high_bound"], reference=0.0
        ).set_xlabel("share of high-risk calls, beyond comparable calls")
        return ax


@dataclass(frozen=True)
class _Column:
    """A column of candidates: codes from 0 on, and what each stands for."""

    name: str
    codes: np.ndarray
    labels: tuple[str, ...]


@dataclass(frozen=True)
class _Cell:
    """A candidate: one value of one column, or of two."""

    parts: tuple[tuple[_Column, int], ...]

    @property
    def text(self) -> str:
        return " & ".join(f"{column.name}={column.labels[code]}" for column, code in self.parts)

    def mask(self) -> np.ndarray:
        return np.all([column.codes == code for column, code in self.parts], axis=0)


def root_causes(calls: CallRisks, areas: Sequence[Area] | None = None) -> RootCauses:
    """Looks for what raises the share of high calls.

    Args:
        calls: What `assess` gives; of each area those calls count of which high can be told.
        areas: Which; those that are measured if None.
    Returns:
        Causes of each area. None where nothing raises the risk, or nothing can be told.
    """
    told, chosen = calls.params.causes, tuple(calls.risk) if areas is None else tuple(areas)
    cluster = calls.params.cluster if calls.params.cluster in calls.source else None
    codes = None if cluster is None else cluster_codes(calls.source[cluster])
    columns = _columns(calls)
    parts: list[dict[str, Any]] = []
    tested: dict[Area, int] = {}
    alike: dict[Area, float] = {}
    for area in chosen:
        if area not in calls.risk:
            continue
        seen = calls.told(area)
        asked = _asked(calls, area)
        mine = [_Column(c.name, c.codes[seen], c.labels) for c in columns if c.name not in asked]
        search = _Search(mine, calls.high(area)[seen], None if codes is None else codes[seen], told)
        rows = search.run(told.false_discoveries / len(calls.risk if areas is None else chosen))
        parts += [{"area": area, "place": place, **row} for place, row in enumerate(rows, 1)]
        tested[area], alike[area] = len(search.cells), search.alike
    return RootCauses(pd.DataFrame(parts, columns=COLUMNS), tested, alike, cluster, told.false_discoveries)


COLUMNS = ["area", "place", "cause", "calls", "high", "share", "expected", "difference", "low", "high_bound", "ratio"]
COLUMNS += ["excess", "attributable", "p", "p_adjusted"]


def _asked(calls: CallRisks, area: Area) -> set[str]:
    """Columns that the high rules of an area ask about."""
    names = {item.measure for rule in calls.rules(area) for item in rule.when}
    if names & set(DERIVED):
        names |= {"hold_seconds", "mute_seconds", "handle_seconds"}
    return {calls.params.columns.get(name, name) for name in names}


def _columns(calls: CallRisks) -> list[_Column]:
    params, found = calls.params, []
    timed = params.columns.get("time") in calls.source
    named = dict.fromkeys([*params.segments, *params.causes.conditions])
    for name in (*(x for x in named if x in calls.source), *(params.causes.times if timed else ())):
        group = grouped(calls, name)
        if name in calls.source and pd.api.types.is_float_dtype(calls.source[name]):
            group = groups(calls.source[name]).cat.remove_unused_categories()
        if 2 <= len(group.cat.categories) <= MOST_VALUES:
            labels = tuple(str(label) for label in group.cat.categories)
            found.append(_Column(name, group.cat.codes.to_numpy().astype(np.int64), labels))
    return found


class _Search:
    """One cause after another, in one area.

    Attributes:
        cells: The candidates.
        clustered: Calls of a cluster among the calls of each, as `chance.sizes` has them, shape (c,).
        alike: The intra-cluster correlation before any cause is taken.
    """

    def __init__(self, columns: list[_Column], high: np.ndarray, cluster: np.ndarray | None, told: CauseParams) -> None:
        self.high, self.cluster, self.told = high, cluster, told
        self.stratum = np.zeros(len(high), np.int64)
        self.cells: list[_Cell] = []
        self.alike = 0.0
        self._sets: list[tuple[np.ndarray, int, np.ndarray]] = []  # the cell of each call, how many, the candidates
        clustered: list[np.ndarray] = []
        counts = {c.name: np.bincount(c.codes, minlength=len(c.labels)) for c in columns}
        for of in [(c,) for c in columns] + (list(combinations(columns, 2)) if told.pairs else []):
            shape = tuple(len(c.labels) for c in of)
            cell = np.ravel_multi_index(tuple(c.codes for c in of), shape)
            n = np.bincount(cell, minlength=int(np.prod(shape)))
            places = np.unravel_index(np.arange(len(n)), shape)
            fits = (n >= told.least_calls) & (len(high) - n >= told.least_calls)
            if len(of) > 1:  # a pair that is the whole of one of its halves says nothing new
                fits &= np.all([n < counts[c.name][place] for c, place in zip(of, places, strict=True)], axis=0)
            here = np.flatnonzero(fits)
            self._sets.append((cell, len(n), here))
            self.cells += [_Cell(tuple((c, int(p[i])) for c, p in zip(of, places, strict=True))) for i in here]
            clustered.append(np.ones(len(here)) if cluster is None else sizes(cluster, cell, len(n))[here])
        self.clustered = np.concatenate(clustered) if clustered else np.ones(0)

    def run(self, rate: float) -> list[dict[str, Any]]:
        """The causes, in the order found."""
        from scipy import stats

        rows: list[dict[str, Any]] = []
        while len(rows) < self.told.most and self.cells and self.high.any():
            rho = 0.0
            if self.cluster is not None:
                rho = correlation(self.high.astype(np.float64), self.cluster, self.stratum)
            self.alike = rho if not rows else self.alike
            table = self._evidence(rho)
            table["p_adjusted"] = stats.false_discovery_control(table["p"], method="bh")
            found = table[table["p_adjusted"] <= rate]
            within = 1 - rate * max(1, len(found)) / len(table)
            found = found[(found["high"] >= KNOWN_HIGH) & (found["ratio"] >= self.told.least_ratio)]
            if found.empty:
                break
            found = found.sort_values(["p", "z"], ascending=[True, False], kind="stable")
            cell = self.cells[int(found.index.to_numpy()[0])]
            rows.append({"cause": cell.text, **self._told(found.iloc[0], within)})
            _, self.stratum = np.unique(2 * self.stratum + cell.mask(), return_inverse=True)
        return rows

    def _evidence(self, rho: float) -> pd.DataFrame:
        """Of every candidate, given the strata: p, z, its design effect, and what `_effect` tells."""
        strata = int(self.stratum.max()) + 1
        whole = np.bincount(self.stratum, minlength=strata).astype(np.float64)[:, None]
        bad = np.bincount(self.stratum[self.high], minlength=strata).astype(np.float64)[:, None]
        calls: list[np.ndarray] = []
        high: list[np.ndarray] = []
        for cell, many, here in self._sets:
            place = cell + self.stratum * many
            for counts, of in ((calls, place), (high, place[self.high])):
                counts.append(np.bincount(of, minlength=strata * many).reshape(strata, -1)[:, here])
        n, k = np.concatenate(calls, axis=1).astype(np.float64), np.concatenate(high, axis=1).astype(np.float64)
        deff = design_effect(rho, self.clustered)
        p, z = upper_tail(n, k, whole, bad, deff)
        return pd.DataFrame({"p": p, "z": z, "deff": deff, **_effect(n, k, whole, bad)})

    def _told(self, best: pd.Series, level: float) -> dict[str, Any]:
        """A cause in the frame's words."""
        share, expected = best["high"] / best["calls"], best["expected"] / best["calls"]
        n, outside = best["calls"] / best["deff"], best["outside"] / best["deff"]
        ends = [wilson(p * size, size, level=level) for p, size in ((share, n), (expected, outside))]
        (low1, high1), (low0, high0) = ((float(a), float(b)) for a, b in ends)
        gap = share - expected
        return {
            "calls": int(best["calls"]),
            "high": int(best["high"]),
            "share": share,
            "expected": expected,
            "difference": gap,
            "low": gap - float(np.hypot(share - low1, high0 - expected)),
            "high_bound": gap + float(np.hypot(high1 - share, expected - low0)),
            "ratio": best["ratio"],
            "excess": best["high"] - best["expected"],
            "attributable": (best["high"] - best["expected"]) / float(self.high.sum()),
            "p": best["p"],
            "p_adjusted": best["p_adjusted"],
        }


def _effect(n: np.ndarray, k: np.ndarray, whole: np.ndarray, bad: np.ndarray) -> dict[str, np.ndarray]:
    """Calls within a candidate, and what they would be at the shares of the calls outside; arguments as `upper_tail`.

    Strata without calls on both sides say nothing of effects and are left out. `outside` is the effective number of
    calls compared with: that of a mean weighted by the calls within.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        some = (n < whole) & (n > 0)
        calls, high = np.where(some, n, 0.0).sum(axis=0), np.where(some, k, 0.0).sum(axis=0)
        expected = np.where(some, n * (bad - k) / (whole - n), 0.0).sum(axis=0)
        effective = calls**2 / np.where(some, n**2 / (whole - n), 0.0).sum(axis=0)
        ratio = np.where(expected > 0, high / expected, np.where(high > 0, np.inf, np.nan))
    return {"calls": calls, "high": high, "expected": expected, "outside": effective, "ratio": ratio}
