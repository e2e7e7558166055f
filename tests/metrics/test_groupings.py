"""How alike two groupings are, against the long way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.metrics.groupings import best_jaccard


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 4)), min_size=1, max_size=30))
def test_the_best_jaccard_is_that_of_the_long_way(pairs: list[tuple[int, int]]) -> None:
    codes, again = (np.array(side) for side in zip(*pairs, strict=True))
    for group, got in enumerate(best_jaccard(codes, again, 4)):
        own = set(np.flatnonzero(codes == group))
        others = [set(np.flatnonzero(again == other)) for other in range(5)]
        expected = max(len(own & other) / len(own | other) for other in others) if own else np.nan
        assert got == pytest.approx(expected, nan_ok=True)
