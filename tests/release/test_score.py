"""A file scores as its rows do, however it is cut; what cannot be read is said; what stands at the output is whole."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxlab.data.files import read_frame
from cxlab.data.rows import LONGEST, NULLS
from cxlab.errors import CxlabError, DataError, ParamsError
from cxlab.places import this_process
from cxlab.release import score
from cxlab.release.score import Scored, score_file
from cxlab.release.scorer import Bundle, load_bundle

HEADER = "customer_id,calls,noise,plan,region"
GOOD = "c1,1,0.1,pro,south"


@pytest.fixture(scope="module")
def bundle(exported: Path) -> Bundle:
    return load_bundle(exported)


Run = Callable[..., tuple[pd.DataFrame, pd.DataFrame | None]]


@pytest.fixture
def run(bundle: Bundle, tmp_path: Path) -> Run:
    """Scores a CSV's text: the output and the side file, read as texts."""

    def scored(text: str | bytes, **options: Any) -> tuple[pd.DataFrame, pd.DataFrame | None]:
        (tmp_path / "in.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        found = score_file(bundle, tmp_path / "in.csv", tmp_path / "out.csv", **options)
        out, side = (
            pd.read_csv(path, dtype=str, keep_default_na=False) if path else None for path in (found.out, found.side)
        )
        assert out is not None
        assert len(out) == found.rows
        assert len(side) == found.bad if side is not None else found.bad == 0
        assert not list(tmp_path.glob(".*"))
        return out, side

    return scored


def expected(bundle: Bundle, frame: pd.DataFrame, reasons: int = 0) -> pd.DataFrame:
    found = bundle.score(frame, reasons=reasons).frame()
    return found.assign(id=found["id"].astype(str))


def read(path: Path) -> pd.DataFrame:
    """An output in either format, in one form."""
    if path.suffix == ".csv":
        frame = pd.read_csv(path, dtype={"id": str}, keep_default_na=False, float_precision="round_trip")
        return frame.assign(score=pd.to_numeric(frame["score"].replace("", None)))
    frame = pd.read_parquet(path)
    told = [name for name in frame if name.startswith(("reason", "decision"))]
    return frame.assign(id=frame["id"].astype(str), **{name: frame[name].fillna("") for name in told})


WORDS = st.one_of(st.sampled_from(["basic", "plus", "pro"]), st.text(string.ascii_letters + 'é,;"\n\t ', min_size=1))
FRAMES = st.lists(
    st.fixed_dictionaries(
        {
            "calls": st.one_of(st.none(), st.integers(-9, 99)),
            "noise": st.one_of(st.none(), st.floats(-1e30, 1e30)),
            "plan": st.one_of(st.none(), WORDS.map(lambda text: f"w{text}w"), st.sampled_from(["basic", "pro"])),
            "region": st.sampled_from(["north", "south", "éast"]),
            "note": st.text('ab"\n, '),
        }
    ),
    min_size=1,
    max_size=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=FRAMES, chunk=st.integers(1, 5))
def test_a_file_scores_as_its_frame_does(bundle: Bundle, tmp_path: Path, rows: list[dict], chunk: int) -> None:
    frame = pd.DataFrame(rows).assign(customer_id=[f"c{i}" for i in range(len(rows))])
    frame.to_csv(tmp_path / "in.csv", index=False)
    frame.to_parquet(tmp_path / "in.parquet", index=False)
    given = dict(zip(("separator", "encoding"), (",", "utf-8"), strict=True))
    asread = expected(bundle, read_frame(tmp_path / "in.csv", **given)[0], 2)
    for source in ("in.csv", "in.parquet"):
        for out in ("out.csv", "out.parquet"):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(score, "CHUNK", chunk)
                found = score_file(bundle, tmp_path / source, tmp_path / out, reasons=2, **given)
            assert (found.rows, found.bad) == (len(rows), 0)
            pd.testing.assert_frame_equal(read(tmp_path / out), asread, rtol=TINY, check_dtype=False)


def test_scores_depend_on_no_neighbour(
    bundle: Bundle, tmp_path: Path, customers: Callable[..., pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last digit: neither on the order of rows, nor on where chunks end, nor on threads."""
    frame = customers(350, seed=5)
    frame.to_csv(tmp_path / "in.csv", index=False)
    score_file(bundle, tmp_path / "in.csv", tmp_path / "plain.csv", reasons=3)
    plain = read(tmp_path / "plain.csv")
    pd.testing.assert_frame_equal(plain, expected(bundle, frame, 3), rtol=TINY)
    order = np.random.default_rng(0).permutation(len(frame))
    frame.iloc[order].to_csv(tmp_path / "in.csv", index=False)
    for chunk, threads in ((7, 2), (100, 1), (20_000, 2)):
        monkeypatch.setattr(score, "CHUNK", chunk)
        monkeypatch.setattr(score, "THREADS", threads)
        score_file(bundle, tmp_path / "in.csv", tmp_path / "out.csv", reasons=3)
        shuffled = plain.iloc[order].reset_index(drop=True)
        pd.testing.assert_frame_equal(read(tmp_path / "out.csv"), shuffled, check_exact=True)


@given(text=st.text(string.printable + "é\0", max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_every_line_but_blank_ones_has_a_row(bundle: Bundle, tmp_path: Path, text: str) -> None:
    """Without quotes a row is a line: none is lost, and the good row after them is read."""
    body = text.replace('"', "'").replace("\r", "").splitlines() or [""]
    body = [line for each in body for line in each.split("\n")]
    (tmp_path / "in.csv").write_bytes("\n".join([HEADER, *body, GOOD]).encode())
    found = score_file(bundle, tmp_path / "in.csv", tmp_path / "out.csv", separator=",", encoding="utf-8")
    assert found.rows == 1 + sum(bool(line.strip(" \t")) for line in body)
    last = read(tmp_path / "out.csv").iloc[-1]
    assert last["id"] == "c1"
    assert last["score"] == pytest.approx(bundle.score(PLAIN).score[0], rel=TINY)


TINY = 1e-12  # what a processor may differ by between a batch's middle and its end
PLAIN = pd.DataFrame([{"calls": 1, "noise": 0.1, "plan": "pro", "region": "south"}])


def test_missing_texts_are_those_of_pandas() -> None:
    from pandas._libs.parsers import STR_NA_VALUES

    assert NULLS == STR_NA_VALUES


@pytest.mark.parametrize("text", [*sorted(NULLS), " ", " NA "])
def test_what_training_read_as_missing_is_missing(bundle: Bundle, run: Run, text: str) -> None:
    out, side = run(f"{HEADER}\na,{text},{text},{text},{text}\n")
    nothing = pd.DataFrame([dict.fromkeys(bundle.schema.names)], dtype=object)
    assert side is None
    assert float(out["score"][0]) == pytest.approx(bundle.score(nothing).score[0], rel=TINY)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("b,2,0.1,pro", "4 fields, must be 5 as in the header. Mend the row."),
        ("b,2,0.1,pro,south,", "6 fields, must be 5 as in the header. Mend the row."),
        ("b,many,0.1,pro,south", "calls == 'many', must be a number."),
        ("b,1_000,0.1,pro,south", "calls == '1_000', must be a number."),
        ("b,NAN,0.1,pro,south", "calls == 'NAN', must be a number."),
        ("b,1,1e300,pro,south", "noise == 1e+300, must be between -3.4e+38 and 3.4e+38."),
        ("b,1,-inf,pro,south", "noise == -inf, must be between -3.4e+38 and 3.4e+38."),
        ("b,1,1,p\0ro,south", "A NUL character, must be text. Remove it."),
        ('b,1,1,"pro,south', "A quote is opened and never closed. Close or remove it."),
    ],
)
def test_a_row_that_cannot_be_read_keeps_its_place(bundle: Bundle, run: Run, row: str, reason: str) -> None:
    out, side = run(f"{HEADER}\n{GOOD}\n{row}\n{GOOD}\n", reasons=2)
    assert side is not None
    assert side.to_numpy().tolist() == [["3", reason, row.replace("\0", "\\x00")]]
    first, none, last = out["score"]
    assert first == last == repr(float(first)) and none == ""
    assert float(first) == pytest.approx(bundle.score(PLAIN).score[0], rel=TINY)
    assert out["decision"][1] == out["reason_1"][1] == out["reason_2"][1] == ""
    structure = "fields" in reason or "quote" in reason  # then no field's place is known
    assert out["id"].tolist() == ["c1", "" if structure else "b", "c1"]


def test_lines_are_those_on_which_rows_begin(run: Run) -> None:
    out, side = run(f'note,{HEADER}\r\n"two\r\nlines",{GOOD}\r\n\r\n"a ""b""\r\n\r\nc",x,many,0,pro,south\r\nshort\r\n')
    assert side is not None
    assert side["line"].tolist() == ["5", "8"]
    assert side["row"].tolist() == ['"a ""b""\r\n\r\nc",x,many,0,pro,south', "short"]
    assert out["id"].tolist() == ["c1", "x", ""]


def test_reading_goes_on_after_a_quote_that_never_closes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    out, side = run(f'{HEADER}\n"a,1,1,pro,south\n{GOOD}\n"b,2\n{GOOD}\n{GOOD}')
    assert side is not None
    assert side["line"].tolist() == ["2"]  # the second quote closes the first, and the field count tells
    assert side["reason"][0].startswith("2 fields")
    assert out["id"].tolist() == ["", "c1", "c1"]
    monkeypatch.setattr("cxlab.data.rows.LONGEST", 200)
    out, side = run(f'{HEADER}\n"a,1,1,pro,south\n' + f"{GOOD}\n" * 50 + 'b,2"\n')
    assert side is not None
    assert side["line"].tolist() == ["2", "53"]
    assert (out["score"] != "").tolist() == [False, *[True] * 50, False]
    assert LONGEST > 131_072  # more than Python's own limit


def test_a_long_field_is_read(run: Run) -> None:
    out, side = run(f'note,{HEADER}\n"{"x" * 300_000}",{GOOD}\n{"y" * 300_000},{GOOD}\n')
    assert side is None and len(out) == 2


def test_a_byte_that_is_not_valid_is_named(run: Run) -> None:
    rows = "a,1,0,caf\xe9,south\nb,1,0,pro,south\n"
    out, side = run((f"{HEADER}\n" + rows).encode("latin-1"), encoding="utf-8")
    assert side is not None
    assert side.to_numpy().tolist() == [
        ["2", "Byte 0xe9, must be utf-8. Mend it, or name the file's encoding.", "a,1,0,caf\\xe9,south"]
    ]
    assert out["id"].tolist() == ["a", "b"]
    assert run((f"{HEADER}\n" + rows).encode("latin-1"))[1] is None  # sniffed
    late = f"{HEADER}\né,1,0,pro,south\nü,1,0,pro,south\n".encode() + b"\xe9,1,0,pro,south\n"
    out, side = run(late)  # most of it is UTF-8, so all of it is meant to be
    assert out["id"].tolist() == ["é", "ü", "\\xe9"] and side is not None and len(side) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_dialects_are_sniffed(bundle: Bundle, tmp_path: Path, encoding: str, separator: str, end: str) -> None:
    frame = pd.concat([PLAIN] * 3).assign(customer_id=["é", "ü", " ß "], noise=[0.25, 2.5, -1.75])
    mark = "," if separator == ";" else "."
    text = frame.to_csv(index=False, sep=separator, decimal=mark, lineterminator=end)
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(text.encode(encoding)))
    found = score_file(bundle, tmp_path / "in.csv.gz", tmp_path / "out.csv")
    assert found.bad == 0
    assert read(tmp_path / "out.csv")["id"].tolist() == ["é", "ü", "ß"]
    np.testing.assert_allclose(read(tmp_path / "out.csv")["score"], bundle.score(frame).score, rtol=TINY)


def test_a_point_is_no_decimal_comma(run: Run) -> None:
    head = HEADER.replace(",", ";")
    out, side = run(f"{head}\na;1;2,5;pro;south\na;1;3,5;pro;south\nb;1;1.500;pro;south\nc;1;;pro;south\n")
    assert side is not None
    assert side["reason"].tolist() == ["""noise == "1.500 where ',' is the decimal mark", must be a number."""]
    assert (out["score"] == "").tolist() == [False, False, True, False]
    assert run(f"{head}\na;1;2.5;pro;south\n", decimal=".", separator=";")[1] is None


def test_rows_are_counted_without_an_id_and_ids_are_left_as_they_are(run: Run, tmp_path: Path, bundle: Bundle) -> None:
    rows = "calls,noise,plan,region,churn\n" + "1,0.1,pro,south,yes\n" * 2 + "1,few,pro,south,\n"
    assert run(rows)[0]["id"].tolist() == ["1", "2", "3"]
    odd = ["007", "=1+1", "-x", "NA", "1.0", "+é"]
    out, _ = run(f"{HEADER}\n" + "".join(f"{each},1,0.1,pro,south\n" for each in odd))
    assert out["id"].tolist() == odd
    score_file(bundle, tmp_path / "in.csv", tmp_path / "out.parquet")
    assert pd.read_parquet(tmp_path / "out.parquet")["id"].tolist() == odd


def test_a_level_is_known_in_another_spelling_of_its_number(run: Run, bundle: Bundle) -> None:
    from cxlab.data.rows import levels

    assert levels(["1.0", "01", "2.0", "1"], ("1",)).tolist() == ["1", "1", "2.0", "1"]
    out, _ = run(f"{HEADER}\na,1,0.1, basic ,south\nb,1,0.1,BASIC,south\n")
    both = bundle.score(pd.concat([PLAIN.assign(plan=each) for each in ("basic", "BASIC")])).score
    np.testing.assert_allclose(out["score"].astype(float), both, rtol=TINY)


def test_parquet_keeps_the_type_of_ids_and_says_null(bundle: Bundle, tmp_path: Path) -> None:
    rows = pd.concat([PLAIN] * 3, ignore_index=True).assign(calls=["1", "many", " "], customer_id=[7, 8, 9])
    rows.astype({"plan": "category"}).to_parquet(tmp_path / "in.parquet", index=False)
    found = score_file(bundle, tmp_path / "in.parquet", tmp_path / "out.parquet", reasons=1)
    assert (found.rows, found.bad, found.side) == (3, 1, tmp_path / "out.bad.csv")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.types == [pa.int64(), pa.float64(), pa.string(), pa.string()]
    assert table["id"].to_pylist() == [7, 8, 9]
    assert [value is None for value in table["score"].to_pylist()] == [False, True, False]
    assert table["decision"].to_pylist()[1] is None
    assert found.side is not None
    assert pd.read_csv(found.side).to_numpy().tolist() == [[2, "calls == 'many', must be a number.", CUT]]


CUT = "many,0.1,pro,south,8"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_header_alone_gives_a_header(bundle: Bundle, tmp_path: Path, suffix: str) -> None:
    frame = PLAIN.head(0)
    frame.to_csv(tmp_path / "in.csv", index=False)
    frame.to_parquet(tmp_path / "in.parquet", index=False)
    for source in ("in.csv", "in.parquet"):
        out = tmp_path / f"out{suffix}"
        found = score_file(bundle, tmp_path / source, out, reasons=1)
        assert (found.rows, found.bad, found.side) == (0, 0, None)
        assert list(pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)) == [
            "id",
            "score",
            "decision",
            "reason_1",
        ]


def test_a_side_file_of_an_earlier_run_is_removed(run: Run, tmp_path: Path) -> None:
    assert run(f"{HEADER}\nshort\n")[1] is not None
    assert run(f"{HEADER}\n{GOOD}\n")[1] is None
    assert not (tmp_path / "out.bad.csv").exists()


WHOLE = f"{HEADER}\n{GOOD}\n".encode()
PARQUET = PLAIN.to_parquet()
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x10"
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "in.csv is empty"),
    "an empty gzip": (gzip.compress(b""), "no header"),
    "blank lines": (b"\n \n\n", "no header"),
    "a picture": (PNG, "is not a text file: it begins with"),
    "UTF-16 without its mark": (WHOLE.decode().encode("utf-16-le"), "is not a text file"),
    "half a gzip": (gzip.compress(WHOLE * 9)[:-9], "gzip file that is cut off"),
    "half a Parquet": (PARQUET[: len(PARQUET) // 2], "cut off or damaged Parquet"),
    "a damaged Parquet": (PARQUET[:40] + b"z" * 400 + PARQUET[440:], "cut off or damaged Parquet"),
    "a column is not there": (
        b"customer_id,cals,noise,plan,region\n",
        "'calls' is not in the data. Did you mean 'cals'",
    ),
    "a column is there twice": (b"calls,calls,noise,plan,region\n", "in.csv has 2 columns 'calls', must have one"),
    "the id is there twice": (f"customer_id,{HEADER}\n".encode(), "2 columns 'customer_id'"),
    "a header without end": (b'"calls,noise\n', "no header"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_table_leaves_nothing(bundle: Bundle, tmp_path: Path, case: str) -> None:
    content, says = REFUSED[case]
    (tmp_path / "in.csv").write_bytes(content)
    with pytest.raises(DataError, match=says):
        score_file(bundle, tmp_path / "in.csv", tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_gzip_cut_off_late_leaves_what_was_there(bundle: Bundle, tmp_path: Path) -> None:
    rows = "".join(f"c{i},1,{i / 7},pro,south\n" for i in range(60_000))
    (tmp_path / "in.csv").write_bytes(gzip.compress(f"{HEADER}\n{rows}".encode(), 1)[:-300])
    (tmp_path / "out.csv").write_text("earlier")
    with pytest.raises(DataError, match="cut off or damaged"):
        score_file(bundle, tmp_path / "in.csv", tmp_path / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]
    assert (tmp_path / "out.csv").read_text() == "earlier"


@pytest.mark.parametrize(
    ("source", "out", "says"),
    [
        ("inn.csv", "out.csv", "No file .*Did you mean 'in.csv'"),
        ("folder", "out.csv", "folder is a directory; give a CSV"),
        ("in.csv", "folder.csv", "folder.csv is a directory, must be a file"),
        ("in.csv", "in.csv", "in.csv is the input, and it would be replaced"),
        ("in.csv", "link.csv", "link.csv is the input"),
        ("x.bad.csv", "x.csv", "x.bad.csv is the input, and bad rows would replace it"),
        ("in.csv", "nowhere/out.csv", "No folder .*nowhere for out.csv. Make it first"),
        ("in.csv", f"{'x' * 250}.csv", "cannot be written: File name too long"),
    ],
)
def test_places_that_cannot_be(bundle: Bundle, tmp_path: Path, source: str, out: str, says: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "in.csv").write_bytes(WHOLE)
    (tmp_path / "x.bad.csv").write_bytes(WHOLE)
    (tmp_path / "link.csv").symlink_to("in.csv")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match=says):
        score_file(bundle, tmp_path / source, tmp_path / out)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "in.csv").read_bytes() == (tmp_path / "x.bad.csv").read_bytes() == WHOLE


def test_a_folder_that_may_not_be_written(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.csv").write_bytes(WHOLE)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(DataError, match=r"cannot be written\. Name an --out in another"):
        score_file(bundle, tmp_path / "in.csv", tmp_path / "out.csv")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"out": "x.txt"}, "must end in .csv or .parquet"),
        ({"out": "x.csv.gz"}, "must end in .csv or .parquet"),
        ({"reasons": -1}, "reasons == -1, must be >= 0"),
        ({"separator": ";;"}, "separator == ';;', must be one character"),
        ({"decimal": ";"}, "decimal == ';', must be"),
        ({"encoding": "utf-9"}, "encoding == 'utf-9' is no encoding"),
        ({"encoding": "base64"}, "is no encoding"),
    ],
)
def test_arguments_that_do_not_fit(bundle: Bundle, tmp_path: Path, options: dict[str, Any], says: str) -> None:
    (tmp_path / "in.csv").write_bytes(WHOLE)
    with pytest.raises(ParamsError, match=says):
        score_file(bundle, tmp_path / "in.csv", tmp_path / options.pop("out", "out.csv"), **options)
    assert issubclass(ParamsError, CxlabError)


def test_our_own_error_leaves_nothing(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.csv").write_bytes(WHOLE)
    monkeypatch.setattr(score, "_answer", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        score_file(bundle, tmp_path / "in.csv", tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_parts_of_the_dead_are_removed_and_of_the_living_kept(run: Run, tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = this_process().rpartition(":")[0]
    names = [f".out.csv.{host}:{dead.pid}.part", f".out.bad.csv.{host}:{dead.pid}.part"]
    living = tmp_path / f".out.csv.{host}:1.part"
    for each in [tmp_path / name for name in names] + [living]:
        each.touch()
    with pytest.raises(AssertionError):  # the fixture wants no hidden file, and the living one's stays
        run(WHOLE)
    assert list(tmp_path.glob(".*")) == [living]


KILLED = """
import os, signal, sys
from pathlib import Path
import cxlab.release.score as score
from cxlab.release.scorer import load_bundle

folder, moments = Path(sys.argv[2]), int(sys.argv[3])

def dies(call, at, after):
    count = 0
    def counted(*args, **kwargs):
        nonlocal count
        count += 1
        if count >= at and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        done = call(*args, **kwargs)
        if count >= at and after:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    return counted

for moment in range(moments):
    child = os.fork()
    if not child:
        score.CHUNK = 500
        if moment < 3:
            score._answer = dies(score._answer, moment + 1, True)
        elif moment < 7:
            Path.replace = dies(Path.replace, 1 + (moment - 3) // 2, moment % 2 == 0)
        else:
            signal.setitimer(signal.ITIMER_REAL, 0.03 * (moment - 6))
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        score.score_file(load_bundle(sys.argv[1]), folder / "in.csv", folder / f"out-{moment}.csv")
        os._exit(0)
    print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_the_output_is_whole_or_not_there(bundle: Bundle, exported: Path, tmp_path: Path) -> None:
    rows = "".join(f"c{i},1,{i / 7},pro,south\n" for i in range(3000))
    (tmp_path / "in.csv").write_text(f"{HEADER}\n{rows}short\n")
    whole = score_file(bundle, tmp_path / "in.csv", tmp_path / "whole.csv")
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(exported), str(tmp_path), "12"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    ends = done.stdout.split()
    assert ends[:7] == [str(int(signal.SIGKILL))] * 7
    there = [(tmp_path / f"out-{moment}.csv").exists() for moment in range(12)]
    assert there[:7] == [False] * 6 + [True]  # the last of these died after the last move
    assert all(there[moment] for moment in range(7, 12) if ends[moment] == "0")
    for moment in np.flatnonzero(there):
        assert (tmp_path / f"out-{moment}.csv").read_bytes() == whole.out.read_bytes()
        assert whole.side is not None
        assert (tmp_path / f"out-{moment}.bad.csv").read_bytes() == whole.side.read_bytes()
    for moment in range(12):  # a later run clears up
        score_file(bundle, tmp_path / "in.csv", tmp_path / f"out-{moment}.csv")
    assert not list(tmp_path.glob(".*"))


def test_progress_is_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXLAB_PROGRESS", str(tmp_path / "progress"))
    run(WHOLE)
    lines = (tmp_path / "progress").read_text().splitlines()
    assert '"Scoring in.csv"' in lines[0] and '"fraction": 1.0' in lines[-1]


def test_a_result_says_what_was_done(bundle: Bundle, tmp_path: Path) -> None:
    shutil.copy(Path(__file__), tmp_path / "unrelated.csv")
    (tmp_path / "in.csv").write_bytes(WHOLE)
    found = score_file(bundle, tmp_path / "in.csv", tmp_path / "out.csv")
    assert found == Scored(1, 0, 0, tmp_path / "out.csv", None, found.seconds)
    assert 0 < found.seconds < 60
