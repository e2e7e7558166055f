"""P-values of many tests, adjusted together."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray


def adjusted(p: ArrayLike, *, method: Literal["bh", "by"] = "bh") -> NDArray[np.float64]:
    """By the false discovery rate, over the tests that could be made.

    Args:
        p: P-values, NaN where there was no test, shape (n,).
        method: bh (Benjamini and Hochberg 1995), or by (Benjamini and Yekutieli 2001) where tests depend on each other
            in any way.
    Returns:
        Shape (n,), NaN where there was no test.
    Examples:
        >>> adjusted([0.01, np.nan, 0.04]).tolist()
        [0.02, nan, 0.04]
    """
    from scipy import stats

    found = np.array(p, np.float64)
    done = np.isfinite(found)
    if done.any():
        found[done] = stats.false_discovery_control(found[done], method=method)
    return found
