"""What a model reads, and how raw values are cast to it: at training and wherever it scores.

This module travels with every bundle, so it knows numpy, pandas and its own kind alone. Words are cast without the
personal data in them, so no model ever sees it, at training or at serving.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from ..errors import missing_column
from .personal import masked

MISSING = "(missing)"
TRUTH = frozenset({"true", "false"})  # how text writes the two values of a column of booleans
LARGEST = float(np.finfo(np.float32).max)


def number_of(value: Any) -> float:
    """A value as a number; NaN for what is none.

    Examples:
        >>> number_of(" 1.5 "), number_of("1_000"), number_of(None)
        (1.5, nan, nan)
    """
    try:
        return float("nan") if type(value) is str and "_" in value else float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def text_of(value: Any) -> str | None:
    """A value as a file's text: 1.0 is "1", True is "true"; None for what is missing."""
    if type(value) is str:
        return value.strip()
    if is_missing(value):
        return None
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    try:
        return f"{value:.15g}" if isinstance(value, int | float | np.number) else str(value).strip()
    except OverflowError:  # a whole number beyond every float
        return str(value)


def is_missing(value: Any) -> bool:
    """Whether a single value is a null of any library."""
    found = pd.isna(value)
    return found if isinstance(found, bool) else bool(found) if np.ndim(found) == 0 else False


def as_text(column: pd.Series) -> pd.Series:
    """Values as the file's text: 1.0 is "1", True is "true"; missing stays missing.

    Examples:
        >>> as_text(pd.Series([1.0, 2.5, None])).tolist()[:2]
        ['1', '2.5']
    """
    return pd.Series([text_of(value) for value in column.tolist()], index=column.index, name=column.name, dtype=object)


@dataclass(frozen=True)
class Column:
    """One column that a model reads.

    Attributes:
        name: As in the file.
        kind: `number` (read as 32-bit float, as at serving), `category` (one of some texts) or `text` (words).
        categories: Of a category, the texts seen in training, sorted.
        low: Of a number, the smallest training value.
        high: Of a number, the largest.
    """

    name: str
    kind: Literal["number", "category", "text"]
    categories: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    def cast(self, values: Iterable[Any]) -> np.ndarray:
        """Values of any types as the model reads them, shape (n,): what is no number is missing."""
        if self.kind == "number":
            held = (n if -LARGEST <= (n := number_of(value)) <= LARGEST else np.nan for value in values)
            return np.array(list(held), np.float32)
        texts = [text_of(value) for value in values]
        if self.kind == "text":
            texts = [text and masked(text)[0] for text in texts]
        missing = "" if self.kind == "text" else MISSING
        if self.categories and TRUTH.issuperset(self.categories):
            texts = [text and text.lower() for text in texts]
        out = np.empty(len(texts), object)
        out[:] = [missing if text is None else text for text in texts]
        return out

    def encode(self, raw: pd.Series) -> np.ndarray:
        """A column of a frame as the model reads it, shape (n,)."""
        if self.kind == "number" and raw.dtype.kind in "iuf":
            numbers = raw.to_numpy(np.float64, na_value=np.nan)
            return np.where(np.abs(numbers) <= LARGEST, numbers, np.nan).astype(np.float32)
        return self.cast(raw.tolist())


@dataclass(frozen=True)
class Schema:
    """What a model reads, frozen with it. Training and serving cast through it alone."""

    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def of_kind(self, kind: str) -> list[str]:
        return [column.name for column in self.columns if column.kind == kind]

    def cast(self, frame: pd.DataFrame) -> dict[str, np.ndarray]:
        """Numbers as 32-bit floats, categories with `(missing)` for nulls, words as they are; no other columns.

        Args:
            frame: Raw rows, shape (n, any), holding at least the schema's columns.
        Returns:
            One array of shape (n,) a column. Unreadable numbers are missing; unseen categories are kept.
        Raises:
            DataError: A column is not there.
        """
        self.check(frame.columns)
        return {column.name: column.encode(frame[column.name]) for column in self.columns}

    def check(self, names: Iterable[Any]) -> None:
        """Raises:
        DataError: A column is not among the names.
        """
        there = set(names)
        for column in self.columns:
            if column.name not in there:
                raise missing_column(column.name, map(str, names))

    def encode(self, frame: pd.DataFrame) -> pd.DataFrame:
        """What `cast` returns as a frame of shape (n, columns) with the same index."""
        return pd.DataFrame(self.cast(frame), index=frame.index)

    def unreadable(
        self, values: Mapping[str, Sequence[Any] | pd.Series], cast: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[int, str]]:
        """Which rows hold something that is no number where one is needed, and why; nulls are none of them.

        Args:
            values: Raw values by column.
            cast: The same as the model reads them.
        """
        for name in self.of_kind("number"):
            raw = values[name]
            if isinstance(raw, pd.Series):  # many rows: only those without a number are looked at one by one
                rows = np.flatnonzero(np.isnan(cast[name])).tolist()
                raw = raw.tolist() if rows else []
            else:
                rows = [row for row, value in enumerate(raw) if not _plain_number(value)]
            for row in rows:
                number = number_of(raw[row])
                if not -LARGEST <= number <= LARGEST and not is_missing(raw[row]):
                    yield row, f"{name} == {shown(raw[row])}, must be {_rule(number)}."

    def plain(self) -> list[dict[str, Any]]:
        """The columns as JSON holds them."""
        return [
            {"name": c.name, "kind": c.kind, "categories": list(c.categories), "low": c.low, "high": c.high}
            for c in self.columns
        ]

    @classmethod
    def of_plain(cls, columns: Iterable[Mapping[str, Any]]) -> Schema:
        """The inverse of `plain`; other keys are left out."""
        keys = ("name", "kind", "categories", "low", "high")
        made = ({key: column[key] for key in keys} for column in columns)
        return cls(tuple(Column(**{**item, "categories": tuple(item["categories"])}) for item in made))


def _plain_number(value: Any) -> bool:
    return type(value) in (float, int) and -LARGEST <= value <= LARGEST


def shown(value: Any) -> str:
    """A value in a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _rule(number: float) -> str:
    return "a number" if np.isnan(number) else f"between -{LARGEST:.3g} and {LARGEST:.3g}"


def schema_of(frame: pd.DataFrame, names: list[str], *, text: str | None = None) -> Schema:
    """The schema of these columns, learnt from training rows; `text` is the one that holds words."""
    columns = []
    for name in names:
        raw = frame[name]
        if name == text:
            columns.append(Column(name, "text"))
        elif pd.api.types.is_numeric_dtype(raw) and not pd.api.types.is_bool_dtype(raw):
            finite = raw.replace([np.inf, -np.inf], np.nan)
            bounds = (None, None) if finite.isna().all() else (float(finite.min()), float(finite.max()))
            columns.append(Column(name, "number", low=bounds[0], high=bounds[1]))
        else:
            seen = sorted(set(as_text(raw).dropna()))
            columns.append(Column(name, "category", categories=tuple(seen)))
    return Schema(tuple(columns))
