"""A table and its roles: which column is the customer, which the outcome, which may be learnt from.

    table = read_table(params)
    table.features            # names, the segments among them
    table.outcome()           # 0 and 1
    table.schema().encode(table.frame)   # what every estimator sees, whatever the file's types

The schema is learnt from training rows and frozen with the model.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxlab.data import catalog
from cxlab.data.files import read_frame
from cxlab.data.privacy import mask
from cxlab.data.schema import Schema, as_text, schema_of
from cxlab.digest import sha256_of
from cxlab.errors import DataError, ParamsError, listed, missing_column
from cxlab.params import CATALOG, ROW_ORDER, DataParams

TRUE_WORDS = frozenset({"true", "1", "yes", "y", "t"})
FALSE_WORDS = frozenset({"false", "0", "no", "n", "f"})
RARE = 0.01  # share of rows below which the commonest value is not worth a word


@dataclass(frozen=True)
class Source:
    """Where rows came from.

    Attributes:
        path: The file.
        sha256: Of its bytes.
        rows: How many rows it holds.
        notes: What was guessed or mended while reading.
        entry: Its name in the catalogue, if the bytes are those of a catalogued data set.
    """

    path: str
    sha256: str
    rows: int
    notes: tuple[str, ...] = ()
    entry: str | None = None


class Meaning(NamedTuple):
    """What a column says, in words, and in which unit."""

    description: str
    unit: str


@dataclass(frozen=True)
class Table:
    """A frame, its roles, and where it came from.

    Attributes:
        frame: Rows as published.
        roles: The `data:` section of the params.
        source: The file.
        test: A published test part, used as is.
        meanings: What columns mean, where somebody declared it.
    """

    frame: pd.DataFrame = field(repr=False)
    roles: DataParams
    source: Source
    test: pd.DataFrame | None = field(default=None, repr=False)
    meanings: Mapping[str, Meaning] = field(default_factory=dict, repr=False)

    @property
    def known_after(self) -> dict[str, str]:
        """Columns known only after the outcome, with who says so: the params or the catalogue."""
        declared = dict.fromkeys(self.roles.known_after, "params")
        if self.source.entry:
            declared |= dict.fromkeys(catalog.entry(self.source.entry).known_after, "catalogue")
        return declared

    @functools.cached_property
    def features(self) -> tuple[str, ...]:
        """What a model may learn from: `data.features`; else the text; else what is not id, target, time or dropped."""
        roles = self.roles
        if roles.features is not None:
            return roles.features
        if roles.text is not None:
            return (roles.text,)
        aside = {roles.id, roles.target, roles.time, *roles.drop}
        return tuple(name for name in map(str, self.frame.columns) if name not in aside)

    def summary(self) -> pd.DataFrame:
        """One row a feature: kind, missing values, distinct values, range or commonest value."""
        rows = []
        for column in self.schema().columns:
            raw = self.frame[column.name]
            common = as_text(raw).value_counts()
            number = column.kind == "number"
            rows.append(
                {
                    "column": column.name,
                    "kind": column.kind,
                    "missing": int(raw.isna().sum()),
                    "distinct": raw.nunique(),
                    "low": column.low,
                    "median": raw.median() if number else None,
                    "high": column.high,
                    "commonest": _commonest(common, len(raw), number=number),
                    **({"meaning": self.meaning(column.name)} if self.meanings else {}),
                }
            )
        return pd.DataFrame(rows)

    def meaning(self, name: str) -> str:
        """What a column says, with its unit; empty where nobody declared it."""
        found = self.meanings.get(name)
        return "" if found is None else f"{found.description} ({found.unit})"

    def check_roles(self) -> None:
        """Stops where a role names a column that is not there, or a feature that cannot be one.

        Raises:
            DataError: A named column is missing, no feature is left, or a feature is known only afterwards.
        """
        roles, names = self.roles, [str(name) for name in self.frame.columns]
        time = None if roles.time == ROW_ORDER else roles.time
        named = [roles.id, roles.target, roles.text, time, *roles.segments, *roles.drop, *(roles.features or ())]
        for name in named:
            if name is not None and name not in names:
                raise missing_column(name, names)
        if roles.target is None:
            raise ParamsError(f"data.target is missing; name the outcome's column. Columns: {listed(names)}.")
        if roles.target in self.features:
            raise DataError(f"{roles.target!r} is the target, so no feature. Take it out of data.features.")
        late = {name: who for name, who in self.known_after.items() if name in self.features}
        if late:
            says = "; ".join(f"{name!r} (says the {who})" for name, who in late.items())
            raise DataError(
                f"Known only after the outcome, so refused as features: {says}. A model with them looks good here "
                f"and fails in use. Write data.drop: [{', '.join(late)}]."
            )
        if not self.features:
            raise DataError("No column is left to learn from. See data.features and data.drop.")

    def schema(self, rows: np.ndarray | None = None) -> Schema:
        """The schema of the features, learnt from these row numbers (all if None)."""
        frame = self.frame if rows is None else self.frame.iloc[rows]
        return schema_of(frame, list(self.features), text=self.roles.text)

    def outcome(self, frame: pd.DataFrame | None = None) -> np.ndarray:
        """The target as 0 and 1, shape (n,).

        Raises:
            DataError: It has missing values, other than two values, or none that equals `data.positive`.
        """
        target = self.roles.target
        if target is None:
            raise ParamsError("data.target is missing; name the outcome's column.")
        column = (self.frame if frame is None else frame)[target]
        return binary(column, self.roles.positive)

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """The values of the target, sorted, where it may have any number of them."""
        return tuple(sorted(set(self._named().dropna())))

    def codes(self, frame: pd.DataFrame | None = None) -> np.ndarray:
        """The target as places among `classes`, shape (n,).

        Raises:
            DataError: It has missing values, fewer than two values, or in a test part one that never occurs before.
        """
        name = self.roles.target
        found = self._named(frame)
        if found.isna().any():
            rows = np.flatnonzero(found.isna())
            raise DataError(
                f"Target {name!r} is missing in {len(rows):,} of {len(found):,} rows (the first: row {rows[0] + 1:,}). "
                "Remove the rows whose outcome is not known."
            )
        if len(self.classes) < 2:
            raise DataError(f"Target {name!r} has 1 value ({self.classes[0]}), must have 2 or more.")
        codes = pd.Categorical(found, categories=list(self.classes)).codes
        if (codes < 0).any():
            strange = sorted(set(found[codes < 0]))
            raise DataError(f"The test part has values of {name!r} that training rows lack: {listed(strange, 5)}.")
        return codes.astype(np.int64)

    def _named(self, frame: pd.DataFrame | None = None) -> pd.Series:
        if self.roles.target is None:
            raise ParamsError("data.target is missing; name the outcome's column.")
        found = as_text((self.frame if frame is None else frame)[self.roles.target])
        return found.mask(found == "")

    def ids(self) -> pd.Series:
        """The customer of each row; the row number where no id is declared."""
        return self.frame[self.roles.id] if self.roles.id else pd.Series(np.arange(len(self.frame)), name="row")


def _commonest(counts: pd.Series, n: int, *, number: bool) -> str:
    """A value with its share; empty where no value is common."""
    if counts.empty or counts.iloc[0] / n < RARE:
        return ""
    value = f"{float(counts.index[0]):g}" if number else counts.index[0]
    return f"{value} ({counts.iloc[0] / n:.0%})"


def binary(column: pd.Series, positive: str) -> np.ndarray:
    """An outcome as 0 and 1.

    Args:
        column: Values, shape (n,).
        positive: The text that means 1; for columns of true and false, true, True, 1 and yes are one.
    Raises:
        DataError: Values are missing, not two, or none is the positive one.
    """
    name = column.name
    text = as_text(column)
    if text.isna().any():
        rows = np.flatnonzero(text.isna())
        raise DataError(
            f"Target {name!r} is missing in {len(rows):,} of {len(text):,} rows (the first: row {rows[0] + 1:,}). "
            "Remove the rows whose outcome is not known."
        )
    values = sorted(set(text))
    if len(values) != 2:
        remedy = "Use rows of both outcomes" if len(values) == 1 else "Join or remove values until two are left"
        raise DataError(f"Target {name!r} has {len(values)} values ({listed(values, 5)}), must have 2. {remedy}.")
    wanted = {positive}
    if all(value.casefold() in TRUE_WORDS | FALSE_WORDS for value in values):
        words = TRUE_WORDS if positive.casefold() in TRUE_WORDS else FALSE_WORDS
        wanted = {value for value in values if value.casefold() in words} if positive.casefold() in words else wanted
    if not wanted & set(values):
        raise DataError(f"data.positive == {positive!r}, must be one of the values of {name!r}: {listed(values)}.")
    return text.isin(wanted).to_numpy(np.int8)


def locate(path: str) -> Path:
    """The file behind `data.path`, a catalogued data set's name among the possibilities."""
    return catalog.local_path(path.removeprefix(CATALOG)) if path.startswith(CATALOG) else Path(path)


def read_table(data: DataParams) -> Table:
    """Reads the file that the params name and gives its columns their roles; words come without personal data.

    Raises:
        DataError: The file cannot be read.
    """
    options = {"separator": data.separator, "decimal": data.decimal, "encoding": data.encoding}
    path = locate(data.path)
    frame, notes = read_frame(path, **options)
    digest = sha256_of(path)
    entry = catalog.by_sha256(digest)
    frame, masked = _without_personal_data(frame, data.text, data.names)
    notes = [*notes, *masked]
    source = Source(str(path), digest, len(frame), tuple(notes), entry.name if entry else None)
    table = Table(frame, data, source)
    if data.test_path is None:
        return table
    test, _ = read_frame(locate(data.test_path), **options)
    for name in frame.columns:
        if name not in test.columns:
            raise DataError(f"{Path(data.test_path).name}: {missing_column(str(name), map(str, test.columns))}")
    return replace(table, test=_without_personal_data(test, data.text, data.names)[0])


def _without_personal_data(frame: pd.DataFrame, text: str | None, names: str | None) -> tuple[pd.DataFrame, list[str]]:
    """A frame whose column of words has marks where personal data stood, and a note of how many."""
    if text is None or text not in frame.columns:
        return frame, []
    found = mask(frame[text], names=names)
    told = ", ".join(f"{count:,} {kind}" for kind, count in found.counts.items() if count)
    column = pd.Series(found.texts, index=frame.index, dtype=object)
    return frame.assign(**{text: column}), [f"Personal data masked in {text!r}: {told}."] if told else []
