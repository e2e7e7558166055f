"""Two groups of cases, or two periods: which transitions differ, and which cannot be told apart.

    found = compare_journeys("contacts.parquet", by="segment", a="private", b="business", case="customer_id")
    found = compare_journeys("contacts.parquet", by="time", at="2024-06-01", case="customer_id")
    found.frame(); found.plot()      # differences with their intervals
    found.map(); found.figure()      # the map, with colour only where a difference is shown

Cases are what was sampled, not events. Of each case the first visits to a state count (`visits`, three), so that no
case says much more than another: with all visits a few busy cases would decide, and in simulations alarms were false
far too often. By Wald's identity the share of the first visits that go on to a state is still that of the transition.

A difference of two shares of visits has the variance of two ratios over cases (`ratio_variance`), or what the share of
both groups together would lead to, if that is larger: p (1 - p) / visits, times the design effect 1 + rho (m - 1) of
Kish (1965), Survey sampling, with the intra-case correlation rho of both groups together. A group that happened to have
few of a transition would else look surer than it is. The test is Welch's, with the effective number of cases (Carter,
Schnepel and Steigerwald 2017, Asymptotic behavior of a t-test robust to cluster heterogeneity) in place of the cases.

All transitions are adjusted together, by Benjamini and Yekutieli (2001), The control of the false discovery rate in
multiple testing under dependency, theorem 1.3: shares from one state add up to 1, so that their tests depend on each
other negatively, of which Benjamini and Hochberg's procedure does not allow. Where nothing differs, the share of
comparisons that report anything is held to 1 - level as well. Intervals have the level that belongs to the adjustment
(Benjamini and Yekutieli 2005, False discovery rate-adjusted multiple confidence intervals for selected parameters):
a transition differs where its interval excludes 0, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import ibis
import numpy as np
import pandas as pd

from cxlab.display import PALETTE, Result, as_html, axes, interval_plot, sentence, svg
from cxlab.errors import DataError, ParamsError, listed, unknown
from cxlab.journey.drawing import Edge, Node, draw, figure
from cxlab.journey.events import END, START, Steps, group_rare, steps
from cxlab.journey.map import SHOWN, pairs, ratio_variance
from cxlab.metrics.bootstrap import check_level

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Verdict = Literal["differs", "no difference shown", "cannot tell"]

VISITS = 3  # of a case to a state that count
CASES = 10  # with a transition, and without it, to be expected in each group: below, it is not compared
EFFECTIVE = 20  # effective cases in each group, below which nothing is compared
DRAWN = 25  # differences drawn
MORE, LESS, SAME = PALETTE[1], PALETTE[0], "#CFCFCF"


@dataclass(frozen=True, repr=False, eq=False)
class JourneyComparison(Result):
    """Where the journeys of two groups differ.

    Attributes:
        by: The column that tells the groups apart.
        a: Which cases are the first group, in words.
        b: Which are the second.
        cases: How many each has.
        visits: How many visits of a case to a state count.
        level: Of the verdicts: 1 - level of the comparisons of equal groups may report a difference.
        interval: The level of each interval, adjusted.
        at_least: Share of all transitions from which on one is drawn in the map.
        notes: What is to be known of how the log was read.
        transitions: See `frame`.
        stages: state, events, position; in the order of journeys.
    """

    title: ClassVar[str] = "Where do journeys differ?"

    by: str
    a: str
    b: str
    cases: tuple[int, int]
    visits: int
    level: float
    interval: float
    at_least: float
    notes: tuple[str, ...]
    transitions: pd.DataFrame = field(repr=False)
    stages: pd.DataFrame = field(repr=False)

    @property
    def differing(self) -> pd.DataFrame:
        """The transitions that differ."""
        t = self.transitions
        return t[t["verdict"] == "differs"].reset_index(drop=True)

    @property
    def note(self) -> str:  # type: ignore[override]
        verdicts = self.transitions["verdict"]
        said = (
            f"a: {self.a} ({self.cases[0]:,} cases); b: {self.b} ({self.cases[1]:,} cases). Of "
            f"{(verdicts != 'cannot tell').sum():,} transitions compared {(verdicts == 'differs').sum():,} differ; "
            f"{(verdicts == 'cannot tell').sum():,} are too rare to tell. Shares are of the first {self.visits} visits "
            f"of a case to the source. Intervals of {100 * self.interval:.6g} %, adjusted for all that were compared."
        )
        return " ".join([said, *self.notes])

    def frame(self) -> pd.DataFrame:
        """One row a transition; those that differ first, then by p.

        source, target; for a and b: a_n (how often), a_of (visits to the source), a_cases (cases that visit it),
        a_share (a_n / a_of); difference (b's share less a's) with low and high, p, p_adjusted, verdict. The interval
        and p are NaN where too few cases were seen to tell.
        """
        return self.transitions.copy()

    def plot(self) -> Axes:
        """Differences with their intervals: those that differ, then those that come closest to it."""
        shown = self.transitions[self.transitions["verdict"] != "cannot tell"].head(DRAWN)
        if shown.empty:
            return sentence(self.title, f"No transition is frequent enough to compare {self.a} and {self.b}.")
        ax = axes(f"Transitions: {self.b} less {self.a}", width=8.0, height=1.3 + 0.27 * len(shown))
        labels = [
            f"{row.source} → {row.target}" + (" *" if row.verdict == "differs" else "") for row in shown.itertuples()
        ]
        interval_plot(ax, labels, *(100 * shown[name] for name in ("difference", "low", "high")), reference=0.0)
        ax.set_ylim(len(shown) - 0.5, -0.5)
        ax.tick_params(axis="y", labelsize=8)
        ax.set_xlabel(f"percentage points of the visits ({100 * self.interval:.6g} % interval); * differs")
        return ax

    def map(self) -> Axes:
        """The map of both groups, an arrow coloured only where its interval, which is on it, excludes 0."""
        nodes, edges = self._graph()
        return draw(nodes, edges, title=f"{self.title} {self.b} against {self.a}", note=self._below())

    def figure(self) -> Any:
        """The same, as a Plotly figure with the figures of each arrow where the pointer is."""
        nodes, edges = self._graph()
        title = f"{self.title} {self.b} against {self.a}"
        return figure(nodes, edges, title=title, note=self._below(), static=self.svg)

    def svg(self) -> str:
        """The drawing of `map` as SVG."""
        return svg(self.map(), f"{self.title} {self.note}")

    def _repr_html_(self) -> str:
        return as_html(self.title, self.transitions.head(SHOWN), self.note)

    def __repr__(self) -> str:
        return f"{self.title}\n{self.transitions.head(SHOWN).to_string(index=False)}\n{self.note}"

    def _below(self) -> str:
        return (
            f"Orange: more often in {self.b}; blue: more often in {self.a}, in percentage points with the interval; "
            f"grey: no difference shown, or too few to tell. Not drawn: what does not differ and is below "
            f"{self.at_least:.3g} of all transitions. {self.note}"
        )

    def _graph(self) -> tuple[list[Node], list[Edge]]:
        t = self.transitions
        drawn = (t["n"] >= self.at_least * t["n"].sum()) | (t["verdict"] == "differs")
        seen = {START, END, *t.loc[drawn, "source"], *t.loc[drawn, "target"]}
        nodes = [
            Node(name, "" if name in (START, END) else f"{n:,} events")
            for name, n in zip(self.stages["state"], self.stages["events"], strict=True)
            if name in seen
        ]
        return nodes, [self._edge(row) for row in t[drawn].to_dict("records")]

    def _edge(self, row: dict[Any, Any]) -> Edge:
        shares = [
            f"{row[f'{x}_share']:.1%} of {row[f'{x}_of']:,} visits of {row[f'{x}_cases']:,} cases in {name}"
            for x, name in (("a", self.a), ("b", self.b))
        ]
        low, high, apart = (100 * row[name] for name in ("low", "high", "difference"))
        lines = [f"{row['source']} → {row['target']}", *shares]
        lines.append(f"difference {apart:+.1f} [{low:+.1f}, {high:+.1f}] points: {row['verdict']}")
        if row["verdict"] != "differs":
            return Edge(row["source"], row["target"], row["n"], "", "\n".join(lines), SAME)
        label = f"{apart:+.1f}\n[{low:+.1f}, {high:+.1f}]"
        return Edge(row["source"], row["target"], row["n"], label, "\n".join(lines), MORE if apart > 0 else LESS)


def compare_journeys(
    source: Any,
    *,
    by: str,
    a: Any = None,
    b: Any = None,
    at: Any = None,
    states: Mapping[str, str] | None = None,
    most: int | None = 20,
    visits: int = VISITS,
    at_least: float = 0.005,
    level: float = 0.95,
    case: str = "case",
    event: str = "event",
    time: str = "time",
    order: str | None = None,
) -> JourneyComparison:
    """Which transitions differ between two groups of cases.

    Args:
        source: The log, as `steps` takes it; Steps must have kept the column `by`.
        by: The column that tells the groups apart, read at the first event of a case: what came later does not decide.
            Or "time": cases that began before `at` (a) and from then on (b); those that began late may not be over,
            which looks like leaving early.
        a: The value of the first group; with b None too, the two values that there are, the lesser first.
        b: The value of the second group.
        at: With by="time": where the second period begins, in UTC.
        states: New names of events by their old ones; see `steps`.
        most: How many states stay as they are, the rarest others becoming "(other)"; all if None.
        visits: How many visits of a case to a state count, from the first, >= 1.
        at_least: Share of all transitions from which on one is drawn in the map, whether it differs or not.
        level: 1 - level is the share of false alarms; in (0, 1).
        case: As in `steps`, like those that follow.
        event: What happened.
        time: When.
        order: What is first of events at one instant.
    Raises:
        DataError: the log cannot be used, or there are not two groups.
        ParamsError: an argument does not fit.
    """
    check_level(level)
    if visits < 1:
        raise ParamsError(f"visits == {visits}, must be >= 1.")
    if not 0 <= at_least <= 1:
        raise ParamsError(f"at_least == {at_least}, must be in [0, 1]: a share of all transitions.")
    if (by == "time") != (at is not None):
        raise ParamsError(f"by == {by!r} and at == {at!r}: periods need by='time' and at, groups need no at.")
    if (a is None) != (b is None):
        raise ParamsError(f"a == {a!r} and b == {b!r}, must both be given or neither.")
    keep = () if by == "time" else (by,)
    found = steps(source, case=case, event=event, time=time, order=order, keep=keep, states=states)
    if most is not None:
        found = group_rare(found, most)
    whose, names, notes = _periods(found, at) if by == "time" else _groups(found, by, a, b)
    t = found.table.select("case_number", "event", "next_event", "position").inner_join(whose, "case_number")
    first = t.filter(t.position == 1)
    sizes = found.ask(first.group_by("group").aggregate(n=first.count())).set_index("group")["n"]
    cases = (int(sizes.get("a", 0)), int(sizes.get("b", 0)))
    if not all(cases):
        raise DataError(f"{names[0]}: {cases[0]:,} cases, {names[1]}: {cases[1]:,} cases; both groups must have some.")
    tested, interval = differences(sums(found, t, visits=visits), level=level)
    often = found.ask(t.group_by(["event", "next_event"]).aggregate(n=t.count()))
    starts = found.ask(first.group_by("event").aggregate(n=first.count())).rename(columns={"event": "next_event"})
    often = pd.concat([often, starts.assign(event=START)]).rename(columns={"event": "source", "next_event": "target"})
    tested = tested.merge(often, on=["source", "target"], how="left", validate="1:1")
    stages = found.ask(t.group_by("event").aggregate(events=t.count(), position=t.position.mean()))
    stages = stages.rename(columns={"event": "state"}).sort_values(["position", "state"])
    ends = [pd.DataFrame({"state": [name], "events": [0]}) for name in (START, END)]
    stages = pd.concat([ends[0], stages, ends[1]], ignore_index=True)
    said = (*found.notes, *notes)
    return JourneyComparison(by, *names, cases, visits, level, interval, at_least, said, tested, stages)


def sums(found: Steps, t: Any, *, visits: int = VISITS, by: tuple[str, ...] = ("group",)) -> pd.DataFrame:
    """What a comparison needs of each group, state and transition: sums over cases (see `pairs`).

    Args:
        found: Steps.
        t: An Ibis table of them with the columns `by`, which are the same in all rows of a case.
        visits: How many visits of a case to a state count.
        by: What tells groups apart.
    """
    number = ibis.row_number().over(ibis.window(group_by=["case_number", "event"], order_by="position"))
    early = t.mutate(visit=number)
    made = pairs(found, early.filter(early.visit < visits), by)
    first = t.filter(t.position == 1)
    starts = found.ask(first.group_by([*by, "event"]).aggregate(n=first.count()))
    starts = starts.rename(columns={"event": "next_event"}).assign(event=START)
    for name in ("cases", "nn", "nm", "always"):  # each case comes in once
        starts[name] = starts["n"]
    for name in ("visits", "cases_of", "mm"):
        starts[name] = starts.groupby(list(by))["n"].transform("sum")
    return pd.concat([made, starts[made.columns]], ignore_index=True)


def differences(given: pd.DataFrame, *, level: float = 0.95) -> tuple[pd.DataFrame, float]:
    """The transitions of two groups, compared.

    Args:
        given: What `sums` gives, of the groups "a" and "b".
        level: As in `compare_journeys`.
    Returns:
        The rows of `JourneyComparison.frame`, and the level of their intervals.
    """
    from scipy import stats

    key = ["event", "next_event"]
    of = ["visits", "cases_of", "mm"]
    every = given[key].drop_duplicates().sort_values(key, ignore_index=True)
    both = []
    for name in ("a", "b"):
        part = given[given["group"] == name]
        own = every.merge(part.drop(columns=["group", *of]), on=key, how="left")
        own = own.merge(part[["event", *of]].drop_duplicates("event"), on="event", how="left")
        own = own.drop(columns=key).fillna(0)  # what a group never did it did in none of its visits
        both.append({str(name): own[name].to_numpy(np.float64) for name in own})
    one, two = both
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = [x["n"] / x["visits"] for x in both]
        q = (one["n"] + two["n"]) / (one["visits"] + two["visits"])
        rho = _alike(both, q)
        variances, degrees = [], []
        for x, share in zip(both, shares, strict=True):
            seen = ratio_variance(
                share, **{name: x[name] for name in ("nn", "nm", "mm", "visits")}, cases=x["cases_of"]
            )
            expected = q * (1 - q) / x["visits"] * (1 + rho * (x["mm"] / x["visits"] - 1))
            variances.append(np.maximum(seen, expected))
            degrees.append(x["visits"] ** 2 / x["mm"])
        apart = shares[1] - shares[0]
        error = np.sqrt(variances[0] + variances[1])
        df = error**4 / sum(v**2 / (n - 1) for v, n in zip(variances, degrees, strict=True))
        least = np.minimum(one["cases_of"], two["cases_of"]) / (one["cases_of"] + two["cases_of"])
        others = one["cases_of"] + two["cases_of"] - one["always"] - two["always"]
        enough = ((one["cases"] + two["cases"]) * least >= CASES) & (others * least >= CASES)
        enough &= np.minimum(degrees[0], degrees[1]) >= EFFECTIVE
        p = np.where(enough, 2 * stats.t.sf(np.abs(apart) / error, df), np.nan)
    adjusted = np.full(len(p), np.nan)
    tested = np.isfinite(p)
    alpha = 1 - level
    within = level
    if tested.any():
        adjusted[tested] = stats.false_discovery_control(p[tested], method="by")
        m, found = int(tested.sum()), int((adjusted[tested] <= alpha).sum())
        within = float(1 - max(found, 1) * alpha / (m * (1 / np.arange(1, m + 1)).sum()))
    half = np.where(tested, stats.t.ppf((1 + within) / 2, np.where(tested, df, 1)) * error, np.nan)
    verdict = np.where(~tested, "cannot tell", np.where(adjusted <= alpha, "differs", "no difference shown"))
    columns: dict[str, Any] = {"source": every["event"], "target": every["next_event"]}
    for name, x, share in (("a", one, shares[0]), ("b", two, shares[1])):
        whole = {f"{name}_n": x["n"], f"{name}_of": x["visits"], f"{name}_cases": x["cases_of"]}
        columns |= {place: values.astype(np.int64) for place, values in whole.items()} | {f"{name}_share": share}
    columns |= {"difference": apart, "low": apart - half, "high": apart + half}
    made = pd.DataFrame(columns | {"p": p, "p_adjusted": adjusted, "verdict": verdict})
    made = made.assign(late=made["verdict"] != "differs", all=-(made["a_n"] + made["b_n"]))
    made = made.sort_values(["late", "p", "all", "source", "target"], ignore_index=True)
    return made.drop(columns=["late", "all"]), within


def _alike(both: list[dict[str, np.ndarray]], q: np.ndarray) -> np.ndarray:
    """How much the visits of one case are alike, in [0, 1]: the correlation within cases, of both groups together."""
    squares = sum(x["nn"] - 2 * q * x["nm"] + q**2 * x["mm"] for x in both)
    visits, mm = (sum(x[name] for x in both) for name in ("visits", "mm"))
    rho = (squares / (q * (1 - q) * visits) - 1) / (mm / visits - 1)
    return np.clip(np.where((mm > visits) & np.isfinite(rho), rho, 0.0), 0.0, 1.0)


def _groups(found: Steps, by: str, a: Any, b: Any) -> tuple[Any, tuple[str, str], list[str]]:
    """The cases of two groups (case_number, group), what they are called, and what is to be said of others."""
    t = found.table
    first = t.filter(t.position == 1)
    each = first.group_by(by).aggregate(n=first.count())
    counts = found.ask(each).sort_values("n", ascending=False)
    lost = int(counts.loc[counts[by].isna(), "n"].sum())
    counts = counts[counts[by].notna()]
    known = counts[by].tolist()
    if a is None:
        if len(known) != 2:
            raise DataError(
                f"Column {by!r} has {len(known)} values, must have two, or name a and b: {listed(known, 8)}."
            )
        a, b = sorted(known)
    for value in (a, b):
        if value not in known:
            raise DataError(unknown("Value", str(value), [str(item) for item in known], f"in column {by!r}"))
    if a == b:
        raise ParamsError(f"a == {a!r} and b == {b!r}, must differ.")
    notes = []
    if lost:
        notes.append(f"{lost:,} cases have no {by} at their first event and are left out.")
    if rest := int(counts.loc[~counts[by].isin([a, b]), "n"].sum()):
        notes.append(f"{rest:,} cases of other values of {by} are left out.")
    mixed = t.group_by("case_number").aggregate(low=t[by].min(), high=t[by].max())
    if changed := int(found.ask(mixed.aggregate(n=(mixed.low != mixed.high).sum()))["n"].fillna(0)[0]):
        notes.append(f"{changed:,} cases change their {by}; that of their first event counts.")
    chosen = first.filter(first[by].isin([a, b]))
    whose = chosen.select("case_number", group=(chosen[by] == a).ifelse("a", "b"))
    return whose, (f"{by} {a}", f"{by} {b}"), notes


def _periods(found: Steps, at: Any) -> tuple[Any, tuple[str, str], list[str]]:
    """The cases that began before and from a moment on."""
    try:
        moment = pd.Timestamp(at)
    except (ValueError, TypeError) as error:
        raise ParamsError(f"at == {at!r}, must be a time such as 2024-06-01.") from error
    if pd.isna(moment):
        raise ParamsError(f"at == {at!r}, must be a time such as 2024-06-01.")
    moment = moment.tz_convert("UTC").tz_localize(None) if moment.tzinfo else moment
    first = found.table.filter(found.table.position == 1)
    before = first.time < ibis.literal(moment.to_pydatetime(), "timestamp(6)")
    whose = first.select("case_number", group=before.ifelse("a", "b"))
    said = moment.isoformat(sep=" ").removesuffix(" 00:00:00")
    late = "Cases that began late may not be over, which looks like leaving early."
    return whose, (f"before {said}", f"from {said}"), [late]
