"""Random samples for the laws: few rows, both outcomes, many ties."""

import numpy as np
from hypothesis import strategies as st


@st.composite
def binary_samples(draw, least=2, most=40, distinct=False):
    """Outcomes with at least one of each, and probabilities; `distinct` leaves no ties."""
    n = draw(st.integers(least, most))
    y = np.array(draw(st.permutations([0, 1, *draw(st.lists(st.integers(0, 1), min_size=n - 2, max_size=n - 2))])))
    levels = st.integers(0, 1000 if distinct else 12)
    score = np.array(draw(st.lists(levels, min_size=n, max_size=n, unique=distinct))) / (1000 if distinct else 12)
    return y, score


@st.composite
def weighted_samples(draw):
    """A sample and counts of its rows that leave both outcomes."""
    y, score = draw(binary_samples())
    weights = np.array(draw(st.lists(st.integers(0, 3), min_size=len(y), max_size=len(y))))
    weights[[np.argmax(y == 0), np.argmax(y == 1)]] += 1
    return y, score, weights
