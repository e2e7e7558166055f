from __future__ import annotations

import fcntl
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.data.events import read_events
from cxlab.data.forget import Forgotten, forget, is_forgotten
from cxlab.data.identity import pseudonym, pseudonymise
from cxlab.data.taxonomy import load_taxonomy
from cxlab.errors import DataError, ParamsError, StoreError

KEY = b"k" * 32
TAXONOMY = load_taxonomy()


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path_factory.mktemp("home")
    (home / "notebooks").mkdir()
    (home / "key").write_bytes(KEY)
    monkeypatch.setenv("CXLAB_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("CXLAB_PSEUDONYM_KEY", str(home / "key"))
    return home


EVENTS = pd.DataFrame(
    {
        "event_id": ["e1", "e2", "e3", "e4", "e5", "e6"],
        "customer_id": ["c1", "c2", None, "c1", None, "c3"],
        "email": ["ada@x.org", "bob@x.org", "ada@x.org", None, None, None],
        "device": ["tablet", "tablet", "phone1", "phone1", "tablet", "d3"],
    }
).astype("string")


def erased(done: Forgotten) -> dict[str, tuple[int, int]]:
    return {Path(item.path).name: (item.erased, item.left) for item in done.files if item.status == "erased"}


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("by", ["pseudonym", "raw", "email"])
def test_a_customer_is_erased_by_any_name_from_raw_and_pseudonymised_files(
    tmp_path: Path, hidden: bool, by: str
) -> None:
    events = pseudonymise(EVENTS, key=KEY) if hidden else EVENTS
    events.to_parquet(tmp_path / "events.parquet")
    (tmp_path / "deep").mkdir()
    events[["customer_id"]].rename(columns={"customer_id": "id"}).assign(score=0.5).to_csv(
        tmp_path / "deep" / "scores.csv"
    )
    name, kind = {
        "pseudonym": (pseudonym("customer_id", "c1", KEY), "customer_id"),
        "raw": ("c1", "customer_id"),
        "email": (" ADA@x.org", "email"),
    }[by]
    done = forget(str(name), [tmp_path], kind=kind)
    # e3 names nobody but has her address and telephone; e5 has the tablet that Bob uses too.
    assert erased(done) == {"events.parquet": (3, 3), "scores.csv": (2, 4)}
    assert pd.read_parquet(tmp_path / "events.parquet")["event_id"].tolist() == ["e2", "e5", "e6"]
    assert (done.erased, done.searched, done.shared, done.failed) == (5, 2, 1, False)
    assert not list(tmp_path.rglob(".*"))
    before = everything(tmp_path)
    assert forget(str(name), [tmp_path], kind=kind).frame().empty
    assert everything(tmp_path) == before
    assert is_forgotten(EVENTS["customer_id"]).tolist() == [True, False, False, True, False, False]
    assert is_forgotten(events["email"], kind="email").tolist()[:3] == [True, False, True]
    assert "trained" in done._repr_html_()
    assert done.plot().get_xlabel() == "rows"


@given(
    st.lists(
        st.fixed_dictionaries(
            {name: st.none() | st.sampled_from([f"{name}{i}" for i in range(4)]) for name in EVENTS.columns[1:]}
        ),
        min_size=1,
        max_size=12,
    )
)
def test_no_row_of_the_customer_stays_and_none_of_others_goes(rows: list[dict[str, str | None]]) -> None:
    import tempfile

    frame = pd.DataFrame(rows).astype("string").assign(n=range(len(rows)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.parquet"
        frame.to_parquet(path)
        forget("customer_id0", [Path(folder)], key=KEY)
        left = pd.read_parquet(path)
    assert "customer_id0" not in set(left["customer_id"])
    others = frame[frame["customer_id"].notna() & (frame["customer_id"] != "customer_id0")]
    assert set(others["n"]) <= set(left["n"])


def test_a_cascade_through_a_shared_tablet_stops() -> None:
    """Nobody is named; what the tablet's other users left is theirs."""
    import tempfile

    frame = pd.DataFrame({"email": ["ada@x.org", "bob@x.org", "eve@x.org"], "device": ["tablet"] * 3})
    with tempfile.TemporaryDirectory() as folder:
        frame.to_csv(Path(folder) / "a.csv", index=False)
        assert forget("ada@x.org", [Path(folder)], kind="email").erased == 1


def test_other_rows_of_a_text_file_keep_every_byte(tmp_path: Path) -> None:
    rows = [
        b"cxlab_id;note\r\n",
        b'c1;"a\r\nb; ""c"""\r\n',
        b"c2;1,50\n",
        b'"c1";x\r\n',
        b'c3;"two\nlines"\r\n',
        b"c4;end",
    ]
    (tmp_path / "log.csv").write_bytes(b"\xef\xbb\xbf" + b"".join(rows))
    (tmp_path / "latin.csv").write_bytes(b"id,name\nc1,M\xfcller\nc2,J\xfcrgen\n")
    (tmp_path / "wide.csv").write_bytes("id,name\r\nc1,ü\r\nc2,ö\r\n".encode("utf-16"))
    (tmp_path / "small.csv.gz").write_bytes(gzip.compress(b"customerID,x\nc1,1\nc2,2\n"))
    (tmp_path / "log.csv").chmod(0o640)
    done = forget("c1", [tmp_path, tmp_path / "."])
    assert erased(done) == {"latin.csv": (1, 1), "log.csv": (2, 3), "small.csv.gz": (1, 1), "wide.csv": (1, 1)}
    kept = [rows[i] for i in (0, 2, 4, 5)]
    assert (tmp_path / "log.csv").read_bytes() == b"\xef\xbb\xbf" + b"".join(kept)
    assert (tmp_path / "log.csv").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "latin.csv").read_bytes() == b"id,name\nc2,J\xfcrgen\n"
    assert (tmp_path / "wide.csv").read_bytes().decode("utf-16") == "id,name\r\nc2,ö\r\n"
    assert gzip.decompress((tmp_path / "small.csv.gz").read_bytes()) == b"customerID,x\nc2,2\n"


def test_a_side_file_holds_rows_as_they_stood(tmp_path: Path) -> None:
    side = 'line,reason,row\r\n3,"tenure is no number","c1,abc,2"\r\n9,too short,"c2;c11"\r\n'
    (tmp_path / "scores.bad.csv").write_text(side, newline="")
    assert erased(forget("c1", [tmp_path])) == {"scores.bad.csv": (1, 1)}


def put_aside(folder: Path, rows: list[object]) -> Path:
    """A quarantine as `Events.write` leaves it."""
    raw = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    table = {"source": "log.csv", "line": range(1, len(raw) + 1), "reason": "unknown_event", "message": "", "raw": raw}
    path = folder / "quarantine.parquet"
    pd.DataFrame(table).to_parquet(path)
    return path


def lines(path: Path) -> list[int]:
    return pd.read_parquet(path)["line"].tolist()


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("by", ["raw", "pseudonym", "email"])
def test_rows_in_quarantine_are_erased_as_those_that_were_accepted(tmp_path: Path, hidden: bool, by: str) -> None:
    came = pd.DataFrame(
        {
            "event_id": ["e1", "e2", "e3", "e4", "e5", "e6"],
            "customer_id": ["c1", "c1", "c11", None, "c2", "xc1"],
            "email": ["ada@x.org", None, None, "ADA@x.org ", "bob@x.org", None],
            "occurred_at": "2026-03-01T12:00:00Z",
            "channel": "web",
            "event": ["page_view", "no such", "no such", "no such", "page_view", "no such"],
        }
    )
    events = read_events(came, taxonomy=TAXONOMY)
    accepted = pseudonymise(events.accepted, key=KEY) if hidden else events.accepted
    replace(events, accepted=accepted).write(tmp_path)
    assert lines(tmp_path / "quarantine.parquet") == [2, 3, 4, 6]
    name, kind = {
        "raw": ("c1", "customer_id"),
        "pseudonym": (str(pseudonym("customer_id", "c1", KEY)), "customer_id"),
        "email": ("ada@x.org", "email"),
    }[by]
    done = forget(name, [tmp_path], kind=kind)
    assert erased(done) == {"events.parquet": (1, 1), "quarantine.parquet": (2, 2)}
    assert lines(tmp_path / "quarantine.parquet") == [3, 6]
    assert b"ada@x.org" not in (tmp_path / "quarantine.parquet").read_bytes().lower()
    assert forget(name, [tmp_path], kind=kind).frame().empty


@pytest.mark.parametrize(
    ("row", "goes"),
    [
        ({"caller": "c1"}, True),
        ({"caller": " c1"}, True),
        ({"caller": "c11", "note": "abc1", "text": "c1x, c-1"}, False),
        ({"text": "17;c1;open"}, True),
        ({"text": '17,"c1",open'}, True),
        ({"text": '{"customer_id": "c1", "broken'}, True),
        ({"text": "17;c11;open"}, False),
        ({"properties": '{"by": {"who": ["c1"]}}'}, True),
        ({"properties": {"by": [{"who": "c1"}]}}, True),
        ({"properties": '{"by": "c11"}'}, False),
        ({"customer_id": "c2", "referred_by": "c1"}, True),  # it names both
        ({"id": "c1"}, True),
        ({"customer_id": ["c1"]}, True),
        ({"customer_id": None, "open": True}, False),
        ("no JSON, c1", True),
        ('["c1"]', True),
        ("null", False),
        ({}, False),
    ],
)
def test_an_identifier_is_found_whole_wherever_it_stands_in_a_row(tmp_path: Path, row: object, goes: bool) -> None:
    path = put_aside(tmp_path, [row, {"customer_id": "c3"}])
    assert forget("c1", [tmp_path]).erased == int(goes)
    assert lines(path) == [2] if goes else [1, 2]


def test_a_number_in_quarantine_is_a_customer_unless_the_row_names_another(tmp_path: Path) -> None:
    rows = [{"customer_id": 17}, {"caller": 17.0}, {"customer_id": "c2", "amount": "17"}, {"customer_id": 170}]
    path = put_aside(tmp_path, rows)
    assert forget("17", [tmp_path]).erased == 2
    assert lines(path) == [3, 4]


def test_keys_in_quarantine_lead_on_and_take_no_row_from_others(tmp_path: Path) -> None:
    """Only the row that was not accepted says that the address is hers; the tablet is Bob's too."""
    path = put_aside(
        tmp_path,
        [
            {"customer_id": "c1", "email": "ada@x.org", "device": "tablet"},
            {"customer_id": "c2", "device": "tablet"},
            {"caller": "ADA@X.ORG"},
            {"customer_id": "c2", "note": "write to ada@x.org"},
            {"device": "tablet"},
        ],
    )
    pd.DataFrame({"email": ["ada@x.org", "bob@x.org"], "n": [1, 2]}).to_csv(tmp_path / "scores.csv", index=False)
    done = forget("c1", [tmp_path])
    assert erased(done) == {"quarantine.parquet": (2, 3), "scores.csv": (1, 1)}
    assert lines(path) == [2, 4, 5]
    assert (done.keys, done.shared) == (1, 1)


def test_parquet_keeps_its_types_and_forgets_its_dictionary(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "customer_id": pd.Categorical(["needle-1", "c2", "needle-1", "c3"]),
            "at": pd.Series(pd.date_range("2026-01-01", periods=4, tz="UTC"), dtype="datetime64[us, UTC]"),
            "n": pd.array([1, None, 3, 4], dtype="Int64"),
            "items": [[1], [], [2], [3]],
        }
    )
    path = tmp_path / "features.parquet"
    frame.to_parquet(path, row_group_size=2, compression="zstd")
    schema = pq.read_schema(path)
    assert erased(forget("needle-1", [tmp_path])) == {"features.parquet": (2, 2)}
    assert pq.read_schema(path).equals(schema, check_metadata=True)
    left = pd.read_parquet(path)
    assert left["n"].tolist() == [pd.NA, 4]
    assert left["customer_id"].cat.categories.tolist() == ["c2", "c3"]
    assert b"needle-1" not in path.read_bytes()
    numbers = pa.table({"id": pa.array([1001, 1002, None]), "x": [1.0, 2.0, 3.0]})
    pq.write_table(numbers, path)
    assert erased(forget("1001", [tmp_path])) == {"features.parquet": (1, 2)}
    assert pq.read_table(path)["id"].to_pylist() == [1002, None]


def test_a_row_number_is_no_customer_where_customers_have_a_column(tmp_path: Path) -> None:
    pd.DataFrame({"id": [7, 8], "customer_id": [8, 9]}).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame({"case": [7, 8]}).to_csv(tmp_path / "b.csv", index=False)
    assert forget("7", [tmp_path]).erased == 0
    assert erased(forget("8", [tmp_path], columns=["case"])) == {"a.csv": (1, 1), "b.csv": (1, 1)}


def test_what_cannot_be_searched_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "broken.csv.gz").write_bytes(b"\x1f\x8b no")
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "notes.json").write_text("{}")
    (tmp_path / "good.csv").write_text("id\nc1\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "good.csv")
    done = forget("c1", [tmp_path])
    assert erased(done) == {"good.csv": (1, 0)}
    assert (tmp_path / "link.csv").read_text() == "id\n"
    status = done.frame().assign(path=[Path(item.path).name for item in done.files]).set_index("path")["status"]
    assert status.to_dict() == {
        "broken.csv.gz": "unreadable",
        "broken.parquet": "unreadable",
        "good.csv": "erased",
        "*.json": "not searched",
    }
    assert done.failed


def test_a_log_that_a_server_writes_is_left_and_named(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("cxlab_id\nc1\n")
    with path.open("a") as server:
        fcntl.flock(server, fcntl.LOCK_EX)
        done = forget("c1", [tmp_path])
    assert (done.failed, done.files[0].status, path.read_text()) == (True, "in use", "cxlab_id\nc1\n")
    assert forget("c1", [tmp_path]).erased == 1


def test_the_list_holds_hashes_alone(tmp_path: Path, own_home: Path) -> None:
    EVENTS.to_csv(tmp_path / "events.csv")
    forget("c1", [tmp_path])
    path = own_home / "mlruns" / "forgotten.txt"
    lines = [line for line in path.read_text().splitlines() if line]
    assert [len(line) for line in lines] == [129] * 3  # c1, her address, her telephone
    assert path.stat().st_mode & 0o777 == 0o600
    assert str(pseudonym("customer_id", "c1", KEY))[2:] not in path.read_text()
    assert is_forgotten(["c1", "c2", "", None]).tolist() == [True, False, False, False]
    assert is_forgotten(pd.Series(["c1"], index=[4]), key=b"l" * 32).to_dict() == {4: False}
    with path.open("a") as file:
        file.write("cut o")
    forget("c2", [tmp_path])
    assert is_forgotten(["c1", "c2"]).all()


def test_wrong_usage_is_named(tmp_path: Path, own_home: Path) -> None:
    with pytest.raises(DataError, match="No folder"):
        forget("c1", [tmp_path / "none"])
    with pytest.raises(ParamsError, match="Did you mean 'email'"):
        forget("c1", [tmp_path], kind="mail")
    with pytest.raises(ParamsError, match="Kind 'x'"):
        is_forgotten([], kind="x")
    with pytest.raises(ParamsError, match="names nobody"):
        forget("unknown", [tmp_path])
    assert not (own_home / "mlruns" / "forgotten.txt").exists()
    forget("c1", [tmp_path])
    with (own_home / "mlruns" / "forgotten.txt").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="Another process"):
            forget("c1", [tmp_path])


@pytest.mark.parametrize("files", [1, 4, 12])
def test_a_kill_leaves_each_file_whole_and_the_next_run_ends_it(tmp_path: Path, files: int) -> None:
    """The run is stopped for good once so many files are done; only the first says that the address is hers."""
    (tmp_path / "a.csv").write_text("customer_id,email\nc1,ada@x.org\nc2,bob@x.org\n")
    for number in range(20):
        lines = [f"{name},{i}\n" for i in range(500) for name in ("ada@x.org", "bob@x.org")]
        (tmp_path / f"b{number:02d}.csv").write_text("email,n\n" + "".join(lines))
    old = {path.name: path.read_text() for path in tmp_path.iterdir()}
    new = {name: "".join(line for line in text.splitlines(True) if "ada" not in line) for name, text in old.items()}
    code = f"""
import pathlib, time
from cxlab.data import forget as module
write, done = module._write_csv, []
def slow(path, part, drop):
    write(path, part, drop)
    done.append(path)
    if len(done) > {files}:
        print("now", flush=True)
        time.sleep(60)
module._write_csv = slow
module.forget("c1", [pathlib.Path({str(tmp_path)!r})])
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"now\n"
        time.sleep(0.05)
        os.kill(run.pid, signal.SIGKILL)
    now = {path.name: path.read_text() for path in tmp_path.glob("[!.]*")}
    assert all(now[name] in (old[name], new[name]) for name in old)
    assert sum(now[name] == new[name] for name in old) == files
    assert len(list(tmp_path.glob(".*"))) == 1
    forget("c1", [tmp_path])
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == new
