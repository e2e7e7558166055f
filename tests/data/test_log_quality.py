"""Checks of a log: every planted fault is found by its own check, and a clean log passes all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxlab.data.log import LONGEST_CASE, read_log
from cxlab.data.log_quality import CHECKS, CLASSES, FEWEST, check_log
from cxlab.data.quality import Check, Quality, check
from cxlab.features.prefixes import MOST
from cxlab.params import DataParams

LEAKS = ("known_after", "leak_suspects", "late_timestamps")  # what a gate looks for


def clean(cases: int = 80, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(cases):
        when, team = pd.Timestamp("2025-01-01") + pd.Timedelta(hours=number), rng.choice(["red", "blue"])
        for event in ["open", *rng.choice(["ask", "wait", "work"], rng.integers(1, 7)), "close"]:
            when += pd.Timedelta(minutes=int(rng.integers(1, 500)))
            rows.append((f"c{number}", event, when, team, round(float(rng.normal()), 1)))
    return pd.DataFrame(rows, columns=["case", "event", "at", "team", "amount"])


def checked(frame: pd.DataFrame, folder: Path, **roles: Any) -> Quality:
    path = folder / "log.csv"
    frame.to_csv(path, index=False)
    told = {"case": "case", "event": "event", "time": "at", "ends": ("close",), **roles}
    return check_log(read_log(DataParams(path=str(path), **told)))


def answer(quality: Quality, code: str) -> Check:
    return next(item for item in quality.checks if item.code == code)


def test_a_clean_log_passes_everything(tmp_path: Path) -> None:
    found = checked(clean(), tmp_path, attributes=("team", "amount"))
    assert set(found.statuses.values()) == {"pass"}, found
    assert list(found.statuses) == list(CHECKS)
    assert not found.failed and found.n == len(clean())


def test_checks_of_a_log_are_those_of_a_table_that_is_one(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    clean().to_csv(path, index=False)
    table = read_log(DataParams(path=str(path), case="case", event="event", time="at"))
    assert check(table).frame().equals(check_log(table).frame())
    assert set(LEAKS) <= set(check(table).statuses)


def test_rows_that_were_left_out_are_counted(tmp_path: Path) -> None:
    frame = clean()
    frame.loc[3:8, "event"] = None
    found = answer(checked(frame, tmp_path), "left_out")
    assert (found.status, found.rows) == ("cannot_tell", 6) and "without event" in found.reason


def test_a_row_that_is_there_twice_fails(tmp_path: Path) -> None:
    frame = clean()
    found = answer(checked(pd.concat([frame, frame.iloc[5:9]]), tmp_path), "duplicate_rows")
    assert (found.status, found.rows) == ("fail", 4)


@pytest.mark.parametrize(
    ("share", "order", "status"), [(0.02, None, "pass"), (0.5, None, "cannot_tell"), (0.5, "n", "pass")]
)
def test_equal_times_need_an_order(tmp_path: Path, share: float, order: str | None, status: str) -> None:
    frame = clean().assign(n=lambda it: np.arange(len(it)))
    tied = np.flatnonzero((frame["case"] == frame["case"].shift()) & (np.arange(len(frame)) % 50 < 50 * share))
    for row in tied:
        frame.loc[row, "at"] = frame.loc[row - 1, "at"]
    found = answer(checked(frame, tmp_path, order=order), "equal_times")
    assert (found.status, found.rows) == (status, len(tied))


def test_a_clock_that_runs_backwards_is_seen(tmp_path: Path) -> None:
    frame = clean().assign(n=lambda it: np.arange(len(it)))
    back = frame.index[(frame["case"] == frame["case"].shift()) & (frame["event"] == "close")]
    frame.loc[back, "at"] -= pd.Timedelta(days=30)
    found = answer(checked(frame, tmp_path, order="n"), "clock")
    assert (found.status, found.rows) == ("cannot_tell", len(back))
    assert answer(checked(clean(), tmp_path), "clock").rows == 0


def test_cases_of_one_event_are_counted(tmp_path: Path) -> None:
    frame = clean()
    whole = answer(checked(frame, tmp_path), "short_cases")
    assert whole.status == "pass" and whole.rows == 0
    one = frame.groupby("case").head(1)
    found = answer(checked(pd.concat([one, frame[frame["case"].isin(["c0", "c1"])].iloc[1:]]), tmp_path), "short_cases")
    assert found.status == "cannot_tell" and found.rows >= 78


def test_rare_and_too_many_events(tmp_path: Path) -> None:
    frame = clean()
    frame.loc[10:13, "event"] = "once in a while"
    found = answer(checked(frame, tmp_path), "rare_events")
    assert found.rows == 4 and "once in a while" in found.reason and str(FEWEST) in found.reason
    many = clean()
    many["event"] = [f"step {row}" for row in range(len(many))]
    found = answer(checked(many, tmp_path, ends=()), "many_events")
    assert found.status == "fail" and found.rows == len(many) - CLASSES
    assert answer(checked(many, tmp_path, ends=()), "rare_events").status == "cannot_tell"
    assert CLASSES == MOST  # as many as a model tells apart


@pytest.mark.parametrize(
    ("values", "said"), [("x", "always the same"), (None, "no value at all"), ("some", "missing in 9")]
)
def test_attributes_that_say_nothing(tmp_path: Path, values: str | None, said: str) -> None:
    frame = clean().assign(note=values)
    if values == "some":
        frame["note"] = [str(row % 3) if row % 40 == 0 else None for row in range(len(frame))]
    found = answer(checked(frame, tmp_path, attributes=("team", "note")), "constant_columns")
    assert found.status == "fail" and said in found.reason and "'team'" not in found.reason


def test_an_attribute_that_names_its_rows(tmp_path: Path) -> None:
    frame = clean().assign(row_id=lambda it: [f"r{row}" for row in range(len(it))])
    found = answer(checked(frame, tmp_path, attributes=("team", "row_id")), "identifiers")
    assert found.status == "fail" and "row_id" in found.reason


def test_what_stays_in_a_case_proves_nothing(tmp_path: Path) -> None:
    found = answer(checked(clean(), tmp_path, attributes=("team", "amount")), "case_attributes")
    assert found.status == "pass" and "team" in found.reason and "amount" not in found.reason
    assert "proves nothing" in found.reason


def test_an_attribute_that_is_known_only_afterwards(tmp_path: Path) -> None:
    declared = checked(clean(), tmp_path, attributes=("team",), known_after=("team",))
    assert answer(declared, "known_after").status == "fail"
    aside = checked(clean(), tmp_path, attributes=("amount",), known_after=("team",))
    assert answer(aside, "known_after").status == "pass" and "team" in answer(aside, "known_after").reason


def test_an_attribute_that_tells_what_comes_next_is_suspect(tmp_path: Path) -> None:
    frame = clean()
    frame["plan"] = frame.groupby("case")["event"].shift(-1).fillna("nothing")
    found = answer(checked(frame, tmp_path, attributes=("team", "plan")), "leak_suspects")
    assert found.status == "cannot_tell" and "'plan'" in found.reason and "'team'" not in found.reason
    cleared = checked(frame, tmp_path, attributes=("team", "plan"), known_before=("plan",))
    assert answer(cleared, "leak_suspects").status == "pass"
    few = checked(clean(8), tmp_path, attributes=("team",))
    assert answer(few, "leak_suspects").status == "cannot_tell"


def test_times_after_their_event(tmp_path: Path) -> None:
    frame = clean()
    frame["closed_at"] = frame.groupby("case")["at"].transform("max")
    later = int((frame["closed_at"] > frame["at"]).sum())
    unused = answer(checked(frame, tmp_path), "late_timestamps")
    assert (unused.status, unused.rows) == ("cannot_tell", later) and "closed_at" in unused.reason
    used = answer(checked(frame, tmp_path, attributes=("closed_at",)), "late_timestamps")
    assert used.status == "fail"
    assert answer(checked(frame, tmp_path, known_after=("closed_at",)), "late_timestamps").status == "pass"


def test_cases_that_are_open(tmp_path: Path) -> None:
    frame = clean()
    still = answer(
        checked(frame[~((frame["event"] == "close") & frame["case"].isin(["c1", "c2"]))], tmp_path), "open_cases"
    )
    assert (still.status, still.rows) == ("pass", 2)
    unsaid = answer(checked(frame, tmp_path, ends=()), "open_cases")
    assert unsaid.status == "cannot_tell" and "data.ends" in unsaid.reason


def test_a_case_that_was_cut(tmp_path: Path) -> None:
    when = pd.Timestamp("2025-01-01") + pd.to_timedelta(np.arange(LONGEST_CASE + 5), unit="min")
    long = pd.DataFrame({"case": "long", "event": "tick", "at": when, "team": "red", "amount": 1.0})
    quality = checked(pd.concat([clean(), long]), tmp_path)
    assert answer(quality, "cut_cases").status == "cannot_tell"
    assert answer(quality, "left_out").rows == 5


def test_a_role_that_has_no_column(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    clean().to_csv(path, index=False)
    table = read_log(DataParams(path=str(path), case="case", event="event", time="at"))
    object.__setattr__(table, "roles", table.roles.model_copy(update={"attributes": ("teams",)}))
    assert answer(check_log(table), "missing_columns").status == "fail"


def test_a_public_log(mirror: Path) -> None:
    path = mirror / "incident_log" / "incident_event_log.csv.gz"
    if not path.exists():
        pytest.skip("the mirror holds no incident_log")
    roles = {"case": "number", "event": "incident_state", "time": "sys_updated_at", "order": "sys_mod_count"}
    found = check_log(read_log(DataParams(path=str(path), attributes=("priority", "category"), **roles)))
    assert not found.failed
    assert answer(found, "clock").rows == 5 and answer(found, "equal_times").rows == 14_118
