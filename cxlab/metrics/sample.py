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


SUMS = 1e-3  # how far from one a row of probabilities may sum: single precision over thousands of classes


@dataclass(frozen=True, eq=False)
class Sample:
    """Outcomes and the scores of one candidate.

    Attributes:
        y: Outcomes, 0 or 1, shape (n,); with many classes their codes, 0 to k - 1.
        score: Scores, shape (n,), higher is likelier to be 1; with many classes probabilities, shape (n, k).
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

    @classmethod
    def of_classes(cls, y: ArrayLike, probability: ArrayLike, *, name: str = "probability") -> Sample:
        """Class codes and the probabilities of k classes, checked and cast; floats are kept as they are, not copied.

        Args:
            y: Class codes, 0 to k - 1, shape (n,).
            probability: Probabilities, shape (n, k), k >= 2; the rows sum to one.
            name: What messages call the probabilities.
        Raises:
            ValueError: shapes differ, nothing is there, an outcome is no class, a row is not of probabilities.
        """
        codes, table = np.asarray(y), np.asarray(probability)
        if codes.ndim != 1 or len(codes) == 0:
            raise ValueError(f"y has shape {codes.shape}, must be (n,) with n >= 1.")
        if table.ndim != 2 or len(table) != len(codes) or table.shape[1] < 2:
            raise ValueError(
                f"{name} has shape {table.shape}, must be ({len(codes)}, k): a row for each of y, a column a class, "
                "two or more."
            )
        classes = table.shape[1]
        odd = ~np.isin(codes, np.arange(classes))
        if odd.any():
            raise ValueError(
                f"y holds {codes[odd].flat[0]!s}, must be a class code, 0 to {classes - 1}: the number of its column."
            )
        if not np.issubdtype(table.dtype, np.floating):
            table = table.astype(np.float64)
        sums, least = table.sum(axis=1, dtype=np.float64), table.min(axis=1)
        good = (np.abs(sums - 1) <= SUMS) & (least >= 0)  # a NaN is neither
        if not good.all():
            row = int(np.argmin(good))
            raise ValueError(
                f"{name} sums to {sums[row]:.6g} in row {row}, its least is {least[row]:.6g}; must be probabilities: "
                "at least 0, and 1 together."
            )
        return cls(codes.astype(np.float64), table)

    @property
    def classes(self) -> int:
        """How many there are; 2 where the scores are those of a binary outcome."""
        return 2 if self.score.ndim == 1 else self.score.shape[1]

    @cached_property
    def codes(self) -> NDArray[np.intp]:
        """Outcomes as class codes."""
        return self.y.astype(np.intp)

    @cached_property
    def predicted(self) -> NDArray[np.intp]:
        """The likeliest class of each row of probabilities; of equally likely ones the first."""
        return self.score.argmax(axis=1)

    @cached_property
    def confidence(self) -> Array:
        """The probability of the likeliest class."""
        return np.minimum(self.score.max(axis=1).astype(np.float64), 1.0)

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Where the likeliest class is the outcome."""
        return self.predicted == self.codes

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
        interval: `percentile`, or `basic` (reflected) for a metric whose resamples lean to one side, or `both`.
        luck: For a metric that luck keeps off its best value, the lower of `bounds`: up to where, at a level.
        many: True where it reads class codes and probabilities of shape (n, k), for any number of classes.
        right: For a metric of many classes that reads only which rows are right: those rows.
    """

    name: str
    title: str
    higher_is_better: bool
    prepare: Callable[[Sample], Statistic]
    meaning: str = ""
    probability: bool = False
    bounds: tuple[float, float] = (-np.inf, np.inf)
    interval: Literal["percentile", "basic", "both"] = "percentile"
    luck: Callable[[Sample, float], float] | None = None
    many: bool = False
    right: Callable[[Sample], NDArray[np.bool_]] | None = None

    def sample(self, y: ArrayLike, score: ArrayLike, *, name: str = "score") -> Sample:
        """Outcomes and scores as this metric reads them.

        Raises:
            ValueError: an argument has the wrong shape or values.
        """
        if self.many:
            return Sample.of_classes(y, score, name=name)
        sample = Sample.of(y, score, name=name)
        self.check(sample, name=name)
        return sample

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
            y: Outcomes, 0 or 1, shape (n,); for a metric of many classes their codes.
            score: Scores, shape (n,); for a metric of many classes probabilities, shape (n, k).
            weights: How often each row counts, >= 0, shape (B, n); None counts each row once.
        Returns:
            A float; with weights an array of shape (B,). NaN where the metric is undefined.
        Raises:
            ValueError: an argument has the wrong shape or values.
        """
        sample = self.sample(y, score)
        statistic = self.prepare(sample)
        if weights is None:
            return float(statistic(Draws(sample, np.ones((1, len(sample.y)))))[0])
        counts = np.asarray(weights, dtype=np.float64)
        if counts.ndim != 2 or counts.shape[1] != len(sample.y):
            raise ValueError(f"weights has shape {counts.shape}, must be (B, {len(sample.y)}): one weight a row of y.")
        if not (counts >= 0).all():
            raise ValueError(f"weights holds {counts[~(counts >= 0)][0]}, must be >= 0.")
        return statistic(Draws(sample, counts))
