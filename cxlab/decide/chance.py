"""What chance alone does to counts of high-risk calls, of calls that are alike within clusters such as agents.

Calls of one agent say less than as many calls of different agents: the design effect of Kish (1965, Survey sampling,
section 5.4), 1 + rho (m - 1), where rho is the intra-cluster correlation and m the calls of a cluster, weighted by
calls (sum of squares over sum). rho is taken of all calls together, since a few clusters of a small group say little of
it, and is never below 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def cluster_codes(column: pd.Series) -> np.ndarray:
    """A number for every cluster, shape (n,); a call without one is a cluster of its own."""
    codes, names = pd.factorize(column)
    alone = codes < 0
    return np.where(alone, len(names) + np.cumsum(alone), codes).astype(np.int64)


def correlation(outcome: np.ndarray, cluster: np.ndarray, group: np.ndarray) -> float:
    """rho of outcomes about the mean of their group, in [0, 1].

    By moments: the square of a cluster's sum exceeds the sum of its squares by rho s² n_c (n_c - 1). Sums about a mean
    that was estimated are too small, by clusters over clusters less groups.

    Args:
        outcome: 0 or 1, shape (n,).
        cluster: A number from `cluster_codes`, shape (n,).
        group: A number from 0 on, shape (n,): what the mean is taken of.
    """
    size = np.bincount(group)
    mean = np.bincount(group, weights=outcome) / np.maximum(size, 1)
    residual = outcome - mean[group]
    calls = np.bincount(cluster)
    sums = np.bincount(cluster, weights=residual)
    square = float(residual @ residual)
    many, means = int((calls > 0).sum()), int((size > 0).sum())
    pairs = float((calls * (calls - 1.0)).sum())
    if square == 0 or pairs == 0 or many <= means:
        return 0.0
    between = float(sums @ sums) * many / (many - means)
    return float(np.clip((between - square) / (square / len(outcome) * pairs), 0.0, 1.0))


def sizes(cluster: np.ndarray, cell: np.ndarray, cells: int) -> np.ndarray:
    """m of each cell: calls of a cluster, weighted by calls, shape (cells,); 0 where a cell is empty.

    Args:
        cluster: A number from `cluster_codes`, shape (n,).
        cell: A number in 0..cells-1, shape (n,).
        cells: How many there are.
    """
    whole = cluster * cells + cell
    top = (int(cluster.max()) + 1) * cells if len(cluster) else 0
    if top <= max(4 * len(whole), 1 << 22):
        counts = np.bincount(whole, minlength=top)
        found = np.flatnonzero(counts)
        counts = counts[found]
    else:
        found, counts = np.unique(whole, return_counts=True)
    square = np.bincount(found % cells, weights=counts.astype(np.float64) ** 2, minlength=cells)
    size = np.bincount(found % cells, weights=counts, minlength=cells)
    return np.divide(square, size, out=np.zeros(cells), where=size > 0)


def design_effect(rho: float, m: np.ndarray) -> np.ndarray:
    """1 + rho (m - 1), at least 1."""
    return np.maximum(1.0, 1.0 + rho * (np.asarray(m, np.float64) - 1.0))


def upper_tail(
    n: np.ndarray, k: np.ndarray, whole: np.ndarray, bad: np.ndarray, deff: Any = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """How likely so many high calls, or more, are by chance, given how many there are in every stratum.

    A sum of hypergeometric counts, by Pearson's type III distribution of the same mean, variance and skewness with a
    correction for continuity; the variance is multiplied by the design effect. The test of Mantel and Haenszel (1959)
    has the same mean and variance and takes the normal distribution, which is wrong in the tails of rare calls.

    Args:
        n: Calls of each candidate, shape (strata, c).
        k: High calls of them.
        whole: All calls of the strata, shape (strata, 1).
        bad: All high calls of them.
        deff: Design effects, shape (c,).
    Returns:
        p, one-sided, and the excess in standard errors; shape (c,) each. 1 and -inf where chance has no room.
    """
    from scipy import stats

    with np.errstate(divide="ignore", invalid="ignore"):
        mean = n * bad / whole
        variance = np.where(whole > 1, mean * (1 - bad / whole) * (whole - n) / (whole - 1), 0.0)
        third = np.where(whole > 2, variance * (whole - 2 * bad) * (whole - 2 * n) / (whole * (whole - 2)), 0.0)
        total = variance.sum(axis=0)
        skew = np.where(total > 0, third.sum(axis=0) / total**1.5, 0.0)
        z = np.where(total > 0, ((k - mean).sum(axis=0) - 0.5) / np.sqrt(total * deff), -np.inf)
    return np.asarray(stats.pearson3.sf(z, skew)), z
