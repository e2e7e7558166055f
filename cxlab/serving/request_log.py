"""What a server answered, as a table that `cxlab drift` reads: one row a scored row.

Rows are appended whole, in one write, before they are answered, so every decision that left the server is here. What a
customer said is not kept: of words their number alone.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import stat
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cxlab.data.schema import Column, number_of, text_of
from cxlab.errors import ParamsError
from cxlab.features.terms import words_of
from cxlab.places import hold
from cxlab.release.folder import Answered, AnyBundle
from cxlab.release.sequence_scorer import SequenceBundle

TAIL = 1 << 23  # bytes in which the last line break of a log is looked for


class RequestLog:
    """A CSV file that is only ever appended to, by one server at a time.

    Args:
        path: The file; made, for its owner alone, if it is not there.
        bundle: The model whose requests are logged.
        ids: Whether the customers' identifiers are logged.
    Raises:
        ParamsError: The file cannot be written, holds something else, or another server writes to it.
    """

    def __init__(self, path: Path, bundle: AnyBundle, *, ids: bool = False) -> None:
        if isinstance(bundle, SequenceBundle):
            raise ParamsError("A log holds a line a row, and of events there is one answer a case. Leave the log out.")
        self.path, self.ids = path, ids
        self._columns = bundle.schema.columns
        names = [f"{c.name}_words" if c.kind == "text" else c.name for c in self._columns]
        self._version = str(bundle.manifest["version"])
        self._lock = threading.Lock()
        if path.resolve().is_relative_to(bundle.folder.resolve()):
            raise ParamsError(f"The log {path} would lie in the bundle, which must not change. Name a file elsewhere.")
        answers = [f"cxlab_{name}" for name in bundle.outputs]
        header = ["cxlab_time", "cxlab_version", *answers, *(["cxlab_id"] if ids else [])]
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0), 0o600)
            try:
                self._begin(_lines([[*header, *names]]))
            except BaseException:
                os.close(self._file)
                raise
        except OSError as error:
            raise ParamsError(f"The log {path} cannot be written: {error.strerror}. Name another file.") from None

    def _begin(self, header: bytes) -> None:
        """The header where it is missing; what a machine that died left half written is cut off."""
        found = os.fstat(self._file)
        if not stat.S_ISREG(found.st_mode):
            raise ParamsError(f"The log {self.path} is no plain file. Name another.")
        if not hold(self._file):
            raise ParamsError(f"The log {self.path} is written by another server. Name another file.")
        begins = os.pread(self._file, len(header), 0)
        if header.startswith(begins) and found.st_size < len(header):
            os.ftruncate(self._file, 0)
            self._append(header)
        elif begins != header:
            raise ParamsError(f"The log {self.path} has other columns than this server's. Name another file.")
        else:
            start = max(0, found.st_size - TAIL)
            tail = os.pread(self._file, TAIL, start)
            os.ftruncate(self._file, start + tail.rfind(b"\n") + 1)

    def write(self, rows: Sequence[Mapping[str, Any]], answers: Answered) -> None:
        """Appends what was scored.

        Raises:
            OSError: It could not be written; nothing of it is in the file.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        columns = [values.tolist() for values in answers.columns().values()]
        ids: Sequence[Any] = answers.ids or [None] * len(rows)
        lines = []
        for row, name, *told in zip(rows, ids, *columns, strict=True):
            values = [_written(row[column.name], column) for column in self._columns]
            lines.append([now, self._version, *told, *([name] if self.ids else []), *values])
        if lines:
            with self._lock:
                self._append(_lines(lines))

    def _append(self, content: bytes) -> None:
        written = os.write(self._file, content)
        if written < len(content):  # the disk is full: a part must not stay
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        os.close(self._file)


def _written(value: Any, column: Column) -> Any:
    """A value as given, but so that it reads back as the model read it; of words how many they are."""
    if column.kind == "text":
        return len(words_of(text_of(value) or ""))
    if column.kind == "number" and isinstance(value, str | bool):
        return number_of(value)
    return str(value).lower() if isinstance(value, bool) else value


def _lines(rows: Sequence[Sequence[Any]]) -> bytes:
    held = io.StringIO()
    # This line end makes the writer quote both of its characters within a value.
    csv.writer(held, lineterminator="\r\n").writerows(rows)
    return held.getvalue().encode()
