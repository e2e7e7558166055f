"""Groupings of rows: how alike two are, and that one is made the same way twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

Array = np.ndarray


def best_jaccard(codes: Array, again: Array, k: int) -> Array:
    """Each group's Jaccard similarity with the group of another grouping that is most like it, shape (k,).

    Args:
        codes: Numbers below k, or -1 for none, shape (n,).
        again: The other grouping of the same rows.
    Returns:
        In [0, 1]; NaN where a group has no row.
    Examples:
        >>> best_jaccard(np.array([0, 0, 1, -1]), np.array([5, 5, 5, 2]), 2)
        array([0.66666667, 0.33333333])
    """
    both = np.zeros((k, int(again.max(initial=0)) + 1))
    joint = (codes >= 0) & (again >= 0)
    np.add.at(both, (codes[joint], again[joint]), 1)
    own = np.bincount(codes[codes >= 0], minlength=k)
    other = np.bincount(again[again >= 0], minlength=both.shape[1])
    most = (both / np.maximum(own[:, None] + other - both, 1)).max(axis=1)
    return np.where(own > 0, most, np.nan)


@contextmanager
def one_thread() -> Iterator[None]:
    """One core: sums that threads share out are not the same twice, and on busy machines threads wait for others."""
    import sklearn.cluster  # noqa: F401  # what is loaded later would not be held back
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield
