"""Files of events: rows in any order in, one row a case out, whatever the file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.errors import DataError
from cxlab.release import score, sequence_scorer
from cxlab.release.score import score_file
from cxlab.release.scorer import load_bundle
from cxlab.release.sequence_scorer import SequenceBundle

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def bundle(exported_cases: Path) -> SequenceBundle:
    found = load_bundle(exported_cases)
    assert isinstance(found, SequenceBundle)
    return found


def read(path: Path) -> pd.DataFrame:
    """Answers as a frame, what is empty as None."""
    found = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, keep_default_na=False)
    return found.astype(object).where(found.notna() & (found != ""), None)


def told(bundle: SequenceBundle, frame: pd.DataFrame, reasons: int = 0) -> pd.DataFrame:
    """What the bundle says of a frame, as a file has it."""
    scores = bundle.score(frame, reasons=reasons)
    found = pd.DataFrame(scores.plain())
    for place in range(reasons):
        found[f"reason_{place + 1}"] = [row[place] if place < len(row) else None for row in scores.reasons]
    return found.astype(object).where(found.notna(), None)


def alike(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert list(found) == list(expected)
    for name in expected:
        numbers = [value for value in expected[name] if value is not None]
        if numbers and all(isinstance(value, float) for value in numbers):
            pairs = (pd.to_numeric(frame[name], errors="coerce").to_numpy(float) for frame in (found, expected))
            np.testing.assert_allclose(*pairs, rtol=1e-6, err_msg=name)
        else:
            assert found[name].tolist() == expected[name].tolist(), name


@given(data=st.data(), kinds=st.tuples(st.sampled_from(["csv", "parquet"]), st.sampled_from(["csv", "parquet"])))
def test_a_file_is_answered_as_its_rows_are(
    bundle: SequenceBundle,
    open_cases: pd.DataFrame,
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    kinds: tuple[str, str],
) -> None:
    folder, reasons = tmp_path_factory.mktemp("files"), data.draw(st.integers(0, 2))
    rows = open_cases.iloc[data.draw(st.lists(st.integers(0, len(open_cases) - 1), min_size=1, unique=True))]
    source, out = folder / f"in.{kinds[0]}", folder / f"out.{kinds[1]}"
    if kinds[0] == "csv":
        rows.to_csv(source, index=False)
    else:
        rows.assign(at=pd.to_datetime(rows["at"])).to_parquet(source, index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score, "CHUNK", data.draw(st.sampled_from([3, 20, 1000])))
        patch.setattr(sequence_scorer, "ROWS", data.draw(st.sampled_from([1, 10, 1000])))
        found = score_file(bundle, source, out, reasons=reasons)
    assert (found.rows, found.bad, found.side) == (rows["ticket"].nunique(), 0, None)
    expected = told(bundle, rows, reasons)
    assert expected["case"].tolist() == list(dict.fromkeys(rows["ticket"]))
    alike(read(out), expected)


BAD = """ticket,step,at,team,channel,worker,agent,amount
b,Created,2026-01-31T10:00,north,web,w1,a1,1
a,Created,2026-01-31T09:00,,,,,2.5
,Created,2026-01-31T09:00,north,web,w1,a1,1
b,,2026-01-31T11:00,north,web,w1,a1,1
c,Created,soon,north,web,w1,a1,1
b,Assigned,2026-01-31T11:00,north,web,w1,a1,few
b,Assigned,2026-01-31T12:00
d,Created,,north,web,w1,a1,1
a,Resolved,2026-01-31T10:00,south,web,w1,a1,3
c,Created,2026-13-31T09:00,north,web,w1,a1,1
"""


def test_rows_that_cannot_be_read_are_told_and_cases_keep_their_row(bundle: SequenceBundle, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(BAD)
    found = score_file(bundle, tmp_path / "in.csv", tmp_path / "out.csv", reasons=1)
    assert (found.rows, found.bad) == (4, 7) and found.side is not None
    answers = read(tmp_path / "out.csv")
    assert answers["case"].tolist() == ["b", "a", "c", "d"]
    nothing = answers.iloc[2:, 1:]
    assert nothing.isna().to_numpy().all()
    good = pd.DataFrame(list(csv.DictReader(BAD.splitlines()))).iloc[[0, 1, 8]]
    alike(answers.head(2), told(bundle, good, 1))
    with found.side.open(newline="") as file:
        side = list(csv.DictReader(file))
    assert [(row["line"], row["reason"]) for row in side] == [
        ("4", "ticket is missing, must say whose event it is."),
        ("5", "step is missing, must name what happened."),
        ("6", "at == 'soon', must be a time such as 2026-01-31T10:00."),
        ("7", "amount == 'few', must be a number."),
        ("8", "3 fields, must be 8 as in the header. Mend the row."),
        ("9", "at is missing, must be a time such as 2026-01-31T10:00."),
        ("11", "at == '2026-13-31T09:00', must be a time such as 2026-01-31T10:00."),
    ]
    assert side[2]["row"] == "c,Created,soon,north,web,w1,a1,1"


def test_days_first_are_read_where_that_is_beyond_doubt(
    bundle: SequenceBundle, open_cases: pd.DataFrame, tmp_path: Path
) -> None:
    times = pd.to_datetime(open_cases["at"]).dt.floor("min")
    expected = told(bundle, open_cases.assign(at=times))
    open_cases.assign(at=(times + pd.Timedelta(days=12)).dt.strftime("%d.%m.%Y %H:%M")).to_csv(
        tmp_path / "in.csv", index=False
    )
    shifted = told(bundle, open_cases.assign(at=times + pd.Timedelta(days=12)))
    assert not shifted.equals(expected)  # another weekday
    assert score_file(bundle, tmp_path / "in.csv", tmp_path / "out.csv").bad == 0
    alike(read(tmp_path / "out.csv"), shifted)
    doubtful = open_cases[times.dt.day <= 12].assign(at=times.dt.strftime("%d.%m.%Y %H:%M"))
    doubtful.to_csv(tmp_path / "doubtful.csv", index=False)
    with pytest.raises(DataError, match="may be day or month first"):
        score_file(bundle, tmp_path / "doubtful.csv", tmp_path / "new.csv")
    assert not (tmp_path / "new.csv").exists()


def test_a_long_case_is_cut_and_it_is_said(
    cxlab: Call, exported_cases: Path, open_cases: pd.DataFrame, tmp_path: Path, monkeypatch: Any
) -> None:
    sizes, bundle = open_cases["ticket"].value_counts(), load_bundle(exported_cases)
    monkeypatch.setattr(sequence_scorer, "LONGEST", 3)
    open_cases.to_csv(tmp_path / "in.csv", index=False)
    found = score_file(bundle, tmp_path / "in.csv", tmp_path / "out.csv")
    assert found.cut == int((sizes - 3).clip(lower=0).sum()) > 0
    latest = open_cases.sort_values("at", kind="stable").groupby("ticket").tail(3).sort_index()
    expected = told(bundle, latest).set_index("case").loc[list(dict.fromkeys(open_cases["ticket"]))].reset_index()
    alike(read(tmp_path / "out.csv"), expected)
    status, out, _ = cxlab("score", exported_cases, tmp_path / "in.csv", "--out", tmp_path / "out.csv")
    assert status == 0 and f"{found.cut} events were not looked at: a case keeps its latest 3." in out
    status, out, _ = cxlab("score", exported_cases, tmp_path / "in.csv", "--out", tmp_path / "out.csv", "--json")
    assert json.loads(out)["cut"] == found.cut


def test_cases_keep_their_type(bundle: SequenceBundle, open_cases: pd.DataFrame, tmp_path: Path) -> None:
    numbered = open_cases.assign(ticket=open_cases["ticket"].str[2:].astype("int64"))
    numbered.to_parquet(tmp_path / "in.parquet")
    score_file(bundle, tmp_path / "in.parquet", tmp_path / "out.parquet")
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert found["case"].dtype == np.int64 and found["case"].tolist() == list(dict.fromkeys(numbered["ticket"]))


def test_a_header_alone_is_answered_by_one(bundle: SequenceBundle, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("ticket,step,at,team,channel,worker,agent,amount\n")
    assert score_file(bundle, tmp_path / "in.csv", tmp_path / "out.csv").rows == 0
    assert (tmp_path / "out.csv").read_text().strip() == ",".join(bundle.outputs)
    (tmp_path / "other.csv").write_text("ticket,step\na,Created\n")
    with pytest.raises(DataError, match="'at' is not in the data"):
        score_file(bundle, tmp_path / "other.csv", tmp_path / "new.csv")
    assert not (tmp_path / "new.csv").exists()


class Only:
    """Permits some cases and knows some."""

    def __init__(self, some: set[str], known: set[str]) -> None:
        self.some, self.all = some, known

    def permits(self, customers: pd.Series) -> np.ndarray:
        return customers.isin(self.some).to_numpy(bool)

    def known(self, customers: pd.Series) -> np.ndarray:
        return customers.isin(self.all).to_numpy(bool)


def test_cases_that_do_not_permit_are_nowhere(bundle: SequenceBundle, open_cases: pd.DataFrame, tmp_path: Path) -> None:
    names = open_cases["ticket"].unique()
    mixed = pd.concat([open_cases, open_cases.head(1).assign(ticket=names[-1], at="soon")])
    mixed.to_csv(tmp_path / "in.csv", index=False)
    found = score_file(bundle, tmp_path / "in.csv", tmp_path / "out.csv", permits=Only(set(names[:5]), set(names)))
    kept = open_cases[open_cases["ticket"].isin(names[:5])]
    assert (found.rows, found.left_out, found.bad) == (5, len(mixed) - len(kept), 0)
    alike(read(tmp_path / "out.csv"), told(bundle, kept))
    with pytest.raises(DataError, match="nobody can tell what they permit"):
        score_file(bundle, tmp_path / "in.csv", tmp_path / "new.csv", permits=Only(set(), set()))
    assert not (tmp_path / "new.csv").exists()


def test_events_of_one_time_stand_as_their_rows_do(bundle: SequenceBundle, tmp_path: Path) -> None:
    for place, steps in enumerate((("Created", "Escalated"), ("Escalated", "Created"))):
        lines = [f"a,{step},2026-01-31T10:00,north,web,w1,a1,1" for step in steps]
        (tmp_path / f"{place}.csv").write_text(
            "\n".join(["ticket,step,at,team,channel,worker,agent,amount", *lines]) + "\n"
        )
        score_file(bundle, tmp_path / f"{place}.csv", tmp_path / f"{place}.out.csv")
    one, two = (read(tmp_path / f"{place}.out.csv") for place in (0, 1))
    assert one["probability"][0] != two["probability"][0]


def test_the_command_says_how_many(cxlab: Call, exported_cases: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(BAD)
    status, out, said = cxlab(
        "score", exported_cases, tmp_path / "in.csv", "--out", tmp_path / "out.csv", "--reasons", "2"
    )
    assert status == 1 and "4 rows in" in out and "7 rows could not be read" in out, said
    names = (tmp_path / "out.csv").read_text().splitlines()[0].split(",")
    assert names[:3] == ["case", "next_event", "probability"] and names[-2:] == ["reason_1", "reason_2"]
    assert {"outcome", "next_hours", "rest_days_high", "within_90_days"} <= set(names)
