"""Intent: which of many things a customer wants, from their words. Candidates from the plainest to the most capable.

To add one, write how it is built and what may be searched, and append it to `CANDIDATES`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline

from cxlab.data.schema import Schema
from cxlab.data.table import Table
from cxlab.errors import DataError, ParamsError
from cxlab.features import encoder
from cxlab.features.encoder import SentenceEncoder
from cxlab.features.text import all_terms, text_column, words
from cxlab.metrics.classification import Metric
from cxlab.metrics.multiclass import intent_metrics
from cxlab.models import deep
from cxlab.models.margins import LandmarkRidge, SoftMargins
from cxlab.models.task import Candidate, Space, Task
from cxlab.params import Params, ValueParams

MOST_CLASSES = 1000  # a person reads no report of more, and each costs a model of its own
SCALE = 2.0  # of an embedding beside the three blocks of terms, each of length 1


def prior(schema: Schema, settings: dict[str, Any], seed: int) -> Pipeline:  # noqa: ARG001
    """The shares of the intents, whatever is said: what every other candidate has to beat."""
    return Pipeline([("text", text_column(schema)), ("model", DummyClassifier())])


def word_machine(schema: Schema, settings: dict[str, Any], seed: int) -> Pipeline:
    """Words and runs of two."""
    return Pipeline([("text", text_column(schema)), ("terms", words()), ("model", SoftMargins(settings["C"], seed))])


def term_machine(schema: Schema, settings: dict[str, Any], seed: int) -> Pipeline:
    """Words, pieces of words and pairs of words."""
    terms = all_terms(settings["longest"])
    return Pipeline([("text", text_column(schema)), ("terms", terms), ("model", SoftMargins(settings["C"], seed))])


def vector_regression(schema: Schema, settings: dict[str, Any], seed: int) -> Pipeline:  # noqa: ARG001
    """Sentence vectors and a linear model."""
    model = LogisticRegression(C=settings["C"], tol=3e-4, max_iter=300)
    return Pipeline(
        [("text", text_column(schema)), ("vectors", SentenceEncoder(settings["encoder"])), ("model", model)]
    )


def vector_landmarks(schema: Schema, settings: dict[str, Any], seed: int) -> Pipeline:
    """Sentence vectors and how near they are to centres of each intent."""
    model = LandmarkRidge(g=settings["g"], ridge=settings["ridge"], seed=seed)
    return Pipeline(
        [("text", text_column(schema)), ("vectors", SentenceEncoder(settings["encoder"])), ("model", model)]
    )


def both_machine(schema: Schema, settings: dict[str, Any], seed: int) -> Pipeline:
    """Terms and sentence vectors side by side."""
    terms = [*all_terms().transformer_list, ("vectors", SentenceEncoder(settings["encoder"], scale=SCALE))]
    model = SoftMargins(settings["C"], seed)
    return Pipeline([("text", text_column(schema)), ("terms", FeatureUnion(terms)), ("model", model)])


def fine_tuned(schema: Schema, settings: dict[str, Any], seed: int) -> Pipeline:
    """The encoder itself, taught the intents."""
    model = deep.FineTuned(settings["encoder"], epochs=settings["epochs"], seed=seed)
    return Pipeline([("text", text_column(schema)), ("model", model)])


def needs_encoder(params: Params) -> str | None:
    """Why there is no encoder. That the default one is not installed is no mistake; that another is not there is.

    Raises:
        ParamsError: The params name an encoder, and it can't be used.
    """
    reason = encoder.available(params.encoder)
    if reason is not None and params.encoder != encoder.DEFAULT:
        raise ParamsError(f"encoder: {reason}")
    return reason


def needs_torch(params: Params) -> str | None:
    """Why nothing can be fine-tuned here."""
    return needs_encoder(params) or deep.available(params.encoder)


CANDIDATES = (
    Candidate("prior", "the shares of the intents", prior, constant=True),
    Candidate("words", "a linear model of words", word_machine, default={"C": 0.5}, space=Space(C=(0.1, 3.0, "log"))),
    Candidate(
        "words_characters",
        "a linear model of words, their pieces and pairs",
        term_machine,
        default={"C": 0.5, "longest": 5},
        space=Space(C=(0.1, 3.0, "log"), longest=(4, 6)),
    ),
    Candidate(
        "encoder",
        "a linear model of sentence vectors",
        vector_regression,
        default={"C": 30.0},
        space=Space(C=(3.0, 300.0, "log")),
        told=("encoder",),
        needs=needs_encoder,
    ),
    Candidate(
        "encoder_landmarks",
        "nearness of sentence vectors to centres of each intent",
        vector_landmarks,
        default={"g": 3.0, "ridge": 0.1},
        space=Space(g=(1.5, 8.0, "log"), ridge=(0.03, 1.0, "log")),
        told=("encoder",),
        needs=needs_encoder,
    ),
    Candidate(
        "both",
        "a linear model of terms and sentence vectors",
        both_machine,
        default={"C": 0.5},
        space=Space(C=(0.1, 3.0, "log")),
        told=("encoder",),
        needs=needs_encoder,
    ),
    Candidate(
        "fine_tuned",
        "the encoder, taught the intents",
        fine_tuned,
        default={"epochs": 3},
        told=("encoder",),
        needs=needs_torch,
        costly=True,
    ),
)


def outcome(table: Table, part: Any = None) -> np.ndarray:
    """Class codes, shape (n,).

    Raises:
        DataError: The target has missing values, one value, or too many to be learnt; or nothing holds words.
    """
    if table.roles.text is None:
        raise ParamsError("data.text is missing; name the column that holds the words.")
    codes = table.codes(part)
    if len(table.classes) > MOST_CLASSES:
        raise DataError(
            f"Target {table.roles.target!r} has {len(table.classes):,} values, must have at most {MOST_CLASSES:,}. Is "
            "it an identifier? Else join values that mean the same."
        )
    return codes


def metrics(value: ValueParams) -> tuple[Metric, ...]:  # noqa: ARG001
    return intent_metrics()


TASK = Task("intent", CANDIDATES, outcome, metrics, selection_metric="log_loss", many=True, doubts=True)
