"""Values in words: how a column is said, and how a value stands among those of other customers.

This module travels with every bundle, so it knows numpy, pandas and its own kind alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from ..data.schema import MISSING
from ..errors import ParamsError

BARE = "{column} is {value}"
POINTS = 256  # values at which a number's distribution is kept at most
SAME = 0.999  # correlation from which two numbers are one reason


@dataclass(frozen=True)
class Phrase:
    """How a column is put into words, and which way we can move it.

    Attributes:
        phrase: With {value} and {column}, formatted as Python does: "{value:g} calls to customer service".
        levels: Words for single values, keyed by their text; they go before `phrase`.
        unit: After a bare number.
        actionable: down, up or any (numbers), any or a list of levels to change to (categories); false where nobody
            can change it.
    """

    phrase: str = BARE
    levels: Mapping[str, str] = field(default_factory=dict)
    unit: str = ""
    actionable: Literal["down", "up", "any", False] | tuple[str, ...] = False

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}  # where a YAML file is checked against this

    def __post_init__(self) -> None:
        wrong = {name for _, name, _, _ in Formatter().parse(self.phrase) if name is not None} - {"value", "column"}
        if wrong:
            raise ValueError(f"with no other fields than {{value}} and {{column}}, not {{{wrong.pop()}}}")

    def says(self, column: str, value: float | str) -> str:
        """The words for a value; what is missing is said to be not known.

        Examples:
            >>> Phrase(phrase="{value:g} calls", levels={"1": "1 call"}).says("calls", 2.0)
            '2 calls'
        """
        if is_unknown(value):
            return f"{column} is not known"
        shown = f"{value:.7g}" if isinstance(value, float) else value
        if shown in self.levels:
            return self.levels[shown]
        text = shown if self.phrase == BARE else value
        try:
            return self.phrase.format(column=column, value=text)
        except ValueError as error:
            raise ParamsError(f"Phrase of {column} == {self.phrase!r}, must fit {value!r}: {error}.") from None


def is_unknown(value: float | str) -> bool:
    """Whether a cast value stands for a missing one."""
    return value == MISSING if isinstance(value, str) else bool(np.isnan(value))


def written(value: Any) -> Any:
    """A 32-bit number as the one a person wrote: 45.07, not 45.0699996."""
    return value if isinstance(value, str) else float(str(np.float32(value)))


@dataclass(frozen=True)
class Distribution:
    """How a column's values spread over customers, as shares; no customer is kept.

    Attributes:
        values: Values or levels at which shares are known, numbers in rising order.
        below: Share of the known numbers that are smaller, as many; empty for levels.
        upto: Share that is smaller or equal; of a level, its share of all customers.
        missing: Share of all customers whose value is not known.
        few: A number that takes two values at most, compared like a level.
    """

    values: Sequence[float | str]
    below: Sequence[float]
    upto: Sequence[float]
    missing: float
    few: bool

    @classmethod
    def of(cls, column: np.ndarray) -> Distribution:
        """Of a cast column, shape (n,): every value where there are few, else quantiles."""
        if column.dtype == object:
            levels, counts = np.unique(column.astype(str), return_counts=True)
            return cls(levels.tolist(), [], (counts / len(column)).tolist(), float((column == MISSING).mean()), True)
        known = np.sort(column[~np.isnan(column)])
        values = np.unique(known)
        few = len(values) <= 2
        if len(values) > POINTS:
            values = np.unique(np.quantile(known, np.linspace(0, 1, POINTS), method="nearest"))
        below, upto = (np.searchsorted(known, values, side) / max(1, len(known)) for side in ("left", "right"))
        return cls([written(v) for v in values], below.tolist(), upto.tolist(), float(np.isnan(column).mean()), few)

    def compared(self, value: float | str) -> str:
        """How a value stands: above, below, or level with most.

        Args:
            value: As cast; NaN or `(missing)` is compared as a value of its own.
        Returns:
            Words with a whole percentage, cut, never rounded up; numbers with two values are compared as levels.

        Examples:
            >>> Distribution.of(np.array([0.0, 1.0, 2.0, 3.0])).compared(3.0)
            'more than 75 % of customers'
            >>> Distribution.of(np.array(["a", "b", "b", "b"], object)).compared("a")
            'like 25 % of customers'
        """
        if isinstance(value, str) or is_unknown(value):
            same = self.missing if is_unknown(value) else dict(zip(self.values, self.upto, strict=True)).get(value, 0.0)
            return _like(same)
        smaller, upto = self._around(value)
        shares = {"more": smaller, "less": 1 - upto, "like": upto - smaller}
        how = "like" if self.few else max(shares, key=lambda key: shares[key])
        if how != "like":
            return f"{how} than {int(100 * shares[how] + 1e-9)} % of customers"
        return _like(shares["like"])

    def _around(self, value: float) -> tuple[float, float]:
        """Shares of known numbers below a value, and up to it; between kept values on a straight line."""
        points = np.asarray(self.values, np.float64)
        place = int(np.searchsorted(points, value))
        if place < len(points) and points[place] == value:
            return self.below[place], self.upto[place]
        if place in (0, len(points)):
            return (0.0, 0.0) if place == 0 else (1.0, 1.0)
        ends = self.upto[place - 1], self.below[place]
        share = float(np.interp(value, points[place - 1 : place + 1], ends))
        return share, share


def _like(share: float) -> str:
    if share == 0:
        return "like no customer in training"
    return f"like {int(100 * share + 1e-9)} % of customers" if share >= 0.01 else "like fewer than 1 % of customers"


def alike(columns: Mapping[str, np.ndarray]) -> list[list[str]]:
    """Columns in groups that say the same, as a charge repeats its minutes; most groups hold one.

    Args:
        columns: Cast columns, each of shape (n,).
    """
    groups = [[name] for name in columns]
    numbers = [name for name, values in columns.items() if values.dtype != object]
    related = pd.DataFrame({name: columns[name] for name in numbers}).corr().abs().to_numpy() > SAME  # NaN is not
    for i, j in zip(*np.nonzero(np.triu(related, 1)), strict=True):
        one, other = (next(group for group in groups if numbers[k] in group) for k in (i, j))
        if one is not other:
            groups.remove(other)
            one.extend(other)
    return groups
