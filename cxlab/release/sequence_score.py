"""Events of a file to answers of its cases, in bounded memory: rows in any order in, one row a case out.

A case's events may lie anywhere in a file, so all are held until it is read, as numbers: of a row its case, its time
and the places of its texts among those that occur, some 20 bytes and 4 an attribute. Ten million events take well under
a gigabyte besides the names of their cases. Then cases are answered some at a time. Of a case with more than
`sequence_scorer.LONGEST` events the latest are looked at, and it is said how many were not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cxlab.data.log import sniffed_format
from cxlab.data.rows import legible
from cxlab.data.times import UNKNOWN, microseconds_of
from cxlab.release.score import THREADS, Answer, Chunk, Permits
from cxlab.release.sequence_scorer import CASE, Events, SequenceBundle, SequenceScores, parts

Told = tuple[np.ndarray, dict[str, np.ndarray], list[tuple[str, ...]]]  # as `SequenceBundle.answered` says it
READING = 0.3  # share of the work that reading is, about


def answered(
    bundle: SequenceBundle, chunks: Iterable[Chunk], most: int, permits: Permits | None
) -> Generator[Answer, None, None]:
    """First what could not be read, while the chunks are read; then the cases.

    Args:
        bundle: The model.
        chunks: Rows of a log; the first may be empty and tells the type of the cases.
        most: Reasons a case at most.
        permits: Whose cases may be scored.
    Raises:
        DataError: Days and months of the times cannot be told apart.
    """
    held, sniffed = _Held([column.name for column in bundle.prefixes.columns if column.kind != "number"]), False
    for chunk in chunks:
        if not sniffed and len(chunk.frame):
            bundle, sniffed = _knowing_times(bundle, chunk.frame), True
        bad, known, left_out = held.add(bundle, chunk, permits)
        none = pa.array([], chunk.ids.type)
        yield Answer(none, [[] for _ in bundle.outputs][1:] + [[]] * most, bad, known, left_out, READING * chunk.share)
        kind = chunk.ids.type
    events, names = held.events(), held.names
    order, cut = events.sorted(np.arange(len(events)))
    texts = {name: np.array(list(held.places.get(name, {})), object) for name in held.texts}
    done = 0
    for there, told, why in _in_threads(
        lambda part: bundle.answered(held.told(part, texts), most), parts(events, order)
    ):
        upto = int(there[-1]) + 1
        share = READING + (1 - READING) * upto / len(names)
        found = bundle.nothing(names[done:upto], most).filled(there - done, told, why)
        yield Answer(pa.array(names[done:upto], kind), _columns(found), [], 0, 0, share, cut)
        done, cut = upto, 0
    if done < len(names):  # cases of which nothing could be read
        yield Answer(pa.array(names[done:], kind), _columns(bundle.nothing(names[done:], most)), [], 0, 0, 1.0, cut)


def _in_threads(answer: Callable[[Events], Told], every: Iterable[Events]) -> Iterator[Told]:
    """Answers in order; few parts are held at once."""
    waiting: deque[Future[Told]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for part in every:
                waiting.append(pool.submit(answer, part))
                if len(waiting) > THREADS:
                    yield waiting.popleft().result()
            for each in waiting:
                yield each.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _knowing_times(bundle: SequenceBundle, frame: pd.DataFrame) -> SequenceBundle:
    """The bundle, told how this file writes times where that is neither ISO 8601 nor as in training."""
    times = frame[bundle.prefixes.roles.time]
    if pd.api.types.is_datetime64_any_dtype(times) or not times.notna().any():
        return bundle
    read = microseconds_of(times, bundle.time_format, bundle.prefixes.roles.timezone) != UNKNOWN
    if read.sum() > 0.5 * times.notna().sum() or not all(isinstance(time, str) for time in times.dropna()):
        return bundle
    form = sniffed_format(times)
    return bundle if form is None else replace(bundle, time_format=form)


@dataclass
class _Held:
    """Events read so far, as numbers.

    Attributes:
        texts: Columns that hold texts.
        cases: Place of each case, by its name.
        names: The cases as the file writes them.
        places: By column, the place of each text that occurs.
    """

    texts: list[str]
    cases: dict[str, int] = field(default_factory=dict)
    names: list[Any] = field(default_factory=list)
    places: dict[str, dict[str, int]] = field(default_factory=dict)
    parts: list[Events] = field(default_factory=list)

    def add(
        self, bundle: SequenceBundle, chunk: Chunk, permits: Permits | None
    ) -> tuple[list[tuple[int, str, str]], int, int]:
        """Rows that cannot be read, customers known to who permits, and rows left out."""
        n = len(chunk.frame)
        ids = chunk.ids.to_pandas()
        kept = np.ones(n, bool) if permits is None else permits.permits(ids)
        known = 0 if permits is None else int(permits.known(ids).sum())
        cases, events, usable, found = bundle.read({name: chunk.frame[name] for name in bundle.schema.names})
        problems = {row: reason for row, reason in (found | chunk.problems).items() if kept[row]}
        code = self._named(cases, events.code, chunk.ids, kept)
        fit = np.zeros(n, bool)
        fit[usable] = True
        fit &= kept
        fit[list(problems)] = False
        self.parts.append(self._small(events.take(np.flatnonzero(fit), code[fit])))
        bad = [(chunk.lines[row], problems[row], legible(chunk.raw(row))) for row in sorted(problems)]
        return bad, known, n - int(kept.sum())

    def _named(self, cases: list[str], code: np.ndarray, ids: pa.Array, kept: np.ndarray) -> np.ndarray:
        """The case of each row among all of the file, shape (n,); those of rows left out are not entered."""
        own = np.full(len(cases) + 1, -1, np.int32)
        there = np.flatnonzero((code >= 0) & kept)
        entered, first = np.unique(code[there], return_index=True)
        for case, row in zip(entered.tolist(), there[first].tolist(), strict=True):
            place = self.cases.setdefault(cases[case], len(self.cases))
            if place == len(self.names):
                self.names.append(ids[row].as_py())
            own[case] = place
        return own[code]

    def _small(self, events: Events) -> Events:
        values = dict(events.values)
        for name in self.texts:
            values[name] = self._placed(name, values[name])
        order = events.order
        if order is not None and order.dtype == object:
            order = self._placed("", order)
        return replace(events, values=values, order=order)

    def _placed(self, name: str, texts: np.ndarray) -> np.ndarray:
        known = self.places.setdefault(name, {})
        return np.array([known.setdefault(text, len(known)) for text in texts.tolist()], np.int32)

    def events(self) -> Events:
        """All rows; texts are their places, those that order events their ranks."""
        parts, self.parts = self.parts, []
        order = _joined([part.order for part in parts])
        if order is not None and "" in self.places:
            texts = list(self.places[""])
            ranked = sorted(range(len(texts)), key=lambda at: (texts[at] is None, texts[at] or ""))
            rank = np.empty(len(texts), np.int32)
            rank[ranked] = np.arange(len(texts))
            order = rank[order]
        values = {name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values}
        code, when = (np.concatenate([getattr(part, name) for part in parts]) for name in ("code", "when"))
        return Events(code, when, _joined([part.opened for part in parts]), order, values)

    def told(self, events: Events, texts: dict[str, np.ndarray]) -> Events:
        """Some rows with their texts again."""
        return replace(events, values=events.values | {name: texts[name][events.values[name]] for name in self.texts})


def _joined(columns: list[np.ndarray | None]) -> np.ndarray | None:
    there = [column for column in columns if column is not None]
    return np.concatenate(there) if there else None


def _columns(found: SequenceScores) -> list[list[Any]]:
    """What is written of cases besides their names."""
    columns = [values for name, values in found.plain().items() if name != CASE]
    return columns + [
        [each[place] if place < len(each) else None for each in found.reasons] for place in range(found.most)
    ]
