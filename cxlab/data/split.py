"""Which rows train and which test, and the folds inside the training part.

A test part is used once, at the end. A published one is used as it is; else rows are drawn at random with the
outcome's shares kept (`stratified`), are the latest (`time`), or are customers of their own (`group`).

In the order of time, rows of one time stay together, and nobody learns from an outcome that was not known yet: a row
whose outcome takes `data.outcome_days` is left out where it is less than that before what is tested (purging; Lopez de
Prado 2018, Advances in Financial Machine Learning, chapter 7).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

from cxlab.data.table import Table
from cxlab.errors import DataError, ParamsError, listed
from cxlab.params import ROW_ORDER, SplitParams

FOLDS = 5
MIN_PER_CLASS = 2 * FOLDS  # two of each class in every fold: below, a fold's score means nothing

DAY = 86_400_000_000  # microseconds
NO_TIME = "Not applicable: data.time names no column, so nothing says which rows came later."

Fold = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Split:
    """Row numbers of the table.

    Attributes:
        train: Shape (n_train,), in the order of time where there is one.
        test: Shape (n_test,); row numbers of the published test part where there is one.
        folds: Pairs of training and validation positions within `train`.
        method: How it was made.
        purged: Rows before the test part that were left out, as their outcome was not known when it begins.
        forward: Each fold validates on what came after all that it learns from.
        judged: Of a log, which rows of the table count where a model is judged, shape (rows of the table,); None where
            all do.
        censored: Of a log, positions in `train` of events of which it was not known yet what came next.
        border: Of a log, the microsecond at which the test part begins, or the log ends.
    """

    train: np.ndarray
    test: np.ndarray
    folds: tuple[Fold, ...]
    method: str
    purged: int = 0
    forward: bool = False
    judged: np.ndarray | None = None
    censored: np.ndarray | None = None
    border: int | None = None

    def counted(self, rows: np.ndarray) -> np.ndarray:
        """Positions of those of some row numbers that count, shape (m,)."""
        return np.arange(len(rows)) if self.judged is None else np.flatnonzero(self.judged[rows])

    @functools.cached_property
    def validated(self) -> tuple[np.ndarray, ...]:
        """Positions within `train` that each fold is judged on."""
        return tuple(valid[self.counted(self.train[valid])] for _, valid in self.folds)


def make_split(table: Table, outcome: np.ndarray, params: SplitParams) -> Split:
    """Splits a table for one training.

    Args:
        table: The rows.
        outcome: Class codes, shape (n,).
        params: Method, share of the test part, seed.
    Raises:
        DataError: A class is too small, or times are missing or all equal.
        ParamsError: The method needs a role that no column has.
    """
    purged = 0
    if table.test is not None:
        train, test, method = np.arange(len(outcome)), np.arange(len(table.test)), "published"
    elif params.method == "time":
        train, test = _by_time(times(table), params.test, _takes(table))
        method, purged = "time", len(outcome) - len(train) - len(test)
    elif params.method == "group":
        train, test = _by_group(_groups(table), outcome, params)
        method = "group"
    else:
        _refuse_small_classes(table, outcome, np.arange(len(outcome)), "data")
        train, test = train_test_split(
            np.arange(len(outcome)), test_size=params.test, stratify=outcome, random_state=params.seed
        )
        method = "stratified"
    _refuse_small_classes(table, outcome, train, "training part")
    if method != "published" and len(np.unique(outcome[test])) < len(np.unique(outcome)):
        raise DataError(
            f"The test part ({len(test):,} rows) lacks a class. Raise split.test or use another split.method."
        )
    forward = method == "time" and len(np.unique(times(table)[train])) > 1
    return Split(train, test, _folds(table, outcome, train, params, forward), method, purged, forward)


def times(table: Table) -> np.ndarray:
    """When each row happened, shape (n,): microseconds since 1970, or numbers as they are in the column.

    Raises:
        ParamsError: No column is named.
        DataError: A time is missing or cannot be read.
    """
    name = table.roles.time
    if name is None:
        raise ParamsError(
            f"split.method == 'time' needs data.time: a column, or {ROW_ORDER!r} where the rows are in time's order."
        )
    if name == ROW_ORDER:
        return np.arange(len(table.frame))
    raw = table.frame[name]
    if pd.api.types.is_numeric_dtype(raw):
        read = raw
    else:
        stamps = pd.to_datetime(raw, errors="coerce", utc=True, format="ISO8601")
        read = stamps.dt.as_unit("us").astype("int64").where(stamps.notna())
    if read.isna().any():
        rows = np.flatnonzero(read.isna())
        raise DataError(
            f"data.time {name!r}: {len(rows):,} of {len(raw):,} values are missing or no ISO 8601 times (row "
            f"{rows[0] + 1:,}: {raw.iloc[rows[0]]!r}). Write them as 2026-01-31 or 2026-01-31T10:00."
        )
    return read.to_numpy()


def _takes(table: Table) -> int:
    """Microseconds until a row's outcome is known."""
    days, name = table.roles.outcome_days, table.roles.time
    if days and (name is None or name == ROW_ORDER or pd.api.types.is_numeric_dtype(table.frame[name])):
        raise ParamsError(f"data.outcome_days == {days:g} needs data.time to be a column of ISO 8601 times.")
    return round(days * DAY)


def _by_time(when: np.ndarray, share: float, takes: int) -> Fold:
    order, (moments, first) = np.argsort(when, kind="stable"), np.unique(np.sort(when), return_index=True)
    if len(moments) == 1:
        raise DataError("All training rows would have the test part's time; data.time must have more than one value.")
    border = moments[1:][np.abs(1 - first[1:] / len(when) - share).argmin()]  # the test part nearest to its share
    earlier = when[order] < border
    known = when[order] + takes <= border
    if not (known & earlier).any():
        raise DataError(
            f"No outcome before {pd.Timestamp(border, unit='us'):%Y-%m-%d} was known when the test part begins: each "
            f"takes {takes / DAY:g} days. Bring earlier rows, or a shorter horizon."
        )
    return order[earlier & known], order[~earlier]


def _forward_folds(when: np.ndarray, takes: int) -> list[Fold]:
    """What is later is validated on what was known before, in up to FOLDS steps; positions in ascending times."""
    size = len(when) // (FOLDS + 1)
    starts = len(when) - size * np.arange(FOLDS, 0, -1)
    starts = np.unique(np.searchsorted(when, when[starts], side="left"))
    ends = [*starts[1:], len(when)]
    known = [np.searchsorted(when, when[start] - takes, side="right") for start in starts]
    return [
        (np.arange(min(till, start)), np.arange(start, end))
        for till, start, end in zip(known, starts, ends, strict=True)
        if start
    ]


def _groups(table: Table) -> np.ndarray:
    if table.roles.id is None:
        raise ParamsError("split.method == 'group' needs data.id: rows of one customer stay on one side.")
    return pd.factorize(table.frame[table.roles.id], use_na_sentinel=False)[0]


def _by_group(groups: np.ndarray, outcome: np.ndarray, params: SplitParams) -> Fold:
    parts = max(2, round(1 / params.test))
    if len(np.unique(groups)) < parts:
        raise DataError(f"Only {len(np.unique(groups))} customers in data.id, must be at least {parts} for this split.")
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=params.seed)
    return next(iter(splitter.split(outcome, outcome, groups)))


def _folds(
    table: Table, outcome: np.ndarray, train: np.ndarray, params: SplitParams, forward: bool
) -> tuple[Fold, ...]:
    """Forwards in time; at random where the training part has one time only."""
    y = outcome[train]
    if forward:
        # The earliest stretch may hold one class only; a fold that cannot be learnt from is left out.
        every = _forward_folds(times(table)[train], _takes(table))
        folds = tuple(fold for fold in every if all(len(np.unique(y[part])) == len(np.unique(y)) for part in fold))
        if not folds:
            raise DataError(
                "No part of the training rows can be validated on earlier ones whose outcome was known. Bring rows of "
                "more times (events.cutoffs), or use another split.method."
            )
        return folds
    if params.method == "group" and table.test is None:
        splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=params.seed)
        return tuple(splitter.split(train, y, _groups(table)[train]))
    return tuple(StratifiedKFold(FOLDS, shuffle=True, random_state=params.seed).split(train, y))


def _refuse_small_classes(table: Table, outcome: np.ndarray, rows: np.ndarray, where: str) -> None:
    values, counts = np.unique(outcome[rows], return_counts=True)
    few = counts < MIN_PER_CLASS
    if len(values) > 2 and few.any():
        names = [f"{table.classes[value]} ({count})" for value, count in zip(values[few], counts[few], strict=True)]
        raise DataError(
            f"{few.sum():,} of {len(values):,} classes have fewer than {MIN_PER_CLASS} rows in the {where}: "
            f"{listed(names, 5)}. Bring more rows of them, join them with others, or leave them out."
        )
    if len(values) < 2 or few.any():
        smallest = counts.min() if len(values) > 1 else 0
        raise DataError(
            f"The smaller class has {smallest:,} of {len(rows):,} rows in the {where}, must be at least "
            f"{MIN_PER_CLASS} ({FOLDS}-fold cross-validation). Bring more rows of it."
        )
