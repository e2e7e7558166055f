"""Erases a customer from the files that cxlab holds, and says from where.

    done = forget("c~3fa9...", [Path("features"), Path("logs")])    # a pseudonym; or "ada@x.org", kind="email"
    done.frame()           # a row a file: rows erased, or why it could not be read
    done.cannot            # what no file search can erase
    is_forgotten(events["customer_id"])    # before a re-import

A row is the customer's if an identifier in it is, raw or pseudonymised, in a column such as `customer_id`, `id` or
`email`. Keys on rows of this customer and of nobody else are the customer's too: rows known by them alone go as well.
A row in quarantine keeps what came in as JSON: any value in it may be the identifier, whole, under whatever name.
Each file is replaced whole or not at all; of what is erased only hashes stay, written before the first file changes.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cxlab.data.files import PARQUET, UTF16, sniffed_separator
from cxlab.data.identity import KINDS, pseudonym, secret_key
from cxlab.data.schema import text_of
from cxlab.data.taxonomy import KEYS
from cxlab.digest import sha256
from cxlab.display import PALETTE, Result, axes, row_height
from cxlab.errors import DataError, ParamsError, StoreError, unknown
from cxlab.places import hold, private_folder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOMBSTONES = "forgotten.txt"  # a line a key: the hash of the customer's pseudonym, and of the key's
IDS = ("customerid", "id", "cxlabid", "customer", "clientid", "userid")  # columns, as letters and digits alone
TABLES = (".csv", ".csv.gz", ".tsv", ".parquet")
SIDE = ["line", "reason", "row"]  # what `cxlab score` could not read, as it stood there
QUARANTINE = {"source", "line", "reason", "message", "raw"}  # what `Events.write` puts aside, `raw` as it came
BETWEEN = re.compile(r"[,;\t|]"), re.compile(r"[\s,;:|=\"'{}\[\]()<>\\]+")  # fields of a row's text, and words in them
NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
PART = ".forgetting"
CANNOT = (
    "Models that are trained already: they hold what they learnt, not the rows; train them again without the customer.",
    "Runs in MLflow: their tables name rows by number, not customers; executed notebooks may show single rows.",
    "Exported bundles: they hold aggregates, and golden rows drawn from the schema.",
    "Copies outside these folders, and backups.",
)


_Held = tuple[str, Any, bool]  # a kind, cells of one column, and whether any of them may be something else


@dataclass(frozen=True)
class Found:
    """One file: `status` is erased, in use, unreadable, or not searched."""

    path: str
    status: str
    erased: int = 0
    left: int = 0
    reason: str = ""


@dataclass(frozen=True, repr=False)
class Forgotten(Result):
    """From where a customer was erased.

    Attributes:
        files: Those that the customer was in, and those that could not be searched.
        searched: How many files were read.
        keys: How many more identifiers were found to be the customer's.
        shared: How many keys on its rows are on rows of others too: rows known by these alone stay. Resolve identities
            first, so that rows name their customer.
        cannot: What stays, in words.
    """

    files: tuple[Found, ...]
    searched: int
    keys: int
    shared: int
    cannot: tuple[str, ...] = CANNOT
    title: ClassVar[str] = "Forgotten"
    note: ClassVar[str] = "Not erased: " + " ".join(CANNOT)

    @property
    def erased(self) -> int:
        """Rows, of all files."""
        return sum(item.erased for item in self.files)

    @property
    def failed(self) -> bool:
        """Whether a table could not be searched: the customer may still be in it."""
        return any(item.status in ("unreadable", "in use") for item in self.files)

    def frame(self) -> pd.DataFrame:
        columns = ["path", "status", "erased", "left", "reason"]
        return pd.DataFrame([vars(item) for item in self.files], columns=columns)

    def plot(self) -> Axes:
        """Rows erased by file."""
        there = [item for item in self.files if item.erased]
        ax = axes(f"Rows erased from {self.searched:,} files", height=row_height(there))
        ax.barh(range(len(there)), [item.erased for item in there], color=PALETTE[0])
        ax.set_yticks(range(len(there)), [Path(item.path).name for item in there])
        ax.invert_yaxis()
        ax.set_xlabel("rows")
        return ax


def forget(
    customer: str,
    folders: Sequence[Path],
    *,
    key: bytes | None = None,
    kind: str = "customer_id",
    columns: Sequence[str] = (),
) -> Forgotten:
    """Erases a customer from the CSV and Parquet files under the folders. Doing it again finds nothing, or the rest.

    Args:
        customer: A pseudonym, or an identifier of that kind.
        folders: Searched with all that is in them.
        key: Of the pseudonyms; `secret_key()` if None.
        kind: What the identifier is: customer_id or a key.
        columns: More columns that hold customers' identifiers, by name.
    Raises:
        DataError: A folder is not there.
        ParamsError: The kind is not known, or the identifier names nobody.
    """
    if kind not in KINDS:
        raise ParamsError(unknown("Kind", kind, KINDS))
    for folder in folders:
        if not Path(folder).is_dir():
            raise DataError(f"No folder {folder}. Name folders that hold tables.")
    key = secret_key() if key is None else key
    target = _mark(kind, customer, key)
    if target is None:
        raise ParamsError(f"{customer!r} names nobody: it is empty or a placeholder. Give an identifier.")
    with _alone():
        mine = {target} | {mark for whose, mark in _tombstones() if whose == target}
        tables, others = _files(folders)
        views, files = dict[Path, _View](), list[Found]()
        for path in tables:
            try:
                views[path] = _view(path, key, columns)
            except Exception as error:  # noqa: BLE001 -- whatever a library says of a broken file, the file is named
                files.append(Found(str(path), "unreadable", reason=_line(error)))
        mine, shared = _closure(target, mine, views.values())
        _bury(target, mine)
        for path, view in views.items():
            drop = view.look(target, mine)[0]
            if drop.any():
                files.append(_erase(path, view, drop))
    files += [Found(f"*{suffix}", "not searched", left=n, reason=f"{n:,} such files") for suffix, n in others.items()]
    return Forgotten(tuple(files), len(views), len(mine) - 1, shared)


def is_forgotten(ids: Iterable[Any], *, kind: str = "customer_id", key: bytes | None = None) -> pd.Series:
    """Whether each identifier, raw or a pseudonym, is of somebody who was forgotten; indexed as `ids` if a Series.

    Raises:
        ParamsError: The kind is not known.
    """
    if kind not in KINDS:
        raise ParamsError(unknown("Kind", kind, KINDS))
    column = ids if isinstance(ids, pd.Series) else pd.Series(list(ids), dtype=object)
    buried = {mark for _, mark in _tombstones()}
    if not buried:
        return pd.Series(False, index=column.index)
    key = secret_key() if key is None else key
    codes, values = pd.factorize(column)
    found = np.array([*(_mark(kind, value, key) in buried for value in values), False])
    return pd.Series(found[codes], index=column.index)


def _mark(kind: str, value: Any, key: bytes) -> str | None:
    """What is kept of an identifier: the hash of its pseudonym, which nobody can guess without the key."""
    name = pseudonym(kind, value, key)
    return None if name is None else sha256(name.encode())


@dataclass(frozen=True)
class _Column:
    """A column's identifiers: each row's place among the marks, the last of which is None.

    Attributes:
        loose: It was not declared to hold identifiers: a cell may be one, of this kind, or anything else.
    """

    kind: str
    codes: np.ndarray
    marks: np.ndarray
    loose: bool = False

    def rows(self, wanted: Callable[[str | None], bool]) -> np.ndarray:
        return np.array([wanted(mark) for mark in self.marks], dtype=bool)[self.codes]


@dataclass(frozen=True)
class _View:
    """The identifiers of one file."""

    columns: list[_Column]
    rows: int
    state: tuple[int, int]

    def look(self, target: str, mine: set[str]) -> tuple[np.ndarray, set[str], set[str], set[str]]:
        """Rows of the customer, the customers and keys on them, and keys on rows that a stronger key gives to others.

        A key takes no row from somebody else, unless it is the one that was asked for.
        """
        drop, foreign = np.zeros(self.rows, dtype=bool), np.zeros(self.rows, dtype=bool)
        off = set[str]()
        declared = [column for column in self.columns if not column.loose]
        for kind in KINDS:
            columns = [column for column in declared if column.kind == kind]
            for column in columns:
                drop |= column.rows(lambda mark: mark == target) | (column.rows(lambda mark: mark in mine) & ~foreign)
                off |= set(column.marks[np.unique(column.codes[foreign])])
            for column in columns:
                foreign |= column.rows(lambda mark: mark is not None and mark not in mine)
        for column in self.columns:
            if column.loose:
                drop |= column.rows(lambda mark: mark == target) | (column.rows(lambda mark: mark in mine) & ~foreign)
        who, on = set[str](), set[str]()
        for column in declared:
            (who if column.kind == KINDS[0] else on).update(column.marks[np.unique(column.codes[drop])])
        return drop, who - {None}, on - {None}, off


def _closure(target: str, mine: set[str], views: Iterable[_View]) -> tuple[set[str], int]:
    """All that is the customer's, the one customer that a key asked for belongs to among it; and how many keys on
    the customer's rows are on rows of others too."""
    while True:
        looks = [view.look(target, mine) for view in views]
        who, on, off = (set[str]().union(*(look[i] for look in looks)) for i in (1, 2, 3))
        more = mine | (who if len(who) == 1 else set()) | (on - off)
        if more == mine:
            return mine, len(on - mine)
        mine = more


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _view(path: Path, key: bytes, columns: Sequence[str]) -> _View:
    state = _state(path)
    held, rows = _parquet_ids(path, columns) if _is_parquet(path) else _csv_ids(path, columns)
    found = []
    for kind, values, loose in held:
        codes, distinct = pd.factorize(pd.Series(values, dtype=object))
        marks = np.empty(len(distinct) + 1, dtype=object)
        marks[:-1] = [_mark(kind, value, key) for value in distinct]
        found.append(_Column(kind, codes, marks, loose))
    return _View(found, rows, state)


def _chosen(names: Sequence[str], columns: Sequence[str]) -> list[tuple[int, str]]:
    """Which columns hold identifiers, and of which kind; `id` alone may be a row's where customers have a column."""
    plain = [_plain(name) for name in names]
    ids = [i for i, name in enumerate(plain) if name in IDS or names[i] in columns]
    ids = [i for i in ids if plain[i] != "id" or names[i] in columns] or ids
    return [(i, "customer_id") for i in ids] + [(i, name) for i, name in enumerate(plain) if name in KEYS]


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == PARQUET or path.suffix == ".parquet"


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _parquet_ids(path: Path, columns: Sequence[str]) -> tuple[list[_Held], int]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if set(names) == QUARANTINE:
            return _raw_ids(file.read(columns=["raw"]).column("raw").to_pylist(), columns), file.metadata.num_rows
        chosen = _chosen(names, columns)
        table = file.read(columns=[names[i] for i, _ in chosen])
        return [(kind, table.column(names[i]).to_pylist(), False) for i, kind in chosen], file.metadata.num_rows


def _raw_ids(rows: Sequence[Any], columns: Sequence[str]) -> list[_Held]:
    """What rows in quarantine hold: identifiers under their names, and all else loose.

    `id` alone is loose, as it may be the event's. A mere number says nothing where the row names a customer.
    """
    declared: dict[tuple[str, str], list[Any]] = {}
    loose = list[list[Any]]()
    for place, row in enumerate(rows):
        told = _loaded(row)
        told, names = (told, list(told)) if isinstance(told, dict) else ({"": told}, [""])
        plain = [name for name in names if not isinstance(told[name], dict | list)]
        plain = [name for name in plain if _plain(name) != "id" or name in columns]
        ids = {plain[i]: kind for i, kind in _chosen(plain, columns)}
        for name, kind in ids.items():
            declared.setdefault((kind, name), [None] * len(rows))[place] = told[name]
        named = any(kind == KINDS[0] and text_of(told[name]) for name, kind in ids.items())
        cells = dict.fromkeys(text for name in names if name not in ids for text in _words(told[name]))
        loose.append([text for text in cells if not (named and NUMBER.fullmatch(text))])
    width = max(map(len, loose), default=0)
    cells_by_place = [[cells[i] if i < len(cells) else None for cells in loose] for i in range(width)]
    held: list[_Held] = [(kind, values, False) for (kind, _), values in declared.items()]
    return held + [(kind, cells, True) for cells in cells_by_place for kind in KINDS]


def _loaded(text: Any) -> Any:
    """What the JSON says, or the text itself where it is none."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return text


def _words(value: Any) -> Iterator[str]:
    """Each text that may be an identifier: in lists and objects, in JSON within text, fields and words of a text."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _words(item)
    elif value is not None and not isinstance(value, bool):
        text = str(value) if type(value) is int else text_of(value) or ""
        yield text
        if text[:1] in ("{", "[") and (inner := _loaded(text)) != text:
            yield from _words(inner)
        for between in BETWEEN:
            yield from (part.strip(" \"'") for part in between.split(text))


@contextmanager
def _text(path: Path, mode: str, codec: str) -> Iterator[IO[str]]:
    """A CSV file, plain or gzipped, line ends as they are."""
    with ExitStack() as stack:
        file: Any = stack.enter_context(path.open(f"{mode}b"))
        if path.name.removesuffix(PART).endswith(".gz"):
            file = stack.enter_context(gzip.GzipFile("", f"{mode}b", fileobj=file, mtime=0))
        yield stack.enter_context(io.TextIOWrapper(file, encoding=codec, newline=""))


def _codec(path: Path) -> str:
    """UTF-16 by its mark, UTF-8 if all of it is, else Latin-1, which keeps every byte."""
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
        if file.read(2) in UTF16:
            return "utf-16"
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while block := file.read(1 << 20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8"


def _records(file: IO[str]) -> Iterator[tuple[list[str], str]]:
    """Each record's fields, and its text as it stands."""
    separator = sniffed_separator(file.read(65536))
    file.seek(0)
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for line in file:
            taken.append(line)
            yield line

    for number, fields in enumerate(csv.reader(lines(), delimiter=separator)):
        yield ([fields[0].removeprefix("\ufeff"), *fields[1:]] if number == 0 and fields else fields), "".join(taken)
        taken.clear()


def _csv_ids(path: Path, columns: Sequence[str]) -> tuple[list[_Held], int]:
    with _text(path, "r", _codec(path)) as file:
        records = _records(file)
        names = [name.strip() for name in next(records, ([], ""))[0]]
        if names == SIDE:  # any field of a row that could not be read may be the identifier
            parts = [re.split(r"[,;\t|]", fields[-1]) if fields else [] for fields, _ in records]
            width = max(map(len, parts), default=0)
            cells = [[part[i].strip(" \"'") if i < len(part) else None for part in parts] for i in range(width)]
            return [(kind, cell, True) for cell in cells for kind in KINDS], len(parts)
        chosen = _chosen(names, columns)
        held: list[list[str | None]] = [[] for _ in chosen]
        rows = 0
        for fields, _ in records:
            rows += 1
            for cell, (i, _) in zip(held, chosen, strict=True):
                cell.append(fields[i] if i < len(fields) else None)
        return [(kind, cell, False) for cell, (_, kind) in zip(held, chosen, strict=True)], rows


def _erase(path: Path, view: _View, drop: np.ndarray) -> Found:
    """The file without those rows, in its place in one step, unless somebody is writing to it."""
    part = path.with_name(f".{path.name}{PART}")
    try:
        with path.open("rb") as file:
            if not hold(file.fileno()):  # a server that logs would go on writing to what is no longer there
                return Found(str(path), "in use", reason="Another process writes to it: stop it, then forget again.")
            (_write_parquet if _is_parquet(path) else _write_csv)(path, part, drop)
            shutil.copymode(path, part)
            with part.open("rb+") as written:
                os.fsync(written.fileno())
            if _state(path) != view.state:
                return Found(str(path), "in use", reason="It changed meanwhile: forget again.")
            part.replace(path)
    except Exception as error:  # noqa: BLE001 -- the file is whole, and named
        return Found(str(path), "unreadable", reason=_line(error))
    finally:
        part.unlink(missing_ok=True)
    return Found(str(path), "erased", int(drop.sum()), int((~drop).sum()))


def _write_parquet(path: Path, part: Path, drop: np.ndarray) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        schema, done = file.schema_arrow, 0
        codec = file.metadata.row_group(0).column(0).compression.lower()
        with pq.ParquetWriter(part, schema, compression="none" if codec == "uncompressed" else codec) as out:
            for number in range(file.num_row_groups):
                table = file.read_row_group(number)
                table, done = table.filter(pa.array(~drop[done : done + len(table)])), done + len(table)
                for i, name in enumerate(schema.names):
                    if pa.types.is_dictionary(schema.types[i]):  # its words would keep what is erased
                        words = table.column(i).cast(schema.types[i].value_type).dictionary_encode()
                        table = table.set_column(i, name, words.cast(schema.types[i]))
                out.write_table(table.cast(schema))


def _write_csv(path: Path, part: Path, drop: np.ndarray) -> None:
    codec = _codec(path)
    with _text(path, "r", codec) as file, _text(part, "w", codec) as out:
        records = _records(file)
        out.write(next(records)[1])
        for (_, text), gone in zip(records, drop.tolist(), strict=True):
            if not gone:
                out.write(text)


def _files(folders: Sequence[Path]) -> tuple[list[Path], Counter[str]]:
    """Tables under the folders, each once, and how many other files by suffix; what a killed run left is removed."""
    tables, others = set[Path](), Counter[str]()
    for folder in folders:
        for path in sorted(Path(folder).resolve().rglob("*")):
            if path.name.startswith(".") and path.name.endswith(PART):
                path.unlink(missing_ok=True)
            elif path.is_file() and path.name.casefold().endswith(TABLES):
                tables.add(path.resolve())
            elif path.is_file():
                others[path.suffix or path.name] += 1
    return sorted(tables), others


def _tombstones() -> list[tuple[str, str]]:
    path = private_folder() / TOMBSTONES
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    return [
        (whose, mark) for whose, _, mark in (line.partition(" ") for line in lines) if len(mark) == len(whose) == 64
    ]


def _bury(target: str, mine: set[str]) -> None:
    """Adds what is not there yet, on disk before any file changes."""
    there = set(_tombstones())
    lines = [f"{target} {mark}\n" for mark in sorted(mine) if (target, mark) not in there]
    with (private_folder() / TOMBSTONES).open("a", encoding="ascii") as file:
        file.write("".join(["\n", *lines]) if lines else "")  # the line that a killed run cut off stays alone
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _alone() -> Iterator[None]:
    """One process forgets at a time."""
    folder = private_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(folder / TOMBSTONES, os.O_RDWR | os.O_CREAT, 0o600)) as file:
        if not hold(file.fileno()):
            raise StoreError("Another process is forgetting a customer. Try again when it is done.")
        yield


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
