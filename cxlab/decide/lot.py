"""Were actions given by lot? What was not has differences, not effects.

balance(trial).plot()
require_lot(trial)          # stops where it was no lot
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cxlab.decide.trials import Array, Codes, Trial
from cxlab.display import GREY, PALETTE, Result, axes, row_height
from cxlab.errors import DataError, listed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NOT_BY_LOT = 1e-4  # a lot looks as lopsided as this once in ten thousand times
BINS = 4  # of a number, when who got what is looked at
LEVELS = 12  # of a category, likewise


@dataclass(frozen=True, repr=False, eq=False)
class Balance(Result):
    """Whether who got which action can be told from what was known of them.

    Attributes:
        statistic: Of a score test, chi-squared under a lot.
        freedom: Its degrees of freedom.
        p: How often a lot is as lopsided.
        table: A row a feature and action: feature, action, p.
    """

    title: ClassVar[str] = "Were the actions given by lot?"
    note: ClassVar[str] = (
        "Where they were, nothing known of a customer tells which action they got beyond its stated chance."
    )
    statistic: float
    freedom: int
    p: float
    table: pd.DataFrame

    @property
    def by_lot(self) -> bool:
        return self.p >= NOT_BY_LOT

    def frame(self) -> pd.DataFrame:
        """One row a feature, the least likely under a lot first: feature, chi2, freedom, p."""
        return self.table.copy()

    def plot(self) -> Axes:
        """How unlikely each feature's share is under a lot."""
        ax = axes(self.title, height=row_height(self.table))
        ax.barh(self.table["feature"], -np.log10(np.maximum(self.table["p"], 1e-300)), color=GREY)
        ax.axvline(-np.log10(NOT_BY_LOT), color=PALETTE[1], linewidth=1)
        ax.set_xlabel("-log10 p; beyond the line it was no lot")
        ax.invert_yaxis()
        return ax


def balance(trial: Trial) -> Balance:
    """A score test of the stated chances: sum over decisions of (taken - chance) x features, zero under a lot.

    It is the score test of a multinomial logit whose offset is the stated chances (Rao 1948); numbers come in as
    quarters of their range of ranks, so that it need not be a straight line.
    """
    import pandas as pd
    from scipy import stats

    part = trial.part(trial.open)
    off = (part.action[:, None] == np.arange(1, len(part.arms))) - part.chances[:, 1:]
    columns, owner = _bins(part.features)
    z = columns - columns.mean(axis=0)
    d, k = z.shape[1], off.shape[1]
    score = (z.T @ off).ravel()
    spread = np.empty((d, k, d, k))
    for a in range(k):
        for b in range(k):
            p, q = part.chances[:, 1 + a], part.chances[:, 1 + b]
            spread[:, a, :, b] = (z * (p * (a == b) - p * q)[:, None]).T @ z
    spread = spread.reshape(d * k, d * k)

    def test(rows: Codes) -> tuple[float, int, float]:
        values, vectors = np.linalg.eigh(spread[np.ix_(rows, rows)])
        kept = values > 1e-9 * max(values.max(), 1e-12)
        found = float((((vectors.T @ score[rows])[kept]) ** 2 / values[kept]).sum())
        return found, int(kept.sum()), float(stats.chi2.sf(found, max(1, kept.sum())))

    rows = []
    for place, name in enumerate(part.features):
        inside = np.flatnonzero(np.repeat(owner == place, k))
        if len(inside):
            rows.append((str(name), *test(inside)))
    table = pd.DataFrame(rows, columns=["feature", "chi2", "freedom", "p"]).sort_values("p", ignore_index=True)
    return Balance(*test(np.arange(d * k)), table)


def _bins(features: pd.DataFrame) -> tuple[Array, Codes]:
    """Indicators, shape (n, d), and whose each is, shape (d,); the most frequent of a feature is left out."""
    import pandas as pd

    columns, owner = [], []
    for place, name in enumerate(features):
        column = features[name]
        if pd.api.types.is_numeric_dtype(column) and column.nunique() > BINS:
            text = pd.qcut(column.astype(np.float64), BINS, labels=False, duplicates="drop").astype(object)
        else:
            text = column.astype(object)
        text = text.where(text.notna(), "(missing)").astype(str)
        for level in text.value_counts().index[1:LEVELS]:
            columns.append((text == level).to_numpy(np.float64))
            owner.append(place)
    return (np.column_stack(columns) if columns else np.zeros((len(features), 0))), np.array(owner, dtype=np.intp)


def require_lot(trial: Trial) -> Balance:
    """The balance of a trial whose actions were given by lot.

    Raises:
        DataError: They were not.
    """
    found = balance(trial)
    if found.by_lot:
        return found
    first = listed(found.table.loc[found.table["p"] < NOT_BY_LOT, "feature"], most=3) or "all features together"
    remedy = "Check the chances that were stated" if trial.stated else "Give the chances each customer had (chances=)"
    raise DataError(
        f"The actions were not given by lot: {first} tell who got which (chi-squared {found.statistic:.0f} with "
        f"{found.freedom} degrees of freedom, p = {found.p:.1g}). What can be read from this are differences, not "
        f"effects. {remedy}, or run an experiment in which a lot decides."
    )
