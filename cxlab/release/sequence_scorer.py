"""A bundle's answers to open cases, from its folder alone: what comes next, when, and how the case ends.

    bundle = load_bundle("release/tickets-4")
    found = bundle.score(events)     # rows of a log in any order: a frame, or dicts
    found.frame()                    # one row a case: case, next_event, probability, ..., rest_days, within_30_days

The model is plain: trees and networks are ONNX graphs, the Markov model is a table of arrays in `markov.npz`, and
`sequence.json` says how they go together. This module travels with every bundle and needs numpy, pandas and, where the
folder holds a graph, onnxruntime. What is said of a case depends on its own events alone.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import pandas as pd

from ..data.schema import number_of, shown, text_of
from ..data.times import UNKNOWN, microseconds_of
from ..errors import BundleError
from ..features.prefix_matrix import Matrix
from ..features.prefixes import END, LAGS, Cases, PrefixSchema
from .folder import Answered, AnyBundle, Kind, Rows, Whole
from .text_scorer import calibrator, softmax

if TYPE_CHECKING:
    import onnxruntime

PARTS, TABLES = "sequence.json", "markov.npz"
TREES, GRU, TRANSFORMER = "model.onnx", "gru.onnx", "transformer.onnx"
NEXT, REST, OUTCOME = "next.onnx", "rest.onnx", "outcome.onnx"
GRAPHS = (TREES, GRU, TRANSFORMER, NEXT, REST, OUTCOME)
TREES_IN, TREES_OUT = "x", "margins"
LEVELS, NUMBERS, LOGITS = "levels", "numbers", "logits"
CASE, NAMED = "case", 3  # the answer that names the case; events that are named
TIMES = {"next": "next_hours", "rest": "rest_days"}
LONGEST = 10_000  # events of one case that are read, the latest ones
ROWS = 20_000  # rows that are encoded at once, and a case more
CELLS = 1 << 16  # person-periods that go through a graph at once
TOKENS = 1 << 14  # events, with what fills up, that go through a network at once
OCCLUDED = 10  # events of a case before the last that are left out in turn, the latest ones
EDGE = 1e-12  # probabilities are kept this far from 0 and 1 before a logarithm
SMALL = 1e-6  # a smaller effect, in log-odds, is no reason: margins of trees are of single precision
ENDS, GOES_ON = "ends", "goes_on"
SAME, SAME_NET = 1e-9, 1e-4  # golden answers may differ by this between machines; a network is of single precision


@dataclass(frozen=True)
class Prefixes:
    """Encoded rows of cases, and those of them that are asked about.

    Attributes:
        columns: What `PrefixSchema.arrays` makes, by name, each of shape (rows,).
        asked: Numbers of the rows that are asked about, shape (n,).
        first: At which row the case of each begins, shape (n,).
    """

    columns: dict[str, np.ndarray]
    asked: np.ndarray
    first: np.ndarray

    def __len__(self) -> int:
        return len(self.asked)

    @cached_property
    def last(self) -> dict[str, np.ndarray]:
        """The columns of those that are asked about, each of shape (n,)."""
        return {name: values[self.asked] for name, values in self.columns.items()}

    @cached_property
    def events(self) -> list[tuple[str, ...]]:
        """The last events of each, the latest first."""
        names = ["event", *(f"event_{lag}" for lag in range(1, LAGS + 1))]
        return list(zip(*(self.last[name].tolist() for name in names), strict=True))


@dataclass(frozen=True)
class Markov:
    """An interpolated Kneser-Ney model as tables: see `models.markov`.

    Attributes:
        classes: How many there are.
        order: Events of the longest history.
        known: By history, the latest event first: what it keeps (class codes and shares) and what it hands on.
    """

    classes: int
    order: int
    known: dict[tuple[str, ...], tuple[np.ndarray, np.ndarray, float]] = field(repr=False)

    def probability(self, prefixes: Prefixes) -> np.ndarray:
        """Shape (n, classes)."""
        told: dict[tuple[str, ...], np.ndarray] = {}
        made = np.empty((len(prefixes), self.classes))
        for row, events in enumerate(each[: self.order] for each in prefixes.events):
            if events not in told:
                told[events] = self._of(events)
            made[row] = told[events]
        return made

    def _of(self, events: tuple[str, ...]) -> np.ndarray:
        found = np.full(self.classes, 1 / self.classes)
        for length in range(len(events) + 1):
            level = self.known.get(events[:length])
            if level is not None:
                codes, kept, shared = level
                found = found * shared
                found[codes] += kept
        return found


@dataclass(frozen=True)
class Trees:
    """Boosted trees on features as numbers."""

    matrix: Matrix = field(repr=False)
    graph: onnxruntime.InferenceSession = field(repr=False)

    def table(self, prefixes: Prefixes) -> np.ndarray:
        """Shape (n, width), 32-bit."""
        return self.matrix.of(prefixes.last, len(prefixes))

    def margins(self, table: np.ndarray) -> np.ndarray:
        """Shape (n, 1) of two classes, (n, k) of more."""
        return self.graph.run([TREES_OUT], {TREES_IN: table})[0]


@dataclass(frozen=True)
class Boost:
    """Trees that tell the frequent classes apart, and a Markov model that does so for the others: see
    `models.prefix_boost`.

    Attributes:
        classes: How many there are.
        kept: Codes of those that the trees learn.
        seen: Places among these, and after them of all others as one, that training had.
        shift: What the others have where training had none of them.
        trees: None where all that was seen is of one class.
        rest: None where there are no others.
    """

    classes: int
    kept: np.ndarray
    seen: np.ndarray
    shift: float
    trees: Trees | None
    rest: Markov | None

    def probability(self, prefixes: Prefixes) -> np.ndarray:
        """Shape (n, classes)."""
        n, k = len(prefixes), len(self.kept)
        found = np.zeros((n, k + 1))
        found[:, self.seen] = 1.0 if self.trees is None else self._told(self.trees, prefixes)
        every = np.zeros((n, self.classes))
        every[:, self.kept] = found[:, :k]
        if self.rest is None:
            return every
        others = np.setdiff1d(np.arange(self.classes), self.kept)
        share = self.rest.probability(prefixes)[:, others]
        share /= share.sum(axis=1, keepdims=True)
        if k in self.seen:
            every[:, others] = found[:, [k]] * share
        else:
            every *= 1 - self.shift
            every[:, others] = self.shift * share
        return every

    def _told(self, trees: Trees, prefixes: Prefixes) -> np.ndarray:
        margins = trees.margins(trees.table(prefixes))
        if margins.shape[1] > 1:
            return softmax(margins)
        second = expit(margins)
        return np.hstack([1 - second, second])


class Member(Protocol):
    """A part of the model: margins of its classes, shape (n, c), whose codes it tells."""

    @property
    def codes(self) -> np.ndarray: ...

    def margins(self, prefixes: Prefixes) -> np.ndarray: ...


@dataclass(frozen=True)
class Prior:
    """What is known before anything is: the same of every case."""

    codes: np.ndarray
    constant: np.ndarray

    def margins(self, prefixes: Prefixes) -> np.ndarray:
        return np.tile(self.constant, (len(prefixes), 1))


@dataclass(frozen=True)
class Logs:
    """A member whose margins are the logarithms of its probabilities."""

    codes: np.ndarray
    base: Markov | Boost
    least: float

    def margins(self, prefixes: Prefixes) -> np.ndarray:
        return np.log(np.maximum(self.base.probability(prefixes), self.least))


@dataclass(frozen=True)
class Net:
    """A network that reads all events of a case: see `models.sequence_nets`.

    Attributes:
        codes: Of its classes.
        told: How columns become what it reads.
        places: By category, the places of its levels from 1 on; others are 0.
    """

    codes: np.ndarray
    told: Mapping[str, Any] = field(repr=False)
    places: list[dict[str, int]] = field(repr=False)
    graph: onnxruntime.InferenceSession = field(repr=False)

    def margins(self, prefixes: Prefixes) -> np.ndarray:
        longest = int(self.told["longest"])
        half, place = longest // 2, prefixes.asked - prefixes.first
        # A long case is read in windows; each event is told by the one in which half of them lie before it.
        start = np.where(place < longest, 0, (place - half) // (longest - half) * (longest - half))
        begin, length = prefixes.first + start, place - start + 1
        made = np.empty((len(prefixes), len(self.codes)))
        order = np.argsort(length, kind="stable")
        at = 0
        while at < len(order):
            size = max(1, int((length[order[at:]] * np.arange(1, len(order) - at + 1) <= TOKENS).sum()))
            part = order[at : at + size]
            steps = np.arange(length[part].max())
            inside = steps < length[part, None]
            rows = np.where(inside, begin[part, None] + steps, begin[part, None])
            levels, numbers = self._inputs({name: values[rows] for name, values in self._read(prefixes).items()})
            logits = self.graph.run([LOGITS], {LEVELS: levels, NUMBERS: numbers})[0]
            made[part] = logits[np.arange(len(part)), length[part] - 1]
            at += size
        return made

    def _read(self, prefixes: Prefixes) -> dict[str, np.ndarray]:
        items = (*self.told["categories"], *self.told["numbers"])
        return {item["column"]: prefixes.columns[item["column"]] for item in items}

    def _inputs(self, columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Levels, int64 of shape (cases, events, columns), and numbers, float32 of shape (cases, events, numbers)."""
        shape = next(iter(columns.values())).shape
        levels = np.zeros((*shape, len(self.places)), np.int64)
        for at, (item, known) in enumerate(zip(self.told["categories"], self.places, strict=True)):
            held = columns[item["column"]].ravel().tolist()
            levels[..., at] = np.array([known.get(value, 0) for value in held], np.int64).reshape(shape)
        numbers = []
        for item in self.told["numbers"]:
            value = columns[item["column"]].astype(np.float64)
            there = np.isfinite(value)
            value = np.where(there, value, 0.0)
            value = np.sign(value) * np.log1p(np.abs(value) / item["unit"])
            value = (value - item["mean"]) / item["deviation"]
            numbers.append(np.where(there, np.clip(value, -self.told["farthest"], self.told["farthest"]), 0.0))
            if item["missing"]:
                numbers.append(np.where(there, 0.0, 1.0))
        return levels, np.stack(numbers, -1).astype(np.float32) if numbers else np.zeros((*shape, 0), np.float32)


@dataclass(frozen=True)
class Times:
    """How long until something: hazards by period, and what makes them hold what they say; see `models.hazard`.

    Attributes:
        trees: Of the hazard, on the features and the number of the period.
        edges: Where each period ends, shape (k,).
        least: How far a hazard is kept from 0 and 1.
        raw: Probabilities of the model, ascending from 0 to 1, shape (m,).
        calibrated: What they become, shape (m,); straight lines between.
    """

    trees: Trees
    edges: np.ndarray
    least: float
    raw: np.ndarray = field(repr=False)
    calibrated: np.ndarray = field(repr=False)

    def steps(self, prefixes: Prefixes) -> np.ndarray:
        """The logarithm of the probability of living through each period, shape (n, k)."""
        table, k = self.trees.table(prefixes), len(self.edges)
        made, period = np.empty((len(table), k)), np.arange(k, dtype=np.float32)
        size = max(1, CELLS // k)
        for start in range(0, len(table), size):
            part = table[start : start + size]
            rows = np.empty((len(part), k, part.shape[1] + 1), np.float32)
            rows[..., :-1], rows[..., -1] = part[:, None], period
            margins = self.trees.margins(rows.reshape(-1, rows.shape[2]))
            made[start : start + size] = expit(margins).reshape(-1, k)
        return np.log1p(-np.clip(made, self.least, 1 - self.least))

    def within(self, steps: np.ndarray, horizons: Sequence[float]) -> np.ndarray:
        """The probability that it comes by each horizon, shape (n, len(horizons))."""
        starts, ends, times = self._starts, self.edges, np.asarray(horizons, np.float64)[:, None]
        width = np.where(ends > starts, ends - starts, 1.0)
        passed = np.where(times >= ends, 1.0, np.clip((times - starts) / width, 0.0, 1.0))
        return np.interp(-np.expm1(steps @ passed.T), self.raw, self.calibrated)

    def quantile(self, steps: np.ndarray, shares: Sequence[float]) -> np.ndarray:
        """The time by which each share has happened, shape (n, len(shares)); inf where that is not reached."""
        made = np.full((len(steps), len(shares)), np.inf)
        with np.errstate(divide="ignore"):
            levels = np.log1p(-np.interp(np.asarray(shares, np.float64), self.calibrated, self.raw))
        lasted, starts = np.cumsum(steps, axis=1), self._starts
        for column, level in enumerate(levels):
            period = (lasted > level).sum(axis=1)
            rows = np.flatnonzero(period < len(self.edges))
            last = period[rows]
            own = steps[rows, last]
            part = np.clip((level - (lasted[rows, last] - own)) / own, 0.0, 1.0)
            made[rows, column] = starts[last] + part * (self.edges - starts)[last]
        return made

    @property
    def _starts(self) -> np.ndarray:
        return np.append(0.0, self.edges[:-1])


@dataclass(frozen=True)
class Model:
    """The members and what lies ahead besides the next event.

    Attributes:
        classes: k.
        members: With their shares.
        calibrate: Probabilities as the members mean them to what they turn out to be, both of shape (n, k).
        unseen: How far below all others the margin of a class lies that a member never saw.
        times: `next`, `rest` and `outcome`, those that could be learnt.
        outcome: How likely the outcome is that a column tells, before it is calibrated; None without.
        sure: What calibrates that.
        dated: Which of the times the horizons are about.
        horizons: In days.
        level: Of the intervals.
    """

    classes: int
    members: list[tuple[float, Member]]
    calibrate: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    unseen: float
    times: dict[str, Times]
    outcome: Boost | None
    sure: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    dated: str
    horizons: tuple[float, ...]
    level: float

    def probability(self, prefixes: Prefixes) -> np.ndarray:
        """Of what comes next, shape (n, k)."""
        total = np.zeros((len(prefixes), self.classes))
        for share, member in self.members:
            own = member.margins(prefixes)
            if own.shape[1] < self.classes:
                every = np.repeat(own.min(axis=1, keepdims=True) - self.unseen, self.classes, axis=1)
                every[:, member.codes] = own
                own = every
            total += share * own
        return self.calibrate(softmax(total))

    def ahead(self, prefixes: Prefixes) -> dict[str, np.ndarray]:
        """What else is said, by `names`, each of shape (n,)."""
        made: dict[str, np.ndarray] = {}
        if self.outcome is not None:
            made["outcome"] = self.sure(self.outcome.probability(prefixes)[:, 1])
        steps = {kind: times.steps(prefixes) for kind, times in self.times.items()}
        shares = [0.5, (1 - self.level) / 2, (1 + self.level) / 2]
        for kind, name in TIMES.items():
            if kind in self.times:
                found = self.times[kind].quantile(steps[kind], shares)
                made |= {name: found[:, 0], f"{name}_low": found[:, 1], f"{name}_high": found[:, 2]}
        if self.dated in self.times:
            found = self.times[self.dated].within(steps[self.dated], self.horizons)
            made |= {name: found[:, place] for place, name in enumerate(self._within)}
        return made

    @property
    def _within(self) -> list[str]:
        return [f"within_{days:g}_days" for days in self.horizons]

    @property
    def names(self) -> list[str]:
        """What `ahead` says, in its order."""
        timed = [f"{name}{end}" for kind, name in TIMES.items() if kind in self.times for end in ("", "_low", "_high")]
        return [*(["outcome"] if self.outcome else []), *timed, *(self._within if self.dated in self.times else [])]


@dataclass(frozen=True)
class Events:
    """Rows of a log as the model reads them.

    Attributes:
        code: Whose event each is, shape (n,).
        when: Microseconds since 1970, shape (n,).
        opened: When the case began, likewise; None where no column tells.
        order: Which of a case's events comes first, numbers, or texts with None for what is missing, shape (n,); None
            where the time tells.
        values: Names and attributes as the schema casts them, each of shape (n,).
    """

    code: np.ndarray
    when: np.ndarray
    opened: np.ndarray | None
    order: np.ndarray | None
    values: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.code)

    def take(self, rows: np.ndarray | slice, code: np.ndarray | None = None) -> Events:
        """Some rows, under other numbers of their cases if given."""
        opened, order = (None if column is None else column[rows] for column in (self.opened, self.order))
        values = {name: column[rows] for name, column in self.values.items()}
        return Events(self.code[rows] if code is None else code, self.when[rows], opened, order, values)

    def sorted(self, rows: np.ndarray) -> tuple[np.ndarray, int]:
        """Numbers of some rows by case and in order, and how many more there were: a case keeps its latest `LONGEST`.

        Of two events of one time, or of one place in the order, that comes first whose row does.
        """
        order = None if self.order is None else _ranked(self.order[rows])
        keys = [self.when[rows], *([] if order is None else [order]), self.code[rows]]
        rows = rows[np.lexsort(keys)]
        code = self.code[rows]
        ends = np.append(np.flatnonzero(code[1:] != code[:-1]), len(code) - 1)
        later = np.repeat(ends, np.diff(np.append(-1, ends))) - np.arange(len(code)) if len(code) else code
        return (
            (rows, 0)
            if not len(code) or later.max() < LONGEST
            else (rows[later < LONGEST], int((later >= LONGEST).sum()))
        )


@dataclass(frozen=True)
class SequenceScores(Answered):
    """What a bundle says of n cases, in the order in which they are first named.

    Attributes:
        answers: By name, each of shape (n,): the case, what comes next, and what lies ahead. Nothing is said of a case
            of which no row could be read.
        reasons: Of each case the events that speak most for what comes next.
        problems: Why a row of the input could not be read, by its position.
        ids: None; the cases are among the answers.
        most: How many reasons a case were asked for.
        cut: Events that were left out because their case has more than `LONGEST`.
    """

    answers: dict[str, np.ndarray]
    reasons: list[tuple[str, ...]] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)
    ids: list[Any] | None = None
    most: int = 0
    cut: int = 0

    def columns(self) -> dict[str, np.ndarray]:
        return self.answers

    def filled(
        self, there: np.ndarray, answers: Mapping[str, np.ndarray], reasons: Sequence[tuple[str, ...]]
    ) -> SequenceScores:
        """These, some cases of which are answered now."""
        for name, values in answers.items():
            self.answers[name][there] = values
        for place, each in zip(there.tolist() if reasons else (), reasons, strict=True):
            self.reasons[place] = each
        return self

    @property
    def outcome(self) -> Sequence[str]:
        return [ENDS if event == END else GOES_ON for event in self.answers["next_event"]]

    def frame(self) -> pd.DataFrame:
        """One row a case: case, the answers, reason_1 to reason_K."""
        return super().frame().drop(columns="id")


@dataclass(frozen=True)
class SequenceBundle(AnyBundle):
    """An exported model of open cases.

    Attributes:
        folder: Where it lies.
        manifest: What it is, and the SHA-256 of every file.
        schema: The columns that it reads: case, event, time, and what else is known.
        id: The column that names the case.
        prefixes: How rows are encoded.
        ignored: Events that are no steps.
        time_format: Of times that are not ISO 8601, as training had them.
        ordinal: Whether the column that orders events holds numbers.
        min_prefix: Events that a case must have had before an answer was judged.
        model: What answers.
    """

    prefixes: PrefixSchema = field(repr=False)
    ignored: frozenset[str] = field(repr=False)
    time_format: str | None
    ordinal: bool
    min_prefix: int
    model: Model = field(repr=False)

    outcomes: ClassVar[tuple[str, ...]] = (ENDS, GOES_ON)
    about: ClassVar[str] = "Says of open cases what comes next, when, and how they end, from their events so far."
    platform: ClassVar[str] = "cxlab_sequence"
    batch: ClassVar[int] = ROWS

    @cached_property
    def outputs(self) -> Mapping[str, Kind]:  # type: ignore[override]
        made: dict[str, Kind] = {CASE: "text"}
        for place in range(1, NAMED + 1):
            after = "" if place == 1 else f"_{place}"
            made |= {f"next_event{after}": "text", f"probability{after}": "number"}
        return made | dict.fromkeys(self.model.names, "number")

    @property
    def examples(self) -> Mapping[str, Any]:
        roles, moment = self.prefixes.roles, "2026-01-31T10:00:00"
        told = {roles.case: "A-17", roles.time: moment, roles.opened: moment, roles.order: 1 if self.ordinal else "1"}
        return {name: value for name, value in told.items() if name is not None}

    @property
    def rule(self) -> str:
        what = "the outcome" if self.model.dated == "outcome" else "the end of the case"
        horizons = (
            f" within_..._days: the probability of {what} by then." if self.model.dated in self.model.times else ""
        )
        return (
            f"Rows are events, in any order; one answer a case, of its events so far, the latest {LONGEST:,} of them. "
            f"The end of a case is the event {END}. Times are medians, with {self.model.level:.0%} intervals; one that "
            f"the training log is too short to tell is null.{horizons} Cases were judged from {self.min_prefix} events "
            "on."
        )

    @property
    def tolerance(self) -> float:
        return SAME_NET if any(isinstance(member, Net) for _, member in self.model.members) else SAME

    def score(self, rows: Rows, *, reasons: int = 0) -> SequenceScores:
        """Answers and reasons, one a case.

        Args:
            rows: Rows of a log: a frame of shape (n, any), or n mappings, in any order. Other columns than the model's
                are left out; missing attributes and unseen events are no errors.
            reasons: How many a case at most, >= 0.
        Raises:
            DataError: A column of the model is not there.
        """
        if reasons < 0:
            raise ValueError(f"reasons == {reasons}, must be >= 0.")
        names, events, usable, problems = self.read(self._values(rows))
        order, cut = events.sorted(usable)
        found = self.nothing(names, reasons)
        for part in parts(events, order):
            found.filled(*self.answered(part, reasons))
        return replace(found, problems=problems, cut=cut)

    def nothing(self, names: Sequence[Any], most: int) -> SequenceScores:
        """Of each case that nothing is said."""
        made = {
            name: np.full(len(names), None if kind == "text" else np.nan, object if kind == "text" else np.float64)
            for name, kind in self.outputs.items()
        }
        made[CASE][:] = names
        return SequenceScores(made, [()] * (len(names) if most else 0), most=most)

    def read(self, values: Mapping[str, Any]) -> tuple[list[str], Events, np.ndarray, dict[int, str]]:
        """Rows as the model reads them.

        Args:
            values: Raw values by column.
        Returns:
            Names of the cases in the order in which they come, the rows, numbers of those that can be used, and why
            others cannot. A row without a case is of none: its code is -1.
        """
        roles = self.prefixes.roles
        cases = [text_of(value) or None for value in values[roles.case]]
        places: dict[str, int] = {}
        code = np.array([-1 if name is None else places.setdefault(name, len(places)) for name in cases], np.int64)
        cast = {}
        for column in self.prefixes.columns:
            raw = values[column.name]
            cast[column.name] = column.encode(raw) if isinstance(raw, pd.Series) else column.cast(raw)
        events, problems = cast[roles.event], dict[int, str]()
        skipped = np.array([name in self.ignored for name in events], bool)
        when = self._times(values, roles.time, problems)
        opened = None if roles.opened is None else self._times(values, roles.opened, problems)
        for row in np.flatnonzero(when == UNKNOWN).tolist():
            problems.setdefault(row, f"{roles.time} is missing, must be a time such as 2026-01-31T10:00.")
        for row, value in enumerate(values[roles.event]):
            if not text_of(value):
                problems.setdefault(row, f"{roles.event} is missing, must name what happened.")
        for row in np.flatnonzero(code < 0).tolist():
            problems[row] = f"{roles.case} is missing, must say whose event it is."
        order = self._order(values, problems)
        for row, reason in self.prefixes.unreadable(values, cast):
            problems.setdefault(row, reason)
        problems = {row: problems[row] for row in sorted(problems) if not skipped[row]}
        usable = ~skipped
        usable[list(problems)] = False
        return list(places), Events(code, when, opened, order, cast), np.flatnonzero(usable), problems

    def _times(self, values: Mapping[str, Any], name: str, problems: dict[int, str]) -> np.ndarray:
        """What is no time is told; what is missing is unknown."""
        found = microseconds_of(values[name], self.time_format, self.prefixes.roles.timezone)
        raw = values[name]
        for row in np.flatnonzero(found == UNKNOWN).tolist():
            value = raw.iloc[row] if isinstance(raw, pd.Series) else raw[row]
            if text_of(value):
                such = "a time such as 2026-01-31T10:00" + (f", or as {self.time_format}" if self.time_format else "")
                problems.setdefault(row, f"{name} == {shown(value)}, must be {such}.")
        return found

    def _order(self, values: Mapping[str, Any], problems: dict[int, str]) -> np.ndarray | None:
        """Numbers or texts by which events are ordered; what is missing comes last."""
        name = self.prefixes.roles.order
        if name is None:
            return None
        texts = [text_of(value) or None for value in values[name]]
        if not self.ordinal:
            return np.array(texts, object)
        numbers = np.array([math.inf if text is None else number_of(text) for text in texts], np.float64)
        for row in np.flatnonzero(np.isnan(numbers)).tolist():
            problems.setdefault(row, f"{name} == {shown(texts[row])}, must be a number.")
        return numbers

    def answered(
        self, events: Events, reasons: int = 0
    ) -> tuple[np.ndarray, dict[str, np.ndarray], list[tuple[str, ...]]]:
        """Answers to whole cases.

        Args:
            events: Rows by case and in order, at least one.
            reasons: How many a case at most.
        Returns:
            The cases' codes, shape (n,), their answers by name without the case's, and their reasons if asked for.
        """
        prefixes = self.encoded(events)
        probability = self.model.probability(prefixes)
        likely = np.argsort(-probability, axis=1, kind="stable")[:, :NAMED]
        labels, columns = np.array(self.prefixes.labels, object), dict[str, np.ndarray]()
        for place in range(NAMED):
            after = "" if place == 0 else f"_{place + 1}"
            columns[f"next_event{after}"] = labels[likely[:, place]]
            columns[f"probability{after}"] = probability[np.arange(len(likely)), likely[:, place]]
        columns |= self.model.ahead(prefixes)
        told = list[tuple[str, ...]]()
        if reasons:
            effects = self.effects(events, prefixes, likely[:, 0], columns["probability"])
            told = self._why(events, prefixes, effects, reasons)
        return events.code[prefixes.asked], columns, told

    def encoded(self, events: Events, *, every: bool = False) -> Prefixes:
        """Rows by case and in order as prefixes; asked about are the last of each case, or every one."""
        cases = Cases.numbered(events.code)
        columns = self.prefixes.arrays(cases, events.values, events.when, events.opened)
        asked = np.arange(len(events)) if every else np.flatnonzero(cases.last)
        return Prefixes(columns, asked, cases.first[asked])

    def effects(
        self, events: Events, prefixes: Prefixes, likely: np.ndarray, probability: np.ndarray
    ) -> list[np.ndarray]:
        """How much the events before the last speak for what comes next, the latest first, at most `OCCLUDED` a case.

        An event's effect is what the log-odds of that next event lose when the case is told without it (Robnik-Sikonja
        and Kononenko 2008, Explaining classifications for individual instances, equation 5). The last event stays:
        without it another question would be asked.

        Args:
            events: Rows by case and in order.
            prefixes: The same encoded, asked about the last of each case.
            likely: The label of each case's next event, shape (n,).
            probability: Of it, shape (n,).
        """
        sizes = prefixes.asked - prefixes.first + 1
        asked = np.minimum(sizes - 1, OCCLUDED)
        case = np.repeat(np.arange(len(sizes)), asked)
        back = 1 + np.arange(len(case)) - np.repeat(np.cumsum(asked) - asked, asked)
        without, begin = np.empty(len(case)), 0
        for end in _ends(sizes[case] - 1):
            spans = zip(prefixes.first[case[begin:end]], prefixes.asked[case[begin:end]], back[begin:end], strict=True)
            rows = [np.delete(np.arange(first, last + 1), last - steps - first) for first, last, steps in spans]
            variant = np.repeat(np.arange(end - begin), [len(each) for each in rows])
            made = self.encoded(events.take(np.concatenate(rows), variant))
            without[begin:end] = self.model.probability(made)[np.arange(end - begin), likely[case[begin:end]]]
            begin = end
        effects = _log_odds(probability)[case] - _log_odds(without)
        return np.split(effects, np.cumsum(asked)[:-1])

    def spoken_for(self, rows: pd.DataFrame) -> np.ndarray:
        """`effects` of the raw rows of one case, the latest event first."""
        _, events, usable, _ = self.read({name: rows[name] for name in self.schema.names})
        events = events.take(events.sorted(usable)[0])
        prefixes = self.encoded(events)
        probability = self.model.probability(prefixes)
        return self.effects(events, prefixes, probability.argmax(axis=1), probability.max(axis=1))[0]

    def _why(self, events: Events, prefixes: Prefixes, effects: list[np.ndarray], most: int) -> list[tuple[str, ...]]:
        """The events that speak most for what comes next, the strongest first."""
        names, told = events.values[self.prefixes.roles.event], []
        for last, each in zip(prefixes.asked.tolist(), effects, strict=True):
            loud = [int(at) + 1 for at in np.argsort(-np.round(each, 6), kind="stable")[:most] if each[at] > SMALL]
            told.append(tuple(f"{names[last - ago]} {ago} event{'s' * (ago > 1)} ago" for ago in loud))
        return told

    def golden(self, rows: pd.DataFrame) -> np.ndarray:
        """What is said after each row: probabilities of what comes next, then what lies ahead, times as log(1 + t) and
        -1 where they are not told, shape (n, k + m); NaN where a row cannot be read.
        """
        _, events, usable, _ = self.read({name: rows[name] for name in self.schema.names})
        order, _ = events.sorted(usable)
        made = np.full((len(rows), self.model.classes + len(self.model.names)), np.nan)
        if len(order):
            prefixes = self.encoded(events.take(order), every=True)
            ahead = self.model.ahead(prefixes)
            made[order] = np.column_stack([self.model.probability(prefixes), *compared(ahead)])
        return made

    def effort(self, rows: Sequence[Mapping[str, Any]], reasons: int) -> float:
        cases = len({text_of(row.get(self.prefixes.roles.case)) for row in rows})
        return (40 * cases + len(rows)) * (1 + bool(reasons) * OCCLUDED / 2)


def compared(ahead: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What lies ahead as it is compared: times as log(1 + t), -1 where they are infinite."""
    timed = tuple(TIMES.values())
    return [
        np.where(np.isinf(values), -1.0, np.log1p(np.where(np.isinf(values), 0.0, values)))
        if name.startswith(timed)
        else values
        for name, values in ahead.items()
    ]


def parts(events: Events, order: np.ndarray) -> Iterator[Events]:
    """Rows, numbered by case and in order, as parts of whole cases, of about `ROWS` rows each."""
    code = events.code[order]
    begins = np.flatnonzero(np.append(True, code[1:] != code[:-1])[: len(code)])
    start = 0
    for end in _ends(np.diff(np.append(begins, len(code)))):
        stop = begins[end] if end < len(begins) else len(code)
        yield events.take(order[begins[start] : stop])
        start = end


def _ends(sizes: np.ndarray) -> Iterator[int]:
    """Where parts end that have about `ROWS` rows each, of cases of such sizes."""
    total, start = np.cumsum(sizes), 0
    while start < len(sizes):
        before = total[start - 1] if start else 0
        start = max(start + 1, int(np.searchsorted(total, before + ROWS, side="right")))
        yield start


def _ranked(order: np.ndarray) -> np.ndarray:
    """Numbers as they are, texts by their place in the alphabet; what is missing comes last."""
    if order.dtype != object:
        return order
    rank = {text: place for place, text in enumerate(sorted(set(order.tolist()) - {None}))}
    return np.array([rank.get(text, len(rank)) for text in order.tolist()], np.int64)


def _log_odds(probability: np.ndarray) -> np.ndarray:
    p = np.clip(probability, EDGE, 1 - EDGE)
    return np.log(p) - np.log1p(-p)


def expit(margins: np.ndarray) -> np.ndarray:
    """The probability of log-odds."""
    return 1 / (1 + np.exp(np.minimum(-margins, 700)))


def build(
    folder: Path,
    manifest: dict[str, Any],
    *,
    schema: Mapping[str, Any],
    threshold: Mapping[str, Any],
    files: Whole | Mapping[str, bytes],
) -> SequenceBundle:
    """A bundle from the content of its files."""
    told = json.loads(files[PARTS])
    prefixes = PrefixSchema.of_plain_log(schema["columns"], schema["log"])
    with np.load(io.BytesIO(files[TABLES]), allow_pickle=False) as archive:
        tables = dict(archive)
    parts = _Parts(told, tables, files)
    model = Model(
        classes=len(prefixes.labels),
        members=[(each["share"], parts.member(each)) for each in told["members"]],
        calibrate=calibrator(told["calibrator"], told["least"]),
        unseen=told["unseen"],
        times={kind: parts.times(each) for kind, each in told["times"].items()},
        outcome=None if told["outcome"] is None else parts.boost(told["outcome"]),
        sure=_sure(told["sure"]),
        dated=threshold["dated"],
        horizons=tuple(threshold["horizons_days"]),
        level=threshold["level"],
    )
    return SequenceBundle(
        folder=folder,
        manifest=manifest,
        schema=prefixes.raw,
        id=prefixes.roles.case,
        prefixes=prefixes,
        ignored=frozenset(schema["ignored"]),
        time_format=schema["time_format"],
        ordinal=schema["ordinal"],
        min_prefix=threshold["min_prefix"],
        model=model,
    )


@dataclass(frozen=True)
class _Parts:
    """What `sequence.json` says, made again."""

    told: Mapping[str, Any]
    tables: Mapping[str, np.ndarray]
    files: Whole | Mapping[str, bytes]

    def member(self, told: Mapping[str, Any]) -> Member:
        codes = np.array(told["codes"], np.int64)
        match told["kind"]:
            case "prior":
                return Prior(codes, np.array(told["constant"], np.float64))
            case "markov":
                return Logs(codes, self.markov(told["table"]), self.told["least"])
            case "trees":
                return Logs(codes, self.boost(told), self.told["least"])
            case "net":
                places = [{name: at for at, name in enumerate(each["levels"], 1)} for each in told["categories"]]
                return Net(codes, told, places, self.graph(told["graph"]))
            case other:
                raise ValueError(f"a member is of kind {other!r}")

    def markov(self, name: str) -> Markov:
        vocabulary, known = self.told["vocabulary"], {}
        order = int(self.tables[f"{name}.order"])
        for length in range(order + 1):
            histories, begins, codes, kept, shared = (
                self.tables[f"{name}.{length}.{part}"] for part in ("histories", "begins", "codes", "kept", "shared")
            )
            if not (len(histories) == len(shared) == len(begins) - 1 and len(codes) == len(kept) == begins[-1]):
                raise ValueError(f"the table {name} has parts of other lengths than they must have")
            spans = zip(begins[:-1].tolist(), begins[1:].tolist(), strict=True)
            for row, (history, (start, end)) in enumerate(zip(histories.tolist(), spans, strict=True)):
                events = tuple(vocabulary[event] for event in history)
                known[events] = (codes[start:end], kept[start:end], float(shared[row]))
        return Markov(int(self.tables[f"{name}.classes"]), order, known)

    def boost(self, told: Mapping[str, Any]) -> Boost:
        trees = None if told["graph"] is None else self.trees(told)
        rest = None if told["rest"] is None else self.markov(told["rest"])
        kept, seen = (np.array(told[name], np.int64) for name in ("kept", "seen"))
        return Boost(told["classes"], kept, seen, told["shift"], trees, rest)

    def trees(self, told: Mapping[str, Any]) -> Trees:
        return Trees(Matrix.of_plain(told["matrix"]), self.graph(told["graph"]))

    def times(self, told: Mapping[str, Any]) -> Times:
        edges, raw, calibrated = (np.array(told[name], np.float64) for name in ("edges", "raw", "calibrated"))
        return Times(self.trees(told), edges, told["least"], raw, calibrated)

    def graph(self, name: str) -> onnxruntime.InferenceSession:
        from .scorer import session

        try:
            return session(self.files[name])
        except ImportError as error:
            raise BundleError(
                f"{name} needs onnxruntime: {error}. pip install -r requirements.txt, as lies in the bundle."
            ) from None


def _sure(told: Mapping[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """What calibrates a single probability, by its kind and numbers."""

    def beta(probability: np.ndarray) -> np.ndarray:
        p = np.clip(probability, told["least"], 1 - told["least"])
        return expit(told["a"] * np.log(p) - told["b"] * np.log1p(-p) + told["c"])

    return {"none": lambda probability: probability, "beta": beta}[told["kind"]]
