"""Sequence: what comes next in a case, from the events so far. Candidates from the plainest to the most capable.

A row is a prefix: all that happened in a case up to one of its events. To add a candidate, write how it is built and
what may be searched, and append it to `CANDIDATES`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.dummy import DummyClassifier

from cxlab.data.case_split import split_cases
from cxlab.data.log import LogTable
from cxlab.data.split import Split
from cxlab.data.table import Table
from cxlab.errors import ParamsError
from cxlab.features.prefixes import LogRoles, PrefixSchema, feature_of, prefix_schema
from cxlab.metrics.classification import Metric
from cxlab.metrics.multiclass import sequence_metrics
from cxlab.models import sequence_nets
from cxlab.models.ahead import facts_of, look_ahead
from cxlab.models.markov import BETWEEN, KneserNey
from cxlab.models.prefix_boost import PrefixBoost
from cxlab.models.sequence_nets import SequenceNet
from cxlab.models.task import Candidate, Ground, Model, Space, Task
from cxlab.params import DataParams, Params, ValueParams

GIVERS = 20  # of the same two events, below which one event has to do
CONTEXT = ("gap", "elapsed", "hour", "weekday")  # of an event, besides its name and attributes, for networks


def prior(schema: PrefixSchema, settings: dict[str, Any], seed: int) -> DummyClassifier:  # noqa: ARG001
    """The shares of the events, whatever came before: what every other candidate has to beat."""
    return DummyClassifier()


def markov(schema: PrefixSchema, settings: dict[str, Any], seed: int) -> KneserNey:  # noqa: ARG001
    """The last events alone."""
    return KneserNey(len(schema.labels))


def lightgbm(schema: PrefixSchema, settings: dict[str, Any], seed: int) -> PrefixBoost:
    """All that is known of a prefix."""
    return PrefixBoost(schema.features, len(schema.labels), seed=seed, **settings)


def _net(kind: str) -> Any:
    def build(schema: PrefixSchema, settings: dict[str, Any], seed: int) -> SequenceNet:
        inputs = (*CONTEXT, *(feature_of(column.name) for column in schema.attributes))
        return SequenceNet(kind, columns=inputs, seed=seed, **settings)

    return build


def needs_torch(params: Params) -> str | None:  # noqa: ARG001
    """Why no network can be trained here."""
    return sequence_nets.available()


CANDIDATES = (
    Candidate("prior", "the shares of the events", prior, constant=True),
    Candidate("markov", "the last events (Kneser-Ney)", markov),
    Candidate(
        "lightgbm",
        "LightGBM on features of the prefix",
        lightgbm,
        default={"num_leaves": 15, "min_child_samples": 30, "reg_lambda": 10.0},
        space=Space(num_leaves=(4, 31, "log"), min_child_samples=(10, 200, "log"), reg_lambda=(1.0, 50.0, "log")),
    ),
    Candidate("gru", "a recurrent network (GRU)", _net("gru"), needs=needs_torch),
    Candidate(
        "transformer", "a small causal transformer", _net("transformer"), default={"epochs": 20}, needs=needs_torch
    ),
)


def roles_of(data: DataParams) -> LogRoles:
    """The roles as a model keeps them."""
    named = {name: str(getattr(data, name)) for name in ("case", "event", "time")}
    return LogRoles(**named, order=data.order, opened=data.opened, attributes=data.attributes, timezone=data.timezone)


def split(table: Table, params: Params) -> Split:
    """Which cases train and which test, where what is asked of the log is in it.

    Raises:
        DataError: There are too few cases, or the outcome is not in the log.
        ParamsError: The split is none for logs.
    """
    if not isinstance(table, LogTable):
        raise ParamsError("The task sequence reads a log: load it with cxlab.load_table(params).")
    facts_of(table, params.sequence)
    return split_cases(table, params.split, params.sequence)


def ground(table: Table, params: Params) -> Ground:
    """Prefixes of training cases, and what came next."""
    parts = split(table, params)
    assert isinstance(table, LogTable)
    schema = prefix_schema(table.frame.iloc[parts.train], roles_of(params.data))
    X = schema.encode(table.frame.iloc[parts.train])
    y = waited_for(schema.following(table.frame)[parts.train], X, table, parts)
    return Ground(schema, parts, X, y, params.split.seed, schema.labels, table.cases)


def waited_for(y: np.ndarray, X: pd.DataFrame, table: LogTable, split: Split) -> np.ndarray:
    """What came next, shape (n_train,), where cases that were still open take it from one that had waited as long.

    Of a case that was open at the border it is known that its next event takes longer than it has waited. It is given
    what came next for a random one of those that waited longer after the same event, after the same two where there are
    enough (a hot deck, Andridge and Little 2010; in expectation Efron's 1967 redistribution to the right, that is to
    say Kaplan and Meier's estimate). Where nobody waited so long, it takes what came after the longest wait.
    """
    if split.censored is None or not len(split.censored):
        return y
    when = table.when[split.train]
    last = np.append(np.diff(table.cases[split.train]) != 0, True)
    wait = np.where(last, 0, np.append(when[1:], 0) - when)  # the end comes with the last event
    waiting = np.zeros(len(y), bool)
    waiting[split.censored] = True
    wait[waiting] = int(split.border or 0) - when[waiting]
    rng, made = np.random.default_rng(split.border), y.copy()
    commonest = np.bincount(y[~waiting]).argmax()
    one = pd.factorize(X["event"])[0]
    two = pd.factorize(X["event"] + BETWEEN + X["event_1"])[0]
    for row in split.censored:
        for key in (two, one):
            givers = np.flatnonzero((key == key[row]) & ~waiting)
            longer = givers[wait[givers] > wait[row]]
            if len(longer) >= (GIVERS if key is two else 1):
                made[row] = y[rng.choice(longer)]
                break
        else:
            made[row] = y[givers[wait[givers].argmax()]] if len(givers) else commonest
    return made


def outcome(table: Table, part: Any = None) -> np.ndarray:  # noqa: ARG001
    """What comes next is known once the schema is."""
    raise ParamsError("The outcome of a sequence needs the model's schema: ask schema.following(log).")


def metrics(value: ValueParams) -> tuple[Metric, ...]:  # noqa: ARG001
    return sequence_metrics()


def complete(model: Model, ground: Ground, table: Table, params: Params) -> None:
    """Teaches a selected model what lies ahead besides the next event."""
    assert isinstance(model.schema, PrefixSchema) and isinstance(table, LogTable)
    model.ahead = look_ahead(model.schema, ground.X, table, ground.split, params)


TASK = Task(
    "sequence",
    CANDIDATES,
    outcome,
    metrics,
    selection_metric="log_loss",
    many=True,
    gain=0.0001,
    split=split,
    ground=ground,
    complete=complete,
)
