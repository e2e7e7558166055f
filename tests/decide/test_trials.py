"""Tables of decisions by their roles: split in time, and refused where actions were not given by lot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxlab.decide.average_effects import average_effects
from cxlab.decide.lot import require_lot
from cxlab.decide.trials import split_decisions, trial_of
from cxlab.errors import DataError, ParamsError
from cxlab.params.actions import ActionsParams, load_actions


def params(**trial: Any) -> ActionsParams:
    told = {"action": "action", "outcome": "stayed", "customer": "customer_id", "time": "at", **trial}
    tree = {"outcome": "stays", "worth": 100, "trial": told}
    call = {"title": "a call", "owner": "desk", "channel": "voice", "cost": 5}
    return ActionsParams.model_validate({**tree, "actions": {"call": call}})


def decisions(n: int = 600, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "customer_id": [f"c{i}" for i in rng.integers(0, n // 2, n)],
            "at": pd.Timestamp("2025-01-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 200, n), unit="D"),
            "action": rng.choice(["none", "call"], n),
            "stayed": rng.random(n) < 0.8,
            "tenure": rng.random(n),
        }
    )


def test_every_decision_before_and_the_first_of_each_customer_after() -> None:
    frame = decisions()
    past, now = split_decisions(frame, params(), "2025-04-01")
    border = pd.Timestamp("2025-04-01", tz="UTC")
    assert len(past) == (frame["at"] < border).sum()
    later = frame[frame["at"] >= border]
    assert set(now["customer_id"]) == set(later["customer_id"])
    assert now.set_index("customer_id")["at"].to_dict() == later.groupby("customer_id")["at"].min().to_dict()
    shuffled = split_decisions(frame.sample(frac=1, random_state=1), params(), "2025-04-01")[1]
    pd.testing.assert_series_equal(
        shuffled.set_index("customer_id")["at"].sort_index(), now.set_index("customer_id")["at"].sort_index()
    )


def test_what_is_no_role_is_a_feature_unless_dropped() -> None:
    frame = decisions().assign(noise=1)
    assert list(trial_of(frame, params()).features) == ["tenure", "noise"]
    assert list(trial_of(frame, params(drop=["noise"])).features) == ["tenure"]
    assert list(trial_of(frame, params(features=["noise"])).features) == ["noise"]


@pytest.mark.parametrize(
    ("frame", "since", "roles", "says"),
    [
        (decisions(), "2024-01-01", {}, "No decision lies before 2024-01-01"),
        (decisions(), "2026-01-01", {}, "No decision lies from 2026-01-01"),
        (decisions(), "soon", {}, "since == 'soon', must be a time"),
        (decisions(), "2025-04-01", {"time": "att"}, "Column 'att' is not in the data"),
        (decisions(), "2025-04-01", {"time": None}, "trial.time and trial.customer are needed"),
        (decisions().assign(at=None), "2025-04-01", {}, "600 rows have no 'at' that can be read"),
    ],
)
def test_what_cannot_be_split(frame: pd.DataFrame, since: str, roles: dict[str, Any], says: str) -> None:
    with pytest.raises((DataError, ParamsError), match=says):
        split_decisions(frame, params(**roles), since)


def test_our_own_file_has_a_trial_and_one_without_is_told() -> None:
    assert load_actions().trial is not None
    bare = params().model_copy(update={"trial": None})
    with pytest.raises(ParamsError, match="trial is missing"):
        trial_of(decisions(), bare)


def test_a_campaign_that_was_no_experiment_has_no_effects(mirror: Path) -> None:
    """Whom the bank called by cellular was no lot: the differences are not called effects."""
    path = mirror / "bank_marketing" / "bank-additional-full.csv"
    bank = pd.read_csv(path, sep=";").assign(stayed=lambda f: f["y"] == "yes", tenure=0).drop(columns=["y", "duration"])
    told = params(action="contact", control="telephone", customer=None, time=None, features=["age", "job", "month"])
    trial = trial_of(bank, told)
    for ask in (require_lot, average_effects):
        with pytest.raises(DataError, match="differences, not effects"):
            ask(trial)
