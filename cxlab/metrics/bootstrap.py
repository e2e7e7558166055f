"""Intervals: how far a number could be off because we saw these customers and not others.

    wilson(8, 10)                   # around a share, from a formula
    interval(value, replicates)     # around a metric, from its values in many draws of customers

`resampled` makes the draws; `intervals` puts both to work.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np

from cxlab.metrics.sample import Array

CELLS = 1 << 17  # weights held at once: a megabyte an array, which also keeps them in the processor's cache


class Interval(NamedTuple):
    """A value with its interval; all three NaN, or only the ends, where it cannot be told."""

    value: float
    low: float
    high: float


def check_level(level: float) -> None:
    """Raises:
    ValueError: `level` is not in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level == {level}, must be in (0, 1), 0.95 for a 95 % interval.")


def resampled(n: int, *, resamples: int, seed: int, wide: int | None = None) -> Iterator[Array]:
    """Bootstrap weights (Efron and Tibshirani 1993, chapter 6), a chunk of draws at a time.

    Args:
        n: Rows to draw from; each draw takes n of them, with replacement.
        resamples: Draws in all, >= 1.
        seed: The same seed gives the same draws, however they are chunked.
        wide: Cells that a draw takes up where it is put to use; n by default.
    Yields:
        How often each row was drawn, shape (b, n); the b sum to `resamples`.
    """
    rng = np.random.default_rng(seed)
    most = max(1, CELLS // (wide or n))
    for start in range(0, resamples, most):
        size = min(most, resamples - start)
        rows = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(rows.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


def interval(
    value: float,
    replicates: Array,
    *,
    level: float = 0.95,
    kind: Literal["percentile", "basic", "both"] = "percentile",
    bounds: tuple[float, float] = (-np.inf, np.inf),
    also: float | None = None,
) -> Interval:
    """A bootstrap interval around a value.

    `percentile` takes the quantiles of the replicates (Efron and Tibshirani 1993, section 13.3); `basic` reflects
    them about the value, which undoes a lean of the replicates to one side (Davison and Hinkley 1997, eq. 5.6);
    `both` takes the lower of the two low ends and the higher of the two high ones, where the lean is not to be trusted.
    An end that would leave the value outside is moved to it: wider, never narrower.

    Args:
        value: The metric of the sample.
        replicates: The metric of each draw, shape (B,); NaN where a draw does not define it.
        level: Share of samples whose interval should hold the truth, in (0, 1).
        kind: `percentile`, `basic` or `both`.
        bounds: The values the metric can take.
        also: A value that the interval has to hold as well.
    Returns:
        The interval; its ends are NaN where less than half of the draws define the metric.
    Examples:
        >>> interval(0.5, np.arange(5) / 4, level=0.5)
        Interval(value=0.5, low=0.25, high=0.75)
        >>> interval(0.5, np.arange(5) / 4 + 0.5, level=0.5, kind="basic", bounds=(0.0, 1.0))
        Interval(value=0.5, low=0.0, high=0.5)
    """
    valid = replicates[np.isfinite(replicates)]
    if not np.isfinite(value) or len(valid) < max(1.0, len(replicates) / 2):
        return Interval(float(value), np.nan, np.nan)
    low, high = np.quantile(valid, [(1 - level) / 2, (1 + level) / 2])
    if kind != "percentile":
        turned = np.clip([2 * value - high, 2 * value - low], *bounds)
        low, high = turned if kind == "basic" else (min(low, turned[0]), max(high, turned[1]))
    within = [value] if also is None else [value, also]
    return Interval(float(value), float(min(low, *within)), float(max(high, *within)))


def wilson(hits: Any, n: Any, *, level: float = 0.95) -> tuple[Array, Array]:
    """Wilson's score interval for a share (Wilson 1927; recommended by Brown, Cai and DasGupta 2001).

    Args:
        hits: Successes, 0 to n, any shape.
        n: Trials, >= 0, the same shape.
        level: As in `interval`.
    Returns:
        Low and high, in [0, 1]; NaN where n is 0.
    Raises:
        ValueError: `level` is not in (0, 1).
    Examples:
        >>> low, high = wilson(8, 10)
        >>> print(f"{low:.4f} {high:.4f}")
        0.4902 0.9433
    """
    check_level(level)
    trials = np.asarray(n, dtype=np.float64)
    some = np.where(trials > 0, trials, np.nan)
    share = np.asarray(hits, dtype=np.float64) / some
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    middle = share + z2 / (2 * some)
    half = np.sqrt(z2 * (share * (1 - share) + z2 / (4 * some)) / some)
    scale = 1 + z2 / some
    # Rounding must not leave the share, nor [0, 1].
    low = np.clip((middle - half) / scale, 0.0, share)
    return low, np.clip((middle + half) / scale, share, 1.0)
