"""How often the outcome happens, by the values of a column: what a person looks at before any model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cxlab.display import GREY, PALETTE, Result, axes_grid
from cxlab.errors import missing_column
from cxlab.metrics.bootstrap import wilson

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from cxlab.data.table import Table

LEVELS = 8  # groups a column; rarer categories share one


@dataclass(frozen=True)
class Rates(Result):
    """Outcome rates by column and group.

    Attributes:
        rows: One a column and group, numbers cut at their quantiles.
        overall: The rate of all rows.
    """

    rows: pd.DataFrame = field(repr=False)
    overall: float

    title: ClassVar[str] = "How often it happens, by group"
    note: ClassVar[str] = "95 % Wilson intervals. A group with few positives says little, whatever its rate."

    def frame(self) -> pd.DataFrame:
        return self.rows

    def plot(self, most: int = 12) -> Axes:
        """The columns whose groups differ most, each with its intervals; dashed is the rate of all rows."""
        spread = self.rows.groupby("column", sort=False)["rate"].agg(lambda rate: rate.max() - rate.min())
        shown = spread.sort_values(ascending=False).index[:most].tolist()
        grid = axes_grid(shown, columns=3)
        for name, ax in zip(shown, grid, strict=True):
            part = self.rows[self.rows["column"] == name]
            place = np.arange(len(part))
            ax.axhline(self.overall, color=GREY, linewidth=1, linestyle="--")
            ax.vlines(place, part["low"], part["high"], color=PALETTE[0], linewidth=2)
            ax.plot(place, part["rate"], "o", color=PALETTE[0], markersize=4)
            ax.set_xticks(place, part["group"], rotation=40, ha="right", fontsize=7)
            ax.set_ylim(bottom=0)
        return grid[0]


def rates(table: Table, columns: Sequence[str] | None = None) -> Rates:
    """Outcome rates by group.

    Args:
        table: The data; its target must have two values.
        columns: Which; the features if None.
    Raises:
        DataError: A column is not there, or the target is not binary.
    """
    import pandas as pd

    outcome = table.outcome()
    names = list(table.features if columns is None else columns)
    parts = []
    for name in names:
        if name not in table.frame:
            raise missing_column(name, map(str, table.frame.columns))
        group = _groups(table.frame[name])
        counted = pd.Series(outcome).groupby(group, sort=False, observed=True).agg(["size", "sum"])
        order = [label for label in group.cat.categories if label in counted.index]
        counted = counted.loc[order]
        low, high = wilson(counted["sum"], counted["size"])
        part = {"column": name, "group": order, "n": counted["size"], "positives": counted["sum"]}
        rate = counted["sum"] / counted["size"]
        parts.append(pd.DataFrame(part | {"rate": rate, "low": low, "high": high}).reset_index(drop=True))
    empty = pd.DataFrame(columns=["column", "group", "n", "positives", "rate", "low", "high"])
    return Rates(pd.concat(parts, ignore_index=True) if parts else empty, float(outcome.mean()))


def _groups(column: pd.Series) -> pd.Series:
    """A label a row, ordered: quantiles of a number, the commonest categories, `(missing)` last."""
    import pandas as pd

    from cxlab.data.table import MISSING, as_text

    column = column.reset_index(drop=True)
    if pd.api.types.is_numeric_dtype(column) and column.nunique() > LEVELS:
        cut = pd.qcut(column, 5, duplicates="drop")
        labels = [f"{item.left:.4g} to {item.right:.4g}" for item in cut.cat.categories]
        text = cut.cat.rename_categories(labels).astype(object)
    else:
        text, labels = as_text(column), []
        common = text.value_counts().index[:LEVELS]
        numeric = pd.api.types.is_numeric_dtype(column)
        labels = sorted(common, key=float) if numeric else list(common)
        if text.nunique() > LEVELS:
            text = text.where(text.isin(common) | text.isna(), "(other)")
            labels.append("(other)")
    text = text.where(text.notna(), MISSING)
    return text.astype(pd.CategoricalDtype(list(dict.fromkeys([*labels, MISSING])), ordered=True))
