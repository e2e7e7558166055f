"""Names of people, by a model that somebody brings: here one of rules, made by spaCy itself."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from cxlab.data import names as room
from cxlab.data.names import people
from cxlab.data.privacy import mask
from cxlab.data.table import read_table
from cxlab.errors import DataError, ParamsError
from cxlab.params import DataParams


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spacy = pytest.importorskip("spacy")
    nlp = spacy.blank("en")
    rules = [{"label": "PERSON", "pattern": name} for name in ("Ann Lee", "Zoë")]
    nlp.add_pipe("entity_ruler").add_patterns([*rules, {"label": "ORG", "pattern": "Acme"}])
    folder = tmp_path_factory.mktemp("names") / "model"
    nlp.to_disk(folder)
    return folder


def test_names_are_masked_and_companies_are_not(model: Path) -> None:
    found = mask(["Ann Lee of Acme, ann@example.com", "Zoë 😀 Zoë", None, "", "no name \ud800"], names=model)
    assert found.texts[:4] == ("<name> of Acme, <email>", "<name> 😀 <name>", None, "")
    assert found.counts["name"] == 3
    assert found.rows["name"] == 2
    assert mask(found.texts, names=model).texts == found.texts
    assert found.frame()["kind"].tolist()[-1] == "name"


def test_a_table_is_read_without_names(model: Path, tmp_path: Path) -> None:
    pd.DataFrame({"text": ["Ann Lee wants a refund", "a refund"], "want": ["a", "b"]}).to_csv(tmp_path / "t.csv")
    data = DataParams(path=str(tmp_path / "t.csv"), text="text", target="want", names=str(model))
    table = read_table(data)
    assert table.frame["text"].tolist() == ["<name> wants a refund", "a refund"]
    assert "1 name" in table.source.notes[-1]


def test_what_is_no_model_of_names_is_told(model: Path, tmp_path: Path) -> None:
    import spacy

    with pytest.raises(ParamsError, match="must be the folder of a spaCy model; none is fetched"):
        people(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no spaCy model"):
        people(tmp_path / "empty")
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(DataError, match="tells no names"):
        people(tmp_path / "blank")
    config = (tmp_path / "blank" / "config.cfg").read_text()
    (tmp_path / "blank" / "config.cfg").write_text(config.replace("[nlp]", "[nlp]\n# transformer"))
    with pytest.raises(DataError, match="whose weights are pickled"):
        people(tmp_path / "blank")


def test_without_spacy_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "find_spec", lambda name: None)
    with pytest.raises(ParamsError, match=r'pip install "cxlab\[privacy\]"'):
        mask(["Ann"], names=tmp_path)


def test_without_a_model_nobody_looks_for_names() -> None:
    assert mask(["Ann Lee"]).texts == ("Ann Lee",)
    assert "name" not in mask(["Ann Lee"]).counts
