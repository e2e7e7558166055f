"""A CSV read row by row, in bounded memory: each row with its line, and what can't be read told instead of guessed.

    with open_csv(path) as stream:
        for line, text, fields in stream.rows: ...

No value's meaning depends on its neighbours, as it does where a whole column is read at once; what training reads as
missing is missing here.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import inspect
import io
import itertools
import os
import re
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxlab.data.files import GZIP, UTF16, sniffed_decimal, sniffed_separator
from cxlab.data.schema import number_of, text_of
from cxlab.errors import DataError, ParamsError

NULLS = {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"}
NULLS |= {"NA", "NULL", "NaN", "None", "n/a", "nan", "null"}  # what pandas 2 reads as missing
_ODD = re.compile("[\0\udc00-\udcff]")  # NUL, and bytes that an encoding does not know
Row = tuple[int, str, tuple[str, ...] | None]  # its line, text, and fields, if they can be told
LOST = "cxlab.lost"  # how to decode so that no byte is lost: an error handler, `_kept`
HEAD = 1 << 20  # bytes that tell the dialect of a file too long to be held
LONGEST = 1 << 22  # characters of a row after which an open quote counts as never closed


def sniffed_encoding(start: bytes) -> str:
    """UTF-16 by its mark, else UTF-8 unless most of what is not ASCII is not valid there."""
    if start.startswith(UTF16):
        return "utf-16"
    beyond = re.findall("[^\0-\x7f]", codecs.getincrementaldecoder("utf-8")(LOST).decode(start))
    if 2 * sum("\udc00" <= each <= "\udcff" for each in beyond) <= len(beyond):
        return "utf-8"
    try:
        start.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


def _kept(error: UnicodeError) -> tuple[str, int]:
    """Bytes that the encoding does not know become characters that no text has, U+DC00 to U+DCFF."""
    assert isinstance(error, UnicodeDecodeError)
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(LOST, _kept)


def legible(text: str) -> str:
    """Text with NUL, and with bytes that its encoding does not know, written out.

    Examples:
        >>> print(legible(b"caf\\xe9".decode("utf-8", LOST)))
        caf\\xe9
    """
    if text.isascii() and "\0" not in text:
        return text
    return _ODD.sub(lambda byte: f"\\x{ord(byte[0]) & 0xFF:02x}", text)


def records(lines: Iterator[str], separator: str) -> Iterator[Row]:
    """Rows of a CSV's lines.

    Blank lines are no rows, as in pandas. Fields are None where a quote never closes; such a row is its first line
    alone, and reading goes on after it.
    """
    blanks = " \t\r\n".replace(separator, "")
    number, again, taken = 0, list[str](), list[str]()  # `again`: lines to be read once more, the next one last

    def more() -> Generator[str, None, None]:
        held = 0
        while held < LONGEST and (following := again.pop() if again else next(lines, "")):
            taken.append(following)
            held += len(following)
            yield following

    while line := again.pop() if again else next(lines, ""):
        number += 1
        if '"' not in line:
            if line.strip(blanks):
                yield number, line, tuple(line.rstrip("\r\n").split(separator))
            continue
        taken.clear()
        rest = more()
        fields = None
        with contextlib.suppress(csv.Error):  # a field beyond csv.field_size_limit()
            fields = next(csv.reader(itertools.chain([line], rest), delimiter=separator, skipinitialspace=True))
        if fields is None or inspect.getgeneratorstate(rest) == inspect.GEN_CLOSED:  # asked for more than there was
            yield number, line, None
            again.extend(reversed(taken))
        else:
            yield number, line + "".join(taken), tuple(fields)
            number += len(taken)


@dataclass(frozen=True)
class Stream:
    """A CSV being read: its dialect, the text it begins with, its rows as `records` gives them, and the share read."""

    separator: str
    decimal: str
    encoding: str
    start: str
    rows: Iterator[Row]
    share: Callable[[], float]

    def wrong(self, text: str, fields: tuple[str, ...] | None, width: int) -> str | None:
        """Why a row is none of so many fields."""
        if fields is None:
            return "A quote is opened and never closed. Close or remove it."
        if len(fields) != width:
            return f"{len(fields)} fields, must be {width} as in the header. Mend the row."
        if (text.isascii() and "\0" not in text) or not (odd := _ODD.search(text)):
            return None
        if odd[0] == "\0":
            return "A NUL character, must be text. Remove it."
        return f"Byte {ord(odd[0]) & 0xFF:#04x}, must be {self.encoding}. Mend it, or name the file's encoding."


@contextlib.contextmanager
def open_csv(path: Path, separator: str | None, decimal: str | None, encoding: str | None) -> Iterator[Stream]:
    """A CSV (plain or gzipped) to be read row by row; the head of the file tells its dialect where none is given.

    Raises:
        DataError: It is cut off, or can't be read; while rows are read, too.
        ParamsError: What is given is no separator, decimal mark or encoding.
    """
    if separator is not None and (len(separator) != 1 or separator in '"\r\n'):
        raise ParamsError(f"separator == {separator!r}, must be one character, such as ',' or ';'.")
    if decimal not in (None, ".", ","):
        raise ParamsError(f"decimal == {decimal!r}, must be '.' or ','.")
    try:
        "".encode(encoding or "utf-8")
    except (LookupError, ValueError):
        raise ParamsError(f"encoding == {encoding!r} is no encoding; utf-8 and latin-1 are common ones.") from None
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    with path.open("rb") as raw:
        size, packed = os.fstat(raw.fileno()).st_size, raw.peek(2)[:2] == GZIP
        content: Any = gzip.GzipFile(fileobj=raw) if packed else raw
        try:
            begin = content.read(HEAD)
            content.seek(0)
            codec = encoding or sniffed_encoding(begin)
            start = codecs.getincrementaldecoder(codec)("replace").decode(begin).removeprefix("\ufeff")
            sep = separator or sniffed_separator(start)
            with io.TextIOWrapper(content, codec, LOST, newline="") as text:
                rows = records(itertools.chain([text.readline().removeprefix("\ufeff")], text), sep)
                mark = decimal or sniffed_decimal(start, sep)
                yield Stream(sep, mark, codec, start, rows, lambda: raw.tell() / size)
        except (EOFError, OSError, zlib.error) as error:
            kind = "a gzip file that is cut off or damaged" if packed else "no file that can be read"
            raise DataError(f"{path.name} is {kind}: {error}. Fetch it again.") from None


def numbers(texts: Sequence[str], decimal: str = ".") -> pd.Series:
    """A CSV's fields as floats, each by itself; what is neither missing nor a number stays text.

    Examples:
        >>> numbers(["1.5", "NA", ""]).tolist(), numbers(["2,5", "few"], decimal=",").tolist()
        ([1.5, nan, nan], [2.5, "few where ',' is the decimal mark"])
    """
    plain = texts if decimal == "." else [text.replace(".", "?").replace(",", ".") for text in texts]
    try:
        found = np.array(list(map(float, plain)))
        if not np.isnan(found).any() and "_" not in "".join(plain):
            return pd.Series(found)
    except ValueError:
        pass  # one of them is missing, or no number
    read = {text: _number(text.strip(), mended, decimal) for text, mended in zip(texts, plain, strict=True)}
    values = [read[text] for text in texts]
    return pd.Series(values, dtype=object if str in set(map(type, values)) else float)


def _number(trimmed: str, plain: str, decimal: str) -> float | str:
    if trimmed in NULLS or not np.isnan(number := number_of(plain)):
        return float("nan") if trimmed in NULLS else number
    # As text a point would pass for the mark later on.
    return trimmed if decimal == "." else f"{trimmed} where {decimal!r} is the decimal mark"


def levels(texts: Sequence[str], known: Sequence[str]) -> pd.Series:
    """A CSV's fields as trimmed texts, None where missing; 1.0 is read as 1 where only 1 is known, as training would.

    Examples:
        >>> levels([" a ", "1.0", "n/a"], known=["1", "a"]).tolist()
        ['a', '1', None]
    """
    read, familiar = dict[str, str | None](), frozenset(known)
    for text in set(texts):
        trimmed = text.strip()
        same = trimmed if trimmed in familiar else text_of(number_of(trimmed))
        read[text] = None if trimmed in NULLS else same if same in familiar else trimmed
    return pd.Series([read[text] for text in texts], dtype=object)
