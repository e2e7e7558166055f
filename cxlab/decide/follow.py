"""Signals over events as they arrive: a growing file or folder, decided within seconds as the replay would decide.

    with Follower("events.csv", params, customers="customers.csv", out="decisions.jsonl") as follower:
        follower.run(stop_after_s=3600)

A row waits until a row was received `late_s` seconds after it, or until it has lain here for `late_s` seconds, so that
rows which come slightly out of order are still decided in order; a step that is due waits until something was received
after it (or the wall clock has passed it, with `follow.clock: wall`). A row that comes later than that is no longer
put in its place: it counts as received now, so that a refusal is obeyed at once, and `late` says how many there were.
Without late rows the lines are those of `cxlab.decide.replay.replay` over the whole file, to the byte.

With `out` it can be stopped and started again: beside the file lies how far it came, and it goes on from there.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pandas as pd

from cxlab.data.events import Events, read_events
from cxlab.data.files import UTF16
from cxlab.decide.replay import lines_of
from cxlab.decide.signals import (
    Customers,
    Happening,
    files_of,
    happenings,
    micros,
    ours,
    read_customers,
    refuse_lost_words,
)
from cxlab.decide.triggers import Decision, Engine
from cxlab.digest import canonical, sha256
from cxlab.errors import DataError
from cxlab.params.signals import SignalsParams
from cxlab.places import hold

PATIENCE_S = 10.0  # for a file that is being written and cannot be read yet
SECOND = 1_000_000


class Follower:
    """Decides on what is new, again and again.

    Args:
        source: A CSV file that grows, or a folder into which CSV and Parquet files come.
        params: Signals, situations and guardrails.
        customers: The table of customers, or None.
        out: Where lines are added; None to keep none.
        clock: Seconds that only go up.
    Attributes:
        late: Rows that came too late to be put in their place.
        rows_in: Rows that were read.
        quarantined: Rows that break the contract.
        counts: Decisions by status.
    Raises:
        DataError: The source cannot be read, or `out` is not of a follower with the same params and customers.
    """

    def __init__(
        self,
        source: str | Path,
        params: SignalsParams,
        *,
        customers: Customers | str | Path | pd.DataFrame | None = None,
        out: str | Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.params, self._clock = params, clock
        self._known = customers if isinstance(customers, Customers) else read_customers(customers, params)
        self.notes = self._known.notes
        self._tail = Tail(Path(source))
        self.engine = Engine(params, self._known)
        self.late, self.counts = 0, Counter[str]()
        self._pending: list[Happening] = []
        self._arrived: list[tuple[float, int]] = []  # when a batch came, and its newest received_at
        self._newest, self._last = 0, (0, "")
        self._saved = clock()
        self._out: IO[bytes] | None = None
        if out is not None:
            self._open(Path(out))

    rows_in = property(lambda self: self._tail.rows_in)
    quarantined = property(lambda self: self._tail.quarantined)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._out is not None:
            if kind is None or kind is KeyboardInterrupt:
                self._save()
            self._out.close()

    def poll(self) -> list[Decision]:
        """Reads what is new and decides on what is ready."""
        self._gather(final=False)
        now, wait = self._clock(), self.params.follow.late_s
        rested = max((newest for came, newest in self._arrived if came <= now - wait), default=0)
        self._arrived = [(came, newest) for came, newest in self._arrived if came > now - wait]
        return self._decided(self._newest - int(wait * SECOND), rested)

    def finish(self) -> list[Decision]:
        """Reads to the end, a last line without an end too, and decides on all of it."""
        self._gather(final=True)
        return self._decided(0, self._newest)

    def run(
        self,
        *,
        until_idle_s: float | None = None,
        stop_after_s: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Iterator[list[Decision]]:
        """Polls until nothing has come for a while, or a time is over; for ever if neither is given.

        Args:
            until_idle_s: Seconds without a new row after which it finishes.
            stop_after_s: Seconds after which it finishes.
            sleep: How to wait.
        """
        began = moved = self._clock()
        seen = self.rows_in
        while True:
            decisions = self.poll()
            if decisions:
                yield decisions
            now = self._clock()
            if self.rows_in != seen:
                seen, moved = self.rows_in, now
            idle = until_idle_s is not None and now - moved >= until_idle_s
            if idle or (stop_after_s is not None and now - began >= stop_after_s):
                break
            sleep(self.params.follow.poll_s)
        decisions = self.finish()
        if decisions:
            yield decisions

    def _gather(self, *, final: bool) -> None:
        for found in self._tail.read(final=final, now=self._clock()):
            if len(found):
                newest = int(found["received_at"].astype("int64").max())
                self._newest = max(self._newest, newest)
                self._arrived.append((self._clock(), newest))
            self._pending += happenings(found, self.params)

    def _decided(self, before: int, until: int) -> list[Decision]:
        """Decides on what was received before one moment, or until another."""
        ready = sorted(item for item in self._pending if item.received < before or item.received <= until)
        self._pending = [item for item in self._pending if not (item.received < before or item.received <= until)]
        decisions: list[Decision] = []
        for happening in ready:
            key = (happening.received, happening.event_id)
            if key < self._last or happening.received < self.engine.state["now"]:
                self.late += 1
                happening = happening._replace(received=self.engine.state["now"])  # noqa: PLW2901
            self._last = max(self._last, key)
            decisions += self.engine.step(happening)
        reached = max(before, until)
        if self.params.follow.clock == "wall":
            reached = max(reached, micros(datetime.now(UTC)) - int(self.params.follow.late_s * SECOND))
        decisions += self.engine.advance(reached)
        self.counts.update(decision["status"] for decision in decisions)
        if self._out is not None and decisions:
            self._out.write(lines_of(decisions))
            self._out.flush()
        if self._out is not None and self._clock() - self._saved >= self.params.follow.save_s:
            self._save()
        return decisions

    # How far it came

    def _open(self, path: Path) -> None:
        self._beside = path.with_name(f"{path.name}.state")
        try:
            self._out = path.open("ab")
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error.strerror}.") from None
        if not hold(self._out.fileno()):
            self._out.close()
            raise DataError(
                f"{path} is being written by another `cxlab decide signals`. Stop that one, or name another."
            )
        told = self.params.model_dump(mode="json", exclude={"follow"})
        facts = {name: repr(self._known[name]) for name in sorted(self._known.profiles)}
        self._by = sha256(canonical([told, sorted(facts), [facts[name] for name in sorted(facts)]]))
        try:
            if not self._beside.exists():
                if self._out.tell():
                    raise DataError(
                        f"{path} is there, but not how far it came ({self._beside.name}). Name another --out."
                    )
                self._save()
                return
            self._resume(path, json.loads(self._beside.read_bytes()))
        except DataError:
            self._out.close()
            raise
        except (ValueError, KeyError, OSError) as error:
            self._out.close()
            raise DataError(f"{self._beside} cannot be read: {error!r}. Name another --out.") from None

    def _resume(self, path: Path, kept: dict[str, Any]) -> None:
        assert self._out is not None
        if kept["by"] != self._by:
            raise DataError(f"{path} was decided by other params or customers. Name another --out, or take those.")
        if self._out.tell() < kept["bytes"]:
            raise DataError(f"{path} has {self._out.tell():,} bytes, must have {kept['bytes']:,}. Name another --out.")
        self._out.truncate(kept["bytes"])  # what was written after the last note is decided again, to the same bytes
        self.engine = Engine(self.params, self._known, kept["engine"])
        self._pending = [Happening(*item) for item in kept["pending"]]
        self._newest, self._last, self.late = kept["newest"], (kept["last"][0], kept["last"][1]), kept["late"]
        self._arrived = [(self._clock(), self._newest)] if self._pending else []
        self._tail.resume(kept["tail"])

    def _save(self) -> None:
        assert self._out is not None
        self._out.flush()
        facts = {
            "by": self._by,
            "bytes": self._out.tell(),
            "engine": self.engine.state,
            "pending": self._pending,
            "newest": self._newest,
            "last": self._last,
            "late": self.late,
            "tail": self._tail.state(),
        }
        part = self._beside.with_name(f"{self._beside.name}.part")
        part.write_bytes(canonical(facts))
        part.replace(self._beside)
        self._saved = self._clock()


class Tail:
    """What is new in a file or a folder since the last look.

    Of a CSV file only the rows behind the last look are read, those whose line has come to its end; a Parquet or
    compressed file is read anew when it has changed. An event_id that was there before is passed over.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.rows_in, self._aside = 0, dict[str, int]()
        self._read: dict[str, Any] = {}  # by name: the offset behind the last row, or what the file looked like
        self._since: dict[str, float] = {}  # when a file began to be unreadable
        self._seen: set[str] = set()
        if not source.is_dir():
            files_of(source)
            if not source.exists():
                read_events([source])  # says what is near

    @property
    def quarantined(self) -> int:
        return sum(self._aside.values())

    def state(self) -> dict[str, Any]:
        """How far it came, in plain values."""
        return {"read": self._read, "seen": sorted(self._seen), "rows_in": self.rows_in, "aside": self._aside}

    def resume(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self._read, self._seen = state["read"], set(state["seen"])
        self.rows_in, self._aside = state["rows_in"], state["aside"]

    def read(self, *, final: bool, now: float) -> Iterator[pd.DataFrame]:
        """Accepted rows that are new, a table a file.

        Raises:
            DataError: A file cannot be read, or became shorter.
        """
        for path in self._files():
            found = self._whole(path, final, now) if _changes_as_one(path) else self._grown(path, final)
            if found is None:
                continue
            refuse_lost_words(found)
            new = found.accepted[~found.accepted["event_id"].isin(self._seen)]
            self._seen.update(new["event_id"].tolist())
            self.rows_in += len(new)
            yield new

    def _files(self) -> list[Path]:
        if not self.source.is_dir():
            return [self.source]
        return files_of(self.source) if any(self.source.iterdir()) else []

    def _whole(self, path: Path, final: bool, now: float) -> Events | None:
        stat = path.stat()
        looks = [stat.st_size, stat.st_mtime_ns]
        if self._read.get(path.name) == looks:
            return None
        try:
            found = read_events([path], taxonomy=ours())
        except DataError:
            if final or now - self._since.setdefault(path.name, now) > PATIENCE_S:
                raise
            return None
        self._since.pop(path.name, None)
        self._read[path.name], self._aside[path.name] = looks, len(found.quarantine)
        return found

    def _grown(self, path: Path, final: bool) -> Events | None:
        start = int(self._read.get(path.name, 0))
        with path.open("rb") as file:
            header = file.readline()
            if not header.endswith(b"\n"):
                return None
            if path.stat().st_size < start:
                raise DataError(
                    f"{path} became shorter; a file that is followed may only grow. Start again with --out."
                )
            file.seek(max(start, len(header)))
            new = file.read()
        ends = len(new) if final else _last_end(new)
        if ends == 0:
            return None
        with tempfile.TemporaryDirectory() as folder:
            piece = Path(folder) / path.name
            piece.write_bytes(header + new[:ends])
            try:
                found = read_events([piece], taxonomy=ours())
            except DataError as error:
                raise DataError(str(error).replace(str(piece), str(path))) from None
        found.quarantine["source"] = str(path)
        self._read[path.name] = max(start, len(header)) + ends
        self._aside[path.name] = self._aside.get(path.name, 0) + len(found.quarantine)
        return found


def _changes_as_one(path: Path) -> bool:
    """Whether a file can't be read from the middle."""
    with path.open("rb") as file:
        begin = file.read(4)
    return path.name.endswith((".parquet", ".gz")) or begin.startswith((b"PAR1", b"\x1f\x8b", *UTF16))


def _last_end(new: bytes) -> int:
    """Where the last whole row ends: at a line's end outside quotes."""
    ends = new.rfind(b"\n")
    while ends >= 0 and new.count(b'"', 0, ends) % 2:
        ends = new.rfind(b"\n", 0, ends)
    return ends + 1
