"""What a model decides by: which columns matter, in which direction, and how sure one can be.

importance(subject).plot()                 # which columns matter, with intervals
dependence(subject, "calls").plot()        # how one of them acts
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from scipy.stats import norm as normal
from scipy.stats import t as student

from cxlab.display import PALETTE, Result, axes, interval_plot
from cxlab.errors import missing_column
from cxlab.evidence.explain import Contributions, contributions, draw
from cxlab.metrics.bootstrap import interval, resampled
from cxlab.metrics.intervals import ROUNDING
from cxlab.models.calibration import clipped
from cxlab.models.subject import Subject
from cxlab.models.task import Model

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROWS = 2000  # test rows explained: enough for the page, seconds at most
SHUFFLES = 3  # of each column; their mean is less noisy than one
PARTS = 5  # disjoint parts of the rows, to see whether an importance holds
TOP = 5


def explain(subject: Subject, *, rows: int = ROWS, seed: int = 0) -> Contributions:
    """Contributions for test rows, at most `rows` of them, drawn with `seed`."""
    test = subject.test
    return contributions(subject.model, test.iloc[draw(len(test), rows, seed)], background=subject.train)


@dataclass(frozen=True, repr=False, eq=False)
class Importance(Result):
    """Which columns the model decides by, the strongest first.

    Attributes:
        rows: One row a column; see `frame`.
        contributions: Of the rows that were looked at.
    """

    rows: pd.DataFrame
    contributions: Contributions

    title: ClassVar[str] = "What the model decides by"
    note: ClassVar[str] = (
        "Value: how much the log loss on test rows grows when the column is shuffled, with its 95 % interval; an "
        "interval that holds zero cannot tell the column from noise. Columns that say the same share their value. "
        f"Share: of the mean absolute contribution. Folds: in how many of {PARTS} parts of the rows the column is "
        f"among the {TOP} strongest and above zero."
    )

    def frame(self) -> pd.DataFrame:
        """One row a column: feature, value, low, high, n, direction, share, folds."""
        return self.rows

    def plot(self, most: int = 12) -> Axes:
        """The strongest columns, with intervals."""
        top = self.rows.head(most)
        ax = axes(f"What the model decides by, {self.rows['n'].max():,} test rows", height=1.2 + 0.28 * len(top))
        interval_plot(ax, top["feature"].tolist(), top["value"], top["low"], top["high"], reference=0.0)
        ax.set_xlabel("log loss added by shuffling the column (95 % interval)")
        return ax


def importance(subject: Subject, *, rows: int = ROWS, seed: int = 0) -> Importance:
    """Permutation importance on test rows (Breiman 2001; Fisher, Rudin and Dominici 2019), with direction.

    A row's part is its log loss with the column shuffled, averaged over shuffles, minus its log loss; the interval
    comes from resampling rows, stretched for small samples. A column that decides nothing has parts that average zero.

    Args:
        subject: The model under review.
        rows: Test rows used at most, drawn with `seed`.
        seed: Of rows, shuffles and resamples.
    """
    found = explain(subject, rows=rows, seed=seed)
    encoded, n = found.inputs, len(found.inputs)
    y = subject.outcome_test[draw(len(subject.test), rows, seed)]
    rng = np.random.default_rng(seed)
    shuffled = np.concatenate([rng.permutation(n) for _ in range(SHUFFLES)])
    copies = encoded.iloc[np.tile(np.arange(n), SHUFFLES)].reset_index(drop=True)
    before = _losses(subject.model, encoded, y)
    added = np.zeros((n, len(found.columns)))
    for j, name in enumerate(found.columns):
        changed = copies.assign(**{name: encoded[name].to_numpy()[shuffled]})
        added[:, j] = _losses(subject.model, changed, np.tile(y, SHUFFLES)).reshape(SHUFFLES, n).mean(axis=0) - before
    added[np.abs(added) < ROUNDING] = 0
    total = found.strength.sum()
    table = added_loss(added, seed=seed).assign(
        feature=found.columns,
        n=n,
        direction=[_direction(encoded[name], found.values[:, j]) for j, name in enumerate(found.columns)],
        share=found.strength / total if total > 0 else 0.0,
        folds=holds(added[rng.permutation(n)]),
    )
    table = table.sort_values(["value", "share"], ascending=False, kind="stable", ignore_index=True)
    return Importance(table[["feature", "value", "low", "high", "n", "direction", "share", "folds"]], found)


def added_loss(added: np.ndarray, *, seed: int) -> pd.DataFrame:
    """Means over rows with 95 % intervals: value, low, high, one row a feature.

    Args:
        added: What the loss of each row grew by, shape (n, features).
        seed: Of the resamples.
    """
    n, mean = len(added), added.mean(axis=0)
    draws = np.concatenate([weights @ added / n for weights in resampled(n, resamples=1000, seed=seed)])
    draws = mean + _stretch(n) * (draws - mean)
    ends = [interval(float(mean[j]), draws[:, j]) for j in range(len(mean))]
    return pd.DataFrame(ends, columns=["value", "low", "high"])


def _stretch(n: int) -> float:
    """By how much a percentile interval of a mean is too narrow (Hesterberg 2015); NaN for one row."""
    return float(np.sqrt(n / (n - 1)) * student.ppf(0.975, n - 1) / normal.ppf(0.975)) if n > 1 else np.nan


def _losses(model: Model, encoded: pd.DataFrame, y: np.ndarray) -> np.ndarray:
    p = clipped(model.calibrated(encoded))
    return -np.where(y == 1, np.log(p), np.log1p(-p))


def holds(added: np.ndarray) -> np.ndarray:
    """In how many parts of the rows each feature is among the strongest and above zero, shape (features,)."""
    means = np.array([part.mean(axis=0) for part in np.array_split(added, PARTS) if len(part)])
    ranks = np.argsort(np.argsort(-means, axis=1, kind="stable"), axis=1)
    return ((ranks < TOP) & (means > 0)).sum(axis=0)


def _direction(column: pd.Series, values: np.ndarray) -> str:
    """Numbers by the correlation of a value's rank with its contribution; categories by the level that raises most."""
    if np.ptp(values) < 1e-12:
        return "no effect"
    if column.dtype == object:
        means = pd.Series(values, index=column.index).groupby(column).mean()
        return f"{means.idxmax()} raises"
    present = column.notna().to_numpy()
    pair = pd.DataFrame({"rank": column[present].rank().to_numpy(), "value": values[present].round(12)})
    if (pair.nunique() < 2).any():
        return "mixed"
    together = pair["rank"].corr(pair["value"])
    return "higher raises" if together > 0.5 else "lower raises" if together < -0.5 else "mixed"


@dataclass(frozen=True, repr=False, eq=False)
class Dependence(Result):
    """How one column's value moves the score.

    Attributes:
        feature: The column.
        groups: One row a group of values, in order; a missing value is a group of its own.
    """

    feature: str
    groups: pd.DataFrame

    note: ClassVar[str] = (
        "Mean contribution to the log-odds, before calibration; low to high holds 80 % of a group's rows: where it is "
        "wide, other columns decide how this one acts."
    )

    @property
    def title(self) -> str:  # type: ignore[override]
        return f"How {self.feature} moves the score"

    def frame(self) -> pd.DataFrame:
        """One row a group: value, n, contribution, low, high."""
        return self.groups

    def plot(self) -> Axes:
        """A line with a band for numbers, dots with lines for categories."""
        rows, ax = self.groups, axes(self.title)
        ends = rows["contribution"], rows["low"], rows["high"]
        if rows["value"].dtype == object or rows["value"].notna().sum() < 2:
            interval_plot(ax, [str(value) for value in rows["value"]], *ends, reference=0.0)
            ax.set_xlabel("contribution to the log-odds")
            return ax
        ax.fill_between(rows["value"], rows["low"], rows["high"], color=PALETTE[5], alpha=0.4, linewidth=0)
        ax.plot(rows["value"], rows["contribution"], "o-", color=PALETTE[0], markersize=3)
        ax.set_xlabel(self.feature)
        ax.set_ylabel("contribution to the log-odds")
        return ax


def dependence(
    subject: Subject, feature: str, *, rows: int = ROWS, seed: int = 0, found: Contributions | None = None
) -> Dependence:
    """One column's values against its contributions, in at most 20 groups.

    Args:
        subject: The model under review.
        feature: A column it reads.
        rows: Test rows used at most, drawn with `seed`.
        seed: Of the rows.
        found: Contributions at hand, such as `importance(subject).contributions`, which saves computing them.
    Raises:
        DataError: The model reads no such column.
    """
    if feature not in subject.model.schema.names:
        raise missing_column(feature, subject.model.schema.names)
    found = found or explain(subject, rows=rows, seed=seed)
    column = found.inputs[feature].reset_index(drop=True)
    table = pd.DataFrame({"value": column, "contribution": found.values[:, found.position(feature)]})
    key: Any = column
    if column.dtype != object and column.nunique() > 20:
        key = pd.qcut(column, 20, labels=False, duplicates="drop")
    grouped = table.groupby(key, dropna=False)
    value = grouped["value"].first() if column.dtype == object else grouped["value"].mean()
    spread = grouped["contribution"].quantile(np.array([0.1, 0.9])).unstack()
    groups = {"value": value, "n": grouped.size(), "contribution": grouped["contribution"].mean()}
    return Dependence(feature, pd.DataFrame({**groups, "low": spread[0.1], "high": spread[0.9]}).reset_index(drop=True))
