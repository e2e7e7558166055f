"""Whom a model of many classes turns away, and whether it does so for a reason.

found = turned_away(subject)
found.frame()     # who, n, share, right, accuracy, low, high
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from cxlab.display import Result, axes, interval_plot, row_height
from cxlab.metrics.bootstrap import wilson
from cxlab.models.subject import Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EVERYBODY, ANSWERED, AWAY, STRANGE, SEVERAL = "all", "answered", "turned away", "out of scope", "several"


@dataclass(frozen=True, repr=False)
class TurnedAway(Result):
    """Test texts by what the model does with them.

    Attributes:
        rows: See `frame`.
    """

    rows: pd.DataFrame

    title: ClassVar[str] = "Whom does it turn away?"
    note: ClassVar[str] = (
        "Accuracy: how often the likeliest intent is right, said or not. Out of scope are those turned away that are "
        "like nothing that was seen; several are texts of which two clauses surely want different things, answered or "
        "not. 95 % Wilson intervals."
    )

    def frame(self) -> pd.DataFrame:
        """One row a group: who, n, share (of all) with its ends, right, accuracy with its ends."""
        return self.rows

    def of(self, who: str) -> pd.Series:
        """The row of a group."""
        return self.rows[self.rows["who"] == who].iloc[0]

    def plot(self) -> Axes:
        """Accuracy of each group, with intervals."""
        seen = self.rows[self.rows["n"] > 0]
        ax = axes("How often the likeliest intent is right", height=row_height(seen))
        labels = [f"{row.who} (n={row.n:,})" for row in seen.itertuples()]
        return interval_plot(ax, labels, seen["accuracy"], seen["accuracy_low"], seen["accuracy_high"])


def turned_away(subject: Subject) -> TurnedAway:
    """Counts test texts by what the model does with them."""
    answers = subject.answers_test
    right = answers.code[:, 0] == subject.outcome_test
    parts = {EVERYBODY: np.ones(len(right), bool), ANSWERED: ~answers.abstained, AWAY: answers.abstained}
    parts |= {STRANGE: answers.out_of_scope, SEVERAL: answers.several}
    table = pd.DataFrame({"who": list(parts), "n": [int(part.sum()) for part in parts.values()]})
    table["share"] = table["n"] / len(right)
    table["low"], table["high"] = wilson(table["n"], len(right))
    table["right"] = [int(right[part].sum()) for part in parts.values()]
    table["accuracy"] = table["right"] / table["n"].where(table["n"] > 0)
    table["accuracy_low"], table["accuracy_high"] = wilson(table["right"], table["n"])
    return TurnedAway(table)
