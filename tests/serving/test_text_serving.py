"""A served model of words answers as its bundle does, and keeps nothing of what it was told."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_serving import Client, metric

from cxlab.release.scorer import load_bundle
from cxlab.release.text_scorer import TextBundle
from cxlab.serving.server import RequestLog, application
from cxlab.serving.service import AT_ONCE, USUAL, Service

INFER = "/v2/models/wants/infer"
SAID = "My card 4111 1111 1111 1111 was stolen, I am Ann Quixote"
TEXTS = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30))


@pytest.fixture(scope="module")
def bundle(exported_texts: Path) -> TextBundle:
    found = load_bundle(exported_texts)
    assert isinstance(found, TextBundle)
    return found


@pytest.fixture(scope="module")
def ask(bundle: TextBundle) -> Client:
    return Client(application(bundle))


@given(texts=st.lists(TEXTS, max_size=6), reasons=st.integers(0, 3))
def test_the_server_says_what_the_bundle_says(
    ask: Client, bundle: TextBundle, texts: list[str | None], reasons: int
) -> None:
    rows = [{"text": text, "message_id": place} for place, text in enumerate(texts)]
    told = ask("POST", "/score", {"rows": rows, "reasons": reasons}).json["scores"]
    expected = bundle.score(rows, reasons=reasons)
    assert [each.pop("reasons") for each in told] == [list(row) for row in expected.reasons or [()] * len(rows)]
    assert told == [
        {"id": place, **dict(zip(bundle.outputs, row, strict=True))}
        for place, row in enumerate(zip(*expected.plain().values(), strict=True))
    ]


@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
def test_the_protocol_says_the_same(ask: Client, bundle: TextBundle, texts: list[str | None]) -> None:
    inputs = [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}]
    outputs = {each["name"]: each for each in ask("POST", INFER, {"inputs": inputs}).json["outputs"]}
    expected = bundle.score([{"text": text} for text in texts]).plain()
    assert {name: each["data"] for name, each in outputs.items()} == expected
    kinds = {name: each["datatype"] for name, each in outputs.items()}
    assert kinds["intent"] == "BYTES" and kinds["confidence"] == "FP64" and kinds["abstained"] == "BOOL"
    described = ask("GET", "/v2/models/wants").json
    assert {each["name"]: each["datatype"] for each in described["outputs"]} == kinds
    assert described["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]


def test_many_texts_go_through_a_thread(ask: Client, bundle: TextBundle, reviewed_texts: Any) -> None:
    texts = reviewed_texts.subject.test["text"].tolist()
    rows = [{"text": text} for text in texts]
    assert bundle.effort(rows[:1], 0) <= AT_ONCE < bundle.effort(rows, 0)
    told = ask("POST", "/score", {"rows": rows}).json["scores"]
    expected = bundle.score(rows).frame()
    assert [each["intent"] for each in told] == expected["intent"].tolist()
    np.testing.assert_array_equal([each["confidence"] for each in told], expected["confidence"])


def test_a_text_of_a_megabyte_is_refused_and_a_long_one_is_answered(ask: Client, bundle: TextBundle) -> None:
    refused = ask("POST", "/score", {"row": {"text": "x" * USUAL.body_bytes}})
    assert refused.status == 413 and "must have at most 1,000,000 bytes" in refused.error
    long = "my card was stolen " * 50_000
    assert ask("POST", "/score", {"row": {"text": long}}).json["scores"][0]["intent"] == "card_lost"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a\0b", "text holds the character NUL"),
        ("\ud83d", "text holds half a character"),
        (["a"], "text is a list, must be a single value"),
        ({"a": 1}, "text is an object"),
    ],
)
def test_what_is_no_text_is_refused(ask: Client, text: Any, says: str) -> None:
    answer = ask("POST", "/score", {"rows": [{"text": "card"}, {"text": text}]})
    assert answer.status == 422 and says in answer.error
    assert answer.json["problems"][0]["row"] == 1


@pytest.mark.parametrize("text", [12, 1.5, True, None, "", "'; DROP TABLE intents; --", "\u202eabc", "<script>"])
def test_odd_texts_are_answered(ask: Client, text: Any) -> None:
    (told,) = ask("POST", "/score", {"row": {"text": text}, "reasons": 3}).json["scores"]
    assert told["intent"] and 0 <= told["confidence"] <= 1


def test_a_missing_column_is_named(ask: Client) -> None:
    assert "Did you mean 'texts'" in ask("POST", "/score", {"row": {"texts": "card"}}).error


def test_the_log_keeps_no_word(
    bundle: TextBundle, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RequestLog(tmp_path / "log.csv", bundle, ids=True)
    client = Client(application(bundle, log=log))
    client("POST", "/score", {"row": {"text": SAID, "message_id": "m1"}, "reasons": 3})
    client("POST", "/score", {"row": {"text": None}})
    client("POST", "/score", {"row": {"text": f"{SAID}\0"}})

    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Service, "score_now", broken)
    assert client("POST", "/score", {"row": {"text": SAID}}).status == 500
    log.close()
    kept = (tmp_path / "log.csv").read_text()
    said = {"card", "4111", "stolen", "Quixote", "Ann"}
    assert not [word for word in said if word in kept.replace("card_lost", "") or word in caplog.text]
    rows = list(csv.DictReader(kept.splitlines()))
    assert [row["text_words"] for row in rows] == ["12", "0"]
    assert rows[0]["cxlab_intent"] == "card_lost" and rows[0]["cxlab_abstained"] in ("True", "False")
    assert [row["cxlab_id"] for row in rows] == ["m1", ""]


def test_metrics_count_what_was_not_answered(bundle: TextBundle) -> None:
    client = Client(application(bundle))
    client("POST", "/score", {"rows": [{"text": "my card was stolen"}, {"text": None}]})
    counts = {each: metric(client, "cxlab_decisions_total", decision=each) for each in bundle.outcomes}
    assert counts["answered"] == 1 and counts["abstained"] + counts["out_of_scope"] == 1


def test_the_page_says_what_to_send_and_what_comes(ask: Client) -> None:
    document = ask("GET", "/openapi.json").json
    post = document["paths"]["/score"]["post"]
    form = post["requestBody"]["content"]["application/json"]
    assert form["schema"]["properties"]["row"]["required"] == ["text"]
    scored = post["responses"]["200"]["content"]["application/json"]["example"]["scores"][0]
    assert {"intent", "confidence", "abstained", "intent_3", "several", "reasons"} <= set(scored)
    assert ask("POST", "/score", form["example"]).status == 200
    page = ask("GET", "/docs").body.decode()
    assert "5 intents" in page and "5,000 characters" in page and "contacted" not in page
    infer = document["paths"]["/v2/models/{name}/infer"]["post"]["requestBody"]["content"]["application/json"]
    assert ask("POST", INFER, infer["example"]).status == 200


def test_two_intents_have_no_third(lab_two: Callable[[], TextBundle]) -> None:
    (told,) = Client(application(lab_two()))("POST", "/score", {"row": {"text": "refund"}}).json["scores"]
    assert told["intent_2"] is not None and told["intent_3"] is None and told["confidence_3"] is None


@pytest.fixture
def lab_two(tmp_path: Path, exported_texts: Path) -> Callable[[], TextBundle]:
    """The bundle with two of its five intents."""
    from cxlab.release.text_bundle import plain_file
    from cxlab.release.text_scorer import MODEL, build, plain_content

    def make() -> TextBundle:
        held = plain_content((exported_texts / MODEL).read_bytes())
        for member in held["members"]:
            member["classes"], member["constant"] = np.arange(2), member["constant"][:2]
            member["weights"] = {block: weights[:, :2].copy() for block, weights in member["weights"].items()}
        schema, threshold = (
            json.loads((exported_texts / f"{name}.json").read_bytes()) for name in ("schema", "threshold")
        )
        schema["intents"] = schema["intents"][:2]
        manifest = {"model": "wants", "version": "1"}
        return build(tmp_path, manifest, schema=schema, threshold=threshold, files={MODEL: plain_file(held)})

    return make


def test_a_frame_of_two_intents_has_all_columns(lab_two: Callable[[], TextBundle]) -> None:
    made = lab_two()
    frame = made.score(pd.DataFrame({"text": ["refund", None]})).frame()
    assert list(frame.columns) == ["id", *made.outputs]
    assert frame["intent_3"].isna().all() and frame["confidence_3"].isna().all()
