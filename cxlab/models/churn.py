"""Churn: any binary outcome of a customer. Its candidates, from the plainest to the most capable.

To add one, write how it is built and what may be searched, and append it to `CANDIDATES`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lightgbm import LGBMClassifier
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from cxlab.data.schema import Schema
from cxlab.data.table import Table
from cxlab.features.tabular import HingeBasis, columns
from cxlab.metrics.classification import Metric, churn_metrics
from cxlab.models.task import Candidate, Space, Task
from cxlab.params import ValueParams

BAGS = 5


def prior(schema: Schema, settings: dict[str, Any], seed: int) -> Pipeline:  # noqa: ARG001
    """The share of churners, whoever asks: what every other candidate has to beat."""
    return Pipeline([("columns", columns(schema, numbers=HingeBasis(1), seed=seed)), ("model", DummyClassifier())])


def logistic(schema: Schema, settings: dict[str, Any], seed: int) -> Pipeline:
    """Logistic regression on hinges: additive, readable, hard to fool."""
    basis = HingeBasis(settings["n_knots"])
    model = LogisticRegression(C=settings["C"], solver="newton-cholesky")
    return Pipeline([("columns", columns(schema, numbers=basis, seed=seed)), ("model", model)])


def lightgbm(schema: Schema, settings: dict[str, Any], seed: int) -> Pipeline:
    """Bagged, shallow boosted trees: interactions, at low variance. One thread each, so that a run repeats."""
    boosted = LGBMClassifier(
        **settings,
        colsample_bytree=0.5,
        subsample=0.7,
        subsample_freq=1,
        random_state=seed,
        n_jobs=1,
        deterministic=True,
        force_row_wise=True,
        verbose=-1,
    )
    bagged = BaggingClassifier(boosted, n_estimators=BAGS, max_samples=0.8, bootstrap=False, random_state=seed)
    return Pipeline([("columns", columns(schema, numbers="passthrough", seed=seed)), ("model", bagged)])


CANDIDATES = (
    Candidate("prior", "the share of churners", prior, constant=True),
    Candidate(
        "logistic",
        "logistic regression on hinges",
        logistic,
        default={"C": 0.1, "n_knots": 5},
        space=Space(C=(0.01, 10.0, "log"), n_knots=(2, 10)),
    ),
    Candidate(
        "lightgbm",
        f"{BAGS} bagged LightGBMs",
        lightgbm,
        default={
            "n_estimators": 300,
            "learning_rate": 0.05,
            "num_leaves": 3,
            "min_child_samples": 40,
            "reg_lambda": 5.0,
        },
        space=Space(
            n_estimators=(100, 600, "log"),
            learning_rate=(0.02, 0.1, "log"),
            num_leaves=(3, 24, "log"),
            min_child_samples=(10, 100, "log"),
            reg_lambda=(0.1, 30.0, "log"),
        ),
    ),
)


def outcome(table: Table, part: Any = None) -> np.ndarray:
    return table.outcome(part)


def metrics(value: ValueParams) -> tuple[Metric, ...]:
    return churn_metrics(value.capacity)


TASK = Task("churn", CANDIDATES, outcome, metrics, selection_metric="log_loss")
