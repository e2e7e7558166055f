"""Words, pieces of words and pairs of words of a customer's text as numbers, learnt from training rows alone.

TF-IDF with sublinear term frequency (Salton and Buckley 1988, Term-weighting approaches in automatic text retrieval):
words and pairs of words say what is meant, pieces of words survive typos and endings.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion
from sklearn.preprocessing import FunctionTransformer

from cxlab.data.schema import Schema
from cxlab.errors import DataError
from cxlab.features.terms import Terms

STEM = 4  # characters that the words of a pair begin with


def text_column(schema: Schema) -> FunctionTransformer:
    """The one column of words of cast rows, as an array of texts, shape (n,).

    Raises:
        DataError: There is none, or more than one.
    """
    names = schema.of_kind("text")
    if len(names) != 1:
        raise DataError(f"{len(names)} columns hold words, must be 1. Name it as data.text.")
    return FunctionTransformer(_only, kw_args={"name": names[0]})


def _only(rows: pd.DataFrame, name: str) -> np.ndarray:
    return rows[name].to_numpy(object)


def words(longest: int = 2) -> TfidfVectorizer:
    """Words and runs of up to `longest` words."""
    return _weighted(Terms("words", longest))


def pieces(longest: int = 5) -> TfidfVectorizer:
    """Runs of 2 to `longest` characters within words, their borders included."""
    return _weighted(Terms("pieces", longest))


def pairs(stem: int = STEM) -> TfidfVectorizer:
    """Pairs of words near each other, by their beginnings; one that a single text has says nothing of others."""
    return _weighted(Terms("pairs", stem), least=2)


def _weighted(terms: Terms, least: int = 1) -> TfidfVectorizer:
    return TfidfVectorizer(analyzer=terms, min_df=least, sublinear_tf=True, dtype=np.float32)


def all_terms(longest_piece: int = 5) -> FeatureUnion:
    """Words, pieces and pairs, side by side."""
    return FeatureUnion([("words", words()), ("pieces", pieces(longest_piece)), ("pairs", pairs())])
