"""Drift of what comes next: found where it was planted, by its event; else hardly ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_sequence_report import CHAIN, simulated, told

import cxlab
from cxlab.data.case_split import split_cases
from cxlab.data.log import LogTable
from cxlab.evidence.sequence_transitions import FEWEST, TransitionDrift, _compared, transition_drift
from cxlab.features.prefixes import prefix_schema
from cxlab.models.sequence import roles_of


def compared(frame: pd.DataFrame, folder: Path, **more: Any) -> TransitionDrift:
    params = told(frame, folder, **more)
    table = cxlab.load_table(params)
    assert isinstance(table, LogTable)
    split = split_cases(table, params.split, params.sequence)
    return transition_drift(table, prefix_schema(table.frame.iloc[split.train], roles_of(params.data)), split)


def test_what_moved_is_found_by_its_event(tmp_path: Path) -> None:
    """In 3 of 3 worlds; of the events that stayed as they were one may be called moved, as the rate allows."""
    others = 0
    for seed in range(3):
        found = compared(simulated(420, seed, later={"ask": {"answer": 0.6, "remind": 0.4}}), tmp_path)
        rows = found.frame()
        assert rows["event"][0] == "ask" and rows["verdict"][0] == "moved"
        assert found.moved[0].startswith("after 'ask' 'answer' went from ") or "'remind' went from " in found.moved[0]
        assert "ask" in found.plot().get_yticklabels()[0].get_text()
        others += len(found.moved) - 1
    assert others <= 1


def test_nothing_is_found_where_nothing_was_planted(tmp_path: Path) -> None:
    found = [compared(simulated(420, seed), tmp_path) for seed in range(100, 106)]
    assert sum(len(one.moved) for one in found) == 0
    assert all(one.compared >= 5 for one in found)


def test_the_test_holds_its_level_where_rows_of_a_case_are_alike() -> None:
    """A case repeats itself: of rows taken for independent a third would be called moved."""
    rng, p, naive = np.random.default_rng(0), [], []
    for _ in range(300):
        parts, cases = [], []
        for n in (120, 60):
            case = np.repeat(np.arange(n), rng.integers(1, 12, n))
            usual = rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])[case]
            parts.append(np.where(rng.random(len(case)) < 0.8, usual, rng.integers(0, 4, len(case))))
            cases.append(case)
        p.append(_compared(parts, cases)[1])
        naive.append(stats.chi2_contingency([np.bincount(part, minlength=4) for part in parts]).pvalue)
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.09
    assert np.mean(np.array(naive) < 0.05) > 0.3


def test_with_one_row_a_case_it_is_pearsons_test() -> None:
    rng = np.random.default_rng(1)
    parts = [rng.choice(3, n, p=[0.5, 0.3, 0.2]) for n in (4000, 2000)]
    statistic, p, size = _compared(parts, [np.arange(4000), np.arange(2000)])
    plain = stats.chi2_contingency([np.bincount(part) for part in parts])
    assert statistic == pytest.approx(plain.statistic, rel=0.05)
    assert p == pytest.approx(plain.pvalue, abs=0.02)
    assert size == pytest.approx(np.sqrt(plain.statistic / 6000))


def test_the_order_of_cases_and_of_events_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    parts, cases = [rng.choice(5, 300) for _ in range(2)], [rng.integers(0, 60, 300) for _ in range(2)]
    one = _compared(parts, cases)
    turned = [rng.permutation(300) for _ in range(2)]
    other = _compared(
        [4 - part[t] for part, t in zip(parts, turned, strict=True)], [c[t] for c, t in zip(cases, turned, strict=True)]
    )
    assert other == pytest.approx(one)


def test_shares_of_what_comes_next_add_up(tmp_path: Path) -> None:
    found = compared(simulated(420), tmp_path)
    sums = found.shares.groupby("event")[["train", "test"]].sum()
    assert np.allclose(sums, 1)
    check = found.shares[found.shares["event"] == "ask"].set_index("next")["train"]
    assert check["answer"] == pytest.approx(CHAIN["ask"]["answer"], abs=0.06)


def test_few_cases_cannot_tell(tmp_path: Path) -> None:
    found = compared(simulated(90), tmp_path)
    assert set(found.frame()["verdict"]) == {"cannot tell"} and found.compared == 0 and not found.moved
    assert f"must be at least {FEWEST}" in found.frame()["reason"][0]


def test_what_is_not_known_yet_is_left_out(tmp_path: Path) -> None:
    frame = simulated(420)
    whole = compared(frame, tmp_path, data={"ends": ["close"]})
    still = frame.groupby("case").head(5)  # many cases are open
    found = compared(still, tmp_path, data={"ends": ["close"]})
    assert "(end)" not in set(found.shares.loc[found.shares["event"] != "close", "next"])
    cut = compared(frame, tmp_path, data={"ends": ["close"]}, split={"cut": True})
    assert cut.censored > 0 and str(cut.censored) in cut.note and whole.censored == 0
    rows = [one.frame().set_index("event").loc["check", "n_train"] for one in (whole, cut)]
    assert rows[1] < rows[0]
