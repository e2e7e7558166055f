"""One screen for a supervisor: what changed, for whom, why, what to do, who owns it, and how sure that is.

    page = insights(params, risks=compare_risks(...), causes=root_causes(...), measures=measures(...))
    page.frame()
    page.write("insights.html")

Only what is more than noise is a line: a figure whose difference to the baseline stands after its own result's
false-discovery control. What cannot be told is counted below the lines, not hidden. Nothing is computed here that the
results do not hold: every line names the one it comes from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from cxlab.data.files import write_whole
from cxlab.decide.measured import Measures
from cxlab.decide.risk_compare import RiskComparison
from cxlab.decide.root_causes import RootCauses
from cxlab.display import Result, axes, interval_plot, row_height, sentence
from cxlab.evidence.page import Part, Section, Text, drawing, render, rows
from cxlab.params.insights import Duty, InsightParams

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EVERYBODY, NOT_TOLD = "everybody: no group stands out", "these data do not tell"
FOR_WORSE = {"worse": 0, "better": 1}


@dataclass(frozen=True)
class Line:
    """One thing that changed.

    Attributes:
        figure: What is measured, in words.
        verdict: worse or better.
        value: Now.
        baseline: Before.
        difference: Now less before.
        low: Of the difference's interval.
        high: Of it.
        unit: Of all five; percent points of shares.
        n: Calls, contacts, answers or customers that it rests on now.
        for_whom: The group that it concerns most.
        why: What moved it.
        action: What the owner does.
        owner: Who answers.
        source: The result that it comes from.
    """

    figure: str
    verdict: str
    value: float
    baseline: float
    difference: float
    low: float
    high: float
    unit: str
    n: int
    for_whom: str
    why: str
    action: str
    owner: str
    source: str

    @property
    def what(self) -> str:
        """The change in words, with its interval."""
        moved = "rose" if self.difference > 0 else "fell"
        unit = "%" if self.unit == "%" else f" {self.unit}"
        return (
            f"{self.figure} {moved} from {self.baseline:.3g}{unit} to {self.value:.3g}{unit} "
            f"({self.difference:+.2g}, {self.low:+.2g} to {self.high:+.2g})"
        )


@dataclass(frozen=True, repr=False, eq=False)
class Insights(Result):
    """What changed.

    Attributes:
        lines: What got worse first, the surest first.
        left_out: Lines beyond `most`.
        untold: Figures that did not move by more than noise, or of which too little is known.
        params: Since when, and who does what.
    """

    title: ClassVar[str] = "What changed, and who does what about it?"

    lines: tuple[Line, ...]
    left_out: int
    untold: int
    params: InsightParams

    @property
    def note(self) -> str:  # type: ignore[override]
        return (
            f"Since {self.params.since}, against {self.params.baseline} to then. Lines are the figures that moved by "
            f"more than noise{self._more()}; of {self.untold:,} others it cannot be told. Intervals are of the "
            "difference; a group named is where to look, not yet what to mend."
        )

    def _more(self) -> str:
        return f", and {self.left_out:,} more are left out here" if self.left_out else ""

    def frame(self) -> pd.DataFrame:
        """One row a line: the fields of `Line`."""
        return pd.DataFrame([asdict(line) for line in self.lines], columns=list(Line.__dataclass_fields__))

    def plot(self) -> Axes:
        """Differences in units of half their intervals' widths, so that figures of any unit share an axis."""
        if not self.lines:
            return sentence(self.title, "Nothing moved by more than noise.")
        ax = axes(self.title, height=row_height(self.lines))
        half = [(line.high - line.low) / 2 for line in self.lines]
        ends = [
            [getattr(line, name) / wide for line, wide in zip(self.lines, half, strict=True)]
            for name in ("difference", "low", "high")
        ]
        labels = [f"{line.figure}: {line.verdict}" for line in self.lines]
        interval_plot(ax, labels, *ends, reference=0.0)
        ax.set_xlabel("difference, in half-widths of its interval")
        return ax

    def html(self) -> str:
        """The page: one screen that needs no network."""
        table = pd.DataFrame(
            [
                {
                    "what changed": line.what,
                    "it is": line.verdict,
                    "for whom": line.for_whom,
                    "why": line.why,
                    "what to do": line.action if line.verdict == "worse" else "Find out what helped, and keep it.",
                    "owner": line.owner,
                }
                for line in self.lines
            ]
        )
        nothing = Text("Nothing moved by more than noise. There is nothing to do today.", loud=True)
        parts: list[Part] = [rows("The surest first", table) if self.lines else nothing, Text(self.note)]
        figure: list[Part] = [
            drawing(self.plot(), "How sure each line is: an interval that crosses 0 would be no line")
        ]
        sections = [Section("lines", "Today", parts)]
        if self.lines:
            sections.append(Section("sure", "How sure is that?", figure))
        return render(self.title, f"Since {self.params.since}", [], sections)

    def write(self, path: str | Path) -> Path:
        """Writes the page, whole or not at all; the path.

        Raises:
            DataError: The file cannot be written.
        """
        return write_whole(path, self.html().encode())


def insights(
    params: InsightParams,
    *,
    risks: RiskComparison | None = None,
    causes: RootCauses | None = None,
    measures: Measures | None = None,
) -> Insights:
    """Gathers what moved.

    Args:
        params: Since when, and who does what.
        risks: The risk scores of the baseline (a) against now (b).
        causes: What raises the risk of calls now.
        measures: Measures of now, against the baseline.
    """
    found: list[tuple[tuple[int, float], Line]] = []
    untold = 0
    for p, line in (*_of_risks(params, risks, causes), *_of_measures(params, measures)):
        if line is None:
            untold += 1
        else:
            found.append(((FOR_WORSE[line.verdict], p), line))
    lines = [line for _, line in sorted(found, key=lambda item: item[0])]
    kept = tuple(lines[: params.most])
    return Insights(kept, len(lines) - len(kept), untold, params)


Told = tuple[float, Line | None]  # p, and the line where it moved


def _duty(params: InsightParams, code: str) -> Duty:
    return params.duties.get(code, params.others)


def _of_risks(params: InsightParams, risks: RiskComparison | None, causes: RootCauses | None) -> Iterator[Told]:
    if risks is None:
        return
    frame = risks.frame()
    for row in frame[frame["kind"] == "score"].to_dict("records"):
        if row["verdict"] not in FOR_WORSE:
            yield 1.0, None
            continue
        own = frame[(frame["area"] == row["area"]) & (frame["kind"] == "indicator")]
        moved = own[own["verdict"] == row["verdict"]].sort_values("part", ascending=row["verdict"] == "better")
        duty = _duty(params, row["area"])
        line = Line(
            figure=f"{row['title']} risk",
            verdict=row["verdict"],
            value=100 * row["b_share"],
            baseline=100 * row["a_share"],
            difference=100 * row["difference"],
            low=100 * row["low"],
            high=100 * row["high_bound"],
            unit="%",
            n=int(row["b_calls"]),
            for_whom=_group_at_risk(causes, row["area"]),
            why=_points(moved.iloc[0]) if len(moved) else "no single indicator stands out",
            action=duty.action,
            owner=duty.owner,
            source=RiskComparison.title,
        )
        yield float(row["p_adjusted"]), line


def _points(row: Any) -> str:
    ends = (100 * row["difference"], 100 * row["low"], 100 * row["high_bound"])
    return f"{row['title']}: {ends[0]:+.2g} points ({ends[1]:+.2g} to {ends[2]:+.2g})"


def _group_at_risk(causes: RootCauses | None, area: str) -> str:
    rows = None if causes is None else causes.frame()
    if rows is None or not (rows["area"] == area).any():
        return EVERYBODY
    first = rows[rows["area"] == area].iloc[0]
    ends = (100 * first["share"], 100 * first["difference"], 100 * first["low"], 100 * first["high_bound"])
    return f"{first['cause']}: {ends[0]:.2g}% of calls, {ends[1]:+.2g} ({ends[2]:+.2g} to {ends[3]:+.2g}) beyond others"


def _of_measures(params: InsightParams, measures: Measures | None) -> Iterator[Told]:
    if measures is None:
        return
    frame = measures.frame()
    frame = frame[(frame["better"] != "") & frame["difference"].notna()]
    for row in frame[frame["segment"] == ""].to_dict("records"):
        if row["verdict"] not in FOR_WORSE:
            yield 1.0, None
            continue
        groups = frame[
            (frame["measure"] == row["measure"]) & (frame["segment"] != "") & (frame["verdict"] == row["verdict"])
        ].sort_values("p_adjusted", kind="stable")
        duty = _duty(params, row["measure"])
        line = Line(
            figure=row["title"],
            verdict=row["verdict"],
            value=row["value"],
            baseline=row["baseline"],
            difference=row["difference"],
            low=row["diff_low"],
            high=row["diff_high"],
            unit=row["unit"],
            n=int(row["n"]),
            for_whom=_group_that_moved(groups),
            why=NOT_TOLD,
            action=duty.action,
            owner=duty.owner,
            source=Measures.title,
        )
        yield float(row["p_adjusted"]), line


def _group_that_moved(groups: pd.DataFrame) -> str:
    if groups.empty:
        return EVERYBODY
    first = groups.iloc[0]
    told = f"{first['difference']:+.2g} ({first['diff_low']:+.2g} to {first['diff_high']:+.2g})"
    return f"{first['segment']} {first['group']}: {told}"
