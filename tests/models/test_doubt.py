"""When a model of many classes does not answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.data.table import read_table
from cxlab.errors import ParamsError
from cxlab.models.answer import Doubt, Spoken, answer
from cxlab.models.training import Training, train
from cxlab.params import Params

COMPANY = Path(__file__).parents[2] / "data_samples" / "service_company"


def said() -> pd.DataFrame:
    return pd.read_parquet(COMPANY / "contacts.parquet")


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Of the eight commonest intents; the others are unknown to it."""
    path = tmp_path_factory.mktemp("doubt") / "said.parquet"
    frame = said()
    common = frame["intent"].value_counts().index
    known = [name for name in common if name != "out_of_scope"][:8]
    frame[frame["intent"].isin(known)].head(2000).to_parquet(path)
    data = {"path": str(path), "text": "text", "target": "intent", "id": "contact_id"}
    search = {"trials": 1, "candidates": ["words_characters"]}
    params = Params.model_validate({"task": "intent", "name": "i", "data": data, "search": search})
    return train(read_table(params.data), params, storage=None)


def test_it_turns_away_as_many_as_allowed(training: Training) -> None:
    found = training.abstention
    assert found is not None and training.model.doubt is not None
    assert found.rejected <= 0.04 * found.n
    rows = training.table.frame.iloc[training.split.test]
    share = training.model.answer(rows).abstained.mean()
    assert share < 0.04 + 3 * np.sqrt(0.04 * 0.96 * (1 / len(rows) + 1 / found.n))


def test_what_it_never_learnt_is_turned_away_more_often(training: Training) -> None:
    model = training.model
    known = model.answer(training.table.frame.iloc[training.split.test])
    chatter = model.answer(said()[lambda f: f["intent"] == "out_of_scope"])
    others = model.answer(said()[lambda f: ~f["intent"].isin([*model.labels, "out_of_scope"])].head(500))
    assert chatter.familiarity.mean() < known.familiarity.mean() - 1
    assert others.abstained.mean() > 5 * known.abstained.mean()
    strange = model.answer(pd.DataFrame({"text": ["", "  ", None, "🦜🦜", "zxqj vvkq wqqx", "привет как дела"]}))
    assert strange.abstained.all() and strange.out_of_scope.all()


def test_who_says_nothing_gets_no_answer() -> None:
    """Even where the model would be sure of silence."""
    doubt, sure = Doubt((0.0, 0.0), (1.0, 1.0), -9.0, -9.0), np.array([[9.0, 0.0]] * 4)
    probability = np.array([[0.99, 0.01]] * 4)
    found = answer(["", " ", "🦜!", "a"], ["x", "y"], doubt, lambda _: Spoken(sure, probability, None))
    assert found.abstained.tolist() == found.out_of_scope.tolist() == [True, True, True, False]


def test_two_things_wanted_are_seen(training: Training) -> None:
    frame = training.table.frame.iloc[training.split.test]
    sure = frame[training.model.answer(frame).confidence[:, 0] > 0.9]
    first, second = sure.head(60), sure.tail(60)
    other = (first["intent"].to_numpy() != second["intent"].to_numpy()) & (first["text"].str.len() > 20).to_numpy()
    texts = [f"{one.rstrip('.!?')}. {two}" for one, two in zip(first["text"], second["text"], strict=True)]
    both = training.model.answer(pd.DataFrame({"text": texts})).several[other]
    assert both.mean() > 0.6
    assert training.model.answer(first).several.mean() < 0.15


def test_the_columns_of_a_file_of_scores(training: Training) -> None:
    frame = training.model.answer(training.table.frame.head(5)).frame()
    start = ["intent", "confidence", "abstained", "intent_2", "confidence_2", "intent_3", "confidence_3"]
    assert list(frame) == [*start, "out_of_scope", "several"]
    assert (frame["confidence"] >= frame["confidence_2"]).all()


def test_a_model_of_two_outcomes_has_no_answers(training: Training) -> None:
    model = training.model
    other = type(model)(model.schema, model.members, model.weights, model.calibrator)
    with pytest.raises(ParamsError, match="ask predict_proba"):
        other.answer(training.table.frame.head(1))


@given(st.integers(1, 5), st.integers(0, 6), st.floats(-3, 3))
def test_answers_are_the_likeliest_in_order(k: int, n: int, threshold: float) -> None:
    rng = np.random.default_rng(n)
    margins = rng.normal(size=(n, k))
    probability = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
    doubt = Doubt((0.0, 0.0), (1.0, 1.0), threshold, 0.0)
    found = answer(["a b c"] * n, [f"c{i}" for i in range(k)], doubt, lambda _: Spoken(margins, probability, None))
    assert found.code.shape == (n, min(3, k))
    np.testing.assert_array_equal(found.confidence[:, 0], probability.max(axis=1))
    assert not (found.out_of_scope & ~found.abstained).any()
    assert len(found.frame()) == n
    np.testing.assert_array_equal(found.abstained, found.familiarity < threshold)
