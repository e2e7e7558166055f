"""Texts of a test part in an order of their own, so that no figure depends on the order of the rows."""

from __future__ import annotations

import numpy as np

from cxlab.evidence.explain import draw
from cxlab.models.subject import Subject


def in_order(subject: Subject) -> np.ndarray:
    """Places of the test rows by their words, then by their outcomes, shape (n_test,)."""
    texts = np.array(subject.texts_test, object)
    return np.lexsort((subject.outcome_test, np.unique(texts, return_inverse=True)[1]))


def drawn(subject: Subject, most: int, seed: int) -> np.ndarray:
    """Places of at most `most` test rows, in that order; whatever the order of the rows, the same texts."""
    order = in_order(subject)
    return order[draw(len(order), most, seed)]
