"""A planted cause is found first or nearly so; where there is none, none is told in 19 of 20."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxlab.data.world import simulate
from cxlab.decide.risk import assess, risk_params
from cxlab.decide.root_causes import RootCauses, root_causes

SEEDS = range(1000, 1024)  # fixed beforehand; the benchmark has others, and more of them
LIMIT = 4  # of 24 worlds without causes with any told: more at 5 % each once in 150 times


@cache
def worlds() -> ModuleType:
    folder = Path(__file__).parents[2] / "benchmarks"
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location("benchmark_risk", folder / "risk.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


def calls(n: int, seed: int = 0) -> pd.DataFrame:
    """Calls of three carriers, two sites and home offices with Wi-Fi; nothing raises the risk."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"carrier": rng.choice(["x", "y", "z"], n), "site": rng.choice(["north", "south"], n)})
    frame["network"] = np.where(rng.random(n) < np.where(frame["site"] == "south", 0.8, 0.2), "wifi", "lan")
    frame["one_way_audio"] = rng.random(n) < 0.03
    frame["cpu"] = rng.uniform(5, 100, n)
    return frame


def causes(frame: pd.DataFrame, *overrides: str) -> RootCauses:
    return root_causes(assess(frame, risk_params(overrides=["causes.times=[]", *overrides])), ["technology"])


def test_a_planted_cause_is_among_the_first_three() -> None:
    params = risk_params()
    places = np.array([worlds().place_of(seed, params) for seed in SEEDS])
    assert ((places > 0) & (places <= 3)).sum() >= 19  # of 24, at 90 % each: fewer once in 90 times


@pytest.mark.parametrize("alike", [False, True])
def test_without_a_cause_none_is_told(alike: bool) -> None:
    params = risk_params()
    told = 0
    for seed in SEEDS:
        frame, _ = worlds().calls_of(seed, 1500, planted=False)
        found = root_causes(assess(worlds().without_causes(frame, seed, alike=alike), params))
        assert min(found.tested.values()) > 100  # it is not by silence
        told += len(found.frame()) > 0
    assert told <= LIMIT


def test_a_correlate_is_not_told_beside_its_cause() -> None:
    """South is on Wi-Fi, and Wi-Fi loses voices: by itself south looks bad too, and is not told."""
    frame = calls(8000)
    frame["one_way_audio"] |= (frame["network"] == "wifi") & (np.random.default_rng(1).random(8000) < 0.1)
    south = frame.groupby("site")["one_way_audio"].mean()
    assert south["south"] > 1.5 * south["north"]
    found = causes(frame).frame()
    assert found["cause"].tolist() == ["network=wifi"]
    row = found.iloc[0]
    assert row["share"] == pytest.approx(frame.loc[frame["network"] == "wifi", "one_way_audio"].mean(), abs=0.06)
    assert row["low"] < row["difference"] < row["high_bound"]
    assert row["excess"] == pytest.approx(row["calls"] * row["difference"])


def test_a_pair_is_told_as_one_and_two_causes_as_two() -> None:
    rng, frame = np.random.default_rng(2), calls(8000)
    pair = (frame["carrier"] == "x") & (frame["site"] == "north")
    frame["one_way_audio"] |= pair & (rng.random(8000) < 0.2)
    assert causes(frame).frame()["cause"].tolist() == ["site=north & carrier=x"]
    assert causes(frame, "causes.pairs=false").frame()["cause"].iloc[0] in ("site=north", "carrier=x")
    frame["one_way_audio"] |= (frame["network"] == "wifi") & (rng.random(8000) < 0.15)
    found = causes(frame).frame()
    assert set(found["cause"]) == {"site=north & carrier=x", "network=wifi"}
    assert found["place"].tolist() == [1, 2]


def test_what_a_rule_asks_is_no_cause_of_itself() -> None:
    frame = calls(6000, 1)
    frame["queue"] = np.where(frame["cpu"] > 80, "busy", "calm")
    told = causes(frame, "causes.conditions=[network, cpu]")
    assert told.frame()["cause"].tolist() == ["queue=busy"]  # a score asks about the CPU, not about what goes with it


def test_numbers_are_cut_and_few_calls_are_not_asked() -> None:
    rng, frame = np.random.default_rng(3), calls(6000)
    frame["jitter"] = rng.exponential(10, 6000)
    frame["one_way_audio"] |= (frame["jitter"] > frame["jitter"].quantile(0.8)) & (rng.random(6000) < 0.1)
    found = causes(frame, "causes.conditions=[jitter]", "segments=[]")
    assert len(found.frame()) == 1
    assert found.frame()["cause"].iloc[0].startswith("jitter=")
    assert found.tested == {"technology": 5}
    assert causes(frame, "causes.conditions=[jitter]", "causes.least_calls=6000").tested == {"technology": 0}


@settings(max_examples=5)
@given(st.integers(0, 1000))
def test_order_of_rows_is_nothing(seed: int) -> None:
    frame = calls(3000)
    frame["one_way_audio"] |= (frame["carrier"] == "z") & (np.random.default_rng(4).random(3000) < 0.1)
    found = causes(frame).frame()
    turned = causes(frame.sample(frac=1, random_state=seed)).frame()
    assert len(found) == 1
    pd.testing.assert_frame_equal(found, turned)


def test_agents_that_differ_by_luck_are_no_site() -> None:
    """Two of eight agents are bad, both in the north: with the agents known that is too few to blame the site."""
    rng, frame = np.random.default_rng(5), calls(6000)
    frame["agent"] = rng.integers(0, 8, 6000)
    frame["site"] = np.where(frame["agent"] < 4, "north", "south")
    frame["one_way_audio"] |= (frame["agent"] < 2) & (rng.random(6000) < 0.1)
    options = ("segments=[site]", "causes.conditions=[]")
    assert causes(frame, *options, "cluster=null").frame()["cause"].tolist() == ["site=north"]
    found = causes(frame, *options)
    assert found.frame().empty
    assert found.alike["technology"] > 0.005
    assert "calls of one agent are alike" in found.note
    assert "No segment" in found.plot().texts[0].get_text()


def test_nothing_high_and_nothing_measured_are_no_errors() -> None:
    frame = calls(500).assign(one_way_audio=False, cpu=40.0)
    assert causes(frame).frame().empty
    assert root_causes(assess(frame, risk_params()), ["operations"]).frame().empty
    assert causes(frame[["one_way_audio", "cpu"]]).tested == {"technology": 0}


def test_a_world_on_disk_tells_its_cause(tmp_path: Path) -> None:
    world = simulate(tmp_path / "w", customers=2500, seed=5, plant=["bad_calls"])
    truth = world.truth("causes")
    found = root_causes(assess(world.read("calls"), risk_params()))
    wanted = f"site={truth['segments']['site']} & carrier={truth['segments']['carrier']}"
    assert wanted in found.frame().query("area == 'technology'")["cause"].head(3).tolist()
    assert wanted in repr(found)
    found.plot()
