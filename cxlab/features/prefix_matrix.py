"""Features of prefixes as numbers alone: categories of few values as columns of 0 and 1, of many as rates of what
comes next.

    step = PrefixMatrix(columns).fit(X, y)
    step.transform(X)          # shape (n, m), 32-bit; a missing number is NaN

A category of many values (people, teams, products) becomes, for each of the most frequent classes, the share of its
rows that the class followed, smoothed towards everybody's share (Micci-Barreca 2001, A preprocessing scheme for
high-cardinality categorical attributes, eq. 3 to 5). At training the rates of a row are of other cases alone: rows of
one case know too much of one another.

`Matrix` is what is fitted, plain: it travels with every bundle of sequences, so it knows numpy and pandas alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

FEW = 64  # rows up to which each value is looked up by itself


@dataclass(frozen=True)
class Matrix:
    """How features become numbers.

    Attributes:
        numbers: Columns that are numbers already.
        levels: By category of few values, those that have a column each.
        rates: By category of many values, the rates of each value, of r classes.
        usual: The rates of a value that was not seen, of r classes.
    """

    numbers: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]
    rates: Mapping[str, Mapping[str, tuple[float, ...]]] = field(repr=False)
    usual: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        few = sum(len(levels) for levels in self.levels.values())
        return len(self.numbers) + few + len(self.rates) * len(self.usual)

    @property
    def origin(self) -> list[str]:
        """The feature that each column of the matrix comes from."""
        few = [name for name, levels in self.levels.items() for _ in levels]
        return [*self.numbers, *few, *(name for name in self.rates for _ in self.usual)]

    def apply(self, X: pd.DataFrame) -> np.ndarray:
        """The matrix of encoded rows, shape (n, width)."""
        return self.of({name: X[name].to_numpy() for name in (*self.numbers, *self.levels, *self.rates)}, len(X))

    def of(self, columns: Mapping[str, np.ndarray], n: int) -> np.ndarray:
        """The matrix of n rows of encoded columns, shape (n, width)."""
        made = np.empty((n, self.width), np.float32)
        at = 0
        for name in self.numbers:
            made[:, at] = columns[name]
            at += 1
        for name, levels in self.levels.items():
            made[:, at : at + len(levels)] = one_hot(columns[name], levels)
            at += len(levels)
        for name, known in self.rates.items():
            code, values = pd.factorize(columns[name]) if n > FEW else (np.arange(n), columns[name])
            table = np.array([known.get(value, self.usual) for value in values], np.float32).reshape(
                -1, len(self.usual)
            )
            made[:, at : at + len(self.usual)] = table[code]
            at += len(self.usual)
        return made

    def plain(self) -> dict[str, Any]:
        """As JSON holds it; lists of pairs where the order tells which column of the matrix is which."""
        rates = [[name, {value: list(row) for value, row in known.items()}] for name, known in self.rates.items()]
        levels = [[name, list(values)] for name, values in self.levels.items()]
        return {"numbers": list(self.numbers), "levels": levels, "rates": rates, "usual": list(self.usual)}

    @classmethod
    def of_plain(cls, told: Mapping[str, Any]) -> Matrix:
        """The inverse of `plain`."""
        levels = {name: tuple(values) for name, values in told["levels"]}
        rates = {name: {value: tuple(row) for value, row in known.items()} for name, known in told["rates"]}
        return cls(tuple(told["numbers"]), levels, rates, tuple(told["usual"]))


def one_hot(values: np.ndarray, levels: tuple[str, ...]) -> np.ndarray:
    """A column a level, 1 where the value is it, shape (n, levels); a value that is none of them has zeros."""
    place = {level: number for number, level in enumerate(levels)}
    code = np.array([place.get(value, -1) for value in values], np.int64)
    return (code[:, None] == np.arange(len(levels))).astype(np.float32)
