"""The test part of a log as evidence looks at it: prefixes encoded once, what came next, what the model said."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cxlab.data.log import LogTable
from cxlab.features.prefixes import PrefixSchema
from cxlab.models.ahead import Facts, facts_of
from cxlab.models.sequence_nets import SequenceNet
from cxlab.models.subject import Subject, subject_of
from cxlab.models.task import Model
from cxlab.models.training import Training

FREQUENT = 0.05  # share of rows from which on their number of events is matched in full


@dataclass(frozen=True)
class Prefixes:
    """Prefixes of the test cases.

    Attributes:
        subject: The model and its data.
        table: The log.
        schema: How prefixes are encoded.
        X: All test rows, encoded, shape (n, features).
        judged: Positions of those whose next event counts, shape (m,).
        y: Codes of what came next, shape (m,).
        score: What the model said of it, shape (m, k).
        facts: What became of the case of each row of the whole log.
    """

    subject: Subject
    table: LogTable = field(repr=False)
    schema: PrefixSchema = field(repr=False)
    X: pd.DataFrame = field(repr=False)
    judged: np.ndarray = field(repr=False)
    y: np.ndarray = field(repr=False)
    score: np.ndarray = field(repr=False)
    facts: Facts = field(repr=False)

    @property
    def case(self) -> np.ndarray:
        """The case of each test row, numbered from 0, shape (n,)."""
        return self.X.index.get_level_values(0).to_numpy()

    @property
    def position(self) -> np.ndarray:
        """Events seen at each test row, shape (n,)."""
        return self.X.index.get_level_values(1).to_numpy()

    @property
    def right(self) -> np.ndarray:
        """Whether the likeliest event came, shape (m,)."""
        return self.score.argmax(axis=1) == self.y

    @property
    def confidence(self) -> np.ndarray:
        """The probability of the likeliest event, shape (m,)."""
        return np.minimum(self.score.max(axis=1), 1.0)

    @property
    def waiting(self) -> np.ndarray:
        """Whether a prediction is asked for at each row of the log: enough events, and none that ends a case."""
        ends = self.table.frame[str(self.table.roles.event)].astype(str).isin(self.table.roles.ends).to_numpy()
        return (self.table.seen >= self.subject.params.sequence.min_prefix) & ~ends


def prefixes_of(training: Training) -> Prefixes:
    """The test part of a training on a log."""
    subject = subject_of(training)
    schema, table = subject.model.schema, subject.table
    assert isinstance(schema, PrefixSchema) and isinstance(table, LogTable)
    return Prefixes(
        subject,
        table,
        schema,
        schema.encode(subject.test),
        subject.judged,
        training.outcome_test,
        training.scores[training.selected],
        facts_of(table, subject.params.sequence),
    )


def some_cases(case: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Positions of all rows of cases drawn at random, about as many rows as `most`, in order; all if they are fewer.

    Args:
        case: Whose each row is, shape (n,).
        most: Rows, >= 1; one case is always drawn.
        seed: Of the draw.
    """
    if len(case) <= most:
        return np.arange(len(case))
    codes, counts = np.unique(case, return_inverse=True, return_counts=True)[1:]
    order = np.random.default_rng(seed).permutation(len(counts))
    kept = order[: max(1, int((np.cumsum(counts[order]) <= most).sum()))]
    return np.flatnonzero(np.isin(codes, kept))


def one_each(case: np.ndarray, seed: int) -> np.ndarray:
    """The position of one random row of each case, in order, so that they depend on each other no more."""
    order = np.random.default_rng(seed).permutation(len(case))
    return np.sort(order[np.unique(case[order], return_index=True)[1]])


def matched(case: np.ndarray, seen: np.ndarray, like: np.ndarray, seed: int) -> np.ndarray:
    """Positions of random rows, at most one of each case, with as many events seen as other rows have.

    One random row of each case is kept or not, by how much rarer its number of events is here than there (rejection
    sampling, von Neumann 1951). Numbers that few of the other rows have may stay rarer here.

    Args:
        case: Whose each row is, shape (n,).
        seen: Events up to each row, >= 1, shape (n,); above 8 they are matched in bins that grow by a half.
        like: Events seen of the rows to be matched, shape (m,).
        seed: Of the draw.
    """
    drawn = one_each(case, seed)
    here, there = (_bin(part) for part in (seen[drawn], like))
    bins = int(max(here.max(), there.max())) + 1
    given, wanted = (np.bincount(part, minlength=bins) for part in (here, there))
    rarer = wanted / np.maximum(given, 1)
    most = rarer[wanted >= FREQUENT * len(like)].max()
    return drawn[np.random.default_rng([seed, 1]).random(len(drawn)) * most < rarer[here]]


def _bin(seen: np.ndarray) -> np.ndarray:
    return np.where(seen <= 8, seen, 8 + np.floor(np.log(np.maximum(seen, 8) / 8) / np.log(1.5))).astype(int)


def probabilities(model: Model, X: pd.DataFrame, at: np.ndarray) -> np.ndarray:
    """What a model says at some positions of encoded whole cases, shape (len(at), k).

    Networks read the events before from the rows before; all others read a row by itself.
    """
    if any(isinstance(member, SequenceNet) for member in model.members):
        return model.calibrated(X)[at]
    return model.calibrated(X.iloc[at])
