"""`cxlab run sequence` and `cxlab data check` on logs, good and bad, as somebody types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from logs import tickets

CORE = "search={candidates: [prior, markov], trials: 2}"


def said(folder: Path, frame: pd.DataFrame, **more: Any) -> list[str]:
    """What to type for a log."""
    frame.to_csv(folder / "log.csv", index=False)
    roles = {"path": str(folder / "log.csv"), "case": "case", "event": "event", "time": "time"} | more
    told = [f"data={json.dumps(roles)}", "events=null", "sequence.outcome=null", "journey={}", "split={}", CORE]
    return ["run", "sequence", *(word for item in told for word in ("--set", item))]


@pytest.mark.parametrize(
    ("change", "roles", "says"),
    [
        (lambda f: f[f["case"] == "c00000"], {}, "The log has 1 cases, must have at least 10"),
        (lambda f: f.groupby("case").head(1), {}, "No case of the test part has 2 events"),
        (lambda f: f.assign(time="2024-01-01"), {}, "All cases began at the same time"),
        (lambda f: f.assign(time=range(len(f))), {}, "'time' holds numbers such as 0; write times as"),
        (lambda f: f.assign(time="1/2/2024"), {}, "may be day or month first. Give its format as data.time_format"),
        (lambda f: f.assign(event=None), {}, "No row has a case, an event and a time"),
        (lambda f: f, {"event": "evnt"}, "Column 'evnt' is not in the data. Did you mean 'event'?"),
        (lambda f: f, {"time": None}, "data.time is missing"),
        (lambda f: f, {"attributes": ["late"], "known_after": ["late"]}, "Known only after the outcome"),
        (lambda f: f, {"ends": ["sloved"]}, "no event of 'event' is called so"),
        (lambda f: f, {"ignore": ["opne"]}, "Did you mean 'open'?"),
    ],
)
def test_a_log_that_cannot_be_learnt_from(
    change: Callable[..., pd.DataFrame], roles: dict[str, Any], says: str, tmp_path: Path, cxlab: Callable[..., Any]
) -> None:
    status, out, err = cxlab(*said(tmp_path, change(tickets(60)), **roles))
    assert (status, out) == (2, "")
    assert says in err
    assert "Traceback" not in err


def test_a_log_in_disorder_is_learnt_from(tmp_path: Path, cxlab: Callable[..., Any]) -> None:
    """Rows in any order, equal times, a clock that runs backwards, rows that lack something, 1,500 kinds of events."""
    frame = tickets(120).reset_index()
    rare = frame.index % 4 == 0
    frame.loc[rare, "event"] = [f"rare {number}" for number in frame.index[rare]]
    frame.loc[frame.index % 7 == 0, "time"] = frame["time"].iloc[0]
    frame.loc[3, "case"] = frame.loc[5, "time"] = None
    status, out, err = cxlab(*said(tmp_path, frame.sample(frac=1, random_state=0), order="index"), "--json")
    assert status == 0, err
    facts = json.loads(out)
    assert facts["task"] == "sequence"
    assert set(facts["metrics"]) >= {"accuracy", "top3", "log_loss"}
    assert facts["data"]["rows"] == len(frame) - 2
    assert {item["name"] for item in facts["candidates"]} >= {"prior", "markov"}


def test_another_log_is_held_against_what_was_learnt_from(tmp_path: Path, cxlab: Callable[..., Any]) -> None:
    assert cxlab(*said(tmp_path, tickets(120)), "--set", "name=desk", "--json")[0] == 0
    tickets(120, seed=5).to_csv(tmp_path / "same.csv", index=False)
    moved = tickets(120, seed=5)
    moved.loc[moved["event"] == moved["event"].mode()[0], "event"] = "a new kind"
    moved.to_csv(tmp_path / "moved.csv", index=False)
    status, out, err = cxlab("drift", "desk", "1", tmp_path / "same.csv", "--json")
    facts = json.loads(out)
    assert (status, facts["moved"], facts["transitions_moved"]) == (0, False, []), err
    assert {"(next event)", "event"} <= {row["column"] for row in facts["drift"]}
    status, out, _ = cxlab("drift", "desk", "1", tmp_path / "moved.csv", "--json")
    assert (status, json.loads(out)["moved"]) == (1, True)
    status, out, _ = cxlab("drift", "desk", "1", tmp_path / "same.csv")
    assert status == 0
    assert "What comes after each event" in out
    moved.drop(columns="event").to_csv(tmp_path / "less.csv", index=False)
    status, out, err = cxlab("drift", "desk", "1", tmp_path / "less.csv")
    assert (status, out) == (2, "")
    assert "Column 'event' is not in the data" in err


def test_the_quality_of_a_log(tmp_path: Path, cxlab: Callable[..., Any]) -> None:
    tickets(60).to_csv(tmp_path / "log.csv", index=False)
    params = tmp_path / "p.yaml"
    params.write_text("task: sequence\nname: a\ndata: {path: log.csv, case: case, event: event, time: time}\n")
    status, out, _ = cxlab("data", "check", tmp_path / "log.csv", "--params", params, "--json")
    assert status == 0
    assert {"known_after", "late_timestamps"} <= {check["code"] for check in json.loads(out)["checks"]}
