from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cxlab.data.simulate import binary_world, drifted
from cxlab.errors import DataError


@given(st.floats(0, 0.3), st.floats(0.4, 0.9), st.integers(0, 100))
def test_a_large_world_has_the_rates_it_says(gap: float, tpr: float, seed: int) -> None:
    world = binary_world(60_000, seed, gap=gap, tpr=tpr, rates=(0.3, 0.2, 0.4))
    y, score, chosen = world.outcome, world.score, world.score >= world.threshold
    for group, row in world.truth.iterrows():
        mine = (world.frame["segment"] == group).to_numpy()
        for truth, here in ((row, mine), (world.others.loc[group], ~mine)):
            assert y[here].mean() == pytest.approx(truth["rate"], abs=0.02)
            assert chosen[here].mean() == pytest.approx(truth["selection_rate"], abs=0.02)
            assert chosen[here & (y == 1)].mean() == pytest.approx(truth["tpr"], abs=0.04)
            assert chosen[here & (y == 0)].mean() == pytest.approx(truth["fpr"], abs=0.02)
            assert y[here & chosen].mean() == pytest.approx(truth["precision"], abs=0.05)
            assert (score - y)[here].mean() == pytest.approx(truth["calibration_error"], abs=0.02)
            assert roc_auc_score(y[here], score[here]) == pytest.approx(truth["auc"], abs=0.03)


def test_the_planted_gap_is_the_last_groups() -> None:
    truth = binary_world(10, 0, gap=0.2).truth
    assert truth["tpr"].tolist() == pytest.approx([0.6, 0.6, 0.4])
    assert truth["fpr"].nunique() == 1
    even = binary_world(10, 0).truth.drop(columns="share")
    assert np.allclose(even, even.iloc[0])
    assert even["calibration_error"].abs().max() < 1e-9


def test_the_same_seed_gives_the_same_world() -> None:
    pd.testing.assert_frame_equal(binary_world(50, 1).frame, binary_world(50, 1).frame)
    assert not binary_world(50, 1).frame.equals(binary_world(50, 2).frame)


def test_the_signal_decides_and_the_noise_does_not() -> None:
    world = binary_world(20_000, 0, noise_columns=2)
    table = world.table()
    assert table.features == ("signal", "noise_1", "noise_2", "segment")
    assert (table.outcome() == world.outcome).all()
    weights = LogisticRegression().fit(world.frame[["signal", "noise_1", "noise_2"]], world.outcome).coef_[0]
    assert weights == pytest.approx([1.5, 0, 0], abs=0.08)


def test_a_gap_too_wide() -> None:
    with pytest.raises(ValueError, match=r"tpr - gap == -0\.1"):
        binary_world(10, 0, gap=0.7)


def test_drift_moves_one_column_only() -> None:
    frame = binary_world(5_000, 0, noise_columns=2).frame
    gone = drifted(frame, "noise_1", missing=0.9)
    assert gone["noise_1"].isna().mean() == pytest.approx(0.9, abs=0.02)
    moved = drifted(frame, "noise_1", shift=0.5)
    assert (moved["noise_1"] - frame["noise_1"]).tolist() == pytest.approx([0.5 * frame["noise_1"].std()] * 5_000)
    pd.testing.assert_frame_equal(moved.drop(columns="noise_1"), frame.drop(columns="noise_1"))
    pd.testing.assert_frame_equal(drifted(frame, "noise_1"), frame)
    with pytest.raises(DataError, match="Did you mean 'signal'"):
        drifted(frame, "signals")
