"""Rates by group, of the rows as they are and of many bootstrap draws at once.

    parts = partitions(segments)              # which row is in which group, intersections too
    here = measure(parts, y, decision, score) # every rate of every group and of everybody else
    here.rates.shape                          # (groups, 2, 7): the group, the others

The bootstrap is the Bayesian one (Rubin 1981): a draw weighs every row by an exponential number. Groups are small and
their rates often near 0 or 1, where the percentile bootstrap is far too sure (ten hits of ten give an interval of no
width; held the truth 55 to 93 times in 100 where it promises 95). So every group gets, in every draw, a row's weight
times `PRIOR` in each of its four cells hit, miss, false alarm and rightly left alone, at the ends of the scores. A
rate of x among n is then drawn from Beta(x + 2/3, n - x + 2/3), between the intervals of Jeffreys (1/2) and of Bayes
and Laplace (1), whose coverage Brown, Cai and DasGupta (2001, sections 4 and 6) found close to the nominal one even
for few rows. `benchmarks/fairness.py` counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from cxlab.metrics.rates import OTHER, groups
from cxlab.metrics.sample import Array, ratio

METRICS = ("selection_rate", "tpr", "fpr", "precision", "calibration_error", "auc")  # of whom a model selects
RATES = (*METRICS, "outcome_rate")
PRIOR = 2 / 3  # of 1/2, 2/3, 0.8 and 1, the one whose worst coverage was best for denominators of 5 to 60
LARGEST = 20  # groups kept apart in a segment; the others share "(other)"
NUMBERS = 4  # quantile groups of a number
DRAWN = 1 << 18  # weights held at once


@dataclass(frozen=True)
class Partition:
    """One segment: every row in one group.

    Attributes:
        segment: The column's name, or two joined by `&`.
        labels: The groups, in the order of reports.
        code: The group of each row, shape (n,).
        merged: How many rarer values share `(other)`.
        single: False for an intersection.
    """

    segment: str
    labels: tuple[str, ...]
    code: NDArray[np.intp]
    merged: int = 0
    single: bool = True


def partitions(segments: pd.DataFrame) -> list[Partition]:
    """The columns, then all their pairs; a pair that groups the rows as one of its columns does is left out."""
    single = [_partition(str(name), segments[name]) for name in segments]
    pairs = []
    for one, two in combinations(single, 2):
        names = [f"{a} & {b}" for a in one.labels for b in two.labels]
        joined = pd.Series(np.array(names, dtype=object)[one.code * len(two.labels) + two.code])
        if joined.nunique() > max(len(one.labels), len(two.labels)):
            order = [name for name in names if name in set(joined)]
            pairs.append(_partition(f"{one.segment} & {two.segment}", joined, order))
    return single + pairs


def _partition(segment: str, column: pd.Series, order: list[str] | None = None) -> Partition:
    group = groups(column, categories=LARGEST, bins=NUMBERS).cat.remove_unused_categories()
    if order and len(order) <= LARGEST:
        group = group.cat.reorder_categories(order)
    kept = group.cat.categories
    merged = column.nunique() - LARGEST if OTHER in kept else 0
    code = group.cat.codes.to_numpy().astype(np.intp)
    return Partition(segment, tuple(map(str, kept)), code, max(0, merged), order is None)


@dataclass(frozen=True)
class Measured:
    """Rates of each group and of everybody else in its segment; groups in the partitions' order, k in all.

    Attributes:
        rates: In the order of `RATES`, shape (..., k, 2, 7); NaN where the denominator is 0.
        of: Their denominators (for AUC pairs of a positive and a negative), same shape.
    """

    rates: Array
    of: Array


def measure(parts: list[Partition], y: Array, decision: Array, score: Array, *, auc: bool = True) -> Measured:
    """The rates of the rows as they are.

    Args:
        parts: p partitions of the n rows.
        y: Outcomes, 0 or 1, shape (n,).
        decision: Selected (1) or not (0), shape (n,).
        score: Probabilities, shape (n,).
        auc: False leaves it NaN and saves most of the time.
    """
    sums = _Sums(parts, y, decision, score, auc)
    return _rates(sums(np.ones((len(y), 1)))[..., 0])


def draws(
    parts: list[Partition],
    y: Array,
    decision: Array,
    score: Array,
    *,
    resamples: int,
    seed: int,
    auc: bool = True,
) -> Array:
    """The rates in bootstrap draws, all from one pass; the order of the rows does not matter.

    Returns:
        As `Measured.rates`, shape (resamples, k, 2, 7).
    """
    order = np.lexsort((*(part.code for part in parts), decision, y, score))
    parts = [replace(part, code=part.code[order]) for part in parts]
    sums = _Sums(parts, y[order], decision[order], score[order], auc)
    rng = np.random.default_rng(seed)
    size = int(np.clip(DRAWN // len(y), 8, 256))
    found = []
    for start in range(0, resamples, size):
        b = min(size, resamples - start)
        seen = sums(rng.standard_exponential((len(y), b)))
        prior = rng.standard_gamma(PRIOR, size=(4, *seen.shape[1:]))
        found.append(np.moveaxis(_rates(_with_prior(seen, prior, sums.mean_score)).rates, 2, 0))
    return np.concatenate(found)


class _Sums:
    """Weighted sums of each group and of its complement: hits, misses, false alarms, rightly left alone, the sum of
    score minus outcome, and pairs of a positive and a negative whose scores are in the right order."""

    def __init__(self, parts: list[Partition], y: Array, decision: Array, score: Array, auc: bool) -> None:
        n, counts = len(y), [len(part.labels) for part in parts]
        self.k, self.y = sum(counts), y
        first = np.concatenate([[0], np.cumsum(counts)]).astype(np.intp)
        rows = np.concatenate([part.code + at for part, at in zip(parts, first, strict=False)])
        columns = np.tile(np.arange(n), len(parts))
        self.member = sparse.csr_array((np.ones(len(columns)), (rows, columns)), shape=(self.k, n))
        cell = np.stack([y * decision, y * (1 - decision), (1 - y) * decision, (1 - y) * (1 - decision), score - y])
        self.summed = sparse.vstack([self.member.multiply(values) for values in cell], format="csr")
        self.cell = cell
        self.part = np.repeat(np.arange(len(parts)), counts)
        mine = self.member @ np.ones(n)
        mean = (self.member @ score) / np.maximum(mine, 1)
        other = (score.sum() - self.member @ score) / np.maximum(n - mine, 1)
        self.mean_score = np.stack([mean, other], axis=1)
        self.everybody = _Ranks(score, np.zeros(n, dtype=np.intp)) if auc else None
        self.inside = [_Ranks(score, part.code) for part in parts] if auc else []

    def __call__(self, weights: Array) -> Array:
        """Weights of shape (n, b) to sums of shape (6, k, 2, b)."""
        b = weights.shape[1]
        own = (self.summed @ weights).reshape(5, self.k, b)
        total = (self.cell @ weights)[:, None]
        return np.concatenate([np.stack([own, total - own], axis=2), self._pairs(weights)[None]])

    def _pairs(self, weights: Array) -> Array:
        """Pairs in the right order in each group and among everybody else, shape (k, 2, b)."""
        b = weights.shape[1]
        if self.everybody is None:
            return np.full((self.k, 2, b), np.nan)
        positive, negative = weights * self.y[:, None], weights * (1 - self.y[:, None])
        below, above = positive * self.everybody.below(negative), negative * self.everybody.above(positive)
        by_positive, by_negative = self.member @ below, self.member @ above
        within = np.zeros((self.k, b))
        for number, ranks in enumerate(self.inside):
            pairs = positive * ranks.below(negative)
            within[self.part == number] = self.member[np.flatnonzero(self.part == number)] @ pairs
        outside = below.sum(axis=0) - by_positive - by_negative + within
        return np.stack([within, outside], axis=1)


class _Ranks:
    """Where each row stands by score among the rows of its group; ties count half."""

    def __init__(self, score: Array, code: NDArray[np.intp]) -> None:
        n = len(score)
        self.order = np.lexsort((score, code))
        ranked, group = score[self.order], code[self.order]
        fresh = np.append(True, (ranked[1:] != ranked[:-1]) | (group[1:] != group[:-1]))
        start = np.flatnonzero(fresh)
        place = np.cumsum(fresh) - 1
        row = np.empty(n, dtype=np.intp)
        row[self.order] = np.arange(n)
        self.start, self.end = start[place][row], np.append(start[1:], n)[place][row]
        self.first = np.searchsorted(group, code, side="left")
        self.last = np.searchsorted(group, code, side="right")

    def below(self, mass: Array) -> Array:
        """Of each row of a group, the mass there with lower scores."""
        upto = self._upto(mass)
        return (upto[self.start] + upto[self.end]) / 2 - upto[self.first]

    def above(self, mass: Array) -> Array:
        """Of each row of a group, the mass there with higher scores."""
        upto = self._upto(mass)
        return upto[self.last] - (upto[self.start] + upto[self.end]) / 2

    def _upto(self, mass: Array) -> Array:
        upto = np.zeros((len(mass) + 1, mass.shape[1]))
        np.cumsum(mass[self.order], axis=0, out=upto[1:])
        return upto


def _with_prior(sums: Array, prior: Array, mean_score: Array) -> Array:
    """Rows of weight `prior`, shape (4, k, 2, b): two selected above all scores, two not selected below all; for the
    calibration their score is the group's mean."""
    hit, miss, alarm, calm, apart, pairs = sums
    top, bottom, top_negative, bottom_negative = prior
    pairs = pairs + top * (alarm + calm + bottom_negative) + (hit + miss) * bottom_negative
    pairs = pairs + (top * top_negative + bottom * bottom_negative) / 2
    apart = apart + prior.sum(axis=0) * mean_score[..., None] - top - bottom
    return np.stack([*(sums[:4] + prior), apart, pairs])


def _rates(sums: Array) -> Measured:
    """Sums of shape (6, ...) to rates of shape (..., 7)."""
    hit, miss, alarm, calm, apart, pairs = sums
    everybody, positives, negatives, selected = sums[:4].sum(axis=0), hit + miss, alarm + calm, hit + alarm
    top = [selected, hit, alarm, hit, apart, pairs, positives]
    of = [everybody, positives, negatives, selected, everybody, positives * negatives, everybody]
    # The complement is a subtraction: what rounding leaves of nothing is nothing.
    pairs_of = [(t, np.where(np.abs(o) < 1e-9, 0.0, o)) for t, o in zip(top, of, strict=True)]
    rates = [ratio(t, o) for t, o in pairs_of]
    return Measured(np.stack(rates, axis=-1), np.stack([o for _, o in pairs_of], axis=-1))
