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
        score_valid: Cross-fitted probabilities of the validated training rows, shape (n_validated,).
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
        return self.split.train[np.concatenate([valid for _, valid in self.split.folds])]

    @functools.cached_property
    def outcome_train(self) -> np.ndarray:
        """Outcomes of the training rows in {0, 1}, shape (n_train,)."""
        return self.table.outcome()[self.split.train]

    @functools.cached_property
    def outcome_valid(self) -> np.ndarray:
        """Outcomes in the order of `score_valid`."""
        return self.table.outcome()[self.valid_rows]

    @functools.cached_property
    def outcome_test(self) -> np.ndarray:
        """Outcomes of the test rows in {0, 1}, shape (n_test,)."""
        return self.table.outcome(self.test)

    @functools.cached_property
    def score_test(self) -> np.ndarray:
        """Probabilities of the test rows, shape (n_test,)."""
        return self.model.predict_proba(self.test)[:, 1]


def subject_of(training: Training) -> Subject:
    """The selected model of a training, under review."""
    chosen = training[training.selected]
    return Subject(chosen.name, training.params, training.table, training.split, chosen.model, chosen.validation)
