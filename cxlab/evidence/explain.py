"""Why these scores: the contribution of each column to each of them. The door to SHAP.

    contributions(model, rows, background=subject.train).frame()

Contributions are in log-odds and add up to the model's margin: the log-odds of the members' weighted mean
probability, before calibration. Calibration never turns the order around, so it changes how much, not which way.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier
from scipy.special import log_expit, logit, logsumexp
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from cxlab.display import PALETTE, Result, axes
from cxlab.errors import DataError, ParamsError, missing_column
from cxlab.features.tabular import HingeBasis
from cxlab.models.task import Model

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BACKGROUND = 500  # training rows whose mean is the average customer of a linear member
NODES = 16  # of the quadrature: far more than so smooth a path needs
TOLERANCE = 1e-6  # of additivity, relative to the margin


@dataclass(frozen=True, repr=False, eq=False)
class Contributions(Result):
    """How much each column moves each row's margin, in log-odds.

    Attributes:
        inputs: The columns as the model reads them, shape (n, c).
        values: Contributions, shape (n, c).
        base: The margin of the average customer; `base + values.sum(axis=1)` is each row's margin.
    """

    inputs: pd.DataFrame
    values: np.ndarray
    base: float

    title: ClassVar[str] = "What moves the score"
    note: ClassVar[str] = "In log-odds, before calibration; above zero raises the risk. They add up to the margin."

    @property
    def columns(self) -> list[str]:
        return list(self.inputs.columns)

    @property
    def margin(self) -> np.ndarray:
        """Log-odds of the mean probability before calibration, shape (n,)."""
        return self.base + self.values.sum(axis=1)

    @property
    def strength(self) -> np.ndarray:
        """Mean absolute contribution of each column, shape (c,)."""
        return np.abs(self.values).mean(axis=0)

    def frame(self) -> pd.DataFrame:
        """One row a customer and column: row, feature, value, contribution."""
        n, c = self.values.shape
        cells = [np.repeat(self.inputs.index, c), np.tile(self.columns, n), self.inputs.to_numpy(object).ravel()]
        return pd.DataFrame(
            dict(zip(["row", "feature", "value"], cells, strict=True), contribution=self.values.ravel())
        )

    def plot(self) -> Axes:
        """One row: its contributions. More: how far each column moves them on average."""
        one = len(self.values) == 1
        length = self.values[0] if one else self.strength
        order = np.argsort(-np.abs(length), kind="stable")[:10]
        ax = axes("What moves this score" if one else f"What moves {len(self.values):,} scores, on average")
        ax.barh(range(len(order)), length[order], color=[PALETTE[int(length[j] < 0)] for j in order])
        ax.set_yticks(range(len(order)), [self.columns[j] for j in order])
        ax.invert_yaxis()
        ax.set_xlabel("contribution to the log-odds, before calibration")
        return ax

    def position(self, feature: str) -> int:
        """Where a column stands.

        Raises:
            DataError: The model reads no such column.
        """
        if feature not in self.columns:
            raise missing_column(feature, self.columns)
        return self.columns.index(feature)


class _Leaf(NamedTuple):
    """One fitted model with a margin of its own: its share, its contributions (n, c) and their base."""

    share: float
    values: np.ndarray
    base: float


def contributions(model: Model, frame: pd.DataFrame, *, background: pd.DataFrame) -> Contributions:
    """Contributions of the original columns to the margin, in log-odds.

    A linear member gives coefficient times distance from the background's mean (Lundberg and Lee 2017, corollary 1),
    a tree its path-dependent SHAP values (Lundberg and others 2020, algorithm 2). The mean of the members'
    probabilities is then explained along the straight path from the base margins to the row's margins (Aumann and
    Shapley 1974), each member's part going to columns as its own values do: Chen, Lundberg and Lee (2022), Explaining
    a series of models by propagating Shapley values, with that path in place of their single step.

    Args:
        model: What training fitted.
        frame: Raw rows, shape (n, any), at least one.
        background: Raw training rows; at most 500, drawn with a fixed seed, are used.
    Raises:
        DataError: There is no row, or a column is missing.
        ParamsError: A member is of a kind that has no exact contributions.
        ArithmeticError: The contributions do not add up to the margin.
    """
    if len(frame) == 0 or len(background) == 0:
        raise DataError("There are 0 rows to explain or to compare with, must be at least 1 of each.")
    encoded = model.schema.encode(frame)
    reference = model.schema.encode(background.iloc[draw(len(background), BACKGROUND, 0)])
    leaves = [
        leaf._replace(share=leaf.share * weight)
        for member, weight in zip(model.members, model.weights, strict=True)
        if weight > 0
        for leaf in _leaves(member, encoded, reference)
    ]
    shares = np.array([leaf.share for leaf in leaves])
    base = np.array([leaf.base for leaf in leaves])
    each = np.stack([leaf.values for leaf in leaves])  # (leaves, n, c)
    margins = base + each.sum(axis=2).T  # (n, leaves)
    values = np.einsum("nk,knc->nc", _mean_slopes(margins, base, shares), each)
    found = Contributions(encoded, values, float(_margin_of_mean(base, shares)))
    _check_additive(found.margin, model.uncalibrated(encoded))
    return found


def _check_additive(margin: np.ndarray, probability: np.ndarray) -> None:
    true = logit(probability)
    # Near 0 and 1 the probability itself, a 64-bit number, says no more about the margin than this.
    rounding = 1e-14 / np.maximum(probability * (1 - probability), 1e-300)
    apart = np.abs(margin - true) - TOLERANCE * np.maximum(1, np.abs(true)) - rounding
    if np.isfinite(true).any() and not (apart[np.isfinite(true)] <= 0).all():
        worst = int(np.nanargmax(apart))
        raise ArithmeticError(f"Contributions add up to {margin[worst]:.9g}, must be the margin {true[worst]:.9g}.")


def _leaves(member: BaseEstimator, encoded: pd.DataFrame, reference: pd.DataFrame) -> list[_Leaf]:
    """The models that a member averages."""
    if not (isinstance(member, Pipeline) and isinstance(member[0], ColumnTransformer) and len(member) == 2):
        raise ParamsError(
            f"{type(member).__name__} has no exact contributions, must be a Pipeline of columns and model."
        )
    encoder, estimator = member[0], member[1]
    if isinstance(estimator, DummyClassifier):
        return [_Leaf(1.0, np.zeros(encoded.shape), float(logit(estimator.class_prior_[1])))]
    inputs = np.asarray(encoder.transform(encoded), np.float64)
    to_columns = (_sources(encoder, list(encoded.columns))[:, None] == np.arange(encoded.shape[1])).astype(np.float64)
    if isinstance(estimator, LogisticRegression):
        mean = np.asarray(encoder.transform(reference), np.float64).mean(axis=0)
        weights = estimator.coef_[0]
        values = (inputs - mean) * weights @ to_columns
        return [_Leaf(1.0, values, float(estimator.intercept_[0] + mean @ weights))]
    bagged = isinstance(estimator, BaggingClassifier)
    trees = estimator.estimators_ if bagged else [estimator]
    if not all(isinstance(each, LGBMClassifier) for each in trees):
        raise ParamsError(
            f"{type(trees[0]).__name__} has no exact contributions here. Explained are DummyClassifier, "
            "LogisticRegression, LGBMClassifier and a BaggingClassifier of LGBMClassifiers."
        )
    seen = estimator.estimators_features_ if bagged else [np.arange(inputs.shape[1])]
    leaves = []
    for each, features in zip(trees, seen, strict=True):
        values, base = _tree_values(each, inputs[:, features])
        leaves.append(_Leaf(1 / len(trees), values @ to_columns[features], base))
    return leaves


def _tree_values(trees: LGBMClassifier, inputs: np.ndarray) -> tuple[np.ndarray, float]:
    """SHAP values of the positive class's margin, shape (n, d), and their base, whatever shapes SHAP returns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The set_", PendingDeprecationWarning)  # its colours, under matplotlib 3.11
        import shap

    found = shap.TreeExplainer(trees, feature_perturbation="tree_path_dependent")(inputs)
    values, base = np.asarray(found.values), np.asarray(found.base_values)
    if values.ndim == 3:
        values, base = values[..., -1], base[..., -1]
    return values, float(base.ravel()[0])


def _sources(encoder: ColumnTransformer, names: list[str]) -> np.ndarray:
    """Which original column each encoded one comes from, shape (encoded columns,)."""
    place = {name: position for position, name in enumerate(names)}
    blocks = [(slice(0, 0), np.zeros(0, np.int64))]
    for name, step, columns in encoder.transformers_:
        where = encoder.output_indices_[name]
        if where.start == where.stop:
            continue
        source = np.array([place[column] for column in columns], np.int64)
        if isinstance(step, HingeBasis):
            source = source[np.concatenate([step.source_, step.indicator_])]
        elif isinstance(step, OneHotEncoder):
            pairs = zip(step.categories_, step.infrequent_categories_, strict=True)
            source = np.repeat(source, [len(all_) - (0 if rare is None else len(rare) - 1) for all_, rare in pairs])
        blocks.append((where, source))
    found = np.full(max(where.stop for where, _ in blocks), -1)
    for where, source in blocks:
        found[where] = source
    return found


def _margin_of_mean(margins: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Log-odds of the weighted mean probability; margins of shape (..., leaves)."""
    weights = np.log(shares)
    return logsumexp(weights + log_expit(margins), axis=-1) - logsumexp(weights + log_expit(-margins), axis=-1)


def _mean_slopes(margins: np.ndarray, base: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Mean slope of the combined margin in each leaf's margin along the path from base to row, shape (n, leaves)."""
    nodes, node_weights = np.polynomial.legendre.leggauss(NODES)
    gap = margins - base
    path = base + (nodes[:, None, None] + 1) / 2 * gap
    each = np.log(shares) + log_expit(path)
    other = np.log(shares) + log_expit(-path)
    slopes = np.exp(each + log_expit(-path) - logsumexp(each, axis=-1, keepdims=True))
    slopes *= np.exp(-logsumexp(other, axis=-1, keepdims=True))
    mean = np.tensordot(node_weights / 2, slopes, axes=1)
    rest = _margin_of_mean(margins, shares) - _margin_of_mean(base, shares) - (mean * gap).sum(axis=1)
    size = (gap**2).sum(axis=1)
    return mean + gap * np.divide(rest, size, out=np.zeros_like(rest), where=size > 0)[:, None]


def draw(n: int, most: int, seed: int) -> np.ndarray:
    """Positions of at most `most` of n rows, in order."""
    if most < 1:
        raise ValueError(f"rows == {most}, must be >= 1.")
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
