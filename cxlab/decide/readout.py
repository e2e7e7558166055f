"""The readout of an experiment: was it run as planned, what did each arm change, and what would the rule do?

    found = readout(params)             # of params.data.path; or readout(params, frame)
    found.srm.verdict                   # first: were arms of the planned sizes?
    found.frame(); found.plot()         # each metric and arm, with intervals that hold at this look
    found.by_segment().plot()           # the primary metric by segment
    found.recommendations()             # expand, adjust, stop, roll back or go on; a person decides

Errors are held so: of the primary metric 1 - level, shared by the arms (Dunn 1961, Multiple comparisons among means);
of all other metrics the false discovery rate (Benjamini and Hochberg 1995), with intervals of the level that belongs to
it (Benjamini and Yekutieli 2005, False discovery rate-adjusted multiple confidence intervals): a metric is better or
worse where its interval leaves out 0, and nowhere else. A guardrail is safe where its interval leaves out a harm of
the margin, and is not adjusted: an arm expands only where all are safe (Berger 1982, Multiparameter hypothesis testing
and acceptance sampling). Intervals are those of one look only where one look was planned and the planned end is
reached; else they hold at any look (`sequential`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd

from cxlab.decide.assignment import ALARM, FEWEST, Balance, balance, design
from cxlab.decide.experiments import ROWS_A_COLUMN, difference, predicted, sample_ratio
from cxlab.decide.looks import Look, look_at, shared_level, untold, verdict_of
from cxlab.decide.plans import Plan, check_kept, load_plan, section
from cxlab.decide.segments import SegmentReadout, segment_effects
from cxlab.decide.subjects import Subjects, subjects
from cxlab.display import GREY, PALETTE, Result, axes, interval_plot, plain, records, row_height, sentence
from cxlab.errors import DataError
from cxlab.metrics.sample import Array
from cxlab.params.experiment import ExperimentParams

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cxlab.params import Params

Decision = Literal["expand", "adjust", "stop", "roll back", "go on"]

COLUMNS = [
    *("name", "arm", "role", "n", "value", "difference", "low", "high", "p", "verdict"),
    *("level", "unadjusted", "reason"),
]
HOPE: tuple[Decision, ...] = ("expand", "go on", "adjust", "stop", "roll back")  # what is said of several arms together


@dataclass(frozen=True, repr=False, eq=False)
class SampleRatio(Result):
    """Whether the arms have the planned sizes.

    Attributes:
        p: Of sizes like these, where customers were split as planned.
        rows: arm, n, share, planned.
        told: Whether the params say the planned shares; else arms of one size are taken as planned.
    """

    p: float
    rows: pd.DataFrame = field(repr=False)
    told: bool

    title: ClassVar[str] = "Have the arms the planned sizes?"

    @property
    def verdict(self) -> Literal["pass", "fail"]:
        """`fail` at p < 0.001."""
        return "fail" if self.p < ALARM else "pass"

    @property
    def note(self) -> str:  # type: ignore[override]
        taken = "" if self.told else " No split is given, so arms of one size are taken as planned (experiment.split)."
        if self.verdict == "pass":
            return f"Sizes like these are no surprise (p = {self.p:.2g}).{taken}"
        return (
            f"Sample-ratio mismatch: sizes like these do not come of the planned split (p = {self.p:.1e}). Somebody "
            "was lost or moved, and who it was may have to do with the outcome: no effect is told. Find out where "
            f"customers went missing (assignment, redirect, logging, filters), mend it, and start again.{taken}"
        )

    def frame(self) -> pd.DataFrame:
        return self.rows.copy()

    def plot(self) -> Axes:
        """Shares beside the planned ones."""
        ax = axes(self.title, height=row_height(self.rows))
        place = np.arange(len(self.rows))
        ax.barh(place, self.rows["share"], color=PALETTE[0] if self.verdict == "pass" else PALETTE[1], height=0.5)
        ax.vlines(self.rows["planned"], place - 0.4, place + 0.4, color=GREY)
        ax.set_yticks(place, self.rows["arm"])
        ax.invert_yaxis()
        ax.set_xlabel("share of customers; grey as planned")
        return ax


@dataclass(frozen=True, repr=False, eq=False)
class Readout(Result):
    """What an experiment shows.

    Attributes:
        name: Of the experiment.
        said: The params' section.
        arms: Customers by arm, the control first.
        rows: See `frame`.
        srm: Whether arms have the planned sizes.
        alike: Whether arms are alike in what was known before.
        segments: See `SegmentReadout`.
        look: How the data are looked at.
        gain: Share of the primary metric's variance that covariates take away; 0 without.
        notes: What is to be known, in sentences.
    """

    name: str
    said: ExperimentParams
    arms: dict[str, int]
    rows: pd.DataFrame = field(repr=False)
    srm: SampleRatio
    alike: Balance
    segments: pd.DataFrame = field(repr=False)
    look: Look
    gain: float
    notes: tuple[str, ...]

    title: ClassVar[str] = "What the experiment changed"

    @property
    def note(self) -> str:  # type: ignore[override]
        return " ".join(self.notes)

    @property
    def trusted(self) -> bool:
        """Whether differences are effects: arms of the planned sizes, and nothing known before tells them."""
        return self.srm.verdict == "pass" and self.alike.random is not False

    def frame(self) -> pd.DataFrame:
        """One row a metric and arm, the control's first.

        name, arm, role (primary, secondary, guardrail), n, value (the arm's mean), difference (arm minus control,
        adjusted for covariates) with low and high, p, verdict, level (of the interval), unadjusted (difference of the
        means as they are), reason. Verdicts: better, worse; of a guardrail safe, harmed; or cannot tell. The p of a
        guardrail is that of a harm of the margin.
        """
        return self.rows.copy()

    def plot(self, metric: str | None = None) -> Axes:
        """Differences to the control of one metric (the primary), with their intervals."""
        name = metric or self.said.primary
        shown = self.rows[(self.rows["name"] == name) & self.rows["low"].notna()].drop_duplicates("arm")
        if shown.empty:
            return sentence(self.title, f"Nothing can be told of {name}.")
        ax = axes(f"{name}: difference to {self.said.control}", height=row_height(shown))
        labels = [f"{row.arm}\n({row.verdict})" for row in shown.itertuples()]
        interval_plot(ax, labels, shown["difference"], shown["low"], shown["high"], reference=0.0)
        ax.set_xlabel("in the metric's unit" + ("" if self.look.once else "; intervals hold at any look"))
        return ax

    def by_segment(self) -> SegmentReadout:
        """The primary metric's effect in each group of each segment."""
        return SegmentReadout(self.said.primary, self.segments)

    def recommendations(self) -> dict[str, tuple[Decision, str]]:
        """What the rule would do with each arm, and why; a person decides.

        An experiment that cannot be trusted is adjusted. Else an arm whose primary metric is worse or a guardrail
        harmed is rolled back. One whose primary metric is better expands, where a plan was written before, all
        guardrails are safe and the effect may be as large as the smallest worth having. Before the planned end the
        others go on. At the end what is not better stops.
        """
        return {arm: self._rule(arm) for arm in list(self.arms)[1:]}

    @property
    def recommended(self) -> Decision:
        """Of several arms the most hopeful one's."""
        return min((told for told, _ in self.recommendations().values()), key=HOPE.index)

    def _rule(self, arm: str) -> tuple[Decision, str]:
        if not self.trusted:
            why = self.srm.note if self.srm.verdict == "fail" else self.alike.note
            return "adjust", why
        mine = self.rows[self.rows["arm"] == arm]
        primary = mine[mine["role"] == "primary"].iloc[0]
        guards = mine[mine["role"] == "guardrail"]
        harmed = guards.loc[guards["verdict"] == "harmed", "name"].tolist()
        if harmed:
            return "roll back", f"{', '.join(harmed)} suffered."
        if primary["verdict"] == "worse":
            return "roll back", f"{primary['name']} is worse."
        least = self.said.minimum_effect
        most = -primary["low"] if primary["name"] in self.said.lower_is_better else primary["high"]
        if least is not None and most < least:
            told: Decision = "adjust" if primary["verdict"] == "better" else "stop"
            return told, f"{primary['name']} changed by less than {least:g}, the smallest effect worth having."
        unsure = guards.loc[guards["verdict"] == "cannot tell", "name"].tolist()
        if primary["verdict"] == "better":
            if not self.look.kept:
                return (
                    "adjust",
                    f"{primary['name']} is better, but no plan was written before: plan it and run it again.",
                )
            if unsure:
                open_ = f"{primary['name']} is better, but it cannot be told whether {', '.join(unsure)} suffered."
                return ("adjust", open_) if self.look.reached else ("go on", open_)
            return "expand", f"{primary['name']} is better" + (" and all guardrails are safe." if len(guards) else ".")
        if self.look.reached:
            return "stop", f"At the planned end no change of {primary['name']} can be told."
        if self.look.reached is None:
            return "stop", f"No change of {primary['name']} can be told, and no plan says how long to go on."
        return "go on", f"No change of {primary['name']} can be told yet; the planned end is not reached."

    def facts(self) -> dict[str, Any]:
        """Everything, plain, as JSON holds it."""
        return plain(
            {
                "name": self.name,
                "metrics": records(self.rows),
                "srm": {"p": self.srm.p, "verdict": self.srm.verdict, "arms": records(self.srm.rows)},
                "assignment": {
                    "random": self.alike.random,
                    "told": records(self.alike.told),
                    "differ": self.alike.rows.loc[self.alike.rows["verdict"] == "differs", "covariate"].tolist(),
                },
                "segments": records(self.segments),
                "intervals": "of one planned look" if self.look.once else "hold at any look",
                "plan": {
                    "state": self.look.state,
                    "sha256": self.look.plan.sha256 if self.look.plan else None,
                    "reached": self.look.reached,
                },
                "recommended": [
                    {"arm": arm, "decision": told, "because": why}
                    for arm, (told, why) in self.recommendations().items()
                ],
                "notes": list(self.notes),
            }
        )


def readout(
    params: Params, frame: pd.DataFrame | None = None, *, plan: Plan | None = None, now: datetime | None = None
) -> Readout:
    """Reads an experiment out.

    Args:
        params: With an `experiment` section.
        frame: One row a customer; the file of `data.path` if None.
        plan: The plan; that of `experiment.plan` if None.
        now: Against which the planned end is held.
    Raises:
        ParamsError: No such section, or the plan does not fit.
        DataError: The table cannot be read as an experiment; see `subjects`.
    """
    said = section(params)
    if frame is None:
        from cxlab.data.table import read_table

        frame = read_table(params.data).frame
    plan = plan or (load_plan(said.plan) if said.plan else None)
    if plan is not None:
        check_kept(plan, params)
        said = said if said.split else said.model_copy(update={"split": plan.settled["split"]})
    people = subjects(frame.reset_index(drop=True), said, params.data)
    lonely = [name for name, count in people.counts.items() if count < 2]
    if lonely:
        raise DataError(f"Arm {lonely[0]!r} has 1 customer, must have 2 at least, and {FEWEST} to tell anything.")
    look = look_at(said, people, plan, now or datetime.now(UTC))
    srm = _sample_ratio(people)
    arm = np.array(people.arms, dtype=object)[people.codes]
    alike = balance(people.frame, arm, said.control, said.covariates)
    columns, _ = design(people.frame, said.covariates)
    covariates = {name: predicted(columns, values, people.codes) for name, values in people.metrics.items()}
    distrust = _distrust(srm, alike)
    rows, gain = _rows(said, people, look, covariates, distrust)
    by = segment_effects(params, people, look, covariates[said.primary], distrust)
    notes = [*_of_trust(said, srm, alike), *_of_look(said, people, look)]
    notes += _of_covariates(said, gain, fitted=covariates[said.primary] is not None)
    return Readout(params.name, said, people.counts, rows, srm, alike, by, look, gain, tuple(notes))


def _sample_ratio(people: Subjects) -> SampleRatio:
    counts, total = people.counts, len(people.codes)
    rows = [(name, n, n / total, people.shares[name]) for name, n in counts.items()]
    frame = pd.DataFrame(rows, columns=["arm", "n", "share", "planned"])
    return SampleRatio(sample_ratio(counts, people.shares), frame, people.split_told)


def _distrust(srm: SampleRatio, alike: Balance) -> str:
    """Why differences are no effects; empty where nothing says so."""
    if srm.verdict == "fail":
        return "sample-ratio mismatch"
    return "the assignment was not random: a difference, not an effect" if alike.random is False else ""


def _rows(
    said: ExperimentParams, people: Subjects, look: Look, covariates: dict[str, Array | None], distrust: str
) -> tuple[pd.DataFrame, float]:
    """One row a metric, role and arm; and the share of the primary metric's variance that covariates take away."""
    arms, control = range(1, len(people.arms)), people.codes == 0
    found = {
        (name, place): difference(values, people.codes == place, control, covariates[name])
        for name, values in people.metrics.items()
        for place in arms
    }
    why = {key: distrust or untold(people.metrics[key[0]], people.codes == key[1], control) for key in found}
    tested = [key for key in found if key[0] in said.outcomes[1:] and not why[key]]
    levels = {
        "primary": 1 - (1 - said.level) / len(arms),
        "secondary": shared_level([look.told(found[key], said.level, key[1]).p for key in tested], said.level),
        "guardrail": said.level,
    }
    roles: list[tuple[str, str, float | None]] = [(said.primary, "primary", None)]
    roles += [(name, "secondary", None) for name in said.outcomes[1:]]
    roles += [(item.metric, "guardrail", item.margin) for item in said.guardrails]
    rows: list[tuple[Any, ...]] = []
    for name, role, margin in roles:
        lower, level = name in said.lower_is_better, levels[role]
        base = people.metrics[name][control]
        rows.append((name, people.arms[0], role, len(base), base.mean(), *[None] * 5, level, None, ""))
        harm = (margin or 0.0) * (1 if lower else -1)
        for place in arms:
            one = found[name, place]
            told = look.told(one, level, place, against=harm)
            verdict = "cannot tell" if why[name, place] else verdict_of(told, lower_is_better=lower, margin=margin)
            ends = (one.difference, *told, verdict, level, one.unadjusted, why[name, place])
            rows.append((name, people.arms[place], role, one.n, one.value, *ends))
    return pd.DataFrame(rows, columns=COLUMNS), _gain(people, said.primary, covariates[said.primary])


def _gain(people: Subjects, metric: str, covariate: Array | None) -> float:
    """The share of a metric's variance within arms that a covariate takes away."""
    if covariate is None:
        return 0.0
    y, sizes = people.metrics[metric], np.bincount(people.codes)
    parts = [values - (np.bincount(people.codes, values) / sizes)[people.codes] for values in (y, covariate)]
    return float(np.corrcoef(parts[0], parts[1])[0, 1] ** 2)


def _of_trust(said: ExperimentParams, srm: SampleRatio, alike: Balance) -> list[str]:
    notes = [srm.note] if srm.verdict == "fail" or not srm.told else []
    if alike.random is False:
        return [*notes, alike.note]
    if not said.covariates:
        ask = "name columns from before the start in experiment.covariates"
        notes.append(f"Whether the arms were alike before is not known: {ask}.")
    return notes


def _of_look(said: ExperimentParams, people: Subjects, look: Look) -> list[str]:
    n, at_any = len(people.codes), "intervals hold at any look, and the decision can't be 'expand'"
    if look.state == "written after the start":
        when = "" if look.plan is None else f" ({look.plan.written_at})"
        return [f"The plan was written after the start{when}, so it binds nobody: {at_any}."]
    if look.kept:
        notes = []
        if people.first is None and said.started is None:
            notes.append("That the plan came first is what its own time says: no column says when customers came in.")
        if not look.reached:
            seen = f"{n:,} of {look.planned:,.0f} customers"
            return [*notes, f"Read before the planned end ({seen}): intervals hold at any look."]
        if look.once:
            return [*notes, "Read once, at the planned end: intervals are those of one look."]
        return [*notes, f"{said.looks} looks were planned: intervals hold at any of them."]
    if look.reached is False:
        return [
            f"Stopped early without a plan: {n:,} customers are here, the end that the params name is not reached, and "
            f"no plan says that it may be read now. So {at_any}. Go on to the end; write a plan before the next one."
        ]
    if look.once:
        return [
            "No plan is at hand: that it was looked at once, at its end, is what the params say. The decision can't be "
            "'expand'."
        ]
    return [
        f"No plan was written before, so nobody can know when it was to end: {at_any}. Write a plan before the next "
        "one (experiment.plan)."
    ]


def _of_covariates(said: ExperimentParams, gain: float, *, fitted: bool) -> list[str]:
    if fitted:
        return [f"Covariates take {gain:.1%} of the variance of {said.primary} away (CUPED)."]
    if not said.covariates:
        return []
    return [
        f"Covariates shorten nothing: they tell nothing, or an arm has fewer than {ROWS_A_COLUMN} customers a column."
    ]
