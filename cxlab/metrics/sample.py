"""What every metric reads: outcomes and scores, sorted once, and draws of customers from them.

A draw is a weight a customer: how often the bootstrap picked him. Metrics take many draws at once.

    sample = Sample.of([1, 0, 1], [0.9, 0.4, 0.4])
    draws = Draws(sample, np.array([[1, 1, 1], [2, 0, 1]]))
    draws.mean(sample.y)      # the share of positives in each draw
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Statistic = Callable[["Draws"], Array]


@dataclass(frozen=True, eq=False)
class Sample:
    """Outcomes and the scores of one candidate.

    Attributes:
        y: Outcomes, 0 or 1, shape (n,).
        score: Scores, shape (n,), higher is likelier to be 1.
    """

    y: Array
    score: Array

    @classmethod
    def of(cls, y: ArrayLike, score: ArrayLike, *, name: str = "score") -> Sample:
        """Checked and cast; `name` is what messages call the scores.

        Raises:
            ValueError: lengths differ, nothing is there, an outcome is not 0 or 1, a score is not finite.
        """
        outcomes, scores = np.asarray(y), np.asarray(score)
        if outcomes.ndim != 1 or len(outcomes) == 0:
            raise ValueError(f"y has shape {outcomes.shape}, must be (n,) with n >= 1.")
        if scores.shape != outcomes.shape:
            raise ValueError(f"{name} has shape {scores.shape}, must be {outcomes.shape} like y: one score a row.")
        odd = ~np.isin(outcomes, (0, 1))
        if odd.any():
            raise ValueError(f"y holds {outcomes[odd].flat[0]!s}, must be 0 or 1 (1 is the positive outcome).")
        scores = scores.astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(scores))
        if len(bad):
            more = f" ({len(bad)} such rows)" if len(bad) > 1 else ""
            raise ValueError(f"{name} is {scores[bad[0]]} in row {bad[0]}{more}, must be a finite number.")
        return cls(outcomes.astype(np.float64), scores)

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """Rows from the highest score to the lowest; ties keep row order."""
        return np.argsort(-self.score, kind="stable")

    @cached_property
    def ranked_y(self) -> Array:
        """Outcomes in that order."""
        return self.y[self.order]

    @cached_property
    def ends(self) -> slice | NDArray[np.intp]:
        """Where in that order each distinct score has its last row."""
        ranked = self.score[self.order]
        last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
        return slice(None) if len(last) == len(ranked) else last


@dataclass(frozen=True, eq=False)
class Draws:
    """Weights over a sample's rows, one row a draw, with the running sums that metrics share.

    Attributes:
        sample: Where the rows come from.
        weights: How often each row counts, >= 0, shape (B, n).
    """

    sample: Sample
    weights: Array

    @cached_property
    def total(self) -> Array:
        """Customers in each draw, shape (B,)."""
        return self.weights.sum(axis=1)

    @cached_property
    def positives(self) -> Array:
        """Positive outcomes in each draw, shape (B,)."""
        return self.weights @ self.sample.y

    def mean(self, values: Array) -> Array:
        """Means of a row's values in each draw: (n,) gives (B,), (n, k) gives (B, k)."""
        sums = self.weights @ values
        return ratio(sums, self.total if values.ndim == 1 else self.total[:, None])

    @cached_property
    def reached(self) -> Array:
        """Customers among the rows down to each rank, shape (B, n)."""
        return np.cumsum(self._ranked, axis=1)

    @cached_property
    def caught(self) -> Array:
        """Positives among the rows down to each rank, shape (B, n)."""
        return np.cumsum(self._ranked * self.sample.ranked_y, axis=1)

    @cached_property
    def _ranked(self) -> Array:
        return self.weights[:, self.sample.order]


def ratio(top: Array, bottom: Array) -> Array:
    """`top / bottom`, and NaN where `bottom` is 0: undefined is not zero."""
    defined = np.broadcast_to(bottom > 0, np.shape(top))
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=defined)


@dataclass(frozen=True)
class Metric:
    """A number that says how good scores are.

    Attributes:
        name: As in reports and JSON.
        title: As on figures.
        higher_is_better: Which way is good.
        prepare: From a sample to the function that computes the metric for draws of it, so that what does not
            depend on the draw is done once.
        meaning: One plain sentence.
        probability: True where scores must be probabilities in [0, 1].
        bounds: The values it can take.
        interval: `percentile`, or `basic` (reflected) for a metric whose resamples lean to one side.
        luck: For a metric that luck keeps off its best value, the lower of `bounds`: up to where, at a level.
    """

    name: str
    title: str
    higher_is_better: bool
    prepare: Callable[[Sample], Statistic]
    meaning: str = ""
    probability: bool = False
    bounds: tuple[float, float] = (-np.inf, np.inf)
    interval: Literal["percentile", "basic"] = "percentile"
    luck: Callable[[Sample, float], float] | None = None

    def check(self, sample: Sample, *, name: str = "score") -> None:
        """Refuse scores that this metric cannot read.

        Raises:
            ValueError: a probability is needed and a score is outside [0, 1].
        """
        outside = (sample.score < 0) | (sample.score > 1)
        if self.probability and outside.any():
            row = int(np.argmax(outside))
            raise ValueError(f"{name} is {sample.score[row]} in row {row}; {self.name} needs probabilities in [0, 1].")

    def __call__(self, y: ArrayLike, score: ArrayLike, weights: ArrayLike | None = None) -> Any:
        """The metric, once or for many draws.

        Args:
            y: Outcomes, 0 or 1, shape (n,).
            score: Scores, shape (n,).
            weights: How often each row counts, >= 0, shape (B, n); None counts each row once.
        Returns:
            A float; with weights an array of shape (B,). NaN where the metric is undefined.
        Raises:
            ValueError: an argument has the wrong shape or values.
        """
        sample = Sample.of(y, score)
        self.check(sample)
        statistic = self.prepare(sample)
        if weights is None:
            return float(statistic(Draws(sample, np.ones((1, len(sample.y)))))[0])
        counts = np.asarray(weights, dtype=np.float64)
        if counts.ndim != 2 or counts.shape[1] != len(sample.y):
            raise ValueError(f"weights has shape {counts.shape}, must be (B, {len(sample.y)}): one weight a row of y.")
        if not (counts >= 0).all():
            raise ValueError(f"weights holds {counts[~(counts >= 0)][0]}, must be >= 0.")
        return statistic(Draws(sample, counts))
