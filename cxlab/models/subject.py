"""What evidence looks at: one model, the data it learnt from, and its scores on rows it did not learn from.

A training hands over its selected model; a registered version is reopened into the same shape. So every question
of evidence is asked in one way, of a model of a minute ago or of last year.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cxlab.data.split import Split
from cxlab.data.table import Table
from cxlab.errors import ParamsError, listed
from cxlab.features.prefixes import PrefixSchema
from cxlab.models.answer import Answers
from cxlab.models.task import Model
from cxlab.models.training import Training
from cxlab.params import Params


@dataclass(frozen=True)
class Subject:
    """One model under review.

    Attributes:
        name: The candidate, or the registered model and its version.
        params: What the training was told.
        table: The data.
        split: Which rows trained and which tested.
        model: Raw rows in, calibrated probabilities out.
        score_valid: Cross-fitted probabilities of the validated training rows, shape (n_validated,); of many classes
            (n_validated, k).
    """

    name: str
    params: Params
    table: Table = field(repr=False)
    split: Split = field(repr=False)
    model: Model = field(repr=False)
    score_valid: np.ndarray = field(repr=False)

    @property
    def train(self) -> pd.DataFrame:
        """Raw training rows."""
        return self.table.frame.iloc[self.split.train]

    @property
    def test(self) -> pd.DataFrame:
        """Raw test rows."""
        frame = self.table.frame if self.table.test is None else self.table.test
        return frame.iloc[self.split.test]

    @property
    def valid_rows(self) -> np.ndarray:
        """Row numbers of the table that `score_valid` is about, in its order."""
        return self.split.train[np.concatenate(self.split.validated)]

    @functools.cached_property
    def judged(self) -> np.ndarray:
        """Positions of the test rows that count: all, but of a log those from enough events on whose next is known."""
        return self.split.counted(self.split.test)

    @property
    def many(self) -> bool:
        """The outcome has any number of classes: outcomes are their codes, scores have a column a class."""
        return self.model.labels is not None

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the many classes.

        Raises:
            ParamsError: There are two.
        """
        if self.model.labels is None:
            raise ParamsError(f"{self.name} tells two classes apart; this is asked of models of many classes.")
        return self.model.labels

    def outcome(self, rows: pd.DataFrame) -> np.ndarray:
        """Outcomes of raw rows in {0, 1}, or class codes, shape (n,); of a log, whole cases of it, what came next."""
        if isinstance(self.model.schema, PrefixSchema):
            return self.model.schema.following(rows)
        return self.table.codes(rows) if self.many else self.table.outcome(rows)

    @functools.cached_property
    def outcome_train(self) -> np.ndarray:
        """Outcomes of the training rows in {0, 1}, or class codes, shape (n_train,)."""
        return self.outcome(self.table.frame)[self.split.train]

    @functools.cached_property
    def outcome_valid(self) -> np.ndarray:
        """Outcomes in the order of `score_valid`."""
        return self.outcome(self.table.frame)[self.valid_rows]

    @functools.cached_property
    def outcome_test(self) -> np.ndarray:
        """Outcomes of the test rows that count in {0, 1}, or class codes, shape (n_test,)."""
        return self.outcome(self.test)[self.judged]

    @functools.cached_property
    def score_test(self) -> np.ndarray:
        """Probabilities of the test rows that count, shape (n_test,); of many classes (n_test, k)."""
        return self.scores(self.test)[self.judged]

    def scores(self, rows: pd.DataFrame) -> np.ndarray:
        """Probabilities of raw rows, shaped as `score_test`."""
        found = self.model.predict_proba(rows)
        return found if self.many else found[:, 1]

    def texts(self, rows: pd.DataFrame) -> list[str]:
        """The words of raw rows as the model reads them, personal data masked.

        Raises:
            ParamsError: The model reads other columns than one of words.
        """
        names = self.model.schema.names
        if self.model.schema.of_kind("text") != names or len(names) != 1:
            raise ParamsError(f"{self.name} reads {listed(names)}; this is asked of models that read one text alone.")
        return self.model.schema.cast(rows)[names[0]].tolist()

    @functools.cached_property
    def texts_test(self) -> list[str]:
        """The words of the test rows."""
        return self.texts(self.test)

    @functools.cached_property
    def texts_valid(self) -> list[str]:
        """The words of the validated training rows, in the order of `score_valid`."""
        return self.texts(self.table.frame.iloc[self.valid_rows])

    @functools.cached_property
    def answers_test(self) -> Answers:
        """What it answers on the test rows, of many classes."""
        return self.model.answer(self.test)


def subject_of(training: Training) -> Subject:
    """The selected model of a training, under review."""
    chosen = training[training.selected]
    return Subject(chosen.name, training.params, training.table, training.split, chosen.model, chosen.validation)
