"""Another log against the one that a model learnt from: quiet where nothing moved, by name where something did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_sequence_report import simulated, trained

from cxlab.data.log import LogTable
from cxlab.errors import DataError
from cxlab.evidence.drift import DriftReport
from cxlab.evidence.sequence_drift import NEXT, log_drift
from cxlab.evidence.sequence_rows import matched, one_each
from cxlab.evidence.sequence_transitions import TransitionDrift
from cxlab.features.table import load_log
from cxlab.models.subject import Subject, subject_of


def test_rows_are_matched_by_their_number_of_events() -> None:
    """Of whole cases all are kept; of those that were cut, as many numbers of events are as frequent as there."""
    rng = np.random.default_rng(0)
    lengths = 1 + rng.geometric(0.2, 4000)
    case = np.repeat(np.arange(len(lengths)), lengths)
    seen = np.arange(len(case)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1
    whole = seen[one_each(case, 1)]
    assert len(matched(case, seen, whole, 2)) > 0.8 * len(lengths)
    early = seen <= 3
    like = seen[early][one_each(case[early], 1)]
    found = matched(case, seen, like, 2)
    assert len(np.unique(case[found])) == len(found) > 0.3 * len(lengths)
    shares = [np.bincount(part, minlength=4)[:4] / len(part) for part in (seen[found], like)]
    assert np.abs(shares[0] - shares[1]).max() < 0.04


@pytest.fixture(scope="module", params=[["close"], []], ids=["ends told", "ends not told"])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    data = {"attributes": ["team"], "ends": request.param}
    return subject_of(trained(simulated(600), tmp_path_factory.mktemp("desk"), data=data))


def against(subject: Subject, frame: pd.DataFrame, folder: Path) -> tuple[DriftReport, TransitionDrift]:
    frame.to_csv(folder / "now.csv", index=False)
    log = load_log(subject.params, folder / "now.csv")
    assert isinstance(log, LogTable)
    return log_drift(subject, log)


def test_cases_of_the_same_world_that_are_still_open_are_no_alarm(subject: Subject, tmp_path: Path) -> None:
    """In 6 of 6 worlds, though open cases are shorter than those that were learnt from."""
    for seed in range(11, 17):
        whole = simulated(260, seed)
        found, transitions = against(subject, whole[whole.groupby("case").cumcount() < 4], tmp_path)
        rows = found.frame().set_index("column")["verdict"]
        assert transitions.moved == ()
        assert set(rows.index) == {"event", "team", "(hours since the event before)", NEXT}
        assert rows.eq("stable").all(), rows


def test_what_moved_is_named(subject: Subject, tmp_path: Path) -> None:
    frame = simulated(260, 13, later={"ask": {"answer": 0.3, "remind": 0.7}}).query("case >= 'case-0174'")
    again = simulated(260, 14, later={"ask": {"answer": 0.3, "remind": 0.7}}).query("case >= 'case-0174'")
    frame = pd.concat([frame, again.assign(case="x" + again["case"])]).assign(team="white")
    found, transitions = against(subject, frame, tmp_path)
    assert transitions.moved[0].startswith("after 'ask' ")
    assert found.frame().set_index("column").loc["team", "verdict"] == "moved"
    assert found.moved


def test_a_log_of_which_the_model_does_not_speak(subject: Subject, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No case of the log has 2 events"):
        against(subject, simulated(50, 15).groupby("case").head(1), tmp_path)
