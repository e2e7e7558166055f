"""What is planted in simulated worlds is found, and nothing where nothing is: a few of the benchmark's 20 seeds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
SEEDS = (100, 105, 110, 115)


def _benchmark() -> ModuleType:
    """`benchmarks/planted.py`, which is no package: its folder is on the path while it loads."""
    folder = ROOT / "benchmarks"
    spec = importlib.util.spec_from_file_location("benchmark_planted", folder / "planted.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(folder))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


planted = _benchmark()


@pytest.mark.parametrize("seed", SEEDS)
def test_planted_leaks_are_caught_or_suspected_and_no_honest_column_is(seed: int) -> None:
    found = planted.leaks(seed, 1_500)
    assert found == {"leaks missed": "", "honest suspects with the plant": "", "honest suspects without": ""}


@pytest.mark.parametrize("seed", SEEDS)
def test_who_is_one_customer_is_found_where_it_can_be_known(seed: int) -> None:
    found = planted.identity(seed, 500)
    assert found["precision"] >= 0.99
    assert found["recall of knowable"] >= 0.99
    assert found["recall"] <= found["recall of oracle"] < 1  # what nobody can know is there
    assert found["telephone flagged"]
    assert found["flags without"] == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_the_hazard_of_the_files_is_found_again(seed: int) -> None:
    """`test_world` counts intervals over 20 seeds; here the tables on disk are read."""
    found = planted.hazard(seed, 1_000)
    assert found["intervals"] == 12
    assert found["intervals that hold"] >= 8  # fewer, at 95 % each: once in 30,000 worlds
    assert abs(found["AUC gap"]) <= 0.01


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_each_trouble_fails_its_own_check_alone(seed: int) -> None:
    assert planted.troubles(seed, 450) == {
        "fails, nothing planted": "",
        "fails, nothing planted, 1 % may be late": "",
        "fails, late_events": "",  # 2.5 % are late, 5 % may be
        "fails, late_events, 1 % may be late": "late_events",
        "fails, duplicates": "duplicates",
        "fails, clock_skew": "clock_skew",
        "fails, incidents": "volume (incident_notified)",
    }


def test_the_oracle_walks_along_keys_of_one_customer_alone() -> None:
    frame = pd.DataFrame(
        {
            "customer_id": ["c1", None, None, None, "c2", None, "c1"],
            "account": ["a1", "a1", None, None, None, None, None],
            "email": [None, None, None, None, None, None, None],
            "phone": [None, None, "centre", None, None, None, "centre"],
            "device": [None, "d1", "d1", "shared", "shared", "shared", None],
        }
    ).astype("string")
    true = pd.Series(["c1", "c1", "c1", "c1", "c2", "c2", "c1"], dtype=object)
    keys = pd.DataFrame(
        [("c1", "account", "a1", False), ("c1", "device", "d1", False)]
        + [(name, "device", "shared", True) for name in ("c1", "c2")],
        columns=["customer_id", "kind", "key", "shared"],
    )
    parts = planted.ties(frame, true, keys)
    assert len({parts[i] for i in (0, 1, 2, 6)}) == 1  # by account, device and customer_id
    assert len(set(parts)) == 4  # the rest is each for itself: the tablet of two customers tells nothing


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30))
def test_pairs_are_counted_as_one_by_one(labels: list[tuple[int, int]]) -> None:
    one, other = (np.array([label[i] for label in labels], dtype=int) for i in (0, 1))
    long = sum(labels[i] == labels[j] for i in range(len(labels)) for j in range(i))
    assert planted.pairs(one, other) == long
