"""Which earlier events a prediction rests on, for every kind of model: what becomes of it where one had not been.

found = occlusion(subject, rows_of_one_case)
found.frame()       # by how much each event speaks for the event that is predicted
found.plot()
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from cxlab.display import PALETTE, Result, axes, sentence
from cxlab.errors import DataError, ParamsError, unknown
from cxlab.evidence.sequence_rows import probabilities
from cxlab.features.prefixes import PrefixSchema
from cxlab.models.calibration import LEAST
from cxlab.models.subject import Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 60  # events that are left out in turn, the latest
CELLS = 40_000  # rows encoded at once


@dataclass(frozen=True, repr=False, eq=False)
class Occlusion(Result):
    """What each event of a case speaks for.

    Attributes:
        case: Whose they are.
        last: The event that came last.
        label: The event whose probability is looked at.
        probability: Of that event, with all events there.
        rows: See `frame`.
    """

    case: str
    last: str
    label: str
    probability: float
    rows: pd.DataFrame

    title: ClassVar[str] = "Which earlier events it rests on"
    note: ClassVar[str] = (
        "Change: the log odds of the predicted event, less what they are without that one event (occlusion: Zeiler and "
        "Fergus 2014, Visualizing and understanding convolutional networks). Above zero it speaks for the prediction. "
        "The others keep their times. Events that say the same hide each other. The last event stays: without it "
        "another question would be asked, what comes after the one before."
    )

    def frame(self) -> pd.DataFrame:
        """One row an event before the last: position, event, time, without (the probability then), change (of log
        odds)."""
        return self.rows

    @property
    def strongest(self) -> int | None:
        """The position of the event with the largest change, either way; None where nothing can be left out."""
        if self.rows.empty:
            return None
        return int(self.rows["position"].iloc[int(self.rows["change"].abs().to_numpy().argmax())])

    def plot(self) -> Axes:
        """The change by event, in order."""
        title = f"After {self.last!r}, {self.label!r} is predicted with {self.probability:.0%}"
        if self.rows.empty:
            return sentence(title, "The case has one event, and none before it.")
        ax = axes(title, height=1.2 + 0.28 * max(3, len(self.rows)))
        change = self.rows["change"]
        ax.barh(range(len(change)), change, color=[PALETTE[int(value < 0)] for value in change])
        ax.set_yticks(range(len(change)), [f"{row.position}: {row.event}" for row in self.rows.itertuples()])
        ax.invert_yaxis()
        ax.set_xlabel("log odds less those without the event")
        return ax


def occlusion(subject: Subject, rows: pd.DataFrame, *, label: str | None = None) -> Occlusion:
    """What becomes of a prediction where each event of a case before the last is left out in turn, of many the latest.

    Args:
        subject: The model under review, of sequences.
        rows: Raw rows of one case so far, in order, shape (m, any), m >= 1.
        label: The event that is asked about; None: the likeliest.
    Raises:
        DataError: There is no row, or rows of more cases than one.
        ParamsError: There is no such event, or the model is none of sequences.
    """
    model, schema = subject.model, subject.model.schema
    if not isinstance(schema, PrefixSchema):
        raise ParamsError(f"{subject.name} reads no sequences; occlusion of events is asked of models that do.")
    names = rows[schema.roles.case].unique()
    if len(names) != 1:
        raise DataError(f"The rows are of {len(names):,} cases, must be of one. Pass rows of a single case.")
    if label is not None and label not in schema.labels:
        raise ParamsError(unknown("Event", label, schema.labels))
    m = len(rows)
    left_out = np.arange(max(0, m - 1 - MOST), m - 1)
    whole = probabilities(model, schema.encode(rows), np.array([m - 1]))[0]
    code = int(whole.argmax()) if label is None else schema.labels.index(label)
    without = np.array([])
    for part in np.array_split(left_out, max(1, len(left_out) * m // CELLS)):
        if len(part):
            without = np.append(without, _without(subject, schema, rows, part)[:, code])
    events, when = schema._event(rows[schema.roles.event]), rows[schema.roles.time]
    table = {
        "position": left_out + 1,
        "event": events[left_out],
        "time": when.iloc[left_out].to_numpy(),
        "without": without,
        "change": _log_odds(whole[code]) - _log_odds(without),
    }
    return Occlusion(str(names[0]), str(events[-1]), schema.labels[code], float(whole[code]), pd.DataFrame(table))


def _without(subject: Subject, schema: PrefixSchema, rows: pd.DataFrame, left_out: np.ndarray) -> np.ndarray:
    """Probabilities at the end of the case less each of some events, shape (len(left_out), k)."""
    m = len(rows)
    kept = np.array([np.delete(np.arange(m), place) for place in left_out])
    copies = rows.iloc[kept.ravel()].assign(**{schema.roles.case: np.repeat(np.arange(len(kept)), m - 1)})
    at = np.arange(1, len(kept) + 1) * (m - 1) - 1
    return probabilities(subject.model, schema.encode(copies), at)


def _log_odds(probability: np.ndarray | float) -> np.ndarray:
    p = np.clip(probability, LEAST, 1 - LEAST)
    return np.log(p) - np.log1p(-p)
