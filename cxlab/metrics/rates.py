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
OTHER = "(other)"


@dataclass(frozen=True, repr=False)
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
        by = self.rows.groupby("column", sort=False)
        spread = by["low"].max() - by["high"].min()  # what luck in small groups does not explain
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
        group = groups(table.frame[name])
        counted = pd.Series(outcome).groupby(group, sort=False, observed=True).agg(["size", "sum"])
        order = [label for label in group.cat.categories if label in counted.index]
        counted = counted.loc[order]
        low, high = wilson(counted["sum"], counted["size"])
        part = {"column": name, "group": order, "n": counted["size"], "positives": counted["sum"]}
        rate = counted["sum"] / counted["size"]
        parts.append(pd.DataFrame(part | {"rate": rate, "low": low, "high": high}).reset_index(drop=True))
    empty = pd.DataFrame(columns=["column", "group", "n", "positives", "rate", "low", "high"])
    return Rates(pd.concat(parts, ignore_index=True) if parts else empty, float(outcome.mean()))


def groups(column: pd.Series, *, categories: int = LEVELS, bins: int = 5) -> pd.Series:
    """A label a row, ordered: quantiles of a number, the commonest categories, `(other)` and `(missing)` last.

    Args:
        column: Values, shape (n,). Numbers of more than 8 values are cut at their quantiles.
        categories: The most values kept apart; the others share `(other)`.
        bins: Into how many parts numbers are cut; ties may leave fewer.
    Returns:
        Ordered categories with a fresh index, shape (n,).
    Examples:
        >>> import pandas as pd
        >>> groups(pd.Series(["a", "b", "a", None, "c"]), categories=2).tolist()
        ['a', 'b', 'a', '(missing)', '(other)']
    """
    import pandas as pd

    from cxlab.data.schema import MISSING, as_text

    column = column.reset_index(drop=True)
    number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if number:
        column = column.astype("float64").replace([np.inf, -np.inf], np.nan)
    if number and column.nunique() > LEVELS:
        cut = pd.qcut(column, bins, duplicates="drop")
        if len(cut.cat.categories) > 1:  # else one value fills them all: better shown as itself
            labels = _ranges(cut.cat.categories)
            return _ordered(cut.cat.rename_categories(labels).astype(object), [*labels, MISSING])
    text = as_text(column)
    common = text.value_counts().sort_index().sort_values(ascending=False, kind="stable").index[:categories]
    labels = sorted(common, key=float) if number else list(common)
    if text.nunique() > categories:
        text = text.where(text.isin(common) | text.isna(), OTHER)
        labels.append(OTHER)
    return _ordered(text, [*labels, MISSING])


def _ordered(text: pd.Series, labels: list[str]) -> pd.Series:
    import pandas as pd

    return text.where(text.notna(), labels[-1]).astype(pd.CategoricalDtype(list(dict.fromkeys(labels)), ordered=True))


def _ranges(cuts: pd.Index) -> list[str]:
    """Names of neighbouring ranges, with as many digits as tell them apart."""
    labels: list[str] = []
    for digits in (4, 8, 15):
        labels = [f"{item.left:.{digits}g} to {item.right:.{digits}g}" for item in cuts]
        if len(set(labels)) == len(labels):
            break
    return labels
