"""Many classes from words go the one training path, and say what they do not know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxlab.data.table import Table, read_table
from cxlab.errors import DataError, ParamsError
from cxlab.models.training import BLEND, Training, train
from cxlab.params import Params

CONTACTS = Path(__file__).parents[2] / "data_samples" / "service_company" / "contacts.parquet"


CORE = ("prior", "words", "words_characters")


def told(path: Path, *, trials: int = 3, **data: Any) -> Params:
    roles = {"path": str(path), "text": "text", "target": "intent", "id": "contact_id", **data}
    return Params.model_validate(
        {"task": "intent", "name": "i", "data": roles, "search": {"trials": trials, "candidates": CORE}}
    )


def trained(frame: pd.DataFrame, folder: Path, **data: Any) -> Training:
    frame.to_parquet(folder / "said.parquet")
    params = told(folder / "said.parquet", **data)
    return train(read_table(params.data), params, storage=None)


@pytest.fixture(scope="module")
def said() -> pd.DataFrame:
    """1,500 contacts of the ten commonest intents of the simulated company."""
    frame = pd.read_parquet(CONTACTS)
    common = frame["intent"].value_counts().index[:10]
    return frame[frame["intent"].isin(common)].head(1500).reset_index(drop=True)


@pytest.fixture(scope="module")
def training(said: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Training:
    return trained(said, tmp_path_factory.mktemp("intent"))


def test_words_tell_what_is_wanted(training: Training) -> None:
    found = training.evaluation.values(training.selected)
    assert found["accuracy"].low > 0.75  # an agent notes another intent in about 8 % of contacts
    assert set(found) == {"accuracy", "macro_f1", "log_loss", "ece"}
    rows = training.comparison.frame().query("candidate == 'prior' and metric == 'log_loss'")
    assert rows["verdict"].tolist() == ["worse"]
    assert tuple(line.name for line in training.candidates if line.name != BLEND) == CORE


def test_probabilities_are_of_every_intent(training: Training, said: pd.DataFrame) -> None:
    model = training.model
    found = model.predict_proba(said.head(50))
    assert found.shape == (50, 10)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert model.labels == tuple(sorted(said["intent"].unique()))
    named = np.array(model.labels)[model.predict(said)]
    assert (named == said["intent"]).mean() > 0.85


def test_it_repeats(training: Training, said: pd.DataFrame, tmp_path: Path) -> None:
    again = trained(said, tmp_path)
    for name, scores in training.scores.items():
        np.testing.assert_array_equal(scores, again.scores[name])


def test_odd_words_are_answered(training: Training) -> None:
    odd = ["", "   ", None, "😀 🎉", "مرحبا", "\ud800 lone", "x" * 1_000_000, 12, "'; DROP TABLE intents; --"]
    found = training.model.predict_proba(pd.DataFrame({"text": pd.Series(odd, dtype=object)}))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert np.isfinite(found).all()


def test_two_intents_are_many_too(said: pd.DataFrame, tmp_path: Path) -> None:
    two = said[said["intent"].isin(said["intent"].value_counts().index[:2])]
    found = trained(two, tmp_path)
    assert found.scores[found.selected].shape[1] == 2
    assert found.evaluation.values(found.selected)["accuracy"].value > 0.9


def test_a_published_test_part_has_no_new_intents(said: pd.DataFrame, tmp_path: Path) -> None:
    said.tail(300).assign(intent="never_heard").to_parquet(tmp_path / "test.parquet")
    with pytest.raises(DataError, match="has values of 'intent' that training rows lack: never_heard"):
        trained(said, tmp_path, test_path=str(tmp_path / "test.parquet"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.assign(intent="one"), "has 1 value \\(one\\), must have 2 or more"),
        (lambda f: f.assign(intent=[None, *f["intent"][1:]]), "missing in 1 of 1,500 rows"),
        (
            lambda f: f.assign(intent=["rare", *f["intent"][1:]]),
            "1 of 11 classes have fewer than 10 rows .* rare \\(1\\)",
        ),
        (lambda f: f.drop(columns="text"), "'text'"),
    ],
)
def test_what_cannot_be_learnt_from_is_told(said: pd.DataFrame, tmp_path: Path, change: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        trained(change(said), tmp_path)


def test_unknown_candidates_are_named(said: pd.DataFrame, tmp_path: Path) -> None:
    said.to_parquet(tmp_path / "said.parquet")
    params = told(tmp_path / "said.parquet")
    search = params.search.model_copy(update={"candidates": ("wrods",)})
    with pytest.raises(ParamsError, match="Did you mean 'words'"):
        train(read_table(params.data), params.model_copy(update={"search": search}), storage=None)


def test_a_class_that_a_fold_never_saw_has_probability_zero(said: pd.DataFrame) -> None:
    table = Table(said, told(CONTACTS).data, read_table(told(CONTACTS).data).source)
    assert table.codes().max() == len(table.classes) - 1
    assert table.features == ("text",)
