"""P-values adjusted together: tests that could not be made have no say and get none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cxlab.metrics.multiplicity import adjusted


@given(st.lists(st.one_of(st.floats(0, 1), st.just(np.nan)), max_size=20), st.sampled_from(["bh", "by"]))
def test_the_others_are_adjusted_as_if_they_were_alone(p: list[float], method: str) -> None:
    found, done = adjusted(p, method=method), np.isfinite(p) if p else np.zeros(0, bool)  # type: ignore[arg-type]
    assert np.isnan(found[~done]).all()
    if done.any():
        assert found[done] == pytest.approx(stats.false_discovery_control(np.array(p)[done], method=method))
