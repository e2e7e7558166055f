"""Which topics rise and which fall: their share of what is said, by period.

trends = find_topics(contacts["text"], times=contacts["at"]).over_time("month")
trends.frame()         # one row a topic: change, its interval, verdict
trends.by_period()     # one row a topic and period: share, of how many, interval
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pandas as pd
from scipy import stats

from cxlab.display import PALETTE, Result, axes_grid, date_axis, sentence
from cxlab.errors import DataError, ParamsError, unknown
from cxlab.metrics.bootstrap import wilson
from cxlab.metrics.multiplicity import adjusted
from cxlab.models.topic_words import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cxlab.models.topics import Topics

Array = np.ndarray
Period = Literal["day", "week", "month"]

PERIODS = {"day": "D", "week": "W-SUN", "month": "M"}  # weeks from Monday on
MOST = 4_000  # periods
PARTS = 24  # of equal length, into which the time is cut to tell a trend from luck
FEWEST = 10  # texts of a topic, and
FEWEST_PARTS = 4  # parts with texts, below which nothing is said of a trend
COVERED = 0.9  # of a first or last period, to count as whole
MATTERS = 0.25  # of a topic's share: a smaller change is none
LEVEL = 0.95  # of intervals
DRAWN = 12  # topics
MOVING = ("rising", "falling")


@dataclass(frozen=True, repr=False, eq=False)
class TopicTrends(Result):
    """How each topic's share of the texts went.

    Attributes:
        table: See `frame`.
        periods: See `by_period`.
        period: `day`, `week` or `month`, in UTC.
        level: How many of the topics called rising or falling may be so by luck.
        untimed: Texts without a time, which are left out.
        outside: Texts of periods that are not whole, which the change leaves out.
    """

    table: pd.DataFrame
    periods: pd.DataFrame
    period: str
    level: float
    untimed: int
    outside: int
    title: ClassVar[str] = "Which topics rise and which fall"

    @property
    def note(self) -> str:  # type: ignore[override]
        counts = self.table["verdict"].value_counts()
        said = ", ".join(f"{counts[name]} {name}" for name in (*MOVING, "steady", "cannot tell") if name in counts)
        out = f" {self.untimed:,} texts have no time and are left out." if self.untimed else ""
        whole = f" {self.outside:,} texts of {self.period}s that are not whole count in no change." * (self.outside > 0)
        return (
            f"{said or 'No topics'}. Change: from the first whole {self.period} to the last, along a straight line. "
            f"Of the topics called rising or falling {self.level:.0%} are so by luck (Benjamini and Hochberg 1995); "
            f"steady are those that changed by less than {MATTERS:.0%} of their share.{out}{whole}"
        )

    def frame(self) -> pd.DataFrame:
        """One row a topic, the largest first: topic, name, n, of, share, change, low, high, p, p_adjusted, verdict,
        peak, peak_share.

        `n` of `of` texts were said in whole periods. The change is in shares (0.02: 2 points), with an interval of
        95 %. The verdict is `rising`, `falling`, `steady` or `cannot tell`; the peak is the whole period of the
        highest share: what came and went is no trend.
        """
        return self.table.copy()

    def by_period(self) -> pd.DataFrame:
        """One row a topic and period: topic, name, period (its first day), whole, n, of, share, low, high.

        `of` counts the texts of the period; the share, with Wilson's interval, is missing where there are none.
        """
        return self.periods.copy()

    def plot(self) -> Axes:
        """The shares of the topics that moved most, 12 at most, or of the largest where none did; open: not whole."""
        moved = self.table[self.table["verdict"].isin(MOVING)]
        moved = moved.loc[moved["change"].abs().sort_values(ascending=False, kind="stable").index]
        shown = (self.table if moved.empty else moved).head(DRAWN)
        if shown.empty:
            return sentence(self.title, "No topic was found.")
        grid = axes_grid([f"{short(name, 30)}: {verdict}" for name, verdict in shown[["name", "verdict"]].to_numpy()])
        parts = dict(list(self.periods.groupby("topic")))
        for topic, ax in zip(shown["topic"], grid, strict=True):
            part = parts[topic]
            ax.fill_between(part["period"], part["low"], part["high"], color=PALETTE[0], alpha=0.2, linewidth=0)
            ax.plot(part["period"], part["share"], color=PALETTE[0], linewidth=1)
            colours = np.where(part["whole"], PALETTE[0], "white")
            size = 14 if len(part) <= PARTS else 3
            ax.scatter(part["period"], part["share"], c=colours, edgecolors=PALETTE[0], s=size, zorder=3)
            ax.set_ylim(bottom=0)
            date_axis(ax, most=5)
        return grid[0]


def topic_trends(topics: Topics, period: Period = "month", *, level: float = 0.01) -> TopicTrends:
    """Each topic's share of the texts by period, and whether it rose or fell.

    The time from the first whole period to the last is cut into 24 parts, whatever the period. Through the topic's
    shares in them goes a straight line, weighted by the texts of each part (Cochran 1954 and Armitage 1955 on trends in
    proportions). Its error is that of shares by luck, or where the shares scatter more, as incidents make them, by
    their own scatter about the line, judged by Student's t (McCullagh and Nelder 1989, section 4.5). An incident that
    lasts for much of the time looks like a trend all the same: look at the drawing. So does a season, where the time is
    shorter than a year. A first or last period counts as whole where texts cover nine tenths of it, or all of it but
    a pause no longer than others between two texts.

    Args:
        topics: Found with `times`.
        period: `day`, `week` (from Monday on) or `month`, in UTC.
        level: False discovery rate over the topics, in (0, 1).
    Raises:
        ParamsError: `period` or `level` cannot be, or the topics were found without times.
        DataError: No text has a time, or there are more than 4,000 periods.
    """
    if period not in PERIODS:
        raise ParamsError(unknown("Period", str(period), PERIODS))
    if not 0 < level < 1:
        raise ParamsError(f"level == {level}, must be in (0, 1).")
    if topics.times is None:
        raise ParamsError("The topics have no times. Give them: find_topics(texts, times=...).")
    there = ~topics.blank & ~np.isnat(topics.times)
    if not there.any():
        raise DataError(f"None of {topics.n:,} texts has a time, so no share can be told by {period}.")
    times, codes = topics.times[there], topics.topic[there]
    order = np.argsort(times, kind="stable")
    times, codes = times[order], codes[order]
    starts, ends = _borders(times, period)
    place = np.searchsorted(starts, times, side="right") - 1
    n, hits = _counts(codes, place, topics.k, len(starts))
    whole = _whole(times, starts, ends)
    low, high = wilson(hits, np.broadcast_to(n, hits.shape), level=LEVEL)
    columns = {
        "topic": np.arange(topics.k).repeat(len(starts)),
        "name": np.array(topics.names, object).repeat(len(starts)),
    }
    columns |= {"period": np.tile(starts, topics.k), "whole": np.tile(whole, topics.k), "n": hits.ravel()}
    columns |= {"of": np.tile(n, topics.k), "share": (hits / np.where(n > 0, n, np.nan)).ravel()}
    rows = pd.DataFrame(columns | {"low": low.ravel(), "high": high.ravel()})
    inside = whole[place]
    table = _changes(topics.names, times[inside], codes[inside], (starts[whole], ends[whole]), level)
    best = np.where(whole & (n > 0), columns["share"].reshape(hits.shape), -1.0)
    some = best.max(axis=1, initial=-1.0) >= 0
    table["peak"] = np.where(some, starts[best.argmax(axis=1)], np.datetime64("NaT"))
    table["peak_share"] = np.where(some, best.max(axis=1), np.nan)
    return TopicTrends(table, rows, period, level, int(topics.n - there.sum()), int((~inside).sum()))


def _borders(times: Array, period: str) -> tuple[Array, Array]:
    """The first moments of all periods from the first time to the last, and those after them."""
    code = PERIODS[period]
    first, last = (pd.Timestamp(moment).to_period(code) for moment in (times[0], times[-1]))
    if (last - first).n >= MOST:
        long = f"{(last - first).n + 1:,} {period}s from {first.start_time:%Y-%m-%d} to {last.start_time:%Y-%m-%d}"
        raise DataError(f"{long}, must be at most {MOST:,}. Take a longer period, or mend the times.")
    held = pd.period_range(first, last, freq=code)
    starts = held.to_timestamp().to_numpy("datetime64[us]")
    return starts, np.append(starts[1:], (last + 1).start_time.to_datetime64().astype("datetime64[us]"))


def _counts(codes: Array, place: Array, k: int, places: int) -> tuple[Array, Array]:
    """Texts in each place, shape (places,), and those of each topic, shape (k, places)."""
    found = codes >= 0
    hits = np.bincount(codes[found] * places + place[found], minlength=k * places).reshape(k, places)
    return np.bincount(place, minlength=places), hits


def _whole(times: Array, starts: Array, ends: Array) -> Array:
    """Which periods the data cover; only the first and the last may not be."""
    dates = bool((times == times.astype("datetime64[D]")).all())  # a date stands for its whole day
    day = np.timedelta64(int(dates), "D")
    pause = np.append(np.diff(times), day).max() - day
    out = np.ones(len(starts), bool)
    for at, missing in ((0, times[0] - starts[0]), (-1, ends[-1] - times[-1] - day)):
        out[at] &= missing <= max((1 - COVERED) * (ends[at] - starts[at]), pause)
    return out


def _changes(names: list[str], times: Array, codes: Array, span: tuple[Array, Array], level: float) -> pd.DataFrame:
    k = len(names)
    change, error, freedom = np.full(k, np.nan), np.full(k, np.nan), 1
    n = np.bincount(codes[codes >= 0], minlength=k)
    if len(times):
        part = ((times - span[0][0]) / (span[1][-1] - span[0][0]) * PARTS).astype(np.int64).clip(0, PARTS - 1)
        of, hits = _counts(codes, part, k, PARTS)
        parts = int((of > 0).sum())
        if parts >= FEWEST_PARTS:
            freedom = parts - 2
            change, error = _slopes(hits[:, of > 0], of[of > 0], (np.flatnonzero(of) + 0.5) / PARTS)
    told = (n >= FEWEST) & np.isfinite(change)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = np.where(told, 2 * stats.t.sf(np.abs(change) / error, freedom), np.nan)
    p[told & (error == 0)] = 1.0  # a topic of all texts, or of none, has no luck to tell from
    together = adjusted(p)
    half = error * stats.t.ppf((1 + LEVEL) / 2, freedom)
    share = n / max(len(times), 1)
    low, high = np.where(told, change - half, np.nan), np.where(told, change + half, np.nan)
    steady = (low >= -MATTERS * share) & (high <= MATTERS * share)
    moved = together <= level
    verdict = np.select([steady, moved & (change > 0), moved & (change < 0)], ["steady", *MOVING], "cannot tell")
    columns = {"topic": np.arange(k), "name": names, "n": n, "of": len(times), "share": share}
    columns |= {"change": np.where(told, change, np.nan), "low": low, "high": high, "p": p, "p_adjusted": together}
    return pd.DataFrame(columns | {"verdict": verdict.astype(object)})


def _slopes(hits: Array, of: Array, place: Array) -> tuple[Array, Array]:
    """Slopes of shares on places and their standard errors, shape (k,).

    Args:
        hits: Texts of each topic in each part, shape (k, parts).
        of: Texts of each part, > 0, shape (parts,).
        place: When each part is, from 0 to 1, shape (parts,).
    """
    away = place - np.average(place, weights=of)
    share, mean = hits / of, hits.sum(axis=1) / of.sum()
    square = (of * away**2).sum()
    slope = (of * away * share).sum(axis=1) / square
    luck = mean * (1 - mean)
    left = (of * (share - mean[:, None] - slope[:, None] * away) ** 2).sum(axis=1) / (len(of) - 2)
    return slope, np.sqrt(np.maximum(luck, left) / square)
