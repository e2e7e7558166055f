"""What was decided about an experiment, by whom, and what was learnt: a ledger of its own, added to and never changed.

    announce(written)                                                    # the plan, before the start
    record_look(found)                                                   # each look at the data
    settle(found, "expand", reason="...", learnt="...")                  # a named person's word
    decisions_on("callback_test").frame()

The rule recommends, a person decides. Only `expand` has conditions that no reason overcomes: a plan from before the
start, arms of the planned sizes, and an assignment that nothing known before tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import pandas as pd

from cxlab.decide.plans import Plan
from cxlab.decide.readout import Decision, Readout
from cxlab.display import PALETTE, Result, axes, date_axis, records, sentence
from cxlab.errors import ParamsError, unknown
from cxlab.tracking.ledger import Draft, Entry, Ledger, append, of_experiment, read_ledger

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NO_PLAN = "no plan"
DECISIONS = tuple(item for item in get_args(Decision) if item != "go on")  # to go on is to decide nothing


@dataclass(frozen=True, repr=False)
class History(Result):
    """What was planned, looked at, decided and learnt."""

    name: str
    ledger: Ledger

    title: ClassVar[str] = "What was decided, and what was learnt"

    @property
    def note(self) -> str:  # type: ignore[override]
        return " ".join(self.ledger.problems) or self.ledger.note

    @property
    def looks(self) -> int:
        """How often the data were looked at, as far as it was recorded."""
        return sum(entry.what == "looked" for entry in self.ledger.entries)

    def frame(self) -> pd.DataFrame:
        """One row an entry: n, time, who, what, plan (the first digits of its hash), decision, arm, reason, learnt."""
        rows = [
            (entry.n, entry.time, entry.who, entry.what, entry.version, *_said(entry)) for entry in self.ledger.entries
        ]
        columns = ["n", "time", "who", "what", "plan", "decision", "arm", "reason", "learnt"]
        return pd.DataFrame(rows, columns=columns)

    def plot(self) -> Axes:
        """Entries over time."""
        frame = self.frame()
        if frame.empty:
            return sentence(self.title, f"Nothing is in the ledger of {self.name} yet.")
        ax = axes(f"{self.name}: what was done")
        kinds = ["planned", "looked", "decided"]
        when: list[Any] = [datetime.fromisoformat(text) for text in frame["time"]]
        ax.plot(when, [kinds.index(what) for what in frame["what"]], "o", color=PALETTE[0])
        ax.set_yticks(range(len(kinds)), kinds)
        ax.set_ylim(-0.5, len(kinds) - 0.5)
        date_axis(ax)
        return ax


def _said(entry: Entry) -> tuple[str, str, str, str]:
    return entry.facts.get("decision", ""), entry.facts.get("arm", ""), entry.reason, entry.facts.get("learnt", "")


def decisions_on(name: str) -> History:
    """The ledger of an experiment, verified; empty where nothing was added yet."""
    return History(name, read_ledger(of_experiment(name)))


def announce(plan: Plan) -> Entry:
    """Puts a plan into the ledger, so that its hash has a witness outside its file.

    Raises:
        ParamsError: It is there already.
    """
    facts = {"sha256": plan.sha256, "customers": plan.customers, "days": plan.days, "written_at": plan.written_at}

    def draft(ledger: Ledger) -> Draft:
        if any(entry.facts.get("sha256") == plan.sha256 for entry in ledger.entries if entry.what == "planned"):
            raise ParamsError(f"This plan of {plan.name} is in the ledger already.")
        return Draft("planned", plan.sha256[:12], plan.settled["hypothesis"], facts)

    return append(of_experiment(plan.name), draft).entries[-1]


def record_look(found: Readout) -> Entry:
    """Puts into the ledger that somebody looked, and what was seen."""
    facts = {"customers": sum(found.arms.values()), **_figures(found)}
    return append(of_experiment(found.name), lambda _: Draft("looked", _plan(found), "", facts)).entries[-1]


def settle(found: Readout, decision: str, *, reason: str, learnt: str, arm: str | None = None) -> Entry:
    """Keeps what the acting person decided, and what was learnt.

    Args:
        found: What it rests on.
        decision: `expand`, `adjust`, `stop` or `roll back`.
        reason: Why.
        learnt: What is known now that was not before, for whoever comes next.
        arm: Which arm it is about; needed where there are several.
    Raises:
        ParamsError: The decision is none, a text is missing, or the experiment does not allow to expand.
    """
    if decision not in DECISIONS:
        raise ParamsError(unknown("Decision", decision, DECISIONS))
    for name, text in {"reason": reason, "learnt": learnt}.items():
        if not text.strip():
            raise ParamsError(f"{name} == '', must say something: the ledger is for those who were not there.")
    arms = list(found.arms)[1:]
    if arm is None and len(arms) > 1:
        raise ParamsError(f"arm is missing; the decision is about one of {', '.join(arms)}.")
    arm = arm or arms[0]
    if arm not in arms:
        raise ParamsError(unknown("Arm", arm, arms))
    if decision == "expand":
        _may_expand(found, arm)
    rule, because = found.recommendations()[arm]
    facts = {"decision": decision, "arm": arm, "learnt": learnt.strip(), "rule": rule, "because": because[:300]}
    draft = Draft("decided", _plan(found), reason.strip(), {**facts, **_figures(found)})
    return append(of_experiment(found.name), lambda _: draft).entries[-1]


_LACKING = {"no plan": "there is no plan", "written after the start": "its plan was written after the start"}


def _may_expand(found: Readout, arm: str) -> None:
    if not found.trusted:
        why = found.srm.note if found.srm.verdict == "fail" else found.alike.note
        raise ParamsError(f"{found.name} cannot be expanded: {why}")
    if not found.look.kept:
        raise ParamsError(
            f"{found.name} cannot be expanded: {_LACKING[found.look.state]}, so nobody can know whether it was stopped "
            "when it looked good. Write a plan and run it again; 'adjust' keeps the arm."
        )
    harmed = found.rows.loc[(found.rows["arm"] == arm) & (found.rows["verdict"] == "harmed"), "name"].tolist()
    if harmed:
        raise ParamsError(f"{found.name} cannot be expanded: {', '.join(harmed)} suffered in {arm}. Roll it back.")


def _plan(found: Readout) -> str:
    return found.look.plan.sha256[:12] if found.look.plan else NO_PLAN


def _figures(found: Readout) -> dict[str, Any]:
    """The primary metric's rows and the sample ratio: few enough for an entry."""
    rows = found.rows.loc[(found.rows["role"] == "primary") & found.rows["difference"].notna()]
    columns = ["arm", "n", "difference", "low", "high", "verdict"]
    return {"primary": found.said.primary, "effects": records(rows[columns])[:10], "srm": found.srm.p}
