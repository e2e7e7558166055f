"""Reading a file that somebody gives us: CSV in any common dialect, or Parquet.

Separator, decimal mark and encoding are sniffed or given. What was guessed, and what was mended on the way,
is said in notes. A file that is no table is refused with a message, never read halfway.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections import Counter
from pathlib import Path

import pandas as pd

from cxlab.errors import DataError, nearest

SEPARATORS = ",;\t|"
PARQUET, GZIP = b"PAR1", b"\x1f\x8b"  # how such files begin
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
_DECIMAL_POINT = re.compile(r"-?\d+\.\d+")
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_frame(
    path: str | Path, *, separator: str | None = None, decimal: str | None = None, encoding: str | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Reads a CSV (plain or gzipped) or Parquet file.

    Args:
        path: The file.
        separator: Column separator; sniffed among comma, semicolon, tab and bar if None.
        decimal: Decimal mark; sniffed if None.
        encoding: Text encoding; UTF-8, else UTF-16 by its mark, else Windows-1252 if None.
    Returns:
        The rows as published, text trimmed and blanks made missing; and notes on what was guessed or mended.
    Raises:
        DataError: It is not there, not a table, cut off, or has no rows.
    """
    path = Path(path)
    content = _bytes(path)
    if content[:4] == PARQUET:
        frame, notes = _parquet(path), list[str]()
    else:
        frame, notes = _csv(path.name, content, separator, decimal, encoding)
    if frame.empty:
        raise DataError(f"{path.name} has no rows, only {frame.shape[1]} columns. Is it the right file?")
    return _trimmed(frame, notes)


def head(path: Path, size: int = -1) -> bytes:
    """The first bytes of a file, all of them by default.

    Raises:
        DataError: It is not there, a directory, empty, or may not be read.
    """
    if path.is_dir():
        raise DataError(f"{path} is a directory; give a CSV or Parquet file in it.")
    try:
        with path.open("rb") as file:
            content = file.read(size)
    except FileNotFoundError:
        near = nearest(path.name, [item.name for item in path.parent.glob("*")] if path.parent.is_dir() else [])
        raise DataError(f"No file {path}.{near}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    if not content:
        raise DataError(f"{path} is empty. Fetch it again, or name another file.")
    return content


def _bytes(path: Path) -> bytes:
    content = head(path)
    if content[:2] == GZIP:
        try:
            return gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path.name} is a gzip file that is cut off or damaged: {error}.") from None
    return content


def _parquet(path: Path) -> pd.DataFrame:
    import pyarrow

    try:
        frame = pd.read_parquet(path)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        why = str(error).rstrip(".")
        raise DataError(f"{path.name} is cut off or damaged Parquet: {why}. Fetch it again.") from None
    return frame.reset_index(drop=all(name is None for name in frame.index.names))


def _csv(
    name: str, content: bytes, separator: str | None, decimal: str | None, encoding: str | None
) -> tuple[pd.DataFrame, list[str]]:
    notes: list[str] = []
    if separator is not None and len(separator) != 1:
        raise DataError(f"data.separator == {separator!r}, must be one character, such as ',' or ';'.")
    text, used = _decoded(name, content, encoding)
    if used not in ("utf-8-sig", encoding):
        notes.append(f"Read as {used}: the bytes are not UTF-8.")
    sep = separator or sniffed_separator(text)
    if sep != "," and separator is None:
        notes.append(f"Columns are separated by {sep!r}.")
    _refuse_cut_off(name, text, sep)
    mark = decimal or sniffed_decimal(text, sep)
    if mark == "," and decimal is None:
        notes.append("Decimal mark is a comma.")
    try:
        frame = pd.read_csv(
            io.StringIO(text),
            sep=sep,
            decimal=mark,
            skipinitialspace=True,
            low_memory=False,
            float_precision="round_trip",  # as Python and every server read them
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise DataError(f"{name} is no table that can be read: {str(error).strip()}.") from None
    if not isinstance(frame.index, pd.RangeIndex):  # pandas makes the surplus fields an index and shifts the names
        raise DataError(
            f"{name} has {frame.shape[1] + frame.index.nlevels} fields in a row, must have as many as the header, "
            f"{frame.shape[1]}. Name every column."
        )
    return frame, notes


def _decoded(name: str, content: bytes, encoding: str | None) -> tuple[str, str]:
    if encoding is None:
        marked = content.startswith(UTF16)
        if not marked and b"\x00" in content[:65536]:
            raise DataError(f"{name} is not a text file: it begins with {content[:8]!r}. Give a CSV or Parquet file.")
        tries = ["utf-16"] if marked else ["utf-8-sig", "cp1252", "latin-1"]
    else:
        tries = [encoding]
    for codec in tries:
        try:
            return content.decode(codec).removeprefix("\ufeff"), codec
        except UnicodeDecodeError:
            continue
        except LookupError:
            raise DataError(
                f"data.encoding == {encoding!r} is no encoding; utf-8 and latin-1 are common ones."
            ) from None
    raise DataError(f"{name} is not {tries[0]}; give its encoding as data.encoding.")


def sniffed_separator(text: str) -> str:
    """The one that cuts the header and the first lines into the same, largest number of fields."""
    lines = [line for line in text[:65536].splitlines()[:20] if line.strip()]

    def score(sep: str) -> tuple[float, int]:
        counts = [len(row) for row in csv.reader(lines, delimiter=sep)]
        agree = Counter(counts)[counts[0]] / len(counts) if counts else 0.0
        return (agree if counts and counts[0] > 1 else 0.0), counts[0] if counts else 0

    return max(SEPARATORS, key=score)


def sniffed_decimal(text: str, sep: str) -> str:
    """The mark that more fields look to have; a point where commas separate."""
    if sep == ",":
        return "."
    rows = list(csv.reader(text[:65536].splitlines()[1:200], delimiter=sep))
    fields = [field.strip() for row in rows for field in row]
    commas, points = (sum(bool(mark.fullmatch(field)) for field in fields) for mark in (_DECIMAL_COMMA, _DECIMAL_POINT))
    return "," if commas > points else "."


def _refuse_cut_off(name: str, text: str, sep: str) -> None:
    """pandas fills a short last row with missing values; a file that ends in mid-row is not whole."""
    try:
        lines = text.rstrip("\r\n").splitlines()
        width = len(next(csv.reader(lines[:1], delimiter=sep), []))
        last = next(csv.reader(lines[-1:], delimiter=sep), [])
        if len(lines) < 2 or len(last) == width:
            return
        # Quoted fields may hold line breaks: count for real.
        rows = [
            row for row in csv.reader(io.StringIO(text, newline=None), delimiter=sep) if row[1:] or "".join(row).strip()
        ]
    except csv.Error:
        return  # a field without end: pandas reads it, or says why not
    if len(rows[-1]) < width:
        raise DataError(
            f"{name} looks cut off: its last line ({len(lines):,}) has {len(rows[-1])} of {width} fields. "
            "Fetch it again, or remove that line."
        )


def _trimmed(frame: pd.DataFrame, notes: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Trims text, makes blanks missing, and reads as numbers what is numbers but for blanks."""
    frame = frame.copy()
    for name in frame.columns:
        column = frame[name]
        if not (pd.api.types.is_string_dtype(column) or column.dtype == object):
            continue
        values = [value.strip() if isinstance(value, str) else value for value in column]
        text = pd.Series(values, index=column.index, dtype=object)
        blank = pd.Series([isinstance(value, str) and not value for value in values], index=column.index)
        text = text.mask(blank)
        if blank.any() and pd.api.types.infer_dtype(text) == "string":
            numbers = pd.to_numeric(text, errors="coerce")
            text = numbers if numbers.notna().sum() == text.notna().sum() else text
        if blank.any():
            notes.append(f"{name}: {int(blank.sum()):,} blank values are missing values.")
        frame[name] = text
    return frame, notes


def write_whole(path: str | Path, content: bytes) -> Path:
    """Writes a file, whole or not at all.

    Args:
        path: Where; a file that is there is replaced.
        content: All of it.
    Returns:
        The path.
    Raises:
        DataError: It cannot be written.
    """
    target = Path(path)
    part = target.with_name(f"{target.name}.part")
    try:
        part.write_bytes(content)
        part.replace(target)
    except OSError as error:
        raise DataError(f"{target} cannot be written: {error.strerror}.") from None
    return target
