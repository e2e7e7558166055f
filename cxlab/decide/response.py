"""Who answers a survey: weights that let those who answered speak for those like them who did not."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxlab.metrics.sample import Array

FEWEST = 50  # answers, and silences, that a model of them is learnt from
LEVELS = 20  # of a category; rarer ones are taken together


def answer_chances(known: pd.DataFrame, answered: NDArray[np.bool_], *, least: float) -> Array | None:
    """The probability of an answer of everyone who was asked, by logistic regression (ridge, as scikit-learn has it).

    Args:
        known: What is known of everyone asked: numbers, booleans or categories, shape (n, k).
        answered: Who did, shape (n,).
        least: No probability is taken for less.
    Returns:
        Probabilities, shape (n,); None where fewer than 50 answered, or fewer than 50 did not.
    """
    from sklearn.linear_model import LogisticRegression

    if min(answered.sum(), (~answered).sum()) < FEWEST:
        return None
    parts = [part for name in known.columns for part in _columns(known[name])]
    inputs = np.column_stack(parts) if parts else np.zeros((len(known), 1))
    found = (
        LogisticRegression(solver="newton-cholesky", max_iter=100, tol=1e-8)
        .fit(inputs, answered)
        .predict_proba(inputs)[:, 1]
    )
    return np.maximum(found, least)


def _columns(values: pd.Series) -> list[Array]:
    """A number on a scale of its own (the logarithm where none is negative) with its gaps flagged; else indicators."""
    if pd.api.types.is_numeric_dtype(values):
        number = values.to_numpy(np.float64, na_value=np.nan)
        gap = np.isnan(number)
        number = np.log1p(number) if np.nanmin(number, initial=0.0) >= 0 else number
        number = np.where(gap, np.nan if gap.all() else np.nanmean(number), number)
        spread = number.std()
        scaled = [(number - number.mean()) / spread] if spread > 0 else []
        return scaled + ([gap.astype(np.float64)] if gap.any() and not gap.all() else [])
    text = values.astype(object).where(values.notna(), "").astype(str)
    counts = text.value_counts()
    # By name where counts are equal: the order of rows changes nothing.
    kept = sorted(counts.index, key=lambda name: (-counts[name], name))[:LEVELS]
    return [(text == name).to_numpy(np.float64) for name in kept[1:]]
