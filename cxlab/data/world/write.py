"""Parquet in row groups of a fixed size, so that a file's bytes do not know in which chunks its rows came."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 131_072


class Streams:
    """Tables by name, each appended to its file under a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, int] = {}
        self._open: dict[str, pq.ParquetWriter] = {}
        self._waiting: dict[str, pa.Table] = {}

    def add(self, name: str, table: pa.Table) -> None:
        """Appends rows; whole groups are written, the rest waits."""
        if name not in self._open:
            path = self.folder / f"{name}.parquet"
            path.parent.mkdir(exist_ok=True)
            self._open[name] = pq.ParquetWriter(path, table.schema, compression="zstd")
            self.rows[name] = 0
            self._waiting[name] = table.schema.empty_table()
        self.rows[name] += len(table)
        waiting = pa.concat_tables([self._waiting[name], table])
        while len(waiting) >= ROWS:
            self._write(name, waiting.slice(0, ROWS))
            waiting = waiting.slice(ROWS)
        self._waiting[name] = waiting.combine_chunks()  # frees the chunk it was cut from

    def _write(self, name: str, table: pa.Table) -> None:
        self._open[name].write_table(table.combine_chunks(), row_group_size=ROWS)

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for name, writer in self._open.items():
            if kind is None and len(self._waiting[name]):
                self._write(name, self._waiting[name])
            writer.close()
