"""How cases go from state to state: how often, how likely, how fast, where they leave, and a measure at each stage.

    found = journey_map("contacts.parquet", case="customer_id", time="occurred_at", value="csat")
    found.states()              # visits, cases, how many end there, the measure
    found.frame()               # transitions, with probabilities and times
    found.plot(); found.figure(); found.svg()

A case may visit a state many times, and its visits are more alike than those of others. Intervals of shares are
Wilson's with the effective number of visits (Korn and Graubard 1998, Confidence intervals for proportions with small
expected number of positive counts estimated from survey data; Wilson's in place of Clopper and Pearson's), in which
cases are the clusters. The number is never taken to be above that of the visits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import ibis
import numpy as np
import pandas as pd

from cxlab.display import Result, as_html, svg
from cxlab.errors import DataError, ParamsError
from cxlab.journey.drawing import Edge, Node, draw, figure
from cxlab.journey.events import END, START, Steps, group_rare, seconds_between, steps
from cxlab.metrics.bootstrap import check_level, wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 30  # transitions in a notebook
DIGITS = 10  # of means: the last ones would depend on the order of additions


@dataclass(frozen=True, repr=False, eq=False)
class JourneyMap(Result):
    """States and the transitions between them.

    Attributes:
        cases: How many there are.
        events: How many they have.
        value: The column whose mean is laid on the states, or None.
        level: Of the intervals.
        at_least: Share of all transitions from which on one is drawn.
        notes: What is to be known of how the log was read, and which states were joined.
        transitions: See `frame`.
        stages: See `states`.
    """

    title: ClassVar[str] = "How journeys go"

    cases: int
    events: int
    value: str | None
    level: float
    at_least: float
    notes: tuple[str, ...]
    transitions: pd.DataFrame = field(repr=False)
    stages: pd.DataFrame = field(repr=False)

    @property
    def note(self) -> str:  # type: ignore[override]
        said = (
            f"{self.cases:,} cases, {self.events:,} events, {len(self.stages) - 2} states. Shares are of the visits to "
            f"the source; {100 * self.level:g} % intervals, cases being the unit. {self.hidden(self.at_least)}"
        )
        return " ".join([said, *self.notes])

    def frame(self) -> pd.DataFrame:
        """One row a transition, the most frequent first.

        source, target; n (how often), cases (in how many), of (visits to the source), share (n / of) with low and
        high; seconds_p10, seconds_median, seconds_p90 from one event to the next, NaN from "(start)" and to "(end)".
        Every case goes from "(start)" once, and to "(end)" once.
        """
        return self.transitions.copy()

    def states(self) -> pd.DataFrame:
        """One row a state, in the order of their mean position in a case.

        state; events, cases; position (mean, 1 is the first event); ended (cases whose last event it is), drop_off
        (ended / cases) with drop_off_low and drop_off_high. With a value: value_n (events that have one),
        value_missing, value (their mean) with value_low and value_high. NaN where there is nothing to say.
        """
        return self.stages.copy()

    def hidden(self, at_least: float) -> str:
        """Which transitions a drawing leaves out, as a sentence."""
        drawn = self._drawn(at_least)
        if drawn.all():
            return "All transitions are drawn."
        n = self.transitions["n"]
        return (
            f"{(~drawn).sum():,} of {len(drawn):,} transitions are not drawn, {n[~drawn].sum() / n.sum():.1%} of all "
            f"that happened: each is below {at_least:.3g} of them, and not the most frequent one that leads to or from "
            "another state."
        )

    def plot(self, at_least: float | None = None) -> Axes:
        """States in layers from left to right, the width of an arrow by how often it is gone.

        Args:
            at_least: Share of all transitions from which on one is drawn, in [0, 1]; that of the map if None. The most
                frequent one from and to each state is always drawn.
        """
        nodes, edges = self._graph(at_least)
        scale = "" if self.value is None else f"mean {self.value}"
        return draw(nodes, edges, title=self._heading(), note=self._below(at_least), scale=scale)

    def figure(self, at_least: float | None = None) -> Any:
        """The same, as a Plotly figure with the figures of each state and arrow where the pointer is.

        It shows itself in JupyterLab without a network: Plotly 5 brings the extension that draws it.
        """
        nodes, edges = self._graph(at_least)
        return figure(
            nodes, edges, title=self._heading(), note=self._below(at_least), static=lambda: self.svg(at_least)
        )

    def svg(self, at_least: float | None = None) -> str:
        """The drawing of `plot` as SVG."""
        return svg(self.plot(at_least), f"{self._heading()} {self.note}")

    def _repr_html_(self) -> str:
        more = len(self.transitions) - SHOWN
        rest = f"The {SHOWN} most frequent of {len(self.transitions):,} transitions. " if more > 0 else ""
        return as_html(self.title, self.transitions.head(SHOWN), rest + self.note)

    def __repr__(self) -> str:
        return f"{self.title}\n{self.transitions.head(SHOWN).to_string(index=False)}\n{self.note}"

    def _heading(self) -> str:
        return f"{self.title}: {self.cases:,} cases, {self.events:,} events"

    def _below(self, at_least: float | None) -> str:
        reading = "Under a state: its events, and the share of its cases that end there. On an arrow: the share of the "
        reading += "source's visits that go on this way."
        return " ".join([reading, self.hidden(self.at_least if at_least is None else at_least), *self.notes])

    def _drawn(self, at_least: float) -> pd.Series:
        """Whether each transition is drawn."""
        if not 0 <= at_least <= 1:
            raise ParamsError(f"at_least == {at_least}, must be in [0, 1]: a share of all transitions.")
        t = self.transitions
        away = t[t["source"] != t["target"]]  # the most frequent are first
        most = away.index[~away.duplicated("source") | ~away.duplicated("target")]
        return (t["n"] >= at_least * t["n"].sum()) | t.index.isin(most)

    def _graph(self, at_least: float | None) -> tuple[list[Node], list[Edge]]:
        shown = self.transitions[self._drawn(self.at_least if at_least is None else at_least)]
        nodes = [self._node(row) for row in self.stages.to_dict("records")]
        return nodes, [_edge(row) for row in shown.to_dict("records")]

    def _node(self, row: dict[Any, Any]) -> Node:
        name = row["state"]
        if name in (START, END):
            return Node(name, f"{self.cases:,} cases", f"{name}: {self.cases:,} cases")
        left = f"{row['drop_off']:.1%} [{row['drop_off_low']:.1%}, {row['drop_off_high']:.1%}]"
        lines = [name, f"{row['events']:,} events of {row['cases']:,} cases", f"{left} of its cases end here"]
        fill = None
        if self.value is not None:
            fill = row["value"]
            ends = f"[{row['value_low']:.4g}, {row['value_high']:.4g}]"
            lines.append(f"{self.value}: {fill:.4g} {ends}, n {row['value_n']:,}, missing {row['value_missing']:,}")
        return Node(name, f"{row['events']:,} · ends {row['drop_off']:.0%}", "\n".join(lines), fill)


def _edge(row: dict[Any, Any]) -> Edge:
    lines = [
        f"{row['source']} → {row['target']}",
        f"{row['n']:,} times, in {row['cases']:,} cases",
        f"{row['share']:.1%} [{row['low']:.1%}, {row['high']:.1%}] of {row['of']:,} visits",
    ]
    if np.isfinite(row["seconds_median"]):
        times = [span(row[f"seconds_{name}"]) for name in ("median", "p10", "p90")]
        lines.append(f"median {times[0]}, 80 % within {times[1]} to {times[2]}")
    return Edge(row["source"], row["target"], row["n"], f"{row['share']:.0%}", "\n".join(lines))


def span(seconds: float) -> str:
    """A time in the unit that suits it.

    Examples:
        >>> span(45), span(5400), span(200_000)
        ('45 s', '1.5 h', '2.3 days')
    """
    for least, unit in ((172_800, "days"), (3_600, "h"), (60, "min")):
        if seconds >= least:
            return f"{seconds / (86_400 if unit == 'days' else least):.2g} {unit}"
    return f"{seconds:.3g} s"


def journey_map(
    source: Any,
    *,
    value: str | None = None,
    states: Mapping[str, str] | None = None,
    most: int | None = 20,
    at_least: float = 0.005,
    level: float = 0.95,
    case: str = "case",
    event: str = "event",
    time: str = "time",
    order: str | None = None,
) -> JourneyMap:
    """The map of an event log.

    Args:
        source: The log, as `steps` takes it.
        value: A column of numbers or of true and false, whose mean is laid on each state; Steps must have kept it.
        states: New names of events by their old ones, to group them; see `steps`.
        most: How many states stay as they are, the rarest others becoming "(other)"; all if None.
        at_least: Share of all transitions from which on one is drawn.
        level: Of the intervals, in (0, 1).
        case: As in `steps`, like those that follow.
        event: What happened.
        time: When.
        order: What is first of events at one instant.
    Raises:
        DataError: the log cannot be used, or `value` holds no numbers.
        ParamsError: an argument does not fit.
    """
    check_level(level)
    keep = () if value is None else (value,)
    found = steps(source, case=case, event=event, time=time, order=order, keep=keep, states=states)
    if most is not None:
        found = group_rare(found, most)
    sums = pairs(found, found.table)
    transitions, stages = _transitions(found, sums, level), _stages(found, sums, level)
    if value is not None:
        stages = stages.merge(_measure(found, value, level), on="state", how="left", validate="1:1")
        counted = ["value_n", "value_missing"]
        stages[counted] = stages[counted].fillna(0).astype(np.int64)
    made = JourneyMap(found.cases, found.rows, value, level, at_least, found.notes, transitions, stages)
    made.hidden(at_least)  # refuses what is no share
    return made


def pairs(found: Steps, t: Any, by: tuple[str, ...] = ()) -> pd.DataFrame:
    """Sums over cases for each transition, and for its source, of rows of steps.

    With a_i and b_i, the transitions and the visits to its source of case i: n (the sum of a_i), cases (with any),
    nn (the sum of a_i squared), nm (of a_i b_i), always (cases that left the source in no other way); visits (the sum
    of b_i), cases_of (with any), mm (the sum of b_i squared).

    Args:
        found: Steps.
        t: An Ibis table of them.
        by: Columns that are the same in all rows of a case, to have the sums of each of their values.
    """
    of = [*by, "case_number", "event"]
    gone = t.group_by([*of, "next_event"]).aggregate(a=t.count())
    visits = gone.group_by(of).aggregate(b=gone.a.sum(), least=gone.next_event.min())
    both = gone.inner_join(visits, of)
    sums = both.group_by([*by, "event", "next_event"]).aggregate(
        n=both.a.sum(),
        cases=both.count(),
        nn=(both.a * both.a).sum(),
        nm=(both.a * both.b).sum(),
        always=(both.a == both.b).sum(),
        once=(both.next_event == both.least).sum(),  # one transition of each case that visits the source
    )
    made = found.ask(sums).astype(dict.fromkeys(["n", "nn", "nm", "always", "once"], np.int64))
    source = made.groupby([*by, "event"])
    made = made.assign(visits=source["n"].transform("sum"), cases_of=source["once"].transform("sum"))
    return made.assign(mm=source["nm"].transform("sum")).drop(columns="once")  # the a_i of a source sum to its b_i


def ratio_variance(p: Any, *, nn: Any, nm: Any, mm: Any, visits: Any, cases: Any) -> np.ndarray:
    """The variance of a share of visits, cases being what was sampled.

    The linearised variance of a ratio of two sums over cases (Cochran 1977, Sampling techniques, eq. 6.13, without a
    finite population), with a factor k / (k - 1) for k cases.

    Args:
        p: The share, the sum of a_i over that of b_i.
        nn: Sum of a_i squared over cases.
        nm: Sum of a_i b_i.
        mm: Sum of b_i squared.
        visits: Sum of b_i.
        cases: How many.
    Returns:
        The variance, >= 0; NaN with a single case.
    """
    p, nn, nm, mm, visits, cases = (np.asarray(item, np.float64) for item in (p, nn, nm, mm, visits, cases))
    squares = np.maximum(0.0, nn - 2 * p * nm + p**2 * mm)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(cases > 1, cases / (cases - 1) * squares / visits**2, np.nan)


def clustered_wilson(
    hits: Any, visits: Any, variance: Any, cases: Any, *, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval around a share of visits, with the number of visits that independent ones would need.

    The effective number is p (1 - p) / variance, times the square of the ratio of the normal to Student's quantile
    (Korn and Graubard 1998), and at most the number of visits. Where all or none went this way the variance says
    nothing, and the number is that of the cases.
    """
    from scipy import stats

    hits, visits, variance, cases = (np.asarray(item, np.float64) for item in (hits, visits, variance, cases))
    upper = (1 + level) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        p = hits / visits
        few = (stats.norm.ppf(upper) / stats.t.ppf(upper, np.maximum(cases - 1, 1))) ** 2
        effective = np.where(variance > 0, p * (1 - p) / variance * few, cases)
        effective = np.where((p == 0) | (p == 1), cases, effective)
    effective = np.minimum(effective, visits)
    return wilson(p * effective, effective, level=level)


def _transitions(found: Steps, sums: pd.DataFrame, level: float) -> pd.DataFrame:
    t = found.table
    seconds = seconds_between(t.next_time, t.time)
    times = t.group_by(["event", "next_event"]).aggregate(
        seconds_p10=seconds.quantile(0.1), seconds_median=seconds.median(), seconds_p90=seconds.quantile(0.9)
    )
    made = sums.merge(found.ask(times), on=["event", "next_event"], validate="1:1")
    made["share"] = made["n"] / made["visits"]
    over = {name: made[name] for name in ("nn", "nm", "mm", "visits")}
    variance = ratio_variance(made["share"], **over, cases=made["cases_of"])
    low, high = clustered_wilson(made["n"], made["visits"], variance, made["cases_of"], level=level)
    made = made.assign(low=low, high=high).rename(columns={"event": "source", "next_event": "target", "visits": "of"})
    first = t.filter(t.position == 1)
    starts = found.ask(first.group_by("event").aggregate(n=first.count())).rename(columns={"event": "target"})
    low, high = wilson(starts["n"], np.full(len(starts), found.cases), level=level)
    share = starts["n"] / found.cases
    starts = starts.assign(source=START, cases=starts["n"], of=found.cases, share=share, low=low, high=high)
    columns = ["source", "target", "n", "cases", "of", "share", "low", "high"]
    times_of = ["seconds_p10", "seconds_median", "seconds_p90"]
    whole = pd.concat([starts[columns], made[columns + times_of]], ignore_index=True)
    whole[times_of] = whole[times_of].astype(np.float64)
    return whole.sort_values(["n", "source", "target"], ascending=[False, True, True], ignore_index=True)


def _stages(found: Steps, sums: pd.DataFrame, level: float) -> pd.DataFrame:
    t = found.table
    made = sums.groupby("event", as_index=False).agg(events=("visits", "first"), cases=("cases_of", "first"))
    places = found.ask(t.group_by("event").aggregate(position=t.position.sum()))
    ended = sums[sums["next_event"] == END].set_index("event")["n"]
    made = made.merge(places, on="event", validate="1:1").rename(columns={"event": "state"})
    made["position"] = made["position"].astype(np.float64) / made["events"]
    made["ended"] = made["state"].map(ended).fillna(0).astype(np.int64)
    low, high = wilson(made["ended"], made["cases"], level=level)
    made = made.assign(drop_off=made["ended"] / made["cases"], drop_off_low=low, drop_off_high=high)
    edges = [pd.DataFrame({"state": [name], "events": 0, "cases": found.cases, "ended": 0}) for name in (START, END)]
    made = pd.concat([edges[0], made.sort_values(["position", "state"]), edges[1]], ignore_index=True)
    columns = ["state", "events", "cases", "position", "ended", "drop_off", "drop_off_low", "drop_off_high"]
    return made[columns]


def _measure(found: Steps, value: str, level: float) -> pd.DataFrame:
    """The mean of a column at each state; its interval has cases as the unit."""
    from scipy import stats

    t = found.table
    kind = t[value].type()
    if not (kind.is_numeric() or kind.is_boolean()):
        raise DataError(f"Column {value!r} is {kind}, must be numbers, or true and false, to have a mean.")
    number = t[value].cast("float64")
    number = number.isnan().ifelse(None, number)
    middle = found.ask(t.aggregate(middle=number.mean()))["middle"][0]
    if pd.isna(middle):
        raise DataError(f"Column {value!r} has no value in any event. Name another column, or leave value out.")
    middle = 0.0 if kind.is_boolean() else float(f"{middle:.3g}")  # sums of squares are exact enough around it
    each = t.mutate(number=number - middle).group_by(["case_number", "event"])
    each = each.aggregate(s=ibis._.number.sum(), k=ibis._.number.count(), lost=ibis._.number.isnull().sum())
    some = each.k > 0
    sums = each.group_by("event").aggregate(
        value_n=each.k.sum(),
        value_missing=each.lost.sum(),
        cases=some.sum(),
        s=each.s.sum(),
        ss=(each.s * each.s).sum(),
        sk=(each.s * each.k).sum(),
        kk=(each.k * each.k).sum(),
    )
    made = found.ask(sums).rename(columns={"event": "state"})
    n = made["value_n"].where(made["value_n"] > 0)
    mean = made["s"] / n
    variance = ratio_variance(mean, nn=made["ss"], nm=made["sk"], mm=made["kk"], visits=n, cases=made["cases"])
    if kind.is_boolean():
        low, high = clustered_wilson(made["s"], n, variance, made["cases"], level=level)
    else:
        half = stats.t.ppf((1 + level) / 2, np.maximum(made["cases"] - 1, 1)) * np.sqrt(variance)
        low, high = mean - half, mean + half
    for name, values in (("value", mean), ("value_low", low), ("value_high", high)):
        made[name] = [float(f"{middle + x:.{DIGITS}g}") for x in np.asarray(values, np.float64)]
    return made[["state", "value_n", "value_missing", "value", "value_low", "value_high"]]
