"""Which words speak for an answer: contributions add up, or say by how much they do not."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline

from cxlab.errors import DataError, ParamsError
from cxlab.evidence import words as module
from cxlab.evidence.word_importance import WORDS, word_importance, words_of_test
from cxlab.evidence.words import FEWEST, additive, words_for
from cxlab.features.holders import occurrences, without
from cxlab.features.terms import ANY, Terms, words_of
from cxlab.features.text import all_terms, text_column, words
from cxlab.models.margins import SoftMargins
from cxlab.models.subject import Subject
from cxlab.models.task import Model

SAID = ["my", "bill", "is", "wrong", "the", "router", "card", "CARD", "don't", "59", "İstanbul", "ﬁne", "—", "stopped"]
TEXTS = st.one_of(st.lists(st.sampled_from(SAID), min_size=1).map(" ".join), st.text(max_size=60))


def rebuilt(subject: Subject, terms: Any, last: Any) -> Model:
    """The subject's model with another single member, on the same rows."""
    model = subject.model
    encoded = model.schema.encode(subject.train)
    member = Pipeline([("text", text_column(model.schema)), ("terms", terms), ("model", last)])
    member.fit(encoded, subject.outcome_train)
    return Model(model.schema, [member], [1.0], model.calibrator, model.labels, doubt=model.doubt)


@pytest.fixture(scope="module")
def blended(spoken_subject: Subject) -> Model:
    """Words, pieces and pairs blended with words alone."""
    parts = [rebuilt(spoken_subject, all_terms(4), SoftMargins()), rebuilt(spoken_subject, words(), SoftMargins(2.0))]
    one = parts[0]
    members = [part.members[0] for part in parts]
    return Model(one.schema, members, [0.7, 0.3], one.calibrator, one.labels, doubt=one.doubt)


@pytest.fixture(scope="module")
def opaque(spoken_subject: Subject) -> Model:
    """A member whose margin is not looked into: every word is left out once."""
    return rebuilt(spoken_subject, words(), LogisticRegression(max_iter=50))


class Length(TransformerMixin, BaseEstimator):
    """A text's length: a vector that no term tells."""

    def fit(self, X: Any, y: Any = None) -> Length:
        return self

    def transform(self, X: Any) -> np.ndarray:
        return np.array([[0.01 * len(text)] for text in X], np.float32)


@pytest.fixture(scope="module")
def beside(spoken_subject: Subject) -> Model:
    """Words and a vector side by side in one linear model."""
    return rebuilt(spoken_subject, FeatureUnion([("words", words()), ("length", Length())]), SoftMargins())


@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_words_and_constant_add_up_to_the_margin(blended: Model, texts: list[str]) -> None:
    found = words_for(blended, texts)
    assert found.exact
    sums = found.sums()
    np.testing.assert_allclose(sums["constant"] + sums["words"], sums["margin"], rtol=1e-4, atol=1e-4)
    margins = blended.raw(blended.schema.encode(pd.DataFrame({"text": pd.Series(texts, dtype=object)})))
    np.testing.assert_allclose(sums["margin"], margins.max(axis=1), rtol=1e-6)
    assert found.frame()["word"].tolist() == [w for t in found.texts for w in dict.fromkeys(words_of(t))]


@given(st.lists(st.sampled_from(["my", "cards", "card", "a", "stolen"]), max_size=8), st.integers(1, 5))
def test_terms_are_found_where_they_are_counted(said: list[str], longest: int) -> None:
    for kind in ("words", "pieces", "pairs"):
        terms = Terms(kind, longest)  # type: ignore[arg-type]
        told = [term for term, _ in occurrences(terms, said)]
        counted = [term for term in terms(" ".join(said)) if term != ANY]
        assert set(told) == set(counted)
        if kind != "pairs":  # which are counted once a text
            assert sorted(told) == sorted(counted)


@given(st.lists(TEXTS, min_size=1, max_size=3))
def test_what_is_left_unexplained_is_stated(opaque: Model, texts: list[str]) -> None:
    found = words_for(opaque, texts)
    assert not found.exact
    sums = found.sums()
    np.testing.assert_allclose(sums["constant"] + sums["words"] + sums["remainder"], sums["margin"], atol=1e-9)
    assert "remainder" in found.note


@given(st.lists(TEXTS, min_size=1, max_size=3))
def test_terms_add_up_beside_what_is_no_term(beside: Model, texts: list[str]) -> None:
    """Terms and vectors in one linear model: terms are told exactly, vectors word by word, the rest is stated."""
    found = words_for(beside, texts)
    assert not found.exact
    sums = found.sums()
    np.testing.assert_allclose(sums["constant"] + sums["words"] + sums["remainder"], sums["margin"], atol=1e-9)
    lengths = np.array([len(text) for text in found.texts], np.float32)
    margin = beside.raw(beside.schema.encode(pd.DataFrame({"text": pd.Series(texts, dtype=object)})))
    last = beside.members[0][-1]
    code = np.array([beside.labels.index(name) for name in found.intents])  # type: ignore[union-attr]
    told = found.frame().groupby("row")["contribution"].sum().reindex(range(len(texts)), fill_value=0.0)
    lost = [sum(len(t) - len(without(t, w)) for w in dict.fromkeys(words_of(t))) for t in found.texts]
    vector = 0.01 * lengths * last.weights_[-1, code]
    terms = margin[np.arange(len(texts)), code] - vector - found.constant
    np.testing.assert_allclose(told, terms + 0.01 * np.array(lost) * last.weights_[-1, code], atol=1e-3)


def test_sums_that_are_off_are_refused(blended: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "occurrences", lambda terms, words: iter(()))
    with pytest.raises(ArithmeticError, match="must be the margin"):
        words_for(blended, ["my bill is wrong"])


def test_a_word_that_is_left_out_says_what_it_was_worth(opaque: Model, blended: Model) -> None:
    text = "the modem is broken"
    found = words_for(opaque, [text]).frame().set_index("word")["contribution"]
    assert found.idxmax() == "broken"
    assert words_for(blended, [text]).frame().set_index("word")["contribution"].idxmax() == "broken"
    both = [words_for(opaque, [each], intent="device_broken").margin[0] for each in (text, without(text, "broken"))]
    assert found["broken"] == pytest.approx(both[0] - both[1])


def test_any_intent_can_be_asked_for(blended: Model) -> None:
    asked = words_for(blended, ["my password is lost"], intent="outage")
    likely = words_for(blended, ["my password is lost"])
    assert asked.intents == ("outage",)
    assert likely.intents == ("password",)
    assert likely.margin[0] > asked.margin[0]
    with pytest.raises(ParamsError, match="Did you mean 'outage'"):
        words_for(blended, ["my password is lost"], intent="outages")


def test_words_are_told_without_personal_data(blended: Model) -> None:
    found = words_for(blended, ["write to ann.lee@example.com about my bill"])
    assert "example" not in found.frame().to_string()
    assert "email" in found.frame()["word"].tolist()


@pytest.mark.parametrize(
    ("texts", "says"), [("one text", "must be a list or a column"), ([], "0 texts to explain, must be at least 1")]
)
def test_what_is_no_list_of_texts_is_refused(blended: Model, texts: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        words_for(blended, texts)


def test_a_model_of_columns_has_no_words(spoken_subject: Subject) -> None:
    model = spoken_subject.model
    two = Model(model.schema, model.members, model.weights, model.calibrator)
    with pytest.raises(ParamsError, match="many classes"):
        words_for(two, ["my bill"])


def test_only_sums_over_terms_are_additive(blended: Model, opaque: Model) -> None:
    assert [additive(member, 10) for member in blended.members] == [True, True]
    assert not additive(opaque.members[0], 10)
    assert not additive(blended.members[0], 11)  # it never saw one of the classes


def test_no_rare_word_is_named_without_its_text(spoken_subject: Subject) -> None:
    found = words_of_test(spoken_subject)
    loud = found.by_intent()
    assert (loud["n"] >= FEWEST).all()
    assert (loud["n"] <= loud["texts"]).all()
    assert (loud["contribution"] > 0).all()
    told = loud.groupby("intent")["word"].first()
    assert told["device_broken"] == "broken"
    assert told["password"] == "password"


def test_importance_is_what_the_loss_grows_by(spoken_subject: Subject) -> None:
    found = words_of_test(spoken_subject)
    frame = word_importance(spoken_subject, found).frame()
    assert len(frame) == WORDS
    assert frame["share"].sum() == pytest.approx(1)
    assert ((frame["low"] <= frame["value"]) & (frame["value"] <= frame["high"])).all()
    assert frame["folds"].between(0, 5).all()
    word = frame["feature"][0]
    y, texts = spoken_subject.outcome_test, spoken_subject.texts_test

    def loss(said: list[str]) -> float:
        p = spoken_subject.model.predict_proba(pd.DataFrame({"text": np.array(said, object)}))
        return float(-np.log(p[np.arange(len(y)), y]).mean())

    assert frame["value"][0] == pytest.approx(loss([without(text, word) for text in texts]) - loss(texts), rel=1e-6)
    assert frame["n"][0] == sum(word in words_of(text) for text in texts)


@given(TEXTS, st.sampled_from(["card", "bill", "59", "my"]))
def test_a_word_left_out_is_gone_and_no_other(text: str, word: str) -> None:
    less = words_of(without(text, word))
    assert word not in less
    assert less == [each for each in words_of(text) if each != word]


def test_figures_are_drawn(blended: Model, spoken_subject: Subject) -> None:
    one = words_for(blended, ["my bill is wrong"])
    assert "billing_error" in one.plot().get_title(loc="left")
    many = words_of_test(spoken_subject)
    assert "on average" in many.plot().get_title(loc="left")
    assert re.search(r"add up", many.note)
    assert word_importance(spoken_subject, many).plot().get_xlabel()
