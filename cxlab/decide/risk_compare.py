"""Two periods, sites or platforms: did the risk scores move, which indicator moved them, and is it more than noise.

    found = compare_risks(calls, by="platform", a="old", b="new")
    found = compare_risks(calls, by="time", at="2024-06-01")
    found.frame(); found.mix; found.plot()

A difference is b's share less a's, with Newcombe's interval (1998, Interval estimation for the difference between
independent proportions, method 10) and p from `chance.upper_tail` on both sides. Calls of one agent (the params'
cluster) count for less than as many of different ones; where the same agents are in both groups this is more careful
than it need be. Scores and indicators are adjusted together (Benjamini and Hochberg 1995), and intervals have the level
that belongs to the adjustment (Benjamini and Yekutieli 2005).

An indicator has a share of its own, of calls of which it can be told, and a part: the change of the calls in which it
was the one that decided. Parts add up to the difference of the score. `mix` cuts the same difference by segment
(Kitagawa 1955, Components of a difference between two rates): what calls moving between its groups did, and what the
groups' own shares did.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cxlab.decide.chance import cluster_codes, correlation, design_effect, sizes, upper_tail
from cxlab.decide.risk import grouped
from cxlab.decide.risk_rules import UNKNOWN, YES, CallRisks
from cxlab.display import Result, axes, interval_plot, row_height
from cxlab.errors import DataError, ParamsError, listed, unknown
from cxlab.metrics.bootstrap import check_level, wilson
from cxlab.metrics.multiplicity import adjusted

if TYPE_CHECKING:
    from matplotlib.axes import Axes


ALARM = 0.05  # false discovery rate


@dataclass(frozen=True, repr=False, eq=False)
class RiskComparison(Result):
    """What moved between two groups of calls.

    Attributes:
        a: The first group, in words.
        b: The second.
        rows: See `frame`.
        mix: area, segment, group; a_calls, b_calls (shares of all calls), a_share, b_share (high), mix and rate, which
            add up to the difference of the area's score in every segment.
        cluster: The column of what calls share, None if they were taken for independent.
        said: Of the rules and of calls left out.
    """

    title: ClassVar[str] = "What moved the risk scores?"

    a: str
    b: str
    rows: pd.DataFrame = field(repr=False)
    mix: pd.DataFrame = field(repr=False)
    cluster: str | None
    said: str

    @property
    def note(self) -> str:  # type: ignore[override]
        which = f"calls of one {self.cluster} are alike" if self.cluster else "calls are taken for independent"
        return f"a: {self.a}; b: {self.b}. Adjusted at a false discovery rate of {ALARM:.0%}; {which}. {self.said}"

    def frame(self) -> pd.DataFrame:
        """A row a score, then one an indicator.

        area, kind (score or indicator), code, title; for a and b calls, high and share; difference (b less a), low,
        high_bound, p, p_adjusted, verdict (worse, better or cannot tell), and part: what it adds to its score's
        difference. Shares are NaN where nothing can be told.
        """
        return self.rows

    def plot(self) -> Axes:
        """Differences with their intervals."""
        rows = self.rows.dropna(subset="difference")
        ax = axes(f"{self.b}, less {self.a}", height=row_height(rows))
        labels = [f"{row['area']}: {row['title']}" for row in rows.to_dict("records")]
        interval_plot(ax, labels, rows["difference"], rows["low"], rows["high_bound"], reference=0.0)
        ax.set_xlabel("difference of shares of calls")
        return ax


def compare_risks(calls: CallRisks, *, by: str, a: Any = None, b: Any = None, at: Any = None) -> RiskComparison:
    """Compares the scores and indicators of two groups of calls.

    Args:
        calls: What `assess` gives.
        by: A column, or "time": calls that began before `at` (a), and from then on (b).
        a: The value of the first group; with b None too, the two values that there are, the lesser first.
        b: The value of the second group.
        at: With by="time": where the second period begins, on the clock of the params' time zone.
    Raises:
        DataError: A column or value is not in the table, or a group has no calls.
        ParamsError: The arguments do not fit.
    """
    if (by == "time") != (at is not None):
        raise ParamsError(f"by == {by!r} and at == {at!r}: periods need by='time' and at, groups need no at.")
    if (a is None) != (b is None) or (a is not None and str(a) == str(b)):
        raise ParamsError(f"a == {a!r} and b == {b!r}, must both be given and differ, or neither.")
    group, names, said = _periods(calls, at) if by == "time" else _values(calls, by, a, b)
    empty = [name for place, name in enumerate(names) if not (group == place).any()]
    if empty:
        raise DataError(f"{empty[0]}: no calls; both groups must have some.")
    cluster = calls.params.cluster if calls.params.cluster in calls.source else None
    codes = None if cluster is None else cluster_codes(calls.source[cluster])
    scores, indicators, mixes = [], [], []
    for area in calls.risk:
        seen = calls.told(area) & (group >= 0)
        high = calls.high(area)
        score = _difference(high, seen, group, codes)
        scores.append({"area": area, "kind": "score", "code": area, "title": area.capitalize(), **score})
        size = [int((seen & (group == place)).sum()) for place in (0, 1)]
        for rule in calls.rules(area):
            holds = calls.holds[rule.code]
            row = _difference(holds == YES, (holds != UNKNOWN) & (group >= 0), group, codes)
            decided = seen & high & (calls.rule[area] == calls.params.rules.index(rule))
            parts = [
                int((decided & (group == place)).sum()) / size[place] if size[place] else np.nan for place in (0, 1)
            ]
            names_of = {"area": area, "kind": "indicator", "code": rule.code, "title": rule.title}
            indicators.append({**names_of, **row, "part": parts[1] - parts[0]})
        if all(size):
            others = [x for x in calls.params.segments if x not in calls.absent and x != by]
            mixes += [_kitagawa(grouped(calls, x)[seen], high[seen], group[seen], area, x) for x in others]
    rows = _judged([*scores, *indicators])
    rows["part"] = rows["part"].where(rows["kind"] == "indicator", rows["difference"])
    columns = ["area", "segment", "group", "a_calls", "b_calls", "a_share", "b_share", "mix", "rate"]
    mix = pd.concat(mixes, ignore_index=True) if mixes else pd.DataFrame(columns=columns)
    return RiskComparison(*names, rows, mix, cluster, " ".join([*said, calls.note]))


def newcombe(hits: tuple[float, float], calls: tuple[float, float], *, level: float = 0.95) -> tuple[float, float]:
    """The interval of a difference of two shares, the second less the first (Newcombe 1998, method 10).

    Args:
        hits: Of both groups; effective numbers may be fractions.
        calls: Of both groups.
        level: In (0, 1).
    Returns:
        Low and high, in [-1, 1]; NaN where a group has no calls.
    Examples:
        >>> low, high = newcombe((48, 56), (80, 70))    # Newcombe 1998, table II, case (a), turned round
        >>> print(f"{low:.4f} {high:.4f}")
        0.0524 0.3339
    """
    check_level(level)
    low, high = wilson(np.asarray(hits), np.asarray(calls), level=level)
    with np.errstate(divide="ignore", invalid="ignore"):
        one, two = np.asarray(hits, np.float64) / np.asarray(calls, np.float64)
    gap = two - one
    below = np.hypot(two - low[1], high[0] - one)
    above = np.hypot(high[1] - two, one - low[0])
    return float(gap - below), float(gap + above)


def _difference(hit: np.ndarray, seen: np.ndarray, group: np.ndarray, cluster: np.ndarray | None) -> dict[str, Any]:
    """Shares of two groups, p of their difference, and design effects."""
    y, side = hit[seen].astype(np.float64), group[seen].astype(np.int64)
    n = np.bincount(side, minlength=2).astype(np.float64)
    k = np.bincount(side, weights=y, minlength=2)
    deff = np.ones(2)
    if cluster is not None and len(y):
        deff = design_effect(correlation(y, cluster[seen], side), sizes(cluster[seen], side, 2))
    row: dict[str, Any] = {}
    for place, name in enumerate("ab"):
        share = k[place] / n[place] if n[place] else np.nan
        row |= {f"{name}_calls": int(n[place]), f"{name}_high": int(k[place]), f"{name}_share": share}
    p = np.nan
    if n.all():
        both = float((deff / n).sum() / (1 / n).sum())
        whole, bad = np.array([[n.sum()]]), np.array([[k.sum()]])
        more, _ = upper_tail(n[None, 1:], k[None, 1:], whole, bad, both)
        less, _ = upper_tail(n[None, 1:], n[None, 1:] - k[None, 1:], whole, whole - bad, both)
        p = float(min(1.0, 2 * min(more[0], less[0])))
    return {**row, "difference": row["b_share"] - row["a_share"], "p": p, "deff": tuple(deff), "part": np.nan}


def _judged(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """With p adjusted, intervals at the level that belongs to it, and a verdict."""

    frame = pd.DataFrame(rows)
    tested = frame["p"].notna().to_numpy()
    frame["p_adjusted"] = adjusted(frame["p"])
    found = frame["p_adjusted"].to_numpy() <= ALARM
    level = 1 - ALARM * max(1, int(found.sum())) / max(1, int(tested.sum()))
    ends = [
        newcombe(
            (row["a_high"] / row["deff"][0], row["b_high"] / row["deff"][1]),
            (row["a_calls"] / row["deff"][0], row["b_calls"] / row["deff"][1]),
            level=level,
        )
        for row in rows
    ]
    frame["low"], frame["high_bound"] = [x[0] for x in ends], [x[1] for x in ends]
    worse, better = found & (frame["low"] > 0), found & (frame["high_bound"] < 0)
    frame["verdict"] = np.select([worse, better], ["worse", "better"], "cannot tell")
    sides = [f"{name}_{what}" for name in "ab" for what in ("calls", "high", "share")]
    order = ["area", "kind", "code", "title", *sides, "difference", "low", "high_bound"]
    return frame[[*order, "p", "p_adjusted", "verdict", "part"]]


def _kitagawa(segment: pd.Series, high: np.ndarray, side: np.ndarray, area: str, name: str) -> pd.DataFrame:
    """A difference of shares, cut by the groups of a segment.

    A group with calls on one side alone has that side's share on both: that it came or went is mix. Mix is about the
    mean of both scores, so that a group's part has a meaning of its own.
    """
    codes, k = segment.cat.codes.to_numpy().astype(np.int64), len(segment.cat.categories)
    n = np.stack([np.bincount(codes[side == place], minlength=k) for place in (0, 1)]).astype(np.float64)
    bad = np.stack([np.bincount(codes[(side == place) & high], minlength=k) for place in (0, 1)])
    weight = n / n.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        share = bad / n
    filled = np.where(np.isnan(share), share[::-1], share)
    filled = np.where(np.isnan(filled), 0.0, filled)
    overall = (bad.sum(axis=1) / n.sum(axis=1)).mean()
    mix = (weight[1] - weight[0]) * (filled.mean(axis=0) - overall)
    rate = (filled[1] - filled[0]) * weight.mean(axis=0)
    made = pd.DataFrame({"group": [str(x) for x in segment.cat.categories], "a_calls": weight[0], "b_calls": weight[1]})
    made = made.assign(a_share=share[0], b_share=share[1], mix=mix, rate=rate)[n.sum(axis=0) > 0]
    made.insert(0, "segment", name)
    made.insert(0, "area", area)
    return made


def _values(calls: CallRisks, by: str, a: Any, b: Any) -> tuple[np.ndarray, tuple[str, str], list[str]]:
    """0 for the first group, 1 for the second, -1 for others; what they are called; how many others there are."""
    if by not in calls.source:
        raise DataError(unknown("Column", by, map(str, calls.source.columns), "in the data"))
    column = grouped(calls, by)
    names = [str(name) for name in column.cat.categories]
    if a is None:
        if len(names) != 2:
            raise DataError(
                f"Column {by!r} has {len(names)} values, must have two, or name a and b: {listed(names, 8)}."
            )
        a, b = sorted(names)
    for value in (a, b):
        if str(value) not in names:
            raise DataError(unknown("Value", str(value), names, f"in column {by!r}"))
    codes = column.cat.codes.to_numpy()
    group = np.select([codes == names.index(str(a)), codes == names.index(str(b))], [0, 1], -1)
    others = int((group < 0).sum())
    said = [f"{others:,} calls of other values of {by} are left out."] if others else []
    return group, (f"{by} {a}", f"{by} {b}"), said


def _periods(calls: CallRisks, at: Any) -> tuple[np.ndarray, tuple[str, str], list[str]]:
    from cxlab.data.times import UNKNOWN as NO_TIME
    from cxlab.data.times import microseconds_of

    params, name = calls.params, calls.params.columns.get("time")
    if name not in calls.source:
        raise ParamsError("by == 'time' needs the time of calls; name its column: --set columns.time=COLUMN.")
    moment = int(microseconds_of([at], None, params.timezone)[0])
    if moment == NO_TIME:
        raise ParamsError(f"at == {at!r}, must be a time such as 2024-06-01.")
    times = microseconds_of(calls.source[name], None, params.timezone)
    group = np.select([times == NO_TIME, times < moment], [-1, 0], 1)
    lost = int((times == NO_TIME).sum())
    return group, (f"before {at}", f"from {at}"), [f"{lost:,} calls have no time and are left out."] if lost else []
