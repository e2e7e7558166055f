"""How well and how early the outcome of a case is known.

    found = outcome_of(prefixes)
    found.earliness.plot()      # the AUC after 1, 2, 3, ... events, and the share that is found by then

The threshold of alarms is chosen on the earlier half of the test cases and judged on the later one, for what a model
says of rows that it learnt from is too good to choose by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cxlab.display import Result, records
from cxlab.evidence.sequence_rows import Prefixes, one_each, some_cases
from cxlab.features.prefixes import DAY, microseconds
from cxlab.metrics.curves import Reliability, reliability
from cxlab.metrics.earliness import Earliness, earliness
from cxlab.metrics.intervals import FEWEST
from cxlab.models.ahead import OUTCOME, Ahead

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROWS = 8000  # test rows whose distribution of times is computed, where the outcome is an event


@dataclass(frozen=True, repr=False, eq=False)
class OutcomeEarly(Result):
    """How early the outcome is known.

    Attributes:
        name: The outcome, in words.
        earliness: Of the later half of the test cases.
        reliability: Of all test cases, one random row of each.
        chosen_on: Cases by which the threshold was chosen.
        cases: Test cases whose outcome is known.
    """

    name: str
    earliness: Earliness
    reliability: Reliability
    chosen_on: int
    cases: int

    title: ClassVar[str] = "How early is it known?"

    @property
    def note(self) -> str:  # type: ignore[override]
        return (
            f"{self.earliness.note} The threshold was chosen on the {self.chosen_on:,} test cases that began first and "
            f"is judged on the {self.earliness.n:,} that began later, for what is said of cases that it learnt from is "
            "no guide. Time left is in days."
        )

    def frame(self) -> pd.DataFrame:
        return self.earliness.frame()

    def plot(self) -> Axes:
        return self.earliness.plot()

    def facts(self) -> dict[str, Any]:
        """Plain."""
        found = self.earliness
        return {
            "outcome": self.name,
            "threshold": found.threshold,
            "precision_asked": found.asked,
            "chosen_on": self.chosen_on,
            "cases": found.n,
            "positives": found.positives,
            "alarms": records(found.alarms()),
            "by_events_seen": records(found.frame()),
            "calibration": records(self.reliability.frame()),
        }


def outcome_of(prefixes: Prefixes, *, seed: int = 0) -> OutcomeEarly | str | None:
    """How early the outcome of the test cases is known; a sentence where it cannot be told, None where there is none.

    Args:
        prefixes: The test part.
        seed: Of the rows drawn.
    """
    asked, ahead = prefixes.subject.params.sequence, prefixes.subject.model.ahead
    if asked.outcome is None:
        return None
    assert isinstance(ahead, Ahead)
    test, case = prefixes.subject.split.test, prefixes.case
    waiting = prefixes.waiting[test]
    if asked.outcome.event is not None:
        if OUTCOME not in ahead.times:
            return f"The outcome was not learnt: {ahead.skipped.get(OUTCOME, 'it has no time')}"
        known = prefixes.facts.times[OUTCOME]
        first = pd.Series(known.asked[test]).groupby(case).cumprod().to_numpy(bool)  # before it came the first time
        comes, ended = known.observed[test], prefixes.facts.times["rest"].observed[test]
        there = np.flatnonzero(waiting & first & (comes | ended))
        there = there[some_cases(case[there], ROWS, seed)]
        y, name = comes[there].astype(int), f"event {asked.outcome.event!r}"
        horizon = max(ahead.horizons)
        score = ahead.times[OUTCOME].within(prefixes.X.iloc[there], [horizon])[:, 0] if len(there) else np.zeros(0)
        name += f", scored by its probability within {horizon:g} days"
    else:
        assert prefixes.facts.outcome is not None
        if ahead.outcome is None:
            return f"The outcome was not learnt: {ahead.skipped.get(OUTCOME, 'nothing to tell apart')}"
        truth = prefixes.facts.outcome[test]
        there = np.flatnonzero(waiting & ~np.isnan(truth))
        y, name = truth[there].astype(int), f"{asked.outcome.column} == {asked.outcome.value!r}"
        score = ahead.likelihood(prefixes.X.iloc[there]) if len(there) else np.zeros(0)
    cases = np.unique(case[there])
    if len(cases) < 2 * FEWEST:
        return f"{len(cases):,} test cases have a known outcome, must be at least {2 * FEWEST} to say how early."
    later = case[there] >= cases[len(cases) // 2]
    elapsed, length = _times(prefixes)
    every = case[there], prefixes.position[there], y, score
    found = earliness(
        *(values[later] for values in every),
        chosen_on=tuple(values[~later] for values in every),
        precision=asked.precision,
        length=length[there][later],
        elapsed=_until_the_end(elapsed, case, there)[later],
    )
    rows = one_each(case[there], seed)
    return OutcomeEarly(name, found, reliability(y[rows], np.clip(score[rows], 0, 1)), int(len(cases) // 2), len(cases))


def _times(prefixes: Prefixes) -> tuple[np.ndarray, np.ndarray]:
    """Of each test row: days since the case began, events that it has in the end."""
    when = microseconds(prefixes.subject.test[prefixes.schema.roles.time])
    case = prefixes.case
    start = pd.Series(when).groupby(case).transform("first").to_numpy()
    return np.maximum(when - start, 0) / DAY, np.bincount(case)[case]


def _until_the_end(elapsed: np.ndarray, case: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Days since the case began of some rows; of the last of them in each case, days at which it ends, so that what is
    left is counted to its end."""
    found, whose = elapsed[there].copy(), case[there]
    last = np.append(whose[1:] != whose[:-1], True)
    ends = pd.Series(elapsed).groupby(case).transform("max").to_numpy()
    found[last] = ends[there][last]
    return found
