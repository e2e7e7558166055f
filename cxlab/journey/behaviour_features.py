"""What a case's journey was like, in numbers: one row a case.

| group | features |
|---|---|
| length | events, different kinds of events |
| counts | events of each kind |
| mix | the share of each kind in the case's events |
| pace | days from the first to the last event, events a day, the median and the longest time between two events |
| daypart | the share of events at night (0 to 6 h UTC), in the morning, the afternoon and the evening (18 to 24 h) |
| loops | the share of events of a kind that was there before, and of those straight after one of their own kind |
| ends | which kind of event came first, and which last |

Segments are made of mix, pace, daypart and loops unless somebody asks for others, and described by all: counts and
length say with more noise what mix and pace say, and ends split any cases by their first event.

Before cases are compared, counts and times are taken as log(1 + x), and the shares of a mix or of dayparts as their
square roots, which makes the distance Hellinger's (Legendre and Gallagher 2001, Ecologically meaningful transformations
for ordination of species data). Features in other units are centred at their median and divided by their interquartile
range over 1.349 (by their standard deviation where the middle half of the cases are alike), and cut at 3 either way, so
that no single case decides; shares have one unit and stay as they are. Each group then is divided by the square root of
its total variance (block scaling: Westerhuis, Kourti and MacGregor 1998, Analysis of multiblock and hierarchical PCA
and PLS models), or a group of many features would outweigh one of few; and of all of them the principal components that
hold nine tenths of the variance are kept, 15 at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from cxlab.journey.events import Steps, seconds_between

Array = np.ndarray

DEFAULT = ("mix", "pace", "daypart", "loops")
GROUPS = ("length", "counts", "mix", "pace", "daypart", "loops", "ends")
DAYPARTS = ("night", "morning", "afternoon", "evening")
KINDS = 20  # kinds of events with features of their own, the commonest
ENDS = 8  # kinds that journeys begin or end with
CUT = 3.0
HELD, COMPONENTS = 0.9, 15
NORMAL = 1.349  # the interquartile range of a normal distribution in its standard deviations
HOUR, DAY = 3_600, 86_400  # seconds


@dataclass(frozen=True)
class Feature:
    """A column of the features, and its words.

    Attributes:
        group: One of GROUPS, or `own` for columns that somebody gives.
        scale: How it is compared: as its `log` (of 1 + x), its `root`, or as it is (`plain`).
        high: What a case with much of it is called.
        low: With little of it.
        none: With nothing of it at all.
        subject: Of features with one subject, one is in a name.
    """

    name: str
    group: str
    scale: Literal["log", "root", "plain"]
    high: str
    low: str
    none: str
    subject: str


@dataclass(frozen=True)
class Recipe:
    """Which kinds of events have features of their own, learnt of some cases and used for others."""

    kinds: tuple[str, ...]
    first: tuple[str, ...]
    last: tuple[str, ...]
    groups: tuple[str, ...]

    @classmethod
    def learn(cls, log: Steps, groups: Sequence[str]) -> Recipe:
        """The commonest kinds of events, of equals the first by name."""
        t = log.table
        counted = t.group_by("event").aggregate(
            n=t.count(), first=(t.position == 1).sum(), last=t.next_time.isnull().sum()
        )
        found = log.ask(counted).astype({"event": str})
        names = {}
        for column, most in (("n", KINDS), ("first", ENDS), ("last", ENDS)):
            ranked = found[found[column] > 0].sort_values([column, "event"], ascending=[False, True])
            names[column] = tuple(ranked["event"].head(most))
        return cls(names["n"], names["first"], names["last"], tuple(groups))

    def features(self) -> list[Feature]:
        """Every feature of the groups asked for, in the order of the columns of `read`."""
        out = [
            Feature("events", "length", "log", "long", "short", "short", "length"),
            Feature("kinds of events", "length", "log", "varied", "of few kinds", "of few kinds", "kinds"),
        ]
        for kind in self.kinds:
            words = (f"many {kind}", f"few {kind}", f"no {kind}", f"count {kind}")
            out.append(Feature(f"count of {kind}", "counts", "log", *words))
        for kind in self.kinds:
            words = (f"much {kind}", f"little {kind}", f"no {kind}", f"count {kind}")
            out.append(Feature(f"share of {kind}", "mix", "root", *words))
        out += [
            Feature("days", "pace", "log", "over many days", "over few days", "within a moment", "days"),
            Feature("events a day", "pace", "log", "fast", "slow", "slow", "speed"),
            Feature("hours between events", "pace", "log", "long gaps", "short gaps", "short gaps", "gap"),
            Feature("hours of the longest gap", "pace", "log", "a long pause", "no long pause", "no pause", "gap"),
        ]
        for part in DAYPARTS:
            when = "at night" if part == "night" else f"in the {part}"
            words = (f"{when}", f"seldom {when}", f"never {when}", f"at {part}")
            out.append(Feature(f"share {when}", "daypart", "root", *words))
        out += [
            Feature("share come again", "loops", "plain", "much again", "little again", "nothing again", "again"),
            Feature("share straight again", "loops", "plain", "straight again", "seldom straight again",
                    "nothing straight again", "again"),
        ]  # fmt: skip
        for kind in self.first:
            words = (f"begins with {kind}", f"seldom begins with {kind}", f"never begins with {kind}", "first")
            out.append(Feature(f"begins with {kind}", "ends", "plain", *words))
        for kind in self.last:
            words = (f"ends with {kind}", f"seldom ends with {kind}", f"never ends with {kind}", "last")
            out.append(Feature(f"ends with {kind}", "ends", "plain", *words))
        return [feature for feature in out if feature.group in self.groups]

    def read(self, log: Steps) -> pd.DataFrame:
        """The features of each case in natural units, one row a case, in the order of the cases' names.

        A case of one event has no time between events: its gaps are 0 hours. Events a day are of a day at least.
        """
        t = log.table
        gap = seconds_between(t.next_time, t.time)
        plain: dict[str, Any] = {
            "n": t.count(),
            "kinds": t.event.nunique(),
            "span": seconds_between(t.time.max(), t.time.min()),
            "gap": gap.median(),
            "pause": gap.max(),
            "straight": (t.event == t.next_event).sum(),
        }
        plain |= {f"count{i}": (t.event == kind).sum() for i, kind in enumerate(self.kinds)}
        plain |= {f"part{i}": (t.time.hour() // 6 == i).sum() for i in range(len(DAYPARTS))}
        plain |= {f"first{i}": ((t.position == 1) & (t.event == kind)).sum() for i, kind in enumerate(self.first)}
        plain |= {f"last{i}": (t.next_time.isnull() & (t.event == kind)).sum() for i, kind in enumerate(self.last)}
        found = log.ask(t.group_by("case_number").aggregate(case=t.case.arbitrary(), **plain))
        found = found.sort_values("case", ignore_index=True)
        held = {name: found[name].fillna(0).to_numpy(np.float64) for name in plain}
        n, days = held["n"], held["span"] / DAY
        counts = [held[f"count{i}"] for i in range(len(self.kinds))]
        columns = [n, held["kinds"], *counts, *(count / n for count in counts)]
        columns += [days, n / np.maximum(days, 1), held["gap"] / HOUR, held["pause"] / HOUR]
        columns += [held[f"part{i}"] / n for i in range(len(DAYPARTS))]
        columns += [1 - held["kinds"] / n, held["straight"] / n]
        columns += [held[f"first{i}"] for i in range(len(self.first))]
        columns += [held[f"last{i}"] for i in range(len(self.last))]
        every = Recipe(self.kinds, self.first, self.last, GROUPS).features()
        asked = {feature.name: column for feature, column in zip(every, columns, strict=True)
                 if feature.group in self.groups}  # fmt: skip
        return pd.DataFrame(asked, index=pd.Index(found["case"].astype(object), name="case"))


def own_features(frame: pd.DataFrame) -> list[Feature]:
    """Features of columns that somebody gives."""
    return [
        Feature(str(name), str(name), "plain", f"high {name}", f"low {name}", f"low {name}", str(name))
        for name in frame
    ]


def compared(values: pd.DataFrame, features: Sequence[Feature]) -> Array:
    """Features as they are compared; shape (n, f)."""
    held = values.to_numpy(np.float64)
    kinds = np.array([feature.scale for feature in features])
    logs = np.log1p(np.where(kinds == "log", held, 0))
    return np.select([kinds == "log", kinds == "root"], [logs, np.sqrt(np.where(kinds == "root", held, 0))], held)


@dataclass(frozen=True)
class Space:
    """Points of cases: features standardised, weighed by group, and turned to their principal components.

    Attributes:
        middle: What is taken off each feature, shape (f,).
        scale: What it is divided by, shape (f,); 0 where all cases are alike.
        cut: How far a feature may be from the middle, in its scale, shape (f,).
        weight: Of its group, shape (f,).
        mean: Of the weighed features, shape (f,).
        axes: Of the components, shape (f, d).
    """

    middle: Array
    scale: Array
    cut: Array
    weight: Array
    mean: Array
    axes: Array

    @classmethod
    def learn(cls, x: Array, features: Sequence[Feature]) -> Space:
        """Of features as they are compared, shape (n, f)."""
        low, middle, high = np.quantile(x, [0.25, 0.5, 0.75], axis=0)
        spread, sd = (high - low) / NORMAL, x.std(axis=0)
        tiny = 1e-9 * np.maximum(1, np.abs(middle))
        alike = np.array([feature.scale == "root" for feature in features], bool)
        scale = np.select([sd <= tiny, alike, spread > tiny], [0.0, 1.0, spread], sd)
        cut = np.where(alike, np.inf, CUT)
        plain = cls(middle, scale, cut, np.ones(x.shape[1]), np.zeros(x.shape[1]), np.eye(x.shape[1]))
        z, weight = plain.points(x), np.zeros(x.shape[1])
        for group in dict.fromkeys(feature.group for feature in features):
            own = np.array([feature.group == group for feature in features])
            total = z[:, own].var(axis=0).sum()
            weight[own] = 1 / np.sqrt(total) if total > 1e-12 else 0
        return cls._turned(middle, scale, cut, weight, z * weight)

    @classmethod
    def of_embeddings(cls, x: Array) -> Space:
        """Of embeddings, shape (n, d), which are centred alone."""
        ones = np.ones(x.shape[1])
        return cls._turned(np.zeros(x.shape[1]), ones, ones * np.inf, ones, x)

    @classmethod
    def _turned(cls, middle: Array, scale: Array, cut: Array, weight: Array, z: Array) -> Space:
        mean = z.mean(axis=0)
        variance, vectors = _spectrum(z)
        held = np.cumsum(variance) / max(variance.sum(), 1e-300)
        kept = min(int((held < HELD).sum()) + 1, COMPONENTS, int((variance > 1e-9 * max(variance[0], 1e-9)).sum()) or 1)
        return cls(middle, scale, cut, weight, mean, vectors[:, :kept])

    def points(self, x: Array) -> Array:
        """Shape (n, d)."""
        z = np.clip(np.divide(x - self.middle, self.scale, out=np.zeros_like(x), where=self.scale > 0),
                    -self.cut, self.cut)  # fmt: skip
        return (z * self.weight - self.mean) @ self.axes


def _spectrum(z: Array) -> tuple[Array, Array]:
    """Variances of the principal components, the largest first, and their directions, the sign fixed."""
    away = z - z.mean(axis=0)
    variance, vectors = np.linalg.eigh(away.T @ away / max(len(z), 1))
    variance, vectors = np.maximum(variance[::-1], 0), vectors[:, ::-1]
    strongest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    return variance, vectors * np.where(strongest < 0, -1, 1)
