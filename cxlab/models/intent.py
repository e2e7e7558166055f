"""Intent: which of many things a customer wants, from their words. Candidates from the plainest to the most capable.

To add one, write how it is built and what may be searched, and append it to `CANDIDATES`.
"""

from __future__ import annotations

from threading import Lock
from typing import Any, Self

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

from cxlab.data.schema import Schema
from cxlab.data.table import Table
from cxlab.features.text import text_column, words, words_and_characters
from cxlab.metrics.classification import Metric
from cxlab.metrics.multiclass import intent_metrics
from cxlab.models.task import Candidate, Space, Task
from cxlab.params import ValueParams

_ONE_AT_A_TIME = Lock()  # LIBLINEAR draws from one generator a process: threads would make a fit depend on others


class SoftMargins(ClassifierMixin, BaseEstimator):
    """A linear support vector machine whose margins become probabilities by softmax; a temperature calibrates them.

    One class against the others (Fan et al. 2008, LIBLINEAR), which suits short texts with many classes.

    Args:
        C: Inverse strength of regularisation, > 0.
        seed: Of the solver.
    """

    def __init__(self, C: float = 0.5, seed: int = 0) -> None:
        self.C = C
        self.seed = seed

    def fit(self, X: Any, y: np.ndarray) -> Self:
        """Learns from sparse rows of shape (n, d) and class codes of shape (n,)."""
        with _ONE_AT_A_TIME:
            self.machine_ = LinearSVC(C=self.C, random_state=self.seed).fit(X, y)
        self.classes_ = self.machine_.classes_
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities, shape (n, classes)."""
        margins = self.machine_.decision_function(X)
        return softmax(np.column_stack([-margins, margins]) if margins.ndim == 1 else margins, axis=1)


def prior(schema: Schema, settings: dict[str, Any], seed: int) -> Pipeline:  # noqa: ARG001
    """The shares of the intents, whatever is said: what every other candidate has to beat."""
    return Pipeline([("text", text_column(schema)), ("model", DummyClassifier())])


def word_machine(schema: Schema, settings: dict[str, Any], seed: int) -> Pipeline:
    """Words and pairs of words."""
    return Pipeline([("text", text_column(schema)), ("words", words()), ("model", SoftMargins(settings["C"], seed))])


def character_machine(schema: Schema, settings: dict[str, Any], seed: int) -> Pipeline:
    """Words, pairs of words and pieces of words."""
    both = words_and_characters(longest_characters=settings["longest"])
    return Pipeline([("text", text_column(schema)), ("both", both), ("model", SoftMargins(settings["C"], seed))])


CANDIDATES = (
    Candidate("prior", "the shares of the intents", prior, constant=True),
    Candidate("words", "a linear model of words", word_machine, default={"C": 0.5}, space=Space(C=(0.1, 3.0, "log"))),
    Candidate(
        "words_characters",
        "a linear model of words and characters",
        character_machine,
        default={"C": 0.5, "longest": 5},
        space=Space(C=(0.1, 3.0, "log"), longest=(4, 6)),
    ),
)


def outcome(table: Table, part: Any = None) -> np.ndarray:
    return table.codes(part)


def metrics(value: ValueParams) -> tuple[Metric, ...]:  # noqa: ARG001
    return intent_metrics()


TASK = Task("intent", CANDIDATES, outcome, metrics, selection_metric="log_loss", many=True)
