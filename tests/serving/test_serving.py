"""A served model answers as its bundle does, refuses in words what it cannot read, and outlives what is sent to it."""

from __future__ import annotations

import asyncio
import base64
import csv
import errno
import hashlib
import html
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from cxlab.data.files import read_frame
from cxlab.errors import BundleError, ParamsError
from cxlab.release.scorer import Bundle, load_bundle
from cxlab.serving import request_log
from cxlab.serving.server import TOKEN, Limits, RequestLog, application, serve

GOOD = {"calls": 9, "noise": 0.5, "plan": "basic", "region": "north"}
JSON = {"content-type": "application/json"}
INFER = "/v2/models/small/infer"
NUMBERS = st.one_of(st.none(), st.floats(-1e30, 1e30), st.integers(-(10**20), 10**20), st.booleans(), st.just(" 2.5 "))
WORDS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-99, 99),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6),
    st.sampled_from(["basic", "plus", "north"]),
)
ROWS = st.lists(
    st.fixed_dictionaries({"calls": NUMBERS, "noise": NUMBERS, "plan": WORDS, "region": WORDS}), min_size=1, max_size=4
)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return self.json["error"]


class Client:
    """Asks an application in this process, byte for byte what is given."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(
        self,
        method: str,
        path: str,
        body: bytes | list[bytes] | object = b"",
        headers: dict[str, str] | list[tuple[bytes, bytes]] | None = None,
    ) -> Answer:
        return asyncio.run(self.ask(method, path, body, headers))

    async def ask(
        self, method: str, path: str, body: Any = b"", headers: Any = None, *, wait: float = 0, ends: bool = True
    ) -> Answer:
        if not isinstance(body, bytes | list):
            body, headers = json.dumps(body).encode(), headers or JSON
        parts = [body] if isinstance(body, bytes) else list(body)
        if isinstance(headers, dict):
            headers = [(k.encode(), v.encode()) for k, v in headers.items()]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(wait)
            if not parts:
                return {"type": "http.disconnect"}
            part = parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(parts) or not ends}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode("utf-8", "replace"),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": headers or [],
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 5),
        }
        await self.app(scope, receive, send)
        held = {k.decode().lower(): v.decode() for k, v in sent[0]["headers"]}
        return Answer(sent[0]["status"], held, b"".join(message.get("body", b"") for message in sent[1:]))


@pytest.fixture(scope="module")
def bundle(exported: Path) -> Bundle:
    return load_bundle(exported)


@pytest.fixture(scope="module")
def ask(bundle: Bundle) -> Client:
    return Client(application(bundle))


def tensors(rows: list[dict], *, wide: bool = False) -> list[dict]:
    """Rows as the protocol's tensors; a column of numbers is FP64, any other BYTES."""
    n, found = len(rows), []
    for name in GOOD:
        values = [row[name] for row in rows]
        numbers = all(value is None or type(value) in (int, float) for value in values)
        data = values if numbers else [None if value is None else str(value) for value in values]
        kind = "FP64" if numbers else "BYTES"
        shape = [n, 1] if wide else [n]
        found.append({"name": name, "datatype": kind, "shape": shape, "data": [[v] for v in data] if wide else data})
    return found


def metric(ask: Client, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(ask("GET", "/metrics").body.decode())
    return sum(s.value for f in families for s in f.samples if s.name == name and labels.items() <= s.labels.items())


# The laws


@given(rows=ROWS, reasons=st.integers(0, 3))
def test_the_server_says_what_the_bundle_says(ask: Client, bundle: Bundle, rows: list[dict], reasons: int) -> None:
    expected = bundle.score(rows, reasons=reasons)
    assert not expected.problems
    told = ask("POST", "/score", {"rows": rows, "reasons": reasons}).json["scores"]
    assert [each["score"] for each in told] == expected.score.tolist()
    assert [each["decision"] for each in told] == list(expected.decision)
    assert [each["reasons"] for each in told] == [list(each) for each in expected.reasons or [()] * len(rows)]


@given(rows=ROWS, wide=st.booleans())
def test_the_protocol_says_what_the_bundle_says(ask: Client, bundle: Bundle, rows: list[dict], wide: bool) -> None:
    words = [{k: v if type(v) in (int, float, type(None)) else str(v) for k, v in row.items()} for row in rows]
    for row in words:
        row["calls"], row["noise"] = (None if row[k] in ("True", "False") else row[k] for k in ("calls", "noise"))
    answer = ask("POST", INFER, {"inputs": tensors(words, wide=wide)}).json
    score, decision = answer["outputs"]
    held = [
        {t["name"]: t["data"][i][0] if wide else t["data"][i] for t in tensors(words, wide=wide)}
        for i in range(len(rows))
    ]
    expected = bundle.score(held)
    assert score == {"name": "score", "datatype": "FP64", "shape": [len(rows)], "data": expected.score.tolist()}
    assert decision["data"] == list(expected.decision)


@given(rows=ROWS)
def test_the_log_reads_back_as_the_model_read_it(
    bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, rows: list[dict]
) -> None:
    path = tmp_path_factory.mktemp("log") / "log.csv"
    log = RequestLog(path, bundle)
    told = Client(application(bundle, log=log))("POST", "/score", {"rows": rows}).json["scores"]
    log.close()
    with path.open(newline="", encoding="utf-8") as file:
        held = list(csv.DictReader(file))
    assert [float(row["cxlab_score"]) for row in held] == [each["score"] for each in told]
    assert [row["cxlab_decision"] for row in held] == [each["decision"] for each in told]
    plain = [{name: row[name] or None for name in GOOD} for row in held]
    kept = [i for i, row in enumerate(rows) if all(row[name] != "" for name in ("plan", "region"))]
    again = bundle.score(plain).score
    np.testing.assert_array_equal(again[kept], [told[i]["score"] for i in kept])


def test_many_rows_go_through_a_thread_and_score_alike(ask: Client, bundle: Bundle, reviewed: Any) -> None:
    rows = json.loads(reviewed.subject.test.drop(columns="churn").to_json(orient="records"))
    expected = bundle.score(rows, reasons=2)
    told = ask("POST", "/score", {"rows": rows, "reasons": 2}).json["scores"]
    assert [each["score"] for each in told] == expected.score.tolist()
    assert [each["reasons"] for each in told] == [list(each) for each in expected.reasons]
    assert [each["id"] for each in told] == [row["customer_id"] for row in rows]


# Our own form


def test_one_row_needs_no_list(ask: Client, bundle: Bundle) -> None:
    answer = ask("POST", "/score", {"row": GOOD})
    assert answer.status == 200
    assert answer.json == {
        "model": "small",
        "version": "1",
        "scores": [{"score": bundle.score([GOOD]).score[0], "decision": "contact", "reasons": []}],
    }
    assert ask("POST", "/score", {"rows": []}).json["scores"] == []


@pytest.mark.parametrize("name", ["c7", 7, 7.5, True, None])
def test_ids_are_echoed_as_given(ask: Client, name: Any) -> None:
    rows = [GOOD | {"customer_id": name}, GOOD | {"customer_id": "c8"}]
    told = ask("POST", "/score", {"rows": rows}).json["scores"]
    assert list(told[0]) == ["id", "score", "decision", "reasons"]
    assert told[0]["id"] == name and type(told[0]["id"]) is type(name)
    assert "id" not in ask("POST", "/score", {"rows": [rows[0], GOOD]}).json["scores"][0]


def test_reasons_come_in_words(ask: Client) -> None:
    (told,) = ask("POST", "/score", {"row": GOOD, "reasons": 2}).json["scores"]
    assert told["reasons"][0].startswith("9 calls, more than")


def test_other_columns_are_left_out(ask: Client) -> None:
    plain, more = (ask("POST", "/score", {"row": row}).json for row in (GOOD, GOOD | {"churn": "yes", "x": [1]}))
    assert plain == more


UNREADABLE = [
    ({"calls": "many"}, "calls == 'many', must be a number."),
    ({"noise": 1e300}, "noise == 1e+300, must be between -3.4e+38 and 3.4e+38."),
    ({"calls": ""}, "calls == '', must be a number."),
    ({"calls": [1]}, "calls is a list, must be a single value: text, a number, true, false or null."),
    ({"plan": {}}, "plan is an object, must be a single value: text, a number, true, false or null."),
    ({"plan": "\ud800"}, "plan holds half a character (a lone surrogate), must be whole text."),
    ({"plan": "a\0b"}, "plan holds the character NUL, must be text without it."),
    ({"plan": 10**400}, "plan is too large, must be a finite number."),
    ({"calls": -(10**400)}, "calls is too large, must be a finite number."),
    ({"customer_id": ["c7"]}, "customer_id is a list, must be a single value: text, a number, true, false or null."),
]


@pytest.mark.parametrize(("value", "says"), UNREADABLE)
def test_what_cannot_be_read_refuses_the_request(ask: Client, value: dict, says: str) -> None:
    before = metric(ask, "cxlab_rows_refused_total")
    answer = ask("POST", "/score", {"rows": [GOOD, GOOD | value, GOOD]})
    assert answer.status == 422
    assert answer.json["problems"] == [{"row": 1, "message": says}]
    assert answer.error == f"1 of 3 rows cannot be read, so none is scored: {says}"
    assert metric(ask, "cxlab_rows_refused_total") == before + 1


def test_infinite_numbers_are_refused(ask: Client) -> None:
    answer = ask("POST", "/score", b'{"row": {"calls": 1, "noise": 0, "plan": 1e999, "region": "x"}}')
    assert answer.status == 422 and "plan is too large" in answer.error


def test_a_missing_column_is_named_with_its_nearest(ask: Client) -> None:
    row = {"cals": 1, "noise": 0.1, "plan": "pro", "region": "south"}
    answer = ask("POST", "/score", {"rows": [GOOD, row]})
    says = "Column 'calls' is not in the data. Did you mean 'cals'? Columns: cals, noise, plan, region."
    assert (answer.status, answer.error) == (422, f"Row 1: {says}")
    assert answer.json["problems"] == [{"row": 1, "message": says}]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "The body is no JSON: Expecting value"),
        (b"{", 400, "is no JSON"),
        (b"[" * 100_000, 400, "nested too deeply"),
        (b'{"row":' * 50_000, 400, "nested too deeply"),
        (b'{"row": {"calls": NaN}}', 400, "NaN is no number there. Send null"),
        (b'{"row": {"calls": -Infinity}}', 400, "-Infinity is no number"),
        (b'{"row": {"calls": ' + b"9" * 5000 + b"}}", 422, "digits"),
        (b'{"row": "\xff"}', 422, "Byte 9 of the body is not UTF-8"),
        (b"\xff\xfe{\x00}\x00", 422, "not UTF-8"),
        (b"[]", 422, "must be a JSON object"),
        (b"{}", 422, 'one of "rows"'),
        (b'{"row": {}, "rows": []}', 422, 'one of "rows"'),
        (b'{"row": [1]}', 422, "A row must be an object"),
        (b'{"rows": {}}', 422, "rows must be a list"),
        (b'{"rows": [], "reason": 3}', 422, "Key 'reason' is not one of a request. Did you mean 'reasons'?"),
        (b'{"rows": [], "reasons": true}', 422, "reasons == True, must be a whole number from 0 to 10."),
        (b'{"rows": [], "reasons": 11}', 422, "must be a whole number from 0 to 10."),
        (b'{"rows": [], "reasons": ' + b"[" * 300 + b"]" * 300 + b"}", 422, "reasons == a list, must"),
        (json.dumps({"rows": [GOOD] * 1001}).encode(), 422, "1,001 rows, must have at most 1,000"),
        (json.dumps({"row": GOOD | {str(i): 1 for i in range(2000)}}).encode(), 422, "must have at most 1,004"),
    ],
)
def test_a_request_that_does_not_fit_is_told_why(ask: Client, body: bytes, status: int, says: str) -> None:
    answer = ask("POST", "/score", body, JSON)
    assert answer.status == status
    assert says in answer.error and len(answer.body) < 10_000


# The protocol


def test_the_protocol_describes_server_and_model(ask: Client) -> None:
    assert ask("GET", "/v2").json["name"] == "cxlab" and ask("GET", "/v2/").status == 200
    assert ask("GET", "/v2/health/live").json["live"] is True and ask("GET", "/v2/health/ready").json["ready"] is True
    found = ask("GET", "/v2/models/small").json
    assert found == ask("GET", "/v2/models/small/versions/1").json
    assert (found["name"], found["versions"], found["platform"]) == ("small", ["1"], "onnxruntime_onnx")
    assert found["inputs"][:1] == [{"name": "calls", "datatype": "FP64", "shape": [-1]}]
    assert [each["datatype"] for each in found["inputs"]] == ["FP64", "FP64", "BYTES", "BYTES"]
    assert [each["name"] for each in found["outputs"]] == ["score", "decision"]
    for path in ("/v2/models/small/ready", "/v2/models/small/versions/1/ready"):
        assert ask("GET", path).json == {"name": "small", "ready": True}


def test_another_model_or_version_is_not_here(ask: Client) -> None:
    assert (
        ask("GET", "/v2/models/smal").error == "Model 'smal' is not served here. Did you mean 'small'? Models: small."
    )
    for path in ("/v2/models/small/versions/2", "/v2/models/small/versions/2/ready", "/v2/models/x/ready"):
        assert ask("GET", path).status == 404
    for path in ("/v2/models/x/infer", "/v2/models/small/versions/2/infer"):
        answer = ask("POST", path, {"inputs": tensors([GOOD])})
        assert answer.status == 404 and list(answer.json) == ["error"]


def test_ids_and_wanted_outputs_are_honoured(ask: Client, bundle: Bundle) -> None:
    body = {"id": "42", "inputs": tensors([GOOD]), "outputs": [{"name": "decision"}], "parameters": {"a": 1}}
    for path in (INFER, "/v2/models/small/versions/1/infer"):
        assert ask("POST", path, body).json == {
            "model_name": "small",
            "model_version": "1",
            "id": "42",
            "outputs": [{"name": "decision", "datatype": "BYTES", "shape": [1], "data": ["contact"]}],
        }
    assert "id" not in ask("POST", INFER, {"inputs": tensors([GOOD])}).json
    both = ask("POST", INFER, {**body, "outputs": [{"name": "decision"}, {"name": "score"}]}).json["outputs"]
    assert [each["name"] for each in both] == ["decision", "score"]


def changed(**changes: Any) -> dict:
    return {"inputs": [tensors([GOOD])[0] | changes, *tensors([GOOD])[1:]]}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "inputs must be a list of objects"),
        ({"inputs": [1]}, 'each must be an object with a "name"'),
        ({"inputs": tensors([GOOD]) * 2}, "'calls' is there twice"),
        ({"inputs": tensors([GOOD])[1:]}, "Column 'calls' is not in the data."),
        (
            {"inputs": tensors([GOOD]), "outputs": [{"name": "scor"}]},
            "Output 'scor' is not one of the model's. Did you",
        ),
        ({"inputs": tensors([GOOD]), "id": 7}, "id must be text"),
        (changed(datatype="FP8"), "datatype == 'FP8', must be one of FP64"),
        (changed(shape=[1, 2]), "shape == [1, 2], must be [rows] or [rows, 1]"),
        (changed(shape=[-1]), "shape == [-1], must"),
        (changed(shape="1"), "shape == '1', must"),
        (changed(shape=[10**9]), "must have at most 1,000"),
        (changed(shape=[2]), "has 1 values, must have 2"),
        (changed(shape=[2], data=[1, 2]), "as many rows: calls has 2, noise has 1"),
        (changed(data={}), "data must be a list"),
        (changed(data=["9"]), "calls == '9', must be FP64 as its tensor says, or null."),
        (changed(data=[[9]]), "calls == [9], must be FP64"),
        (changed(datatype="INT64", data=[9.5]), "must be INT64"),
        (changed(datatype="BOOL", data=[1]), "must be BOOL"),
        (changed(datatype="BYTES", data=["many"]), "calls == 'many', must be a number."),
    ],
)
def test_tensors_that_do_not_fit_are_told_why(ask: Client, body: dict, says: str) -> None:
    answer = ask("POST", INFER, body)
    assert answer.status == 422 and says in answer.error


@pytest.mark.parametrize(
    ("datatype", "value"), [("FP32", 9), ("INT32", 9), ("BYTES", "9"), ("FP64", None), ("BOOL", True)]
)
def test_each_datatype_is_read(ask: Client, bundle: Bundle, datatype: str, value: Any) -> None:
    answer = ask("POST", INFER, changed(datatype=datatype, data=[value]))
    assert answer.json["outputs"][0]["data"] == bundle.score([GOOD | {"calls": value}]).score.tolist()


# The door


def test_large_bodies_are_refused_announced_or_not(bundle: Bundle) -> None:
    ask = Client(application(bundle, limits=Limits(body_bytes=1000)))
    big = b" " * 1001
    announced = [(b"content-type", b"application/json"), (b"content-length", b"1001")]
    for body, headers in [
        (big, announced),
        (b"", announced),
        (big, JSON),
        ([b" " * 400] * 3, JSON),
        ([big] * 99, JSON),
    ]:
        answer = ask("POST", "/score", body, headers)
        assert answer.status == 413 and "at most 1,000 bytes" in answer.error
        assert answer.headers["connection"] == "close"
    assert ask("POST", "/score", b"", [(b"content-length", b"9" * 5000)]).status == 413
    assert ask("POST", "/score", b"", [*announced, (b"expect", b"100-continue")]).status == 413
    assert ask("POST", "/score", {"row": GOOD}).status == 200


def test_a_slow_body_is_not_waited_for(bundle: Bundle) -> None:
    client = Client(application(bundle, limits=Limits(seconds=0.2)))
    answer = asyncio.run(client.ask("POST", "/score", [b" "] * 100, JSON, wait=0.05))
    assert answer.status == 408 and "0.2 s" in answer.error


def test_a_body_that_ends_early_is_no_request(ask: Client) -> None:
    answer = asyncio.run(ask.ask("POST", "/score", [b"{"], JSON, ends=False))
    assert answer.status == 400


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_other_content_is_refused(ask: Client, kind: str) -> None:
    assert ask("POST", "/score", json.dumps({"row": GOOD}).encode(), {"content-type": kind}).status == 415


@pytest.mark.parametrize("kind", [None, "application/json; charset=utf-8", "APPLICATION/JSON", "application/x+json"])
def test_json_by_any_name_is_read(ask: Client, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    assert ask("POST", "/score", json.dumps({"row": GOOD}).encode(), headers).status == 200
    assert ask("POST", "/score", b"", {"content-encoding": "gzip"}).status == 415


def test_a_token_opens_every_door_but_health(bundle: Bundle) -> None:
    ask = Client(application(bundle, token="sésame"))
    assert ask("GET", "/health").status == 200
    for method, path in [
        ("POST", "/score"),
        ("GET", "/metrics"),
        ("GET", "/docs"),
        ("GET", "/v2"),
        ("GET", "/nowhere"),
    ]:
        answer = ask(method, path)
        assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer" and "token" in answer.error
    body = json.dumps({"row": GOOD}).encode()
    for said, status in [("Bearer sésame", 200), ("bearer sésame", 200), ("Bearer x", 401), ("sésame", 401), ("", 401)]:
        assert ask("POST", "/score", body, JSON | {"authorization": said}).status == status
    assert "$CXLAB_SERVE_TOKEN" in ask("GET", "/docs", headers={"authorization": "Bearer sésame"}).body.decode()


def test_routes_and_methods_that_are_not_there_are_said_in_json(ask: Client) -> None:
    assert "Did you mean '/score'?" in ask("GET", "/scor").error
    for method in ("GET", "HEAD", "DELETE", "OPTIONS", "BREW"):
        answer = ask(method, "/score")
        assert answer.status == 405 and answer.headers["allow"] == "POST" and method in answer.error
    assert ask("POST", "/health").status == 405


def test_pages_of_other_sites_may_not_ask(bundle: Bundle) -> None:
    ask = Client(application(bundle, hosts=frozenset({b"localhost", b"127.0.0.1"})))
    body = json.dumps({"row": GOOD}).encode()
    assert ask("GET", "/health", headers={"host": "evil.example"}).status == 400
    assert ask("GET", "/health").status == 400
    for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:1"):
        assert ask("POST", "/score", body, {"host": host}).status == 200
        assert ask("POST", "/score", body, {"host": host, "origin": f"http://{host}"}).status == 200
        assert ask("POST", "/score", body, {"host": host, "origin": "http://evil.example"}).status == 403
        assert ask("POST", "/score", body, {"host": host, "origin": "null"}).status == 403


def test_answers_are_not_kept_by_caches(ask: Client) -> None:
    answer = ask("POST", "/score", {"row": GOOD})
    assert answer.headers["cache-control"] == "no-store" and "server" not in answer.headers


def test_too_many_and_too_long_are_asked_to_come_again(exported: Path) -> None:
    slow = load_bundle(exported)
    client = Client(application(slow, limits=Limits(seconds=0.3, threads=1, waiting=2)))
    score = slow.score

    def late(*given: Any, **more: Any) -> Any:
        time.sleep(0.5)
        return score(*given, **more)

    object.__setattr__(slow, "score", late)
    many = {"rows": [GOOD] * 100}

    async def at_once() -> list[Answer]:
        return await asyncio.gather(*(client.ask("POST", "/score", many) for _ in range(4)))

    answers = asyncio.run(at_once())
    assert [answer.status for answer in answers] == [503] * 4
    assert all(answer.headers["retry-after"] == "1" for answer in answers)
    assert sorted(answer.error[:10] for answer in answers) == ["2 requests"] * 2 + ["Not scored"] * 2
    time.sleep(0.6)
    object.__setattr__(slow, "score", score)
    assert client("POST", "/score", many).status == 200  # places are given back
    assert metric(client, "cxlab_rows_scored_total") == 100


def test_a_bug_is_answered_and_counted(exported: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = load_bundle(exported)
    object.__setattr__(broken, "score", lambda *_, **__: 1 / 0)
    ask = Client(application(broken))
    answer = ask("POST", "/score", {"row": GOOD})
    assert (answer.status, answer.error) == (500, "The server failed. Its own log says why.")
    assert "ZeroDivisionError" in caplog.text
    assert metric(ask, "cxlab_errors_total") == 1 == metric(ask, "cxlab_requests_total", status="500")


def test_metrics_count(bundle: Bundle) -> None:
    ask = Client(application(bundle))
    ask("POST", "/score", {"rows": [GOOD, GOOD | {"calls": 0, "plan": "pro"}]})
    ask("POST", "/score", {"rows": 1})
    ask("POST", INFER, {"inputs": tensors([GOOD])})
    ask("GET", "/x" * 20)
    assert metric(ask, "cxlab_requests_total", route="/score", status="200") == 1
    assert metric(ask, "cxlab_requests_total", route="/score", status="422") == 1
    assert metric(ask, "cxlab_requests_total", route="none", status="404") == 1
    assert metric(ask, "cxlab_request_seconds_count", route="/v2/models/{name}/infer") == 1
    assert metric(ask, "cxlab_rows_scored_total") == 3 == metric(ask, "cxlab_decisions_total")
    assert metric(ask, "cxlab_decisions_total", decision="contact") == 2


# What it says of itself


def test_openapi_says_what_is_there(ask: Client) -> None:
    document = ask("GET", "/openapi.json").json
    assert {"/score", "/health", "/metrics", "/v2", INFER.replace("small", "{name}")} <= set(document["paths"])
    form = document["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]
    assert form["schema"]["properties"]["row"]["required"] == list(GOOD)
    assert ask("POST", "/score", form["example"]).status == 200
    infer = document["paths"]["/v2/models/{name}/infer"]["post"]
    assert ask("POST", INFER, infer["requestBody"]["content"]["application/json"]["example"]).status == 200
    assert [each["name"] for each in infer["parameters"]] == ["name"]


def test_the_page_needs_no_network_and_its_example_works(ask: Client) -> None:
    answer = ask("GET", "/docs")
    page = answer.body.decode()
    assert set(re.findall(r"https?://[^/\s<&]*", page)) == {"http://127.0.0.1:8000"}
    assert not re.search(r"\bsrc=|url\(|@import|<link(?! rel=\"icon\" href=\"data:,\")", page)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    script = page.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in answer.headers["content-security-policy"]
    example = html.unescape(page.partition('spellcheck="false">')[2].partition("</textarea>")[0])
    assert ask("POST", "/score", example.encode(), JSON).status == 200
    assert "small version 1" in page and "In training: basic, plus, pro" in page


# The log


@pytest.fixture
def logged(bundle: Bundle, tmp_path: Path) -> Iterator[Callable[..., RequestLog]]:
    logs: list[RequestLog] = []

    def opened(name: str = "log.csv", **more: Any) -> RequestLog:
        logs.append(RequestLog(tmp_path / name, bundle, **more))
        return logs[-1]

    yield opened
    for log in logs:
        log.close()


def test_the_log_is_a_table_that_drift_reads(bundle: Bundle, logged: Callable[..., RequestLog]) -> None:
    log = logged()
    ask = Client(application(bundle, log=log))
    odd = 'a "b", c\nd;\u00e9|\t'
    rows = [
        GOOD | {"customer_id": "c7"},
        GOOD | {"calls": None, "noise": "2.5", "plan": odd},
        GOOD | {"calls": True, "plan": True, "region": 7},
    ]
    told = [ask("POST", "/score", {"row": row}).json["scores"][0] for row in rows]
    ask("POST", INFER, {"inputs": tensors([GOOD])})
    ask("POST", "/score", {"row": GOOD | {"calls": "many"}})
    frame, _ = read_frame(log.path)
    head = ["cxlab_time", "cxlab_version", "cxlab_score", "cxlab_decision"]
    assert frame.columns.tolist() == [*head, *GOOD]
    assert len(frame) == 4
    np.testing.assert_allclose(frame["cxlab_score"][:3], [each["score"] for each in told], rtol=1e-15)
    assert frame["calls"].dtype == frame["noise"].dtype == float
    assert frame["plan"].tolist()[1] == odd.strip() and frame["plan"].tolist()[2] == "true"
    np.testing.assert_allclose(bundle.score(frame).score, frame["cxlab_score"], rtol=1e-15)
    assert pd.to_datetime(frame["cxlab_time"], utc=True).notna().all()
    assert "c7" not in log.path.read_text()
    assert log.path.stat().st_mode & 0o077 == 0


def test_customers_are_named_only_when_asked(bundle: Bundle, logged: Callable[..., RequestLog]) -> None:
    log = logged(ids=True)
    ask = Client(application(bundle, log=log))
    ask("POST", "/score", {"rows": [GOOD | {"customer_id": "c7"}]})
    ask("POST", "/score", {"rows": [GOOD]})
    name = {"name": "customer_id", "datatype": "BYTES", "shape": [1], "data": ["c9"]}
    ask("POST", INFER, {"inputs": [*tensors([GOOD]), name]})
    assert read_frame(log.path)[0]["cxlab_id"].fillna("").tolist() == ["c7", "", "c9"]


def test_a_log_goes_on_where_it_ended(bundle: Bundle, logged: Callable[..., RequestLog]) -> None:
    for _ in range(2):
        log = logged()
        log.write([GOOD], bundle.score([GOOD]))
        os.close(log._file)  # as a process that dies
        log._file = os.open(os.devnull, os.O_RDONLY)
    assert len(read_frame(log.path)[0]) == 2


@pytest.mark.parametrize("left", ["", "cxlab_time,cxl", None])
def test_what_a_dying_machine_left_half_is_cut_off(
    bundle: Bundle, tmp_path: Path, logged: Callable[..., RequestLog], left: str | None
) -> None:
    if left is None:
        first = RequestLog(tmp_path / "log.csv", bundle)
        first.write([GOOD, GOOD], bundle.score([GOOD, GOOD]))
        first.close()
        os.truncate(tmp_path / "log.csv", (tmp_path / "log.csv").stat().st_size - 5)
    else:
        (tmp_path / "log.csv").write_text(left)
    log = logged()
    log.write([GOOD], bundle.score([GOOD]))
    assert len(read_frame(log.path)[0]) == (2 if left is None else 1)


def test_a_log_of_something_else_is_refused(bundle: Bundle, tmp_path: Path, logged: Callable[..., RequestLog]) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ParamsError, match="has other columns than this server's"):
        logged("other.csv")
    assert (tmp_path / "other.csv").read_text() == "a,b\n1,2\n"
    with pytest.raises(ParamsError, match=r"cannot be written: Is a directory"):
        logged(".")
    with pytest.raises(ParamsError, match=r"cannot be written: No such file"):
        logged("nowhere/log.csv")
    with pytest.raises(ParamsError, match="no plain file"):
        logged("/dev/null")
    with pytest.raises(ParamsError, match="would lie in the bundle"):
        logged(str(bundle.folder / "log.csv"))
    logged()
    with pytest.raises(ParamsError, match="another server"):
        logged()


def test_what_cannot_be_logged_is_not_answered(
    bundle: Bundle, logged: Callable[..., RequestLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logged()
    ask = Client(application(bundle, log=log))
    assert ask("POST", "/score", {"row": GOOD}).status == 200
    whole = log.path.read_bytes()
    write = os.write

    def half(file: int, content: bytes) -> int:
        return write(file, content[:20]) if file == log._file else write(file, content)

    def none(file: int, content: bytes) -> int:
        if file == log._file:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, content)

    for failing in (half, none):
        monkeypatch.setattr(request_log.os, "write", failing)
        for path, body in [("/score", {"rows": [GOOD] * 100}), (INFER, {"inputs": tensors([GOOD])})]:
            answer = ask("POST", path, body)
            assert answer.status == 503
            assert answer.error == "The request can't be logged, so it is not answered: No space left on device."
        assert log.path.read_bytes() == whole
    monkeypatch.setattr(request_log.os, "write", write)
    assert metric(ask, "cxlab_log_failures_total") == 4
    assert metric(ask, "cxlab_rows_scored_total") == 1
    assert ask("POST", "/score", {"row": GOOD}).status == 200


# What anyone may send

PATHS = ["/score", INFER, "/v2/models/small/versions/1/infer", "/v2", "/health", "/docs", "/metrics", "/openapi.json"]
METHODS = ["POST"] * 12 + ["GET", "PUT", "HEAD", "OPTIONS", "PATCH", "DELETE", "TRACE", "X"]
HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-type", b"text/plain"),
    (b"content-type", b"\xff\xfe;;="),
    (b"content-length", b"abc"),
    (b"content-length", b"-1"),
    (b"content-length", "\u00b2".encode("latin-1")),
    (b"host", b"[::"),
    (b"host", b"\xff"),
    (b"origin", b"http://[::"),
    (b"authorization", b"Bearer \xff"),
    (b"accept", b"*/*" * 500),
    (b"range", b"bytes=0-"),
    (b"cookie", b"=;=;\xff"),
    (b"x-forwarded-for", b"\x00"),
    (b"transfer-encoding", b"chunked"),
    (b"upgrade", b"websocket"),
]
ODD = [
    None,
    True,
    0,
    -1,
    10**400,
    1e308,
    -0.0,
    "",
    "\ud800",
    "\0",
    "\uffff",
    "a" * 999,
    [],
    {},
    [[]],
    {"name": 1},
    "rows",
]


def odd_tree(draw: random.Random, depth: int = 0) -> Any:
    """Valid JSON of any shape, now and then with our own keys."""
    kind = draw.random()
    if depth > 4 or kind < 0.5:
        return draw.choice([*ODD, draw.random(), draw.randint(-9, 9), "basic"])
    if kind < 0.7:
        return [odd_tree(draw, depth + 1) for _ in range(draw.randint(0, 4))]
    keys = ["rows", "row", "reasons", "inputs", "outputs", "id", "name", "shape", "datatype", "data", *GOOD, "x", ""]
    return {draw.choice(keys): odd_tree(draw, depth + 1) for _ in range(draw.randint(0, 5))}


def mutated(draw: random.Random, tree: Any) -> Any:
    """A good request with something in it changed."""
    if draw.random() < 0.15:
        return odd_tree(draw)
    if isinstance(tree, dict) and tree:
        key = draw.choice(list(tree))
        if draw.random() < 0.1:
            return {name: value for name, value in tree.items() if name != key}
        return {**tree, key: mutated(draw, tree[key])}
    if isinstance(tree, list) and tree:
        place = draw.randrange(len(tree))
        return [*tree[:place], mutated(draw, tree[place]), *tree[place + 1 :]]
    return odd_tree(draw)


def odd_request(draw: random.Random) -> tuple[str, str, Any, list[tuple[bytes, bytes]]]:
    path = draw.choice(PATHS)
    whole = draw.choice([{"row": GOOD}, {"rows": [GOOD] * 3, "reasons": 2}]) if path == "/score" else None
    good: Any = whole or {"id": "1", "inputs": tensors([GOOD] * 2), "outputs": [{"name": "score"}]}
    kind = draw.random()
    if kind < 0.15:
        body = draw.randbytes(draw.randint(0, 60))
    elif kind < 0.35:
        body = json.dumps(odd_tree(draw)).encode()
    elif kind < 0.85:
        body = json.dumps(mutated(draw, good)).encode()
    else:  # a good request with bytes changed, cut or doubled
        body = bytearray(json.dumps(good).encode())
        for _ in range(draw.randint(1, 4)):
            body[draw.randrange(len(body))] = draw.randrange(256)
        body = bytes(body[: draw.choice([None, draw.randint(0, len(body))])]) * draw.choice([1, 1, 1, 2])
    if draw.random() < 0.1:
        path = draw.choice(
            [path + "/", path.upper(), "/" + "a" * 5000, "//", "", "/\x00", "/v2/models/\ud800/infer", "*"]
        )
    headers = draw.choices(HEADERS, k=draw.randint(0, 4)) if draw.random() < 0.3 else HEADERS[:1]
    parts = [body[i : i + 50] for i in range(0, len(body), 50)] if draw.random() < 0.1 else body
    return draw.choice(METHODS), path, parts, headers


def test_ten_thousand_odd_requests_never_fail_the_server(bundle: Bundle, logged: Callable[..., RequestLog]) -> None:
    log = logged()
    client, draw = Client(application(bundle, log=log)), random.Random(0)

    async def all_of_them() -> dict[int, int]:
        seen: dict[int, int] = {}
        for _ in range(10_000):
            request = odd_request(draw)
            answer = await client.ask(*request)
            assert answer.status < 500, request
            if request[0] == "POST" and answer.status != 200:
                assert answer.json["error"]
            seen[answer.status] = seen.get(answer.status, 0) + 1
        return seen

    seen = asyncio.run(all_of_them())
    assert min(seen.get(status, 0) for status in (200, 400, 404, 405, 415, 422)) > 50, seen
    assert client("POST", "/score", {"row": GOOD}).status == 200
    assert metric(client, "cxlab_errors_total") == 0
    assert len(read_frame(log.path)[0]) == metric(client, "cxlab_rows_scored_total") > 100


# A server in its own process


class Served:
    """A server on loopback, its parser of HTTP chosen."""

    def __init__(self, folder: Path, log: Path, parser: str, env: dict[str, str] | None = None) -> None:
        hidden = "sys.modules['httptools'] = None\n" if parser == "h11" else ""
        code = (
            f"import sys; from pathlib import Path\n{hidden}from cxlab.serving.server import Limits, serve\n"
            f"serve(Path({str(folder)!r}), port=0, log=Path({str(log)!r}), limits=Limits(seconds=1.0, connections=40))"
        )
        command = [sys.executable, "-W", "error", "-c", code]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | (env or {})
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        self.port = int(re.search(r":(\d+) \(", self.said)[1])

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] = JSON) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def end(self, by: int) -> tuple[int, str]:
        self.process.send_signal(by)
        _, wrong = self.process.communicate(timeout=15)
        return self.process.returncode, wrong


@pytest.fixture(params=["httptools", "h11"])
def served(request: pytest.FixtureRequest, exported: Path, tmp_path: Path) -> Iterator[Served]:
    if request.param == "httptools":
        pytest.importorskip("httptools")
    server = Served(exported, tmp_path / "log.csv", request.param)
    yield server
    if server.process.poll() is None:
        server.process.kill()
    server.process.communicate()


def spoil(draw: random.Random, port: int) -> None:
    """One connection that says something odd and goes, mostly without waiting for an answer."""
    body = json.dumps({"row": GOOD}).encode()
    head = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    good = head % len(body) + body
    says = draw.choice(
        [
            draw.randbytes(draw.randint(1, 300)),
            good[: draw.randint(1, len(good))],
            b"GET / HTTP/9.9\r\n\r\n",
            b"POST /score HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"POST /score HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000,
            b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 40_000,
            b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            head % 10**15,
            head % 5_000_000 + b" " * 2_000_000,
            b"GET /health HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            good * draw.randint(2, 5),
            bytes(b ^ (draw.random() < 0.02) for b in good),
        ]
    )
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.05) as connection:
            for start in range(0, len(says), step := draw.choice([7, 100, 1 << 20]) if len(says) < 1000 else 1 << 20):
                connection.sendall(says[start : start + step])
            if draw.random() < 0.3:
                connection.recv(1000)
    except (TimeoutError, ConnectionError):
        pass


def test_a_server_outlives_spoilt_connections_and_ends_cleanly(served: Served, tmp_path: Path) -> None:
    body = json.dumps({"row": GOOD}).encode()
    assert re.match(r"small version 1 on http://127\.0\.0\.1:\d+ \(Ctrl-C ends it\)", served.said)
    assert served.ask("POST", "/score", body).status == 200
    draw = random.Random(1)
    lasting = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(3)]
    lasting[0].sendall(b"GET /health HTTP/1.1\r\nHo")  # a head that never ends
    lasting[1].sendall(
        b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{"
    )  # a body that never does
    started = time.monotonic()
    for _ in range(200):
        spoil(draw, served.port)
    time.sleep(max(0.0, started + 1.5 - time.monotonic()))
    answer = served.ask("POST", "/score", body)
    assert answer.status == 200 and "server" not in answer.headers
    assert lasting[0].recv(9) == b"" and lasting[1].recv(12) == b"HTTP/1.1 408" and lasting[2].recv(9) == b""
    text = served.ask("GET", "/metrics").body.decode()
    assert "cxlab_errors_total 0.0" in text and 'status="500"' not in text
    for connection in lasting:
        connection.close()
    assert served.end(signal.SIGTERM) == (0, "")
    rows = float(re.search(r"^cxlab_rows_scored_total (\S+)", text, re.MULTILINE)[1])
    assert len(read_frame(tmp_path / "log.csv")[0]) == rows >= 2


def test_bodies_and_hosts_are_bounded_over_the_wire(served: Served) -> None:
    assert served.ask("POST", "/score", b" " * 2_000_000).status == 413
    assert served.ask("GET", "/health", headers={"Host": "evil.example"}).status == 400
    crowd = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(45)]
    assert served.ask("GET", "/health").status == 503
    for connection in crowd:
        connection.close()
    deadline = time.monotonic() + 5
    while (status := served.ask("GET", "/health").status) == 503 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert status == 200
    assert served.end(signal.SIGINT) == (0, "")


def test_a_killed_server_leaves_whole_lines(exported: Path, tmp_path: Path) -> None:
    server = Served(exported, tmp_path / "log.csv", "httptools")
    body = json.dumps({"rows": [GOOD] * 300}).encode()
    answered = sum(300 for _ in range(5) if server.ask("POST", "/score", body).status == 200)
    assert server.end(signal.SIGKILL)[0] == -signal.SIGKILL
    assert len(read_frame(tmp_path / "log.csv")[0]) == answered == 1500


# How it starts


def test_other_machines_need_a_token(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    for host in ("0.0.0.0", "::"):
        with pytest.raises(ParamsError, match="a token is needed: set CXLAB_SERVE_TOKEN"):
            serve(exported, host=host, port=0)
    monkeypatch.setenv(TOKEN, "two words")
    with pytest.raises(ParamsError, match="without spaces"):
        serve(exported, host="0.0.0.0", port=0)


def test_a_taken_port_is_said_with_the_remedy(exported: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ParamsError, match=rf"Port {port} of 127.0.0.1 cannot be listened on: .*--port {port + 1}"):
            serve(exported, port=port)
    for host, number in [("no such host", 0), ("127.0.0.1", 99999), ("127.0.0.1", -1)]:
        with pytest.raises(ParamsError, match="--port"):
            serve(exported, host=host, port=number)


def test_a_changed_bundle_is_not_served(bundle_folder: Path) -> None:
    (bundle_folder / "model.onnx").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"model\.onnx differs"):
        serve(bundle_folder, port=0)
    with pytest.raises(ParamsError, match="--log FILE"):
        serve(bundle_folder, port=0, log_ids=True)
