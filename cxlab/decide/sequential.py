"""Intervals that hold however often somebody looks, and whenever they stop.

An asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, Time-uniform central limit
theory and asymptotic confidence sequences, Annals of Statistics 52, theorem 2.2): of a mean of t customers whose
standard error is s, the interval at every t at once is

    mean +- s sqrt((x + 1) / x * (log(x + 1) + 2 log(1 / alpha))),    x = t rho^2

which is Robbins' normal mixture (1970). rho says where the sequence is tightest: at the planned number of customers.
There the factor is sqrt(x + 1) with x = -W(-alpha^2 / e) - 1, W the lower branch of Lambert's function: 3.04 standard
errors for 95 %, where one look at the end has 1.96. Turned round it gives a p that may be looked at at any time. A
difference of two arms has the variance of both (theorem 3.2 of the same paper, where nothing but the arm is known);
t counts the customers of both.

The price of the first looks is in the word asymptotic: a few dozen customers in each arm are too few for any of this.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from cxlab.metrics.bootstrap import check_level
from cxlab.metrics.sample import Array

UNPLANNED = 10_000  # customers of both arms at which the sequence is tightest where no plan says how many


def mixture(alpha: float) -> float:
    """x of the tightest place: the x > 0 at which (x + 1) / x (log(x + 1) + 2 log(1 / alpha)) is least.

    Args:
        alpha: Share of experiments in which the sequence may ever miss, in (0, 1).
    """
    from scipy.special import lambertw

    check_level(alpha)
    return float(-lambertw(-(alpha**2) / math.e, -1).real - 1)


def factor(t: ArrayLike, alpha: ArrayLike, *, planned: float, tuned: float) -> Array:
    """How many standard errors the interval reaches to each side.

    Args:
        t: Customers seen, > 0, any shape.
        alpha: Of this interval, in (0, 1).
        planned: Customers at which the sequence is tightest, > 0; fixed before the first look.
        tuned: The alpha for which it is; fixed as well.
    Returns:
        Like t; 1.96 would be the factor of one look at 95 %.
    Examples:
        >>> factor([100, 1000, 3000], 0.05, planned=1000, tuned=0.05).round(2).tolist()
        [3.82, 3.04, 3.1]
    """
    x = np.asarray(t, dtype=np.float64) / planned * mixture(tuned)
    return np.sqrt((x + 1) / x * (np.log1p(x) - 2 * np.log(alpha)))


def always_valid_p(z: ArrayLike, t: ArrayLike, *, planned: float, tuned: float) -> Array:
    """The least alpha whose interval leaves out 0: at most a share alpha of null experiments ever has a p that small.

    Args:
        z: Difference over its standard error, any shape.
        t, planned, tuned: As for `factor`.
    """
    x = np.asarray(t, dtype=np.float64) / planned * mixture(tuned)
    with np.errstate(under="ignore"):
        return np.minimum(1.0, np.sqrt(x + 1) * np.exp(-(np.asarray(z, dtype=np.float64) ** 2) * x / (2 * (x + 1))))


def as_one_look(alpha: float) -> float:
    """The alpha of one two-sided z-test that asks as much as the sequence does at the planned number of customers.

    Examples:
        >>> round(as_one_look(0.05), 4)
        0.0024
    """
    return math.erfc(math.sqrt((mixture(alpha) + 1) / 2))
