"""One customer scored over HTTP and in process: the bundle beside MLflow's pyfunc and scikit-learn; then a crowd.

Then one contact: the bundle of a model of words beside the model as training left it, without and with an encoder.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import ROOT, Found

from cxlab.data.table import read_table
from cxlab.evidence.report import review
from cxlab.features.encoder import available
from cxlab.models.subject import subject_of
from cxlab.models.training import train
from cxlab.params import load_params
from cxlab.release.bundle import write_bundle
from cxlab.release.scorer import load_bundle
from cxlab.tracking.runs import tracked

CALLS, CONNECTIONS, SECONDS = 500, 8, 10.0
CONTACTS = 2_000  # that the model of words learns from
LIMITS = {"words_characters": 5.0, "both": 25.0}  # milliseconds a contact, by candidate
IN_PROCESS = "load_bundle().score, in process"
SERVE = "import sys; from pathlib import Path; from cxlab.serving.server import serve; serve(Path(sys.argv[1]), port=0)"
# The crowd is a process of its own, with plain sockets, so that it takes little of what it measures.
CROWD = """
import asyncio, json, sys, time
port, connections, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
request = sys.stdin.buffer.read()
taken, errors = [], 0
async def one(until):
    global errors
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        started = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\\r\\n\\r\\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\\r\\n")[0])
        await reader.readexactly(length)
        taken.append(time.perf_counter() - started)
        errors += not head.startswith(b"HTTP/1.1 200")
    writer.close()
async def all_of_them():
    until = time.perf_counter() + seconds
    await asyncio.gather(*(one(until) for _ in range(connections)))
asyncio.run(all_of_them())
print(json.dumps({"taken": taken, "errors": errors}))
"""


def measure() -> Found:
    """The model of the churn sample, one raw row of it."""
    params = load_params(ROOT / "params" / "telecom_churn.yaml", ["search.trials=3"])
    table = read_table(params.data)
    training = train(table, params, storage=None)
    report = review(training)
    row = table.frame.iloc[[0]][report.subject.model.schema.names]  # MLflow warns of others at every call
    with tempfile.TemporaryDirectory() as place:
        facts = {"model": "churn", "version": "1", "task": params.task}
        evidence = {"card.md": "# churn"}
        folder = write_bundle(
            report.subject, Path(place) / "churn-1", facts=facts, report=report.facts(), evidence=evidence
        )
        bundle, theirs = load_bundle(folder), _pyfunc(str(folder))
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{place}/mlflow.db"
        with tracked(params) as run:
            run.log(training, report)
        registered = _pyfunc(f"models:/{params.name}/1")
        server = subprocess.Popen([sys.executable, "-c", SERVE, str(folder)], stdout=subprocess.PIPE, text=True)
        try:
            port = _port(server)
            request = _request(json.dumps({"row": json.loads(row.to_json(orient="records"))[0]}))
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ways: dict[str, Callable[[], Any]] = {
                    IN_PROCESS: lambda: bundle.score(row),
                    "POST /score, one connection": lambda: _asked(connection, request),
                    "mlflow.pyfunc of the registered model": lambda: registered.predict(row),
                    "mlflow.pyfunc of the bundle": lambda: theirs.predict(row),
                    "scikit-learn predict_proba, in process": lambda: report.subject.model.predict_proba(row),
                }
                taken = {way: _taken(call) for way, call in ways.items()}
            crowd = _crowd(port, request)
        finally:
            server.send_signal(signal.SIGTERM)
            status = server.wait(20)
    rows = [*_rows("churn", taken)]
    rows.append(
        ("churn", f"POST /score, {CONNECTIONS} connections", *_shown(crowd["taken"]), "", f"{len(crowd['taken']):,}")
    )
    said, sizes = _contacts()
    for model, ways in said.items():
        rows += _rows(model, ways)
    columns = ["model", "way", "median ms", "99th percentile ms", "times the bundle's median", "calls"]
    pyfunc = np.median(taken["mlflow.pyfunc of the registered model"]) / np.median(next(iter(taken.values())))
    says = [
        f"The registered model takes {pyfunc:.0f} times as long through pyfunc; the aim is 50.",
        f"{CONNECTIONS} connections: {len(crowd['taken']) / SECONDS:,.0f} answers a second, {crowd['errors']} errors.",
        f"The server ended with status {status}. Load: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.",
    ]
    for model, ways in said.items():
        says.append(
            f"A contact takes {1000 * np.median(ways[IN_PROCESS]):.1f} ms with {model}; the aim is {LIMITS[model]:g}. "
            f"Its bundle has {sizes[model] / 1e6:.1f} MB."
        )
    why = available()
    if why is not None:
        says.append(f"No encoder was measured: {why}")
    title = f"One row of {row.shape[1]} columns, {report.subject.name}; one contact"
    return Found(title, pd.DataFrame(rows, columns=columns), tuple(says))


def _rows(model: str, taken: dict[str, np.ndarray]) -> Iterator[tuple[str, ...]]:
    base = np.median(next(iter(taken.values())))
    for way, each in taken.items():
        yield (model, way, *_shown(each), f"{np.median(each) / base:.1f}", f"{len(each):,}")


def _contacts() -> tuple[dict[str, dict[str, np.ndarray]], dict[str, int]]:
    """Seconds of each call by candidate and way, over as many contacts as calls; and bytes of the bundles."""
    found: dict[str, dict[str, np.ndarray]] = {}
    sizes = {}
    for name in LIMITS if available() is None else ["words_characters"]:
        params = load_params(ROOT / "params" / "intent.yaml", ["search.trials=1", f"search.candidates=[{name}]"])
        table = read_table(params.data)
        table = replace(table, frame=table.frame.head(CONTACTS).reset_index(drop=True))
        subject = subject_of(train(table, params, storage=None))
        texts = itertools.cycle([{params.data.text: text} for text in table.frame[params.data.text]])
        with tempfile.TemporaryDirectory() as place:
            facts = {"model": "intent", "version": "1", "task": params.task}
            folder = write_bundle(subject, Path(place) / "intent-1", facts=facts, report={}, evidence={})
            bundle = load_bundle(folder)
            sizes[name] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        ways: dict[str, Callable[[], Any]] = {
            IN_PROCESS: functools.partial(_answered, bundle, texts),
            "the same with three reasons": functools.partial(_answered, bundle, texts, reasons=3),
            "the model of the lab, in process": functools.partial(_asked_model, subject.model, texts),
        }
        found[name] = {way: _taken(call) for way, call in ways.items()}
    return found, sizes


def _answered(bundle: Any, texts: Iterator[dict[str, Any]], **options: Any) -> Any:
    return bundle.score([next(texts)], **options)


def _asked_model(model: Any, texts: Iterator[dict[str, Any]]) -> Any:
    return model.answer(pd.DataFrame([next(texts)]))


def _pyfunc(model: str) -> Any:
    import mlflow

    warnings.filterwarnings("ignore", message=".*Any type hint is inferred")
    return mlflow.pyfunc.load_model(model)


def _taken(call: Callable[[], Any]) -> np.ndarray:
    """Seconds of each call, after twenty to warm up."""
    for _ in range(20):
        call()
    taken = np.empty(CALLS)
    for place in range(CALLS):
        started = time.perf_counter()
        call()
        taken[place] = time.perf_counter() - started
    return taken


def _shown(taken: Any) -> tuple[str, str]:
    return f"{1000 * np.median(taken):.3f}", f"{1000 * np.percentile(taken, 99):.3f}"


def _port(server: subprocess.Popen[str]) -> int:
    assert server.stdout is not None
    found = re.search(r":(\d+) \(", server.stdout.readline())
    assert found
    return int(found[1])


def _request(body: str) -> bytes:
    head = "POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def _asked(connection: socket.socket, request: bytes) -> None:
    connection.sendall(request)
    answer = b""
    while not answer.endswith(b"]}"):  # head and body come apart
        answer += connection.recv(65_536) or b"]}"
    assert answer.startswith(b"HTTP/1.1 200")


def _crowd(port: int, request: bytes) -> dict[str, Any]:
    command = [sys.executable, "-c", CROWD, str(port), str(CONNECTIONS), str(SECONDS)]
    done = subprocess.run(command, input=request, capture_output=True, check=True, timeout=4 * SECONDS)
    return json.loads(done.stdout)
