"""What a task is: its candidates, its outcome, the metrics by which it is judged; and the model that leaves training.

Every task goes the one way of `training.train`; nothing but what is declared here differs between tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin

from cxlab.data.schema import Schema
from cxlab.metrics.classification import Metric
from cxlab.models import calibration
from cxlab.params import ValueParams

if TYPE_CHECKING:
    import optuna


class Space:
    """Ranges to search: `name=(low, high)` or `name=(low, high, "log")`; whole numbers where both ends are."""

    def __init__(self, **ranges: tuple[Any, ...]) -> None:
        self.ranges = ranges

    def propose(self, trial: optuna.Trial) -> dict[str, Any]:
        """Settings for one trial."""
        settings: dict[str, Any] = {}
        for name, (low, high, *scale) in self.ranges.items():
            suggest = trial.suggest_int if isinstance(low, int) and isinstance(high, int) else trial.suggest_float
            settings[name] = suggest(name, low, high, log="log" in scale)
        return settings


@dataclass(frozen=True)
class Candidate:
    """An estimator and what may be searched.

    Attributes:
        name: Short, as params and leaderboards write it.
        title: In words.
        build: (schema, settings, seed) to an unfitted estimator that reads what `Schema.encode` returns.
        default: Settings of the first trial.
        space: What later trials may change.
        constant: It tells nobody apart, so it is neither calibrated nor blended.
    """

    name: str
    title: str
    build: Callable[[Schema, dict[str, Any], int], BaseEstimator]
    default: Mapping[str, Any] = field(default_factory=dict)
    space: Space = field(default_factory=Space)
    constant: bool = False


@dataclass(frozen=True)
class Task:
    """A question that models answer.

    Attributes:
        name: As params write it.
        candidates: From the plainest to the most capable.
        outcome: (table, rows of a published test part or None) to class codes.
        metrics: Value params to the metrics by which models are judged.
        selection_metric: The metric by which search chooses, unless params name another.
        many: The outcome has any number of classes, and probabilities have shape (n, classes); else it has two, and
            those of the second have shape (n,).
    """

    name: str
    candidates: tuple[Candidate, ...]
    outcome: Callable[..., np.ndarray]
    metrics: Callable[[ValueParams], tuple[Metric, ...]]
    selection_metric: str
    many: bool = False


def probabilities(estimator: BaseEstimator, rows: pd.DataFrame, classes: int | None) -> np.ndarray:
    """What a fitted estimator says of cast rows: of `classes` classes, shape (n, classes), those that it never saw 0;
    of two, None, that of the second, shape (n,).
    """
    found = estimator.predict_proba(rows)
    if classes is None:
        return found[:, 1]
    every = np.zeros((len(found), classes))
    every[:, estimator.classes_] = found
    return every


class Model(ClassifierMixin, BaseEstimator):
    """A fitted model as it leaves training: raw rows in, calibrated probabilities out.

    Args:
        schema: How raw rows are cast.
        members: Fitted estimators on the cast rows.
        weights: Their shares, summing to one; a single candidate has one member.
        calibrator: Applied to the weighted mean.
        labels: Names of the classes where there may be more than two, in the order of their codes.
    """

    labels: tuple[str, ...] | None = None  # versions registered before there were many classes have none

    def __init__(
        self,
        schema: Schema,
        members: Sequence[BaseEstimator],
        weights: Sequence[float],
        calibrator: calibration.Calibrator | calibration.ManyCalibrator,
        labels: tuple[str, ...] | None = None,
    ) -> None:
        self.schema = schema
        self.members = members
        self.weights = weights
        self.calibrator = calibrator
        self.labels = labels
        self.classes_ = np.arange(2 if labels is None else len(labels))

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def uncalibrated(self, encoded: pd.DataFrame) -> np.ndarray:
        """What the calibrator gets for cast rows: the members' weighted mean, as `probabilities` shapes it."""
        classes = None if self.labels is None else len(self.labels)
        pairs = zip(self.weights, self.members, strict=True)
        return np.sum([weight * probabilities(member, encoded, classes) for weight, member in pairs], axis=0)

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Probabilities of raw rows, shape (n, classes)."""
        found = self.calibrator.apply(self.uncalibrated(self.schema.encode(X)))
        return np.column_stack([1 - found, found]) if self.labels is None else found

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """The likeliest class of raw rows, shape (n,)."""
        return self.predict_proba(X).argmax(axis=1)
