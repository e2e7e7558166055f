"""What comes after what, then and now: for each event, whether another one follows in the test part than in training.

found = transition_drift(prefixes)
found.moved         # in words
found.frame()       # one row an event
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from cxlab.data.log import LogTable
from cxlab.data.split import Split
from cxlab.display import GREY, PALETTE, Result, axes, sentence
from cxlab.evidence.shift import ALPHA, RARE
from cxlab.features.prefixes import PrefixSchema
from cxlab.metrics.multiplicity import adjusted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEWEST = 50  # cases with the event, in either part, below which nothing is compared
SMALLEST = 0.1  # of Cramer's V, a small effect by Cohen (1988, Statistical power analysis, section 7.2)


@dataclass(frozen=True, repr=False, eq=False)
class TransitionDrift(Result):
    """Whether what comes next has moved, event by event.

    Attributes:
        rows: See `frame`.
        shares: One row an event and a next one: event, next, train, test (shares of its rows).
        censored: Training rows left out, as it was not known yet what came next.
    """

    rows: pd.DataFrame = field(repr=False)
    shares: pd.DataFrame = field(repr=False)
    censored: int

    title: ClassVar[str] = "Does the same come after the same?"

    @property
    def note(self) -> str:  # type: ignore[override]
        left = f" Left out are {self.censored:,} training rows whose next event was not known." if self.censored else ""
        return (
            "Of the rows with an event, what came next in training cases against test cases. The test allows for rows "
            "of one case that depend on one another (Rao and Scott 1984, On chi-squared tests for multiway contingency "
            f"tables, second order); adjusted together (Benjamini-Hochberg, {ALPHA:.0%}). Moved is what is significant "
            f"and has a Cramer's V of at least {SMALLEST:g}; an event in fewer than {FEWEST} cases of either part "
            f"cannot tell.{left}"
        )

    @property
    def moved(self) -> tuple[str, ...]:
        """What moved, in words, the largest first."""
        told = self.rows[self.rows["verdict"] == "moved"]
        return tuple(f"after {row.event!r} {row.reason}" for row in told.itertuples())

    @property
    def compared(self) -> int:
        """Events that could be compared."""
        return int((self.rows["verdict"] != "cannot tell").sum())

    def frame(self) -> pd.DataFrame:
        """One row an event, what moved most first: event, n_train, cases_train, n_test, cases_test, statistic, p,
        p_adjusted, size (Cramer's V), verdict, reason."""
        return self.rows.copy()

    def plot(self, most: int = 15) -> Axes:
        """Sizes of the events that moved most; dashed is from where on it matters."""
        shown = self.rows[self.rows["verdict"] != "cannot tell"].head(most)
        if shown.empty:
            return sentence(self.title, f"No event is in {FEWEST} cases of both parts.")
        ax = axes("What comes next: Cramer's V, training against test", height=1.2 + 0.3 * max(3, len(shown)))
        colours = {"moved": PALETTE[1], "stable": PALETTE[0]}
        ax.barh(range(len(shown)), shown["size"], color=[colours[verdict] for verdict in shown["verdict"]])
        ax.axvline(SMALLEST, color=GREY, linewidth=1, linestyle="--")
        ax.set_yticks(range(len(shown)), [f"after {row.event}: {row.verdict}" for row in shown.itertuples()])
        ax.invert_yaxis()
        return ax


class _Rows(NamedTuple):
    """Rows of which it is known what came next, as codes: their events, what followed, and whose they are."""

    events: np.ndarray
    following: np.ndarray
    case: np.ndarray

    def at(self, which: np.ndarray) -> _Rows:
        return _Rows(*(part[which] for part in self))


def _rows_of(table: LogTable, schema: PrefixSchema) -> _Rows:
    frame = table.frame
    return _Rows(schema.codes(frame[schema.roles.event]), schema.following(frame), table.cases)


def transition_drift(table: LogTable, schema: PrefixSchema, split: Split) -> TransitionDrift:
    """Compares what follows each event in training and in test cases.

    Args:
        table: The log.
        schema: Which events there are.
        split: Which rows trained and which tested.
    """
    known, rows = ~table.last | table.ended, _rows_of(table, schema)
    censored = _censor(known, split)
    before, now = (rows.at(part[known[part]]) for part in (split.train, split.test))
    return _compare_rows(before, now, schema.labels, censored)


def transitions_to(log: LogTable, schema: PrefixSchema, table: LogTable, split: Split) -> TransitionDrift:
    """Compares what follows each event in training cases and in another log, whose cases may be open.

    Where no event is declared to end a case, ends of cases are not compared.

    Args:
        log: The other log.
        schema: Which events there are.
        table: The log of the training cases.
        split: Which of its rows trained.
    """
    ends = bool(table.roles.ends)
    known, there = (~each.last | (each.ended & ends) for each in (table, log))
    censored = _censor(known, split)
    before = _rows_of(table, schema).at(split.train[known[split.train]])
    return _compare_rows(before, _rows_of(log, schema).at(np.flatnonzero(there)), schema.labels, censored)


def _censor(known: np.ndarray, split: Split) -> int:
    """Marks the training rows that were censored as not known, and counts them."""
    if split.censored is None:
        return 0
    known[split.train[split.censored]] = False
    return len(split.censored)


def _compare_rows(before: _Rows, now: _Rows, labels: Sequence[str], censored: int) -> TransitionDrift:
    lines, shares, names = [], [], np.array(labels, object)
    for code in range(len(labels) - 1):
        own = [part.at(part.events == code) for part in (before, now)]
        n, distinct = [len(part.case) for part in own], [len(np.unique(part.case)) for part in own]
        if not sum(n):
            continue
        counted = [np.bincount(part.following, minlength=len(labels)) for part in own]
        if min(distinct) < FEWEST:
            few = f"{distinct[0]:,} training and {distinct[1]:,} test cases, must be at least {FEWEST} of both"
            lines.append((labels[code], n[0], distinct[0], n[1], distinct[1], np.nan, np.nan, np.nan, few))
            continue
        statistic, p, size = _compared([part.following for part in own], [part.case for part in own])
        was, is_ = (count / count.sum() for count in counted)
        most = int(np.argmax(np.abs(is_ - was)))
        said = f"{labels[most]!r} went from {was[most]:.1%} to {is_[most]:.1%}"
        lines.append((labels[code], n[0], distinct[0], n[1], distinct[1], statistic, p, size, said))
        seen = np.flatnonzero(counted[0] + counted[1])
        shares += [(labels[code], names[then], was[then], is_[then]) for then in seen]
    columns = ["event", "n_train", "cases_train", "n_test", "cases_test", "statistic", "p", "size", "reason"]
    rows = _decided(pd.DataFrame(lines, columns=columns))
    return TransitionDrift(rows, pd.DataFrame(shares, columns=["event", "next", "train", "test"]), censored)


def _decided(rows: pd.DataFrame) -> pd.DataFrame:
    """With verdicts, what moved first, then by size."""
    p = rows["p"].to_numpy(np.float64)
    together, done = adjusted(p), np.isfinite(p)
    moved = (together < ALPHA) & (rows["size"].to_numpy(np.float64) >= SMALLEST)
    verdict = np.where(~done, "cannot tell", np.where(moved, "moved", "stable"))
    rows.insert(7, "p_adjusted", together)
    rows.insert(9, "verdict", verdict)
    rank = pd.DataFrame({"moved": ~moved, "done": ~done, "size": -rows["size"].fillna(0)})
    return rows.loc[rank.sort_values(["moved", "done", "size"], kind="stable").index].reset_index(drop=True)


def _compared(following: list[np.ndarray], case: list[np.ndarray]) -> tuple[float, float, float]:
    """Statistic, p and Cramer's V of two samples of rows that lie in cases.

    The Pearson statistic is a weighted sum of chi-squares, whose weights are the eigenvalues of the weighted covariance
    of the difference; it is compared with a multiple of a chi-square of the same mean and variance (Satterthwaite
    1946). Rare categories are pooled, as Cochran (1954) asks.
    """
    codes, counts = np.unique(np.concatenate(following), return_counts=True)
    n = np.array([len(part) for part in following], float)
    rare = counts * n.min() / n.sum() < RARE
    place = np.full(codes.max() + 1, -1)
    place[codes[~rare]] = np.arange((~rare).sum())
    k = int((~rare).sum()) + bool(rare.any())
    if k < 2:
        return 0.0, 1.0, 0.0
    place[codes[rare]] = k - 1
    shares = np.array([np.bincount(place[part], minlength=k) / len(part) for part in following])
    pooled = (n[:, None] * shares).sum(axis=0) / n.sum()
    covariance = np.zeros((k, k))
    for part, whose in zip(following, case, strict=True):
        members = np.unique(whose, return_inverse=True)[1]
        m = int(members.max()) + 1
        table = np.zeros((m, k))
        np.add.at(table, (members, place[part]), 1.0)
        off = (table - table.sum(axis=1, keepdims=True) * (table.sum(axis=0) / len(part))) / len(part)
        covariance += off.T @ off * m / (m - 1)
    apart, weight = shares[1] - shares[0], n.prod() / n.sum() / pooled
    pearson = float((weight * apart**2).sum())
    weighted = covariance * weight[:, None]
    mean, square = np.trace(weighted), np.trace(weighted @ weighted)
    size = float(np.sqrt(pearson / n.sum()))
    if mean <= 0:  # all cases are alike within either part
        return pearson, float(stats.chi2.sf(pearson, k - 1)), size
    return pearson * mean / square, float(stats.chi2.sf(pearson * mean / square, mean**2 / square)), size
