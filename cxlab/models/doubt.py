"""When a model of many classes should not answer: learnt from the rows by which it was chosen.

Of the allowed share of customers who may be turned away all is spent on those least like what was seen.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cxlab.metrics.abstention import Abstention, abstention_threshold
from cxlab.models.answer import Doubt, Spoken
from cxlab.models.margins import landmarks
from cxlab.models.task import vectors_of
from cxlab.params import Params

if TYPE_CHECKING:
    from cxlab.models.training import Bench, Fitted

ROWS = 5  # training rows a landmark: none of them is a customer's own text where a class has two or more


def doubts(line: Fitted, ground: Bench, params: Params) -> tuple[Doubt, Abstention]:
    """The doubt of a fitted model, and what is known of its threshold.

    Args:
        line: The model with its out-of-fold predictions.
        ground: What it learnt from.
        params: `abstain.max_false_rejection` is the share of in-scope customers who may be turned away.
    """
    vectors = vectors_of(line.model.members, ground.X)
    marks = None if vectors is None else landmarks(vectors, ground.y, rows=ROWS, seed=ground.seed)
    spoken = Spoken(line.raw, line.validation, None if vectors is None else _closeness(vectors, ground))
    signs = Doubt.signs(spoken)
    mean, deviation = signs.mean(axis=0), np.maximum(signs.std(axis=0), 1e-9)
    plain = Doubt(tuple(mean.tolist()), tuple(deviation.tolist()), -np.inf, -np.inf, marks)
    most = params.abstain.max_false_rejection
    found = abstention_threshold(plain.familiarity(spoken), max_false_rejection=most)
    far = abstention_threshold(plain.nearness(spoken), max_false_rejection=most)
    told = replace(found, measure="familiarity")
    return Doubt(plain.mean, plain.deviation, found.threshold, far.threshold, marks), told


def _closeness(vectors: np.ndarray, ground: Bench) -> np.ndarray:
    """Of each validated row to the landmarks of rows that its fold trained on."""
    found = []
    for rows, valid in ground.split.folds:
        marks = landmarks(vectors[rows], ground.y[rows], rows=ROWS, seed=ground.seed)
        found.append((vectors[valid] @ marks.T).max(axis=1))
    return np.concatenate(found)
