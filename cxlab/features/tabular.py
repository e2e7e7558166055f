"""Columns into what an estimator can use, in steps that convert to ONNX.

Numbers become hinges (a linear spline with knots at training quantiles), with the median in place of a missing
value and an indicator beside it. Categories become one-hot columns; rare and unseen ones share a column. A
category with many levels becomes its smoothed outcome rate, cross-fitted (Micci-Barreca 2001).
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder
from sklearn.utils.validation import check_is_fitted, validate_data

from cxlab.data.schema import Schema

ONE_HOT_LEVELS = 20  # above it, one-hot columns are mostly empty


class HingeBasis(TransformerMixin, BaseEstimator):
    """Linear splines: max(0, x - knot) for knots at training quantiles, after clipping to the training range.

    A linear model on this basis is piecewise linear in each number, constant beyond what training saw.
    Source: Hastie, Tibshirani and Friedman (2009), The Elements of Statistical Learning, section 5.2, eq. 5.3
    restricted to degree 1.

    Args:
        n_knots: Knots a column, the lowest training value among them; 1 gives a straight line.

    Attributes:
        low_: Training minimum, shape (d,).
        high_: Training maximum, shape (d,).
        fill_: Training median, in place of missing values, shape (d,).
        source_: Which column each hinge reads, shape (k,).
        knot_: Where each hinge begins, in the column's unit, shape (k,).
        scale_: What each hinge is divided by, shape (k,).
        indicator_: Columns that had missing values in training, shape (m,).
    """

    def __init__(self, n_knots: int = 5) -> None:
        self.n_knots = n_knots

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002
        X = validate_data(self, X, dtype=np.float32, ensure_all_finite="allow-nan")
        present = [column[~np.isnan(column)] for column in X.T]
        present = [column if len(column) else np.zeros(1, np.float32) for column in present]
        self.low_ = np.array([column.min() for column in present], np.float32)
        self.high_ = np.array([column.max() for column in present], np.float32)
        self.fill_ = np.array([np.median(column) for column in present], np.float32)
        self.indicator_ = np.flatnonzero(np.isnan(X).any(axis=0))
        source: list[int] = []
        knot: list[float] = []
        grid = np.linspace(0, 1, self.n_knots + 1)[:-1]
        for j, column in enumerate(present):
            for at in np.unique(np.quantile(column, grid, method="lower")):
                if at < column.max() or column.min() == column.max():  # each column has a hinge, if a flat one
                    source.append(j)
                    knot.append(float(at))
        self.source_ = np.array(source, np.int64)
        self.knot_ = np.array(knot, np.float32)
        filled = self._filled(X)
        hinges = np.maximum(filled[:, self.source_] - self.knot_, 0)
        deviation = hinges.std(axis=0, dtype=np.float64).astype(np.float32)
        self.scale_ = np.where(deviation > 0, deviation, np.float32(1))
        return self

    def _filled(self, X: np.ndarray) -> np.ndarray:
        return np.clip(np.where(np.isnan(X), self.fill_, X), self.low_, self.high_)

    def transform(self, X: Any) -> np.ndarray:
        """Hinges and indicators, shape (n, k + m), widened to 64 bits so that a model on them computes in 64."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, ensure_all_finite="allow-nan", reset=False)
        hinges = np.maximum(self._filled(X)[:, self.source_] - self.knot_, 0) / self.scale_
        return np.hstack([hinges, np.isnan(X[:, self.indicator_])]).astype(np.float64)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        names = self.feature_names_in_ if input_features is None else np.asarray(input_features, object)
        hinges = [f"{names[j]} above {knot:g}" for j, knot in zip(self.source_, self.knot_, strict=True)]
        return np.array([*hinges, *(f"{names[j]} missing" for j in self.indicator_)], object)


def _one_hot() -> OneHotEncoder:
    return OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=10, sparse_output=False, dtype=np.float32)


def _target_rate(seed: int) -> TargetEncoder:
    return TargetEncoder(target_type="binary", cv=StratifiedKFold(5, shuffle=True, random_state=seed))


def columns(schema: Schema, *, numbers: Any, seed: int) -> ColumnTransformer:
    """The columns of a schema, encoded: numbers by `numbers`, few levels one-hot, many levels by outcome rate.

    Args:
        schema: What `Schema.encode` returns columns for.
        numbers: A transformer, or "passthrough", for the number columns.
        seed: For the folds in which outcome rates are cross-fitted.
    """
    categories = [column for column in schema.columns if column.kind == "category"]
    few = [column.name for column in categories if len(column.categories) <= ONE_HOT_LEVELS]
    many = [column.name for column in categories if len(column.categories) > ONE_HOT_LEVELS]
    rates = Pipeline([("rate", _target_rate(seed)), ("scale", StandardScaler())])
    steps = [
        ("numbers", numbers, schema.of_kind("number")),
        ("categories", _one_hot(), few),
        ("rates", rates, many),
    ]
    return ColumnTransformer([step for step in steps if step[2]], sparse_threshold=0, verbose_feature_names_out=False)
