"""Rows that every exported model must score alike, wherever it runs: drawn from the schema, never from customers.

Plain rows fill the ranges and categories of training. Adversarial ones hold what breaks serving: missing values, unseen
categories, extremes, numbers beyond 32 bits, odd texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from cxlab.data.schema import Column, Schema

PLAIN = 64
ODD_TEXTS = ("", " ", "NaN", "None", "\u202eabc", "😀", "x" * 1000, "a\nb", "'; DROP TABLE customers; --", "ñandú")
ODD_NUMBERS = (0.0, -0.0, 1e-40, -1e30, 3.4e38, 1e39, float("inf"), float("-inf"), 16777217.0, 0.1 + 0.2)


def golden_rows(schema: Schema, *, plain: int = PLAIN, seed: int = 0) -> pd.DataFrame:
    """Plain rows, then adversarial ones.

    Args:
        schema: Of the model.
        plain: How many plain rows, >= 1.
        seed: Of the plain rows.
    Returns:
        Numbers as float64, categories as text or None, shape (n, columns).
    """
    rng = np.random.default_rng(seed)
    usual = {column.name: _drawn(column, plain, rng) for column in schema.columns}
    base = {name: values[0] for name, values in usual.items()}
    rows = [dict(zip(usual, row, strict=True)) for row in zip(*usual.values(), strict=True)]
    rows.append(dict.fromkeys(base, None))
    for column in schema.columns:
        rows += [base | {column.name: value} for value in _odd(column)]
    types = {column.name: "float64" if column.kind == "number" else "object" for column in schema.columns}
    return pd.DataFrame(rows, columns=schema.names).astype(types)


def _drawn(column: Column, count: int, rng: np.random.Generator) -> list[Any]:
    if column.kind == "category":
        return rng.choice(np.array(column.categories or ("",), object), count).tolist()
    low, high = (0.0, 1.0) if column.low is None or column.high is None else (column.low, column.high)
    drawn = rng.uniform(low, high, count)
    whole = float(low).is_integer() and float(high).is_integer()
    return (np.round(drawn) if whole else drawn).tolist()


def _odd(column: Column) -> Iterator[Any]:
    yield None
    if column.kind == "category":
        yield from column.categories
        yield "unseen in training"
        yield from ODD_TEXTS
        return
    yield from ODD_NUMBERS
    if column.low is not None and column.high is not None:
        width = max(column.high - column.low, 1.0)
        yield from (column.low, column.high, column.low - width, column.high + width)
