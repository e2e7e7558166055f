"""Words and characters of a customer's text as numbers, learnt from training rows alone.

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

WORD = r"(?u)\b\w+\b"  # one letter is a word too: "i", "a"


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
    return TfidfVectorizer(ngram_range=(1, longest), token_pattern=WORD, sublinear_tf=True, dtype=np.float32)


def characters(longest: int = 5) -> TfidfVectorizer:
    """Runs of 2 to `longest` characters within words, their borders included."""
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(2, longest), sublinear_tf=True, dtype=np.float32)


def words_and_characters(longest_words: int = 2, longest_characters: int = 5) -> FeatureUnion:
    """Both, side by side."""
    return FeatureUnion([("words", words(longest_words)), ("characters", characters(longest_characters))])
