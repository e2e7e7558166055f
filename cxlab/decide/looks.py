"""How an experiment is looked at: once, at the end that was planned, or at any time; and when nothing can be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxlab.decide.assignment import FEWEST
from cxlab.decide.experiments import Difference, Told
from cxlab.decide.plans import Plan, moment
from cxlab.decide.sequential import UNPLANNED
from cxlab.decide.subjects import Subjects
from cxlab.metrics.sample import Array
from cxlab.params.experiment import ExperimentParams

Flags = NDArray[np.bool_]
State = Literal["written before", "written after the start", "no plan"]

CASES = 10  # customers whose value is not the commonest one, to be expected in each arm: below, nothing is told


@dataclass(frozen=True)
class Look:
    """How the data are looked at.

    Attributes:
        once: Whether this is the one look that was planned, at its planned end.
        reached: Whether the planned end is reached; None where nobody planned one.
        planned: Customers, all arms together, at which intervals are tightest.
        shares: Of them, the control and each arm together, in the order of the arms.
        tuned: The alpha for which they are.
        plan: The plan.
        state: `written before`, `written after the start` or `no plan`.
    """

    once: bool
    reached: bool | None
    planned: float
    shares: tuple[float, ...]
    tuned: float
    plan: Plan | None
    state: State

    @property
    def kept(self) -> bool:
        """Whether there is a plan from before the start."""
        return self.state == "written before"

    def told(self, one: Difference, level: float, place: int, against: float = 0.0) -> Told:
        """The interval of the difference of an arm, the place-th, to the control; and p of its being `against`."""
        if self.once:
            return one.once(level, against=against)
        return one.always(level, planned=self.planned_of(place), tuned=self.tuned, against=against)

    def planned_of(self, place: int) -> float:
        """Customers planned of an arm and the control together."""
        return self.planned * self.shares[place]


def look_at(said: ExperimentParams, people: Subjects, plan: Plan | None, now: datetime) -> Look:
    """Whether the plan came before the start, whether its end is reached, and how intervals are made."""
    n = len(people.codes)
    tuned = (1 - said.level) / (len(people.arms) - 1)
    shares = tuple(people.shares[people.arms[0]] + people.shares[name] for name in people.arms)
    state: State
    starts = [people.first] if people.first else [moment(said.started)] if said.started else []
    if plan is None:
        customers, ends, state = said.customers, said.ends, "no plan"
    else:
        customers, ends = plan.customers, plan.ends
        late = bool(starts) and starts[0] < moment(plan.written_at)
        state = "written after the start" if late else "written before"
    reached = None
    if customers is not None or ends is not None:
        now = now if now.tzinfo else now.replace(tzinfo=UTC)
        reached = (customers is not None and n >= customers) or (ends is not None and now >= moment(ends))
    once = said.looks == 1 and bool(reached) and state != "written after the start"
    return Look(once, reached, float(customers or UNPLANNED), shares, tuned, plan, state)


def untold(y: Array, arm: Flags, control: Flags, least: int = FEWEST) -> str:
    """Why nothing is told; empty where it is."""
    few = min(int(arm.sum()), int(control.sum()))
    if few < least:
        return f"{few} customers in an arm, fewer than {least}"
    both = y[arm | control]
    values, counts = np.unique(both, return_counts=True)
    if len(values) == 1:
        return "all have the same value"
    expected = few * (1 - counts.max() / len(both))
    if expected < CASES:
        return f"all but {len(both) - counts.max():,} of {len(both):,} customers have the same value: too few to tell"
    return ""


def verdict_of(told: Told, *, lower_is_better: bool, margin: float | None = None) -> str:
    """better, worse or cannot tell; with a guardrail's margin safe, harmed or cannot tell."""
    low, high = (told.low, told.high) if not lower_is_better else (-told.high, -told.low)
    if margin is not None:
        return "safe" if low > -margin else "harmed" if high < 0 else "cannot tell"
    return "better" if low > 0 else "worse" if high < 0 else "cannot tell"


def shared_level(p: Sequence[float], level: float) -> float:
    """The level of each of m intervals such that those that leave out 0 are the tests told at a false discovery rate of
    1 - level (Benjamini and Hochberg 1995): 1 - (1 - level) R / m, where R are told, or would be the first to be.

    Examples:
        >>> round(shared_level([0.001, 0.2], 0.95), 3), round(shared_level([0.001, 0.002], 0.95), 3)
        (0.975, 0.95)
    """
    from scipy import stats

    told = int((stats.false_discovery_control(p) <= 1 - level).sum()) if len(p) else 0
    return 1 - (1 - level) * max(1, told) / max(1, len(p))
