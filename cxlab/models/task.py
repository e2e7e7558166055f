"""What a task is: its candidates, its outcome, the metrics by which it is judged; and the model that leaves training.

Every task goes the one way of `training.train`; nothing but what is declared here differs between tasks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin

from cxlab.data.schema import Schema
from cxlab.data.split import Split
from cxlab.data.table import Table
from cxlab.errors import ParamsError
from cxlab.features.encoder import SentenceEncoder
from cxlab.features.prefixes import PrefixSchema
from cxlab.metrics.classification import Metric
from cxlab.models import calibration
from cxlab.models.answer import Answers, Doubt, Spoken, answer
from cxlab.params import Params, ValueParams

if TYPE_CHECKING:
    import optuna

    from cxlab.models.ahead import Ahead

UNSEEN = 5.0  # how far below all others the margin of a class lies that a member never saw


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
        told: Keys of the params that its settings get besides those that are searched.
        needs: Params to why it can't run here, None where it can.
        costly: It runs only where params name it.
    """

    name: str
    title: str
    build: Callable[[Any, dict[str, Any], int], BaseEstimator]
    default: Mapping[str, Any] = field(default_factory=dict)
    space: Space = field(default_factory=Space)
    constant: bool = False
    told: tuple[str, ...] = ()
    needs: Callable[[Params], str | None] | None = None
    costly: bool = False


@dataclass(frozen=True)
class Task:
    """A question that models answer.

    Attributes:
        name: As params write it.
        candidates: From the plainest to the most capable.
        outcome: (table, rows of a published test part or None) to class codes.
        metrics: Value params to the metrics by which models are judged.
        selection_metric: The metric by which search chooses, unless params name another.
        many: The outcome has any number of classes: a candidate's predictions are margins of shape (n, classes), of
            which softmax makes probabilities. Else it has two, and predictions are the probability of the second,
            shape (n,).
        doubts: A model of it may say that it does not know.
        gain: Share of the loss that a member must save to join a blend, for each makes the model larger and slower.
        split: (table, params) to which rows train and test, where rows are not split one by one.
        ground: (table, params) to what candidates learn from, where rows are not cast one by one.
        complete: Called with (model, ground, table, params) once a model is selected: it learns what else is asked.
    """

    name: str
    candidates: tuple[Candidate, ...]
    outcome: Callable[..., np.ndarray]
    metrics: Callable[[ValueParams], tuple[Metric, ...]]
    selection_metric: str
    many: bool = False
    doubts: bool = False
    gain: float = 0.01
    split: Callable[[Table, Params], Split] | None = None
    ground: Callable[[Table, Params], Ground] | None = None
    complete: Callable[[Model, Ground, Table, Params], None] | None = None


@dataclass(frozen=True)
class Ground:
    """What every candidate learns from: the training part, cast, with its folds.

    Attributes:
        schema: How raw rows are cast.
        split: Which rows did what.
        X: The training part, cast.
        y: Its outcomes.
        seed: Of all that is drawn.
        labels: Names of the classes where there may be more than two.
        groups: Of each row of the table, whose it is, where rows of one depend on one another.
    """

    schema: Schema
    split: Split
    X: pd.DataFrame
    y: np.ndarray
    seed: int
    labels: tuple[str, ...] | None
    groups: np.ndarray | None = None

    @functools.cached_property
    def valid(self) -> np.ndarray:
        """Positions of the validated training rows, in the order of out-of-fold predictions."""
        return np.concatenate(self.split.validated)

    @property
    def y_valid(self) -> np.ndarray:
        """Outcomes in the order of out-of-fold predictions; a temporal split validates only the later rows."""
        return self.y[self.valid]

    @functools.cached_property
    def fold_positions(self) -> list[np.ndarray]:
        """Where each fold's rows stand among the out-of-fold predictions."""
        ends = np.cumsum([len(valid) for valid in self.split.validated])
        return np.split(np.arange(ends[-1]), ends[:-1])

    def groups_of(self, rows: np.ndarray) -> np.ndarray | None:
        """Whose some rows of the table are; None where each is its own."""
        return None if self.groups is None else self.groups[rows]


def predictions(estimator: BaseEstimator, rows: pd.DataFrame, classes: int | None) -> np.ndarray:
    """What a fitted estimator says of cast rows: of `classes` classes their margins, shape (n, classes), where one that
    it never saw is below all others; of two, None, the probability of the second, shape (n,).
    """
    if classes is None:
        return estimator.predict_proba(rows)[:, 1]
    if hasattr(estimator, "decision_function"):
        found = np.asarray(estimator.decision_function(rows))
        found = np.column_stack([-found / 2, found / 2]) if found.ndim == 1 else found
    else:
        found = np.log(np.maximum(estimator.predict_proba(rows), calibration.LEAST))
    if found.shape[1] == classes:
        return found
    every = np.repeat(found.min(axis=1, keepdims=True) - UNSEEN, classes, axis=1)
    every[:, estimator.classes_] = found
    return every


def outcomes(task: Task, model: Model, table: Table, rows: pd.DataFrame) -> np.ndarray:
    """Outcomes of raw rows in {0, 1}, or class codes, shape (n,); of a log, whole cases of it, what came next."""
    return model.schema.following(rows) if isinstance(model.schema, PrefixSchema) else task.outcome(table, rows)


class Model(ClassifierMixin, BaseEstimator):
    """A fitted model as it leaves training: raw rows in, calibrated probabilities out.

    Args:
        schema: How raw rows are cast.
        members: Fitted estimators on the cast rows.
        weights: Their shares, summing to one; a single candidate has one member.
        calibrator: Applied to the weighted mean: of probabilities, of many classes of margins, which is to say to the
            geometric mean of probabilities.
        labels: Names of the classes where there may be more than two, in the order of their codes.
        doubt: When it should not answer; of many classes alone.

    Attributes:
        ahead: What lies ahead of a case besides its next event; of sequences alone.
    """

    labels: tuple[str, ...] | None = None  # versions registered before there were many classes have none
    doubt: Doubt | None = None
    ahead: Ahead | None = None

    def __init__(
        self,
        schema: Schema,
        members: Sequence[BaseEstimator],
        weights: Sequence[float],
        calibrator: calibration.Calibrator | calibration.ManyCalibrator,
        labels: tuple[str, ...] | None = None,
        *,
        doubt: Doubt | None = None,
    ) -> None:
        self.schema = schema
        self.members = members
        self.weights = weights
        self.calibrator = calibrator
        self.labels = labels
        self.doubt = doubt
        self.classes_ = np.arange(2 if labels is None else len(labels))

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def raw(self, encoded: pd.DataFrame) -> np.ndarray:
        """The members' weighted mean for cast rows, as `predictions` shapes it."""
        classes = None if self.labels is None else len(self.labels)
        pairs = zip(self.weights, self.members, strict=True)
        return np.sum([weight * predictions(member, encoded, classes) for weight, member in pairs], axis=0)

    def uncalibrated(self, encoded: pd.DataFrame) -> np.ndarray:
        """What the calibrator gets for cast rows: probabilities, shape (n,), or (n, classes) of many."""
        found = self.raw(encoded)
        return found if self.labels is None else softmax(found, axis=1)

    def calibrated(self, encoded: pd.DataFrame) -> np.ndarray:
        """Probabilities of cast rows, shaped as `uncalibrated`."""
        return self.calibrator.apply(self.uncalibrated(encoded))

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Probabilities of raw rows, shape (n, classes)."""
        found = self.calibrated(self.schema.encode(X))
        return np.column_stack([1 - found, found]) if self.labels is None else found

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """The likeliest class of raw rows, shape (n,)."""
        return self.predict_proba(X).argmax(axis=1)

    def spoken(self, encoded: pd.DataFrame) -> Spoken:
        """What it says of cast rows where there are many classes."""
        margins = self.raw(encoded)
        closeness = None
        if self.doubt is not None:
            closeness = self.doubt.closeness(vectors_of(self.members, encoded))
        return Spoken(margins, self.calibrator.apply(softmax(margins, axis=1)), closeness)

    def answer(self, X: pd.DataFrame) -> Answers:
        """The likeliest classes of raw rows, or that it does not know."""
        if self.labels is None or self.doubt is None:
            raise ParamsError("This model has two classes or no doubt: ask predict_proba.")
        encoded = self.schema.encode(X)
        (name,) = encoded.columns

        def speak(texts: Sequence[str]) -> Spoken:
            return self.spoken(pd.DataFrame({name: np.array(texts, object)}))

        return answer(encoded[name].tolist(), self.labels, self.doubt, speak)


def encoder_of(estimator: Any) -> SentenceEncoder | None:
    """The frozen encoder in a fitted pipeline or union; None where it has none."""
    if isinstance(estimator, SentenceEncoder):
        return estimator
    steps = [
        step for _, step in getattr(estimator, "steps", None) or getattr(estimator, "transformer_list", None) or []
    ]
    return next((found for step in steps if (found := encoder_of(step)) is not None), None)


def vectors_of(members: Sequence[BaseEstimator], encoded: pd.DataFrame) -> np.ndarray | None:
    """Sentence vectors of length 1 of cast rows, shape (n, d), by the members' encoder; None where none has one."""
    found = next((each for member in members if (each := encoder_of(member)) is not None), None)
    return None if found is None else found.transform(encoded.iloc[:, 0].to_numpy(object)) / found.scale
