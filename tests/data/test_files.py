"""Laws: a table written in any common dialect is read back; what is no table is refused with a message."""

from __future__ import annotations

import gzip
import os
import string
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxlab.data.files import read_frame, write_whole
from cxlab.digest import sha256_of
from cxlab.errors import DataError

DIALECTS = st.tuples(
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from([".", ","]),
    st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16"]),
    st.sampled_from(["\n", "\r\n"]),
).filter(lambda dialect: dialect[0] != dialect[1])

WORDS = st.text(string.ascii_letters + "éüß ,;|\"\n'", min_size=1).map(lambda text: f"w{text}w")  # no word is a number


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    n = draw(st.integers(2, 8))
    return pd.DataFrame(
        {
            "näme": draw(st.lists(WORDS, min_size=n, max_size=n)),
            "amount": draw(st.lists(st.integers(-9999, 9999).map(lambda x: x + 0.25), min_size=n, max_size=n)),
            "count": draw(st.lists(st.integers(0, 99), min_size=n, max_size=n)),
        }
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(frames(), DIALECTS)
def test_a_table_told_its_dialect_is_read_as_written(tmp_path: Path, frame: pd.DataFrame, dialect: tuple) -> None:
    separator, decimal, encoding, end = dialect
    path = tmp_path / "t.csv"
    frame.to_csv(path, sep=separator, decimal=decimal, encoding=encoding, lineterminator=end, index=False)
    read, _ = read_frame(path, separator=separator, decimal=decimal, encoding=encoding)
    pd.testing.assert_frame_equal(read, frame)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(frames(), DIALECTS)
def test_a_dialect_is_guessed(tmp_path: Path, frame: pd.DataFrame, dialect: tuple) -> None:
    separator, decimal, encoding, end = dialect
    path = tmp_path / "t.csv"
    frame = frame.assign(**{"näme": [f"é{i}" for i in range(len(frame))]})
    frame.to_csv(path, sep=separator, decimal=decimal, encoding=encoding, lineterminator=end, index=False)
    read, notes = read_frame(path)
    pd.testing.assert_frame_equal(read, frame)
    assert any("separated" in note for note in notes) == (separator != ",")
    assert any("comma" in note for note in notes) == (decimal == ",")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(frames(), st.integers(1, 200))
def test_a_file_cut_inside_its_last_row_is_refused(tmp_path: Path, frame: pd.DataFrame, cut: int) -> None:
    frame = frame.assign(**{"näme": [f"é{i}" for i in range(len(frame))]})
    whole = frame.to_csv(index=False)
    last = whole.rstrip("\n").splitlines()[-1]
    path = tmp_path / "t.csv"
    path.write_text(whole[: len(whole) - 1 - len(last)] + last[: 1 + cut % last.rindex(",")].rstrip(","))
    with pytest.raises(DataError, match="cut off"):
        read_frame(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(frames())
def test_parquet_and_gzip_are_read_as_written(tmp_path: Path, frame: pd.DataFrame) -> None:
    frame.to_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(read_frame(tmp_path / "t.parquet")[0], frame)
    frame.to_csv(tmp_path / "t.csv.gz", index=False)
    pd.testing.assert_frame_equal(read_frame(tmp_path / "t.csv.gz")[0], frame)


PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x10"
REFUSED = {
    "empty": (b"", "is empty"),
    "only a header": (b"a,b\n", "no rows"),
    "blank": (b"  \n\n", "no table"),
    "a picture": (PNG, "not a text file"),
    "cut off in mid-row": (b"a,b,c\n1,2,3\n4,5", "cut off"),
    "cut off in a quote": (b'a,b,c\n1,2,3\n4,5,"he', "no table"),
    "cut off in a long quote": (b'a,b\n1,2\n3,"' + b"x" * 200_000, "no table"),
    "cut off, old line ends": (b"a,b\r1,2\r3", "cut off"),
    "a long row": (b"a,b\n1,2\n1,2,3\n", "no table"),
    "all rows longer than the header": (b"a,b\n1,2,3\n4,5,6\n", "3 fields in a row"),
    "half a gzip": (gzip.compress(b"a,b\n1,2\n")[:-6], "gzip"),
    "a damaged gzip": (gzip.compress(b"a,b\n1,2\n" * 1000)[:20] + b"z" * 30, "gzip"),
    "damaged Parquet": (b"PAR1abcPAR1", "damaged Parquet"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_no_table_is_refused(tmp_path: Path, case: str) -> None:
    content, message = REFUSED[case]
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_frame(tmp_path / "t.csv")


def test_a_parquet_file_cut_off_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"a": range(100)}).to_parquet(tmp_path / "t.parquet")
    content = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cut off or damaged"):
        read_frame(tmp_path / "t.parquet")


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "customers.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"No file .*Did you mean 'customers.csv'"):
        read_frame(tmp_path / "custmers.csv")
    with pytest.raises(DataError, match="No file"):
        read_frame(tmp_path / "nowhere" / "t.csv")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a directory"):
        read_frame(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n")
    (tmp_path / "t.csv").chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        read_frame(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"encoding": "utf-8"}, "not utf-8"),
        ({"encoding": "utf-9"}, "no encoding"),
        ({"separator": ";;"}, "must be one character"),
        ({"decimal": "..", "separator": ";"}, "no table"),
    ],
)
def test_a_wrong_dialect_is_refused(tmp_path: Path, given: dict, message: str) -> None:
    (tmp_path / "t.csv").write_bytes("a;b\né;2,5\n".encode("latin-1"))
    with pytest.raises(DataError, match=message):
        read_frame(tmp_path / "t.csv", **given)


def read_text(tmp_path: Path, text: str, encoding: str = "utf-8") -> tuple[pd.DataFrame, list[str]]:
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    return read_frame(tmp_path / "t.csv")


def test_latin_1_is_read_and_said(tmp_path: Path) -> None:
    frame, notes = read_text(tmp_path, "name;x\né;2,5\nü;3,25\n", "latin-1")
    assert frame["name"].tolist() == ["é", "ü"]
    assert frame["x"].tolist() == [2.5, 3.25]
    assert notes == [
        "Read as cp1252: the bytes are not UTF-8.",
        "Columns are separated by ';'.",
        "Decimal mark is a comma.",
    ]


def test_blank_numbers_are_missing_numbers(tmp_path: Path) -> None:
    frame, notes = read_text(tmp_path, 'id,total\na,10.5\nb," "\nc,\nd,3\n')
    assert frame["total"].isna().tolist() == [False, True, True, False]
    assert frame["total"].dtype == float
    assert notes == ["total: 1 blank values are missing values."]


def test_a_mark_of_utf_8_is_no_part_of_a_name(tmp_path: Path) -> None:
    read_text(tmp_path, "a,b\né,2\n", "utf-8-sig")
    for encoding in (None, "utf-8", "utf-8-sig"):
        assert list(read_frame(tmp_path / "t.csv", encoding=encoding)[0]) == ["a", "b"]


def test_a_decimal_point_is_kept_beside_texts_with_commas(tmp_path: Path) -> None:
    frame, _ = read_text(tmp_path, "a;b;c\n1.5;2.5;3,4\n1.5;3.5;x\n")
    assert frame["a"].tolist() == [1.5, 1.5]
    assert frame["c"].tolist() == ["3,4", "x"]


def test_a_quoted_line_break_at_the_end_is_no_cut(tmp_path: Path) -> None:
    frame, _ = read_text(tmp_path, 'a,b\n1,2\n3,"x\ny"\n')
    assert frame["b"].tolist() == ["2", "x\ny"]


def test_names_are_kept_as_published(tmp_path: Path) -> None:
    frame, _ = read_text(tmp_path, "Call  Failure,Subscription  Length\n1,2\n")
    assert list(frame) == ["Call  Failure", "Subscription  Length"]


def test_what_parquet_holds_beyond_text_and_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"list": [[1], [2, 3]], "kind": pd.Categorical(["a ", "b"]), "day": pd.to_datetime(["2026-01-01"] * 2)},
        index=pd.Index(["x", "y"], name="customer"),
    )
    frame.to_parquet(tmp_path / "t.parquet")
    read, _ = read_frame(tmp_path / "t.parquet")
    assert read["customer"].tolist() == ["x", "y"]
    assert read["kind"].tolist() == ["a", "b"]
    assert list(read["list"].iloc[1]) == [2, 3]


def test_the_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"abc")
    assert sha256_of(tmp_path / "t") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_is_written_whole_or_a_message_is_given(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a.txt", b"new")
    write_whole(path, b"newer")
    assert path.read_bytes() == b"newer"
    with pytest.raises(DataError, match=r"gone.a\.txt cannot be written: No such file"):
        write_whole(tmp_path / "gone" / "a.txt", b"")
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]
